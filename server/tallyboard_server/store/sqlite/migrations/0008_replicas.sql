-- Event files as immutable segments, where files can't be appended to.

-- generation, number: which file of the run, which segment of that (0: its opening). published: 1 once it is there.
CREATE TABLE segments (
    run_id     INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    first_pos  INTEGER NOT NULL,
    last_pos   INTEGER NOT NULL,
    nbytes     INTEGER NOT NULL,
    published  INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    PRIMARY KEY (run_id, generation, number)
) WITHOUT ROWID;
