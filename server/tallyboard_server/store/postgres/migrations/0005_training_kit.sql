-- What the training kit needs: counters that do not move although reports come, and alerts.

-- Reports in a row that came at the attempt's last step and brought nothing new.
ALTER TABLE attempts ADD COLUMN unmoved bigint NOT NULL DEFAULT 0;

-- What jobs had to say to people: the newest of a run. Ids count without gaps. alert: JSON, as it came.
CREATE TABLE alerts (
    run_id   bigint NOT NULL,
    id       bigint NOT NULL,
    at       double precision NOT NULL,
    producer text COLLATE "C" NOT NULL,
    alert    text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, id)
);
