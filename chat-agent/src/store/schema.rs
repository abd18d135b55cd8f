//! The agent's file: what it holds beside the log of rooms, and how it grew.

use room_log::{Application, BASE_SCHEMA, GOVERNANCE_SCHEMA};

/// The agent's database.
pub const APPLICATION: Application = Application {
    name: "agent",
    // "ChAg" in ASCII.
    id: 0x4368_4167,
    migrations: &[
        BASE_SCHEMA,
        VERSION_2,
        VERSION_3,
        VERSION_4,
        VERSION_5,
        VERSION_6,
        GOVERNANCE_SCHEMA,
    ],
};

const VERSION_2: &str = "
-- Messages the server has not acknowledged, in the order they were accepted.
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    room     TEXT NOT NULL,
    author   TEXT NOT NULL,
    sent_at  INTEGER NOT NULL,
    body     BLOB NOT NULL
);

-- Which OS user may speak as which nick.
CREATE TABLE nicks (
    nick TEXT PRIMARY KEY,
    uid  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX nicks_by_uid ON nicks (uid);

-- How far each user has read.
CREATE TABLE read_markers (
    user  TEXT NOT NULL,
    room  TEXT NOT NULL,
    epoch BLOB NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (user, room)
) WITHOUT ROWID;

-- Memberships of federated rooms that ended here and not yet at the server.
CREATE TABLE departures (
    room TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;
";

const VERSION_3: &str = "
-- Messages the server refused for good, oldest first.
CREATE TABLE refused (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id     BLOB NOT NULL UNIQUE,
    room   TEXT NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL,
    at     INTEGER NOT NULL
);
CREATE INDEX refused_by_author ON refused (author, number);
CREATE INDEX refused_by_age ON refused (at);

-- Departures are numbered, so that news of one is not taken for news of a later one.
CREATE TABLE numbered_departures (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    room   TEXT NOT NULL,
    user   TEXT NOT NULL,
    UNIQUE (room, user)
);
INSERT INTO numbered_departures (room, user) SELECT room, user FROM departures;
DROP TABLE departures;
ALTER TABLE numbered_departures RENAME TO departures;
";

const VERSION_4: &str = "
-- How far the consumers of each user have come.
CREATE TABLE positions (
    user     TEXT NOT NULL,
    consumer TEXT NOT NULL,
    room     TEXT NOT NULL,
    epoch    BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    PRIMARY KEY (user, consumer, room)
) WITHOUT ROWID;
";

const VERSION_5: &str = "
-- Messages that can be found, newest version of each; one that was edited or taken back is gone,
-- but its row stays, as somebody may be turning pages from there.
CREATE TABLE findable (
    number       INTEGER PRIMARY KEY,
    committed_at INTEGER NOT NULL,
    room_id      INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    gone         INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX findable_by_time ON findable (committed_at, room_id, seq) WHERE gone = 0;

-- The groups of three characters that each of them has, by number. The text itself is in its
-- message only.
CREATE VIRTUAL TABLE trigrams USING fts5 (
    text, content = '', contentless_delete = 1, detail = none,
    tokenize = 'trigram case_sensitive 1'
);

-- How far each room has been looked through.
CREATE TABLE indexed (
    room_id INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL
);

-- Messages that their authors edited or took back, each with its last edit, or none.
CREATE TABLE amended (
    room_id INTEGER NOT NULL,
    id      BLOB NOT NULL,
    edit    INTEGER,
    PRIMARY KEY (room_id, id)
) WITHOUT ROWID;
";

const VERSION_6: &str = "
-- What this host's users have said: a digest of each message that went to the server, so that
-- nobody else's words are taken for theirs.
CREATE TABLE authored (
    id     BLOB PRIMARY KEY,
    digest BLOB NOT NULL
) WITHOUT ROWID;
";
