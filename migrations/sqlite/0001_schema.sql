-- Ids are 16-byte BLOBs, times are INTEGER milliseconds since the Unix epoch.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id           BLOB PRIMARY KEY,
    email        TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    password     TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The live refresh token is the one whose generation is its session's.
CREATE TABLE sessions (
    id           BLOB PRIMARY KEY,
    user_id      BLOB NOT NULL REFERENCES users (id),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    revoked_at   INTEGER,
    generation   INTEGER NOT NULL DEFAULT 0,
    rotated_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);

CREATE TABLE refresh_tokens (
    digest     BLOB PRIMARY KEY,
    session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE workspaces (
    id         BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    join_code  TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX workspaces_by_code ON workspaces (join_code) WHERE deleted_at IS NULL;

-- A deleted workspace has no rows here, so that nobody has a role in it.
CREATE TABLE workspace_members (
    workspace_id BLOB NOT NULL REFERENCES workspaces (id),
    user_id      BLOB NOT NULL REFERENCES users (id),
    role         TEXT NOT NULL CHECK (role IN ('admin', 'member')),
    joined_at    INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX workspace_members_by_time ON workspace_members (workspace_id, joined_at, user_id);
CREATE INDEX workspace_members_by_user ON workspace_members (user_id, joined_at, workspace_id);

CREATE TABLE conversations (
    id              BLOB PRIMARY KEY,
    workspace_id    BLOB NOT NULL REFERENCES workspaces (id),
    kind            TEXT NOT NULL CHECK (kind IN ('channel', 'dm')),
    name            TEXT,
    topic           TEXT,
    private         INTEGER NOT NULL DEFAULT 0,
    general         INTEGER NOT NULL DEFAULT 0,
    created_by      BLOB NOT NULL REFERENCES users (id),
    peer_low        BLOB REFERENCES users (id),
    peer_high       BLOB REFERENCES users (id),
    created_at      INTEGER NOT NULL,
    archived_at     INTEGER,
    deleted_at      INTEGER,
    last_seq        INTEGER NOT NULL DEFAULT 0,
    rev             INTEGER NOT NULL DEFAULT 0,
    access_rev      INTEGER NOT NULL DEFAULT 0,
    last_message_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX conversations_by_time ON conversations (workspace_id, created_at, id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX conversations_by_name ON conversations (workspace_id, name) WHERE deleted_at IS NULL AND name IS NOT NULL;
CREATE UNIQUE INDEX conversations_by_pair ON conversations (workspace_id, peer_low, peer_high) WHERE deleted_at IS NULL AND peer_low IS NOT NULL;
CREATE UNIQUE INDEX conversations_general ON conversations (workspace_id) WHERE general = 1;

CREATE TABLE conversation_members (
    conversation_id BLOB NOT NULL REFERENCES conversations (id),
    user_id         BLOB NOT NULL REFERENCES users (id),
    read_seq        INTEGER NOT NULL,
    joined_at       INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_members_by_time ON conversation_members (conversation_id, joined_at, user_id);
CREATE INDEX conversation_members_by_user ON conversation_members (user_id, conversation_id);

-- `reactions` is the read model of the table below: [[emoji, count, [first user ids]], …], null for none.
-- `digest` is the SHA-256 of the text as first sent: what tells a repeated send from another one.
CREATE TABLE messages (
    n               INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE,
    conversation_id BLOB NOT NULL REFERENCES conversations (id),
    seq             INTEGER NOT NULL,
    rev             INTEGER NOT NULL,
    author_id       BLOB NOT NULL REFERENCES users (id),
    client_msg_id   TEXT NOT NULL,
    digest          BLOB NOT NULL,
    text            TEXT NOT NULL,
    reactions       TEXT,
    created_at      INTEGER NOT NULL,
    edited_at       INTEGER,
    deleted_at      INTEGER,
    deleted_by      BLOB
) STRICT;
CREATE UNIQUE INDEX messages_by_seq ON messages (conversation_id, seq);
CREATE UNIQUE INDEX messages_by_rev ON messages (conversation_id, rev);
CREATE UNIQUE INDEX messages_by_client_id ON messages (conversation_id, author_id, client_msg_id);

CREATE TABLE reactions (
    n          INTEGER PRIMARY KEY,
    message_id BLOB NOT NULL REFERENCES messages (id),
    emoji      TEXT NOT NULL,
    user_id    BLOB NOT NULL REFERENCES users (id)
) STRICT;
CREATE UNIQUE INDEX reactions_by_message ON reactions (message_id, emoji, user_id);

-- A row goes when its job has ended.
CREATE TABLE outbox (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL UNIQUE,
    task       TEXT NOT NULL,
    relayed_at INTEGER
) STRICT;

CREATE TABLE jobs (
    n           INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE,
    task        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'active', 'done', 'dead')),
    attempt     INTEGER NOT NULL DEFAULT 0,
    run_at      INTEGER NOT NULL,
    lease_until INTEGER,
    error       TEXT,
    added_at    INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX jobs_due ON jobs (run_at, n) WHERE state IN ('waiting', 'active');
CREATE INDEX jobs_dead ON jobs (n) WHERE state = 'dead';
