-- What tags are besides scalars, and their points: images, text, histograms, …

-- TensorBoard's plugin name and its SummaryMetadata, as first told.
ALTER TABLE tags ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'scalars';
ALTER TABLE tags ADD COLUMN metadata bytea NOT NULL DEFAULT '';

-- Each once in a run. key: the bits of the float64 that stands for it among the values. hash: BLAKE2b-256.
CREATE TABLE blobs (
    run_id bigint NOT NULL,
    key    bigint NOT NULL,
    hash   bytea NOT NULL,
    data   bytea NOT NULL,
    PRIMARY KEY (run_id, key)
);

-- A run may have as many counters as tags; what is one's own is found without going through the others'.
CREATE INDEX journal_by_attempt ON journal (counter_id, attempt, id);

ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL;
