-- Workers and how far each has come, text for agents, what they reported, and mail.

-- A worker that we made, from the reservation of its name to its removal. `journal` is the plan of what is under
-- way with it and how far that has come, as JSON; empty when nothing is.
CREATE TABLE polecats (
    rig      TEXT NOT NULL,
    name     TEXT NOT NULL,
    state    TEXT NOT NULL,
    worktree TEXT,
    branch   TEXT,
    work     TEXT,
    made_at  TEXT NOT NULL,
    journal  TEXT,
    PRIMARY KEY (rig, name)
) WITHOUT ROWID;
-- A piece of work is on its way to one worker at a time.
CREATE UNIQUE INDEX polecats_spawning ON polecats (work) WHERE state = 'spawning' AND work IS NOT NULL;

-- Text that is to be typed for an agent. `instance` is the only one that it is for, `typed_for` the one it was last
-- begun to be typed for. `manner` is `queue`, or `now` for what is not tried a second time. Of what is done with only
-- the beginning of the message is kept; `bytes` is the length of the whole.
CREATE TABLE nudges (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    agent      TEXT NOT NULL,
    instance   TEXT,
    typed_for  TEXT,
    manner     TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    message    TEXT NOT NULL,
    key        TEXT,
    sender     TEXT NOT NULL,
    state      TEXT NOT NULL,
    reached    TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    why        TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX nudges_open ON nudges (agent, number) WHERE state IN ('queued', 'delivering');

-- The conversation that an agent's next start goes on with.
CREATE TABLE conversations (
    agent        TEXT PRIMARY KEY NOT NULL,
    conversation TEXT NOT NULL,
    preset       TEXT NOT NULL,
    account      TEXT,
    instance     TEXT NOT NULL,
    at           TEXT NOT NULL
) WITHOUT ROWID;

-- `key` names the request or the event that a mail comes of: of each there is one mail. `incident` is there while
-- what the daemon wrote about goes on: until then it writes no second one about it.
CREATE TABLE mail (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    sender      TEXT NOT NULL,
    recipient   TEXT NOT NULL,
    subject     TEXT NOT NULL,
    body        TEXT NOT NULL,
    at          TEXT NOT NULL,
    read_at     TEXT,
    archived_at TEXT,
    key         TEXT UNIQUE,
    incident    TEXT
);
CREATE INDEX mail_inbox ON mail (recipient, number) WHERE archived_at IS NULL;
CREATE UNIQUE INDEX mail_incident ON mail (incident) WHERE incident IS NOT NULL;
-- What an instance reported last is asked for after a restart of the daemon.
CREATE INDEX events_reported ON events (instance, seq) WHERE kind = 'agent.reported';
