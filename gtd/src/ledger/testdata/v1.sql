-- A ledger as version 1 wrote it. Frozen: tests read it to prove that old files stay readable.
PRAGMA auto_vacuum = incremental;
PRAGMA journal_mode = wal;
PRAGMA application_id = 1735681122;
PRAGMA user_version = 1;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;


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

INSERT INTO meta VALUES ('stream_id', '5d0c3a52-6a43-4a36-9d2b-0d6f3f2f7a11'), ('made_at', '2026-03-01T12:00:00.123456789Z');
INSERT INTO agents VALUES ('a/witness', 'running', 'person', NULL, '2026-03-01T12:00:00.123456789Z', '{"env":{"A":"1"}}', '{"consecutive":2}', 7);
INSERT INTO instances VALUES (1, '0195507c-6c00-7000-8000-000000000001', 'a/witness', '2026-03-01T12:00:00.123456789Z', '2026-03-01T12:00:00.123456789Z', 'b0',
  '{"socket":"/t/tmux-0.sock","process":{"boot":"b0","pid":40,"start":18446744073709551615}}', '$3', 'gt-a-witness', '%7', '{"boot":"b0","pid":41,"start":18446744073709551615}', '{"boot":"b0","pid":42,"start":18446744073709551615}', 'fake', NULL,
  '{"argv":["/bin/true"]}', NULL, '[]', 0);
INSERT INTO servers VALUES (1, '/t/tmux-0.sock', '{"boot":"b0","pid":40,"start":18446744073709551615}', '2026-03-01T12:00:00.123456789Z', 1, '{"holder":"$0"}', NULL);
INSERT INTO holds VALUES ('town', 'person', NULL, '2026-03-01T12:00:00.123456789Z');
INSERT INTO facts VALUES ('boot', '"b0"');
INSERT INTO events VALUES (7, '2026-03-01T12:00:00.123456789Z', 'agent.ready', 'a/witness', 'a', '0195507c-6c00-7000-8000-000000000001', 6, NULL, '{"pid":42}');
INSERT INTO exits VALUES (1, '0195507c-6c00-7000-8000-000000000000', 'a/witness', '2026-03-01T12:00:00.123456789Z', 'crash', NULL,
  '{"agent":"a/witness","instance":"0195507c-6c00-7000-8000-000000000000","pid":42,"started_at":"2026-03-01T12:00:00.123456789Z","ended_at":"2026-03-01T12:00:00.123456789Z","uptime_ms":5,"code":1,"cause":"crash","requested":false,"counts":true,"output":["last words"],"usage":{"user_ms":0,"system_ms":0,"max_rss_kib":0}}');
INSERT INTO signals VALUES (1, '2026-03-01T12:00:00.123456789Z', 'a/witness', 42, 15,
  '{"at":"2026-03-01T12:00:00.123456789Z","agent":"a/witness","pid":42,"start":7,"signal":15,"evidence":{"recorded":true},"by":"supervisor"}');
INSERT INTO decisions VALUES (1, 'a/witness', '2026-03-01T12:00:00.123456789Z', 'exit', 'restart', 'first failure');
INSERT INTO heartbeats VALUES (1, 3, '2026-03-01T12:00:00.123456789Z', '{"number":3,"started_at":"2026-03-01T12:00:00.123456789Z","duration_ms":3,"steps":[]}');
INSERT INTO answers VALUES (1, 'k', 'polecat.spawn', '{"agent":"a/polecats/nux"}', '2026-03-01T12:00:00.123456789Z');
