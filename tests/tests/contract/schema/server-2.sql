-- Hosts that were here, so that a message to a mistyped one is refused.
CREATE TABLE hosts (
    host      TEXT PRIMARY KEY,
    agent     BLOB NOT NULL,
    last_seen INTEGER NOT NULL
) WITHOUT ROWID;

-- Which direct conversations touch a host.
CREATE TABLE direct_hosts (
    host TEXT NOT NULL,
    room TEXT NOT NULL,
    PRIMARY KEY (host, room)
) WITHOUT ROWID;
