-- Event files as immutable segments, where files can't be appended to; replicas, and who works for which runs.

-- generation, number: which file of the run, which segment of that (0: its opening). published: 1 once it is there.
CREATE TABLE segments (
    run_id     bigint NOT NULL,
    generation bigint NOT NULL,
    number     bigint NOT NULL,
    first_pos  bigint NOT NULL,
    last_pos   bigint NOT NULL,
    nbytes     bigint NOT NULL,
    published  bigint NOT NULL,
    changed_at double precision NOT NULL,
    PRIMARY KEY (run_id, generation, number)
);

-- A replica is alive until `valid_until`, by the database's clock. What it tells of the runs that it changed: the newest,
-- up to `news_number`; only it writes its row. Nothing of this outlives a crash of the database, and nothing needs to.
CREATE UNLOGGED TABLE replicas (
    id          text COLLATE "C" PRIMARY KEY,
    started_at  timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    news_number bigint NOT NULL,
    news        bytea NOT NULL
) WITH (fillfactor = 50);
ALTER TABLE replicas ALTER COLUMN news SET STORAGE EXTERNAL;

-- Runs whose id modulo 64 is `number` are worked for by `holder`, as long as that is alive.
CREATE TABLE shares (
    number bigint PRIMARY KEY,
    holder text COLLATE "C"
) WITH (fillfactor = 50);
INSERT INTO shares SELECT generate_series(0, 63), NULL;

-- What every replica keeps in memory is read again when its number has grown.
CREATE TABLE revisions (
    name   text COLLATE "C" PRIMARY KEY,
    number bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO revisions VALUES ('access', 0), ('rules', 0);
