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
