-- What the training kit needs: counters that do not move although reports come, and alerts.

-- Reports in a row that came at the attempt's last step and brought nothing new.
ALTER TABLE attempts ADD COLUMN unmoved INTEGER NOT NULL DEFAULT 0;

-- What jobs had to say to people: the newest of a run. Ids count without gaps. alert: JSON, as it came.
CREATE TABLE alerts (
    run_id   INTEGER NOT NULL,
    id       INTEGER NOT NULL,
    at       REAL NOT NULL,
    producer TEXT NOT NULL,
    alert    TEXT NOT NULL,
    PRIMARY KEY (run_id, id)
) WITHOUT ROWID;
