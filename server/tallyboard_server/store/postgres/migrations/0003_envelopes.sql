-- Envelopes of merged chunks, groups as what merges write and replace, and what retention has removed.

-- What was removed of what each attempt accepted: sent - pruned = stored.
ALTER TABLE attempts ADD COLUMN pruned_scalars bigint NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN pruned_checksum bigint NOT NULL DEFAULT 0;

-- What one merge wrote: axes with the same batch. Groups of an attempt follow each other in positions and in steps.
-- version: grows whenever a group of that name is written anew; 0: written before there were envelopes.
CREATE TABLE groups (
    run_id     bigint NOT NULL,
    counter_id bigint NOT NULL,
    attempt    bigint NOT NULL,
    batch      bigint NOT NULL,
    version    bigint NOT NULL,
    n          bigint NOT NULL,  -- rows of the tag that has most
    bytes      bigint NOT NULL,  -- of all columns before compression
    first_step bigint NOT NULL,
    last_step  bigint NOT NULL,
    grown      bigint NOT NULL,  -- 1: large enough to be left alone
    PRIMARY KEY (run_id, counter_id, attempt, batch)
);
CREATE INDEX groups_by_first_step ON groups (run_id, counter_id, attempt, first_step, batch);
CREATE INDEX groups_growing ON groups (run_id, counter_id, attempt, batch) WHERE grown = 0;
CREATE INDEX groups_without_envelopes ON groups (run_id, counter_id, attempt, batch) WHERE version = 0;
INSERT INTO groups
SELECT run_id, counter_id, attempt, batch, 0, sum(n), sum(n * (16 + 2 * length(tag_ids) + 2 * length(at_counters))),
       min(first_step), max(last_step), 0
FROM axes GROUP BY run_id, counter_id, attempt, batch;

-- Axes are found through their group.
DROP INDEX axes_by_first_step;

-- A chunk of a tag as one cell, and per counter in `at` where that stood: small neighbouring rows for large series.
CREATE TABLE envelopes (
    run_id     bigint NOT NULL,
    tag_id     bigint NOT NULL,
    counter_id bigint NOT NULL,
    attempt    bigint NOT NULL,
    first_step bigint NOT NULL,
    axis_id    bigint NOT NULL,
    n          bigint NOT NULL,
    cell       bytea NOT NULL,
    at_cells   bytea NOT NULL,
    PRIMARY KEY (run_id, tag_id, counter_id, attempt, first_step, axis_id)
);

-- The finer cells of a chunk of more points than one such cell has: what belongs to the tag ...
CREATE TABLE value_cells (
    run_id     bigint NOT NULL,
    tag_id     bigint NOT NULL,
    counter_id bigint NOT NULL,
    attempt    bigint NOT NULL,
    axis_id    bigint NOT NULL,
    cells      bytea NOT NULL,
    PRIMARY KEY (run_id, tag_id, counter_id, attempt, axis_id)
);

-- ... and what all tags of the axis share.
CREATE TABLE axis_cells (
    run_id     bigint NOT NULL,
    counter_id bigint NOT NULL,
    attempt    bigint NOT NULL,
    axis_id    bigint NOT NULL,
    cells      bytea NOT NULL,
    PRIMARY KEY (run_id, counter_id, attempt, axis_id)
);

ALTER TABLE envelopes ALTER COLUMN cell SET STORAGE EXTERNAL, ALTER COLUMN at_cells SET STORAGE EXTERNAL;
ALTER TABLE value_cells ALTER COLUMN cells SET STORAGE EXTERNAL;
ALTER TABLE axis_cells ALTER COLUMN cells SET STORAGE EXTERNAL;
