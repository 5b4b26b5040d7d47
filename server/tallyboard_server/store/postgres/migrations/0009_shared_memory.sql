-- What services keep in memory and others on the store have to know, too.

-- The one-time link of a first start. hash: SHA-256 of the code. token: the id of the token that it stands for.
CREATE TABLE login_codes (
    hash  bytea PRIMARY KEY,
    token text COLLATE "C" NOT NULL,
    until double precision NOT NULL
);

-- Somebody listened from `since` to `until`, and before that up to `before`: silence in between is not the runs' own.
ALTER TABLE listening ADD COLUMN since double precision NOT NULL DEFAULT 0.0;
ALTER TABLE listening ADD COLUMN before double precision NOT NULL DEFAULT 0.0;
