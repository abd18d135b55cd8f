CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- A room in one life of a log. After the log it belongs to began a new life, the old row and its
-- messages stay, under the old epoch.
CREATE TABLE rooms (
    room_id INTEGER PRIMARY KEY,
    epoch   BLOB NOT NULL,
    name    TEXT NOT NULL,
    head    INTEGER NOT NULL DEFAULT 0,
    head_id BLOB,
    UNIQUE (epoch, name)
);

CREATE TABLE messages (
    room_id      INTEGER NOT NULL REFERENCES rooms,
    seq          INTEGER NOT NULL,
    prev_seq     INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    id           BLOB NOT NULL,
    author       TEXT NOT NULL,
    sent_at      INTEGER NOT NULL,
    body         BLOB NOT NULL,
    PRIMARY KEY (room_id, seq)
) WITHOUT ROWID;

CREATE UNIQUE INDEX messages_by_id ON messages (id, room_id);

-- Memberships and topics belong to the room's name, whichever life of the log.
CREATE TABLE members (
    room TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user, room);

CREATE TABLE topics (
    room  TEXT PRIMARY KEY,
    topic TEXT NOT NULL
) WITHOUT ROWID;
