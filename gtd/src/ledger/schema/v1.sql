-- Instants are RFC 3339 UTC with nine digits of fraction, so that they sort as text.
-- Columns named like a struct of the protocol hold its JSON.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- State: what should be, and what is known to be. Never pruned while it holds.

CREATE TABLE agents (
    address           TEXT PRIMARY KEY NOT NULL,
    intent            TEXT NOT NULL,
    intent_by         TEXT NOT NULL,
    intent_reason     TEXT,
    intent_at         TEXT NOT NULL,
    overrides         TEXT NOT NULL,
    policy            TEXT NOT NULL,
    lifetime_restarts INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE instances (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    instance     TEXT NOT NULL UNIQUE,
    agent        TEXT NOT NULL,
    reserved_at  TEXT NOT NULL,
    started_at   TEXT,
    boot         TEXT NOT NULL,
    server       TEXT,
    session      TEXT,
    session_name TEXT,
    pane         TEXT,
    shim         TEXT,
    process      TEXT,
    preset       TEXT NOT NULL,
    account      TEXT,
    launch       TEXT NOT NULL,
    ready_at     TEXT,
    captured     TEXT NOT NULL,
    ended        INTEGER NOT NULL
);
CREATE INDEX instances_open ON instances (agent) WHERE ended = 0;

CREATE TABLE servers (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    socket  TEXT NOT NULL,
    process TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    ours    INTEGER NOT NULL,
    detail  TEXT NOT NULL,
    gone_at TEXT,
    UNIQUE (socket, process)
);

CREATE TABLE holds (
    scope  TEXT PRIMARY KEY NOT NULL,
    by     TEXT NOT NULL,
    reason TEXT,
    at     TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE facts (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- History: only ever appended to, pruned from the old end. AUTOINCREMENT keeps a pruned number from being
-- given again.

CREATE TABLE events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    at       TEXT NOT NULL,
    kind     TEXT NOT NULL,
    agent    TEXT,
    rig      TEXT,
    instance TEXT,
    cause    INTEGER,
    peer     TEXT,
    data     TEXT NOT NULL
);

CREATE TABLE exits (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    instance TEXT NOT NULL UNIQUE,
    agent    TEXT NOT NULL,
    ended_at TEXT NOT NULL,
    cause    TEXT NOT NULL,
    incident TEXT,
    exit     TEXT NOT NULL
);
CREATE INDEX exits_agent ON exits (agent);

CREATE TABLE signals (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     TEXT NOT NULL,
    agent  TEXT,
    pid    INTEGER NOT NULL,
    signal INTEGER NOT NULL,
    sent   TEXT NOT NULL
);
CREATE INDEX signals_agent ON signals (agent);

CREATE TABLE decisions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    agent    TEXT NOT NULL,
    at       TEXT NOT NULL,
    event    TEXT NOT NULL,
    decision TEXT NOT NULL,
    reason   TEXT NOT NULL
);
CREATE INDEX decisions_agent ON decisions (agent);

CREATE TABLE heartbeats (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    number     INTEGER NOT NULL UNIQUE,
    started_at TEXT NOT NULL,
    report     TEXT NOT NULL
);

CREATE TABLE answers (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    key    TEXT NOT NULL UNIQUE,
    method TEXT NOT NULL,
    answer TEXT NOT NULL,
    at     TEXT NOT NULL
);
