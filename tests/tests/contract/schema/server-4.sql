-- Who may do what in a room, as the acts in its log say; a room without one is open to all and
-- nobody's.
CREATE TABLE charters (
    room         TEXT PRIMARY KEY,
    charter      BLOB NOT NULL,
    max_age      INTEGER,
    max_messages INTEGER
) WITHOUT ROWID;

-- Who made each room, until its charter says who owns it.
CREATE TABLE founders (
    room TEXT PRIMARY KEY,
    user TEXT NOT NULL
) WITHOUT ROWID;

-- Who was kicked out of a room that is open to all, until their host knows.
CREATE TABLE kicked (
    room TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;

-- Messages that were kept for long enough, so that the same again is known.
CREATE TABLE pruned (
    id      BLOB NOT NULL,
    room_id INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (id, room_id)
) WITHOUT ROWID;

-- Which hosts have somebody in a room.
CREATE INDEX members_by_host ON members (room, substr(user, instr(user, '@') + 1));

-- Edits by the message they are of, as protocol::EDIT_TAG says where that stands.
CREATE INDEX edits ON messages (room_id, substr(body, 3, 16)) WHERE substr(body, 1, 2) = x'03fe';
