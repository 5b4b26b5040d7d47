-- What services keep in memory and others on the store have to know, too. (One service with its own store uses the same.)

-- The one-time link of a first start. hash: SHA-256 of the code. token: the id of the token that it stands for.
CREATE TABLE login_codes (
    hash  BLOB PRIMARY KEY,
    token TEXT NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;

-- Somebody listened from `since` to `until`, and before that up to `before`: silence in between is not the runs' own.
ALTER TABLE listening ADD COLUMN since REAL NOT NULL DEFAULT 0.0;
ALTER TABLE listening ADD COLUMN before REAL NOT NULL DEFAULT 0.0;
