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
