-- Work items of the built-in store, and what was last seen of the hooks in other stores.

CREATE TABLE work (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    title       TEXT NOT NULL,
    description TEXT,
    status      TEXT NOT NULL,
    assignee    TEXT,
    priority    INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    hooked_at   TEXT,
    closed_at   TEXT,
    closed_why  TEXT
);
-- An agent has one hook. What is hooked has an agent.
CREATE UNIQUE INDEX work_hooked ON work (assignee) WHERE status = 'hooked';
CREATE INDEX work_updated ON work (updated_at);

-- Last known, for times when the store that has it does not answer. One row per agent and store.
CREATE TABLE hooks_seen (
    agent   TEXT NOT NULL,
    store   TEXT NOT NULL,
    work    TEXT NOT NULL,
    title   TEXT NOT NULL,
    since   TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (agent, store)
) WITHOUT ROWID;

CREATE TABLE work_agents (
    agent TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL,
    at    TEXT NOT NULL
) WITHOUT ROWID;
