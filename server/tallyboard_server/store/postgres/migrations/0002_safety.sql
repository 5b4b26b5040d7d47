-- What each attempt accepted, as a checksum, and when runs were last heard of.

-- The sum of checksum.checksum over all blocks, as a signed integer. NULL: the attempt is older than this column.
ALTER TABLE attempts ADD COLUMN checksum bigint;
UPDATE attempts SET checksum = 0 WHERE scalars = 0;

-- The last heartbeat of a run (seconds since the epoch), written at most once a minute.
CREATE TABLE heartbeats (
    run_id   bigint PRIMARY KEY,
    heard_at double precision NOT NULL
);

-- Until when the service listened: silence after that is not the runs' own.
CREATE TABLE listening (
    only_row bigint PRIMARY KEY CHECK (only_row = 1),
    until    double precision NOT NULL
);
