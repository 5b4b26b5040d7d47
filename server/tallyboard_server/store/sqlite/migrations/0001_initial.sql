-- Runs, the step contract's state, the journal (level 0), merged columns (level 1), event-file generations.
-- Everything that belongs to a run is keyed by the run first.

CREATE TABLE runs (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    uid          TEXT UNIQUE,
    created_at   REAL NOT NULL,
    status       TEXT NOT NULL,
    run_group    TEXT,
    display_name TEXT,
    notes        TEXT,
    tags         TEXT NOT NULL,
    config       TEXT NOT NULL,
    summary      TEXT NOT NULL,
    provenance   TEXT NOT NULL,
    rewinds      TEXT NOT NULL,
    archived     INTEGER NOT NULL
);

-- What changes with every batch, apart from the wide row above. version counts every change of the run.
CREATE TABLE heads (
    run_id     INTEGER PRIMARY KEY,
    pos        INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    updated_at REAL NOT NULL
);

-- A deleted run leaves its name, until a run of that name is created again. The id is never used again.
CREATE TABLE tombstones (
    name       TEXT PRIMARY KEY,
    deleted_at REAL NOT NULL
) WITHOUT ROWID;

-- Runs whose rows are gone, or going, slice by slice; event files are removed under the name.
CREATE TABLE deleted_runs (
    run_id INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    purged INTEGER NOT NULL DEFAULT 0
);

-- The next run id: ids are never reused, not even after the newest run was deleted.
CREATE TABLE sequence (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    next_run_id INTEGER NOT NULL
);
INSERT INTO sequence VALUES (1, 1);

CREATE TABLE counters (
    run_id INTEGER NOT NULL,
    id     INTEGER NOT NULL,
    name   TEXT NOT NULL,
    total  INTEGER,
    PRIMARY KEY (run_id, id)
) WITHOUT ROWID;

CREATE TABLE attempts (
    run_id       INTEGER NOT NULL,
    counter_id   INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    writer       TEXT NOT NULL,
    start        INTEGER NOT NULL,
    last_step    INTEGER,
    last_visible INTEGER,
    reports      INTEGER NOT NULL,
    scalars      INTEGER NOT NULL,
    tail_tags    BLOB NOT NULL,
    tail_values  BLOB NOT NULL,
    PRIMARY KEY (run_id, counter_id, number)
) WITHOUT ROWID;

CREATE TABLE tags (
    run_id        INTEGER NOT NULL,
    id            INTEGER NOT NULL,
    name          TEXT NOT NULL,
    counter_id    INTEGER NOT NULL,
    first_step    INTEGER NOT NULL,
    attempts_then INTEGER NOT NULL,
    PRIMARY KEY (run_id, id)
) WITHOUT ROWID;

CREATE TABLE producers (
    run_id    INTEGER NOT NULL,
    name      TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    last_seen REAL NOT NULL,
    checksums BLOB NOT NULL,
    receipt   BLOB NOT NULL,
    origin    TEXT NOT NULL,
    PRIMARY KEY (run_id, name)
) WITHOUT ROWID;

CREATE TABLE refused (
    run_id   INTEGER NOT NULL,
    id       INTEGER NOT NULL,
    at       REAL NOT NULL,
    producer TEXT NOT NULL,
    refusal  TEXT NOT NULL,
    PRIMARY KEY (run_id, id)
) WITHOUT ROWID;

-- Level 0: blocks as received. id = run id * 2^32 + position: one tree, runs apart, positions in order.
-- data: steps int64[n], wall times float64[n], values float64[n, k], then int64[n] per counter in at_counters.
CREATE TABLE journal (
    id          INTEGER PRIMARY KEY,
    counter_id  INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    batch       INTEGER NOT NULL,  -- position of the first block of the same batch
    n           INTEGER NOT NULL,
    first_step  INTEGER NOT NULL,
    last_step   INTEGER NOT NULL,
    tag_ids     BLOB NOT NULL,
    at_counters BLOB NOT NULL,
    data        BLOB NOT NULL
);

-- Level 1: rows of many blocks with the same tags share one axis (steps, wall times, at) ...
CREATE TABLE axes (
    run_id      INTEGER NOT NULL,
    counter_id  INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    id          INTEGER NOT NULL,  -- position of the first block it was made of
    batch       INTEGER NOT NULL,  -- position of the first of all blocks merged together with it
    n           INTEGER NOT NULL,
    first_step  INTEGER NOT NULL,
    last_step   INTEGER NOT NULL,
    at_counters BLOB NOT NULL,
    tag_ids     BLOB NOT NULL,
    steps       BLOB NOT NULL,
    wall_times  BLOB NOT NULL,
    at_values   BLOB NOT NULL,
    PRIMARY KEY (run_id, counter_id, attempt, id)
) WITHOUT ROWID;
CREATE INDEX axes_by_first_step ON axes (run_id, counter_id, attempt, first_step, batch);
CREATE INDEX axes_by_batch ON axes (run_id, counter_id, attempt, batch, first_step);

-- ... and each tag has a column of values on it.
CREATE TABLE value_columns (
    run_id     INTEGER NOT NULL,
    tag_id     INTEGER NOT NULL,
    counter_id INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    axis_id    INTEGER NOT NULL,
    vals       BLOB NOT NULL,
    PRIMARY KEY (run_id, tag_id, counter_id, attempt, axis_id)
) WITHOUT ROWID;

CREATE TABLE generations (
    run_id       INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    file_name    TEXT NOT NULL,
    seconds      INTEGER NOT NULL,
    encoder      INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    first_pos    INTEGER NOT NULL,
    exported_pos INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    state        TEXT NOT NULL,
    changed_at   REAL NOT NULL,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;
