-- A message is written into fewer places: its key is made of its conversation's number and its seq, so that a conversation's
-- messages lie side by side in their order, and only those that were changed since are in an index by rev.
ALTER TABLE conversations ADD COLUMN n INTEGER;
UPDATE conversations SET n = numbered.n
    FROM (SELECT id, row_number() OVER (ORDER BY created_at, id) AS n FROM conversations) AS numbered
    WHERE conversations.id = numbered.id;
CREATE UNIQUE INDEX conversations_by_number ON conversations (n);

ALTER TABLE messages RENAME TO messages_before;
ALTER TABLE reactions RENAME TO reactions_before;
DROP INDEX messages_by_seq;
DROP INDEX messages_by_rev;
DROP INDEX messages_by_client_id;
DROP INDEX reactions_by_message;

-- `sent_rev` never falls from one seq to the next, and each seq has its row: a search relies on both. `changed_rev` is null until
-- something has happened to the message.
-- `digest` is the SHA-256 of the text as first sent, once there is another: what tells a repeated send from another one.
-- `reactions` is the read model of the table below: [[emoji, count, [first user ids]], …], null for none.
CREATE TABLE messages (
    n             INTEGER PRIMARY KEY,
    conversation  INTEGER NOT NULL GENERATED ALWAYS AS (n >> 36) VIRTUAL REFERENCES conversations (n),
    seq           INTEGER NOT NULL GENERATED ALWAYS AS (n & 0xFFFFFFFFF) VIRTUAL,
    id            BLOB NOT NULL UNIQUE,
    sent_rev      INTEGER NOT NULL,
    changed_rev   INTEGER,
    rev           INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(changed_rev, sent_rev)) VIRTUAL,
    author_id     BLOB NOT NULL REFERENCES users (id),
    client_msg_id TEXT NOT NULL,
    digest        BLOB,
    text          TEXT NOT NULL,
    reactions     TEXT,
    created_at    INTEGER NOT NULL,
    edited_at     INTEGER,
    deleted_at    INTEGER,
    deleted_by    BLOB
) STRICT;
-- With which rev a message was sent nobody knows any more if it was changed; but not with a higher one than those after it.
INSERT INTO messages (n, id, sent_rev, changed_rev, author_id, client_msg_id, digest, text, reactions, created_at, edited_at, deleted_at, deleted_by)
    SELECT key, id, sent_rev, nullif(rev, sent_rev), author_id, client_msg_id, digest, text, reactions, created_at, edited_at, deleted_at, deleted_by
    FROM (
        SELECT c.n << 36 | m.seq AS key, m.*, min(m.rev) OVER (PARTITION BY c.n ORDER BY m.seq DESC) AS sent_rev
        FROM messages_before m JOIN conversations c ON c.id = m.conversation_id
    )
    ORDER BY key;
CREATE UNIQUE INDEX messages_changed ON messages (conversation, changed_rev) WHERE changed_rev IS NOT NULL;
CREATE UNIQUE INDEX messages_by_client_id ON messages (conversation, author_id, client_msg_id);

CREATE TABLE reactions (
    n          INTEGER PRIMARY KEY,
    message_id BLOB NOT NULL REFERENCES messages (id),
    emoji      TEXT NOT NULL,
    user_id    BLOB NOT NULL REFERENCES users (id)
) STRICT;
INSERT INTO reactions SELECT n, message_id, emoji, user_id FROM reactions_before;
CREATE UNIQUE INDEX reactions_by_message ON reactions (message_id, emoji, user_id);

DROP TABLE reactions_before;
DROP TABLE messages_before;
