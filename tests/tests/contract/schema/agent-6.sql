
-- What this host's users have said: a digest of each message that went to the server, so that
-- nobody else's words are taken for theirs.
CREATE TABLE authored (
    id     BLOB PRIMARY KEY,
    digest BLOB NOT NULL
) WITHOUT ROWID;
