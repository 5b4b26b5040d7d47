-- What watchdogs found and have not seen end, what they are told to look for, and what is on its way to people.

-- Open only; what is over is told in alerts. told: whether an alert was raised. times: how often it began again lately.
CREATE TABLE incidents (
    run_id    INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    subject   TEXT NOT NULL,
    opened_at REAL NOT NULL,
    level     TEXT NOT NULL,
    title     TEXT NOT NULL,
    text      TEXT NOT NULL,
    told      INTEGER NOT NULL,
    times     INTEGER NOT NULL,
    PRIMARY KEY (run_id, kind, subject)
) WITHOUT ROWID;

-- What was changed of the rules. project '': of all runs. rules: JSON.
CREATE TABLE watch_rules (
    project TEXT PRIMARY KEY,
    rules   TEXT NOT NULL
) WITHOUT ROWID;

-- Alerts that wait to be sent: of those of one run with one title only the newest, and how many they are.
CREATE TABLE notices (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    run      TEXT NOT NULL,
    title    TEXT NOT NULL,
    first_at REAL NOT NULL,
    at       REAL NOT NULL,
    times    INTEGER NOT NULL,
    producer TEXT NOT NULL,
    alert    TEXT NOT NULL,
    UNIQUE (run, title)
);

-- What is being sent: a request under one id until it is taken. notices: JSON.
CREATE TABLE deliveries (
    id         TEXT PRIMARY KEY,
    project    TEXT NOT NULL,
    notices    TEXT NOT NULL,
    created_at REAL NOT NULL,
    tries      INTEGER NOT NULL,
    next_at    REAL NOT NULL
) WITHOUT ROWID;
