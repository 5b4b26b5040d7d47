-- Runs, the step contract's state, the journal (level 0), merged columns (level 1), event-file generations.
-- Everything that belongs to a run is keyed by the run first.

CREATE TABLE runs (
    id           bigint PRIMARY KEY,
    name         text COLLATE "C" NOT NULL UNIQUE,
    uid          text COLLATE "C" UNIQUE,
    created_at   double precision NOT NULL,
    status       text COLLATE "C" NOT NULL,
    run_group    text COLLATE "C",
    display_name text COLLATE "C",
    notes        text COLLATE "C",
    tags         text COLLATE "C" NOT NULL,
    config       text COLLATE "C" NOT NULL,
    summary      text COLLATE "C" NOT NULL,
    provenance   text COLLATE "C" NOT NULL,
    rewinds      text COLLATE "C" NOT NULL,
    archived     bigint NOT NULL
);

-- What changes with every batch, apart from the wide row above. version counts every change of the run.
CREATE TABLE heads (
    run_id     bigint PRIMARY KEY,
    pos        bigint NOT NULL,
    epoch      bigint NOT NULL,
    version    bigint NOT NULL,
    updated_at double precision NOT NULL
);

-- A deleted run leaves its name, until a run of that name is created again. The id is never used again.
CREATE TABLE tombstones (
    name       text COLLATE "C" PRIMARY KEY,
    deleted_at double precision NOT NULL
);

-- Runs whose rows are gone, or going, slice by slice; event files are removed under the name.
CREATE TABLE deleted_runs (
    run_id bigint PRIMARY KEY,
    name   text COLLATE "C" NOT NULL,
    purged bigint NOT NULL DEFAULT 0
);

-- Run ids: never reused, not even after the newest run was deleted. Half of the journal's key.
CREATE SEQUENCE run_ids MAXVALUE 2147483647;

CREATE TABLE counters (
    run_id bigint NOT NULL,
    id     bigint NOT NULL,
    name   text COLLATE "C" NOT NULL,
    total  bigint,
    PRIMARY KEY (run_id, id)
);

CREATE TABLE attempts (
    run_id       bigint NOT NULL,
    counter_id   bigint NOT NULL,
    number       bigint NOT NULL,
    writer       text COLLATE "C" NOT NULL,
    start        bigint NOT NULL,
    last_step    bigint,
    last_visible bigint,
    reports      bigint NOT NULL,
    scalars      bigint NOT NULL,
    tail_tags    bytea NOT NULL,
    tail_values  bytea NOT NULL,
    PRIMARY KEY (run_id, counter_id, number)
);

CREATE TABLE tags (
    run_id        bigint NOT NULL,
    id            bigint NOT NULL,
    name          text COLLATE "C" NOT NULL,
    counter_id    bigint NOT NULL,
    first_step    bigint NOT NULL,
    attempts_then bigint NOT NULL,
    PRIMARY KEY (run_id, id)
);

CREATE TABLE producers (
    run_id    bigint NOT NULL,
    name      text COLLATE "C" NOT NULL,
    seq       bigint NOT NULL,
    last_seen double precision NOT NULL,
    checksums bytea NOT NULL,
    receipt   bytea NOT NULL,
    origin    text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE refused (
    run_id   bigint NOT NULL,
    id       bigint NOT NULL,
    at       double precision NOT NULL,
    producer text COLLATE "C" NOT NULL,
    refusal  text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, id)
);

-- Level 0: blocks as received. id = run id * 2^32 + position: one tree, runs apart, positions in order.
-- data: steps int64[n], wall times float64[n], values float64[n, k], then int64[n] per counter in at_counters.
CREATE TABLE journal (
    id          bigint PRIMARY KEY,
    counter_id  bigint NOT NULL,
    attempt     bigint NOT NULL,
    batch       bigint NOT NULL,  -- position of the first block of the same batch
    n           bigint NOT NULL,
    first_step  bigint NOT NULL,
    last_step   bigint NOT NULL,
    tag_ids     bytea NOT NULL,
    at_counters bytea NOT NULL,
    data        bytea NOT NULL
);

-- Level 1: rows of many blocks with the same tags share one axis (steps, wall times, at) ...
CREATE TABLE axes (
    run_id      bigint NOT NULL,
    counter_id  bigint NOT NULL,
    attempt     bigint NOT NULL,
    id          bigint NOT NULL,  -- position of the first block it was made of
    batch       bigint NOT NULL,  -- position of the first of all blocks merged together with it
    n           bigint NOT NULL,
    first_step  bigint NOT NULL,
    last_step   bigint NOT NULL,
    at_counters bytea NOT NULL,
    tag_ids     bytea NOT NULL,
    steps       bytea NOT NULL,
    wall_times  bytea NOT NULL,
    at_values   bytea NOT NULL,
    PRIMARY KEY (run_id, counter_id, attempt, id)
);
CREATE INDEX axes_by_first_step ON axes (run_id, counter_id, attempt, first_step, batch);
CREATE INDEX axes_by_batch ON axes (run_id, counter_id, attempt, batch, first_step);

-- ... and each tag has a column of values on it.
CREATE TABLE value_columns (
    run_id     bigint NOT NULL,
    tag_id     bigint NOT NULL,
    counter_id bigint NOT NULL,
    attempt    bigint NOT NULL,
    axis_id    bigint NOT NULL,
    vals       bytea NOT NULL,
    PRIMARY KEY (run_id, tag_id, counter_id, attempt, axis_id)
);

CREATE TABLE generations (
    run_id       bigint NOT NULL,
    number       bigint NOT NULL,
    file_name    text COLLATE "C" NOT NULL,
    seconds      bigint NOT NULL,
    encoder      bigint NOT NULL,
    epoch        bigint NOT NULL,
    first_pos    bigint NOT NULL,
    exported_pos bigint NOT NULL,
    length       bigint NOT NULL,
    state        text COLLATE "C" NOT NULL,
    changed_at   double precision NOT NULL,
    PRIMARY KEY (run_id, number)
);

-- What changes with every batch is changed in place; what was compressed, or soon will be, is not tried to be made smaller.
ALTER TABLE heads SET (fillfactor = 50);
ALTER TABLE attempts SET (fillfactor = 50);
ALTER TABLE producers SET (fillfactor = 50);
ALTER TABLE journal ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE axes ALTER COLUMN steps SET STORAGE EXTERNAL, ALTER COLUMN wall_times SET STORAGE EXTERNAL,
    ALTER COLUMN at_values SET STORAGE EXTERNAL;
ALTER TABLE value_columns ALTER COLUMN vals SET STORAGE EXTERNAL;

-- What is merged leaves the journal, at the speed at which reports come: its room is to be had again as soon.
ALTER TABLE journal SET (autovacuum_vacuum_cost_delay = 0, toast.autovacuum_vacuum_cost_delay = 0);
