-- Who may do what, and who did what.

-- id: the public part. hash: SHA-256 of the token's text. project NULL: all. Times: seconds since the epoch.
CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    scope        TEXT NOT NULL,
    project      TEXT,
    hash         BLOB NOT NULL,
    created_at   REAL NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   REAL,
    revoked_at   REAL,
    last_used_at REAL,
    rate         REAL
) WITHOUT ROWID;

-- Browsers that have logged in. hash: SHA-256 of the cookie. token: the id of the token that was given.
CREATE TABLE sessions (
    hash  BLOB PRIMARY KEY,
    token TEXT NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;

-- One row: what tells this store from any other, so that services of one machine name their cookies apart.
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity VALUES (lower(hex(randomblob(8))));

-- Append-only: the triggers keep this program's own mistakes out, too. detail: JSON.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    actor   TEXT NOT NULL,
    token   TEXT,
    address TEXT NOT NULL,
    action  TEXT NOT NULL,
    run     TEXT,
    detail  TEXT NOT NULL
);
CREATE INDEX audit_by_run ON audit (run, id);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
-- The newest million entries stay; only older ones may go, so that the table has a bound.
CREATE TRIGGER audit_is_never_shortened BEFORE DELETE ON audit
WHEN OLD.id > (SELECT seq FROM sqlite_sequence WHERE name = 'audit') - 1000000
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
