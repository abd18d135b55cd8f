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
