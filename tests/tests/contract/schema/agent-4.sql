-- How far the consumers of each user have come.
CREATE TABLE positions (
    user     TEXT NOT NULL,
    consumer TEXT NOT NULL,
    room     TEXT NOT NULL,
    epoch    BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    PRIMARY KEY (user, consumer, room)
) WITHOUT ROWID;
