-- Convoys: work of any store that belongs together. `key` names the request that one comes of: of each there is one.
CREATE TABLE convoys (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    title      TEXT NOT NULL,
    status     TEXT NOT NULL,
    watchers   TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TEXT NOT NULL,
    closed_at  TEXT,
    key        TEXT UNIQUE
);
CREATE INDEX convoys_open ON convoys (number) WHERE status = 'open';
-- What a convoy tracks. `store` tells the store from others, `kind` is its kind; `status` is its word as of `seen_at`,
-- of the built-in store only where the item itself is gone.
CREATE TABLE convoy_work (
    convoy   TEXT NOT NULL,
    position INTEGER NOT NULL,
    work     TEXT NOT NULL,
    title    TEXT NOT NULL,
    store    TEXT NOT NULL,
    kind     TEXT NOT NULL,
    status   TEXT NOT NULL,
    seen_at  TEXT NOT NULL,
    PRIMARY KEY (convoy, work)
) WITHOUT ROWID;
CREATE INDEX convoy_work_work ON convoy_work (work);
CREATE TRIGGER convoys_gone AFTER DELETE ON convoys BEGIN
    DELETE FROM convoy_work WHERE convoy = old.id;
END;

-- Lifecycle requests, by mail and by socket. `key` names the mail or the request that one comes of: of each there is
-- one. `instance` is the one that ran, or ran last, when it was taken. `mail` is where it came from, as JSON, until
-- that mail was put aside.
CREATE TABLE lifecycle (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    agent      TEXT,
    action     TEXT,
    sender     TEXT NOT NULL,
    peer       TEXT,
    key        TEXT UNIQUE,
    mail       TEXT,
    state      TEXT NOT NULL,
    instance   TEXT,
    why        TEXT,
    reason     TEXT,
    at         TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX lifecycle_open ON lifecycle (number) WHERE state IN ('accepted', 'acting') OR mail IS NOT NULL;

-- The daemon's own mail for a box that another program keeps: `via` names the program. It is here until it is there:
-- then it is put aside, and `posted` is its id there.
ALTER TABLE mail ADD COLUMN via TEXT;
ALTER TABLE mail ADD COLUMN posted TEXT;
CREATE INDEX mail_outgoing ON mail (number) WHERE via IS NOT NULL AND posted IS NULL;
