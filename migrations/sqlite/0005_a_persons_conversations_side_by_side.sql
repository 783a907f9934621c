-- What a person is in lies side by side: a `hello` reads it as one stretch instead of looking each up, and who joins is written into
-- two places instead of three.
ALTER TABLE conversation_members RENAME TO conversation_members_before;
DROP INDEX conversation_members_by_time;
DROP INDEX conversation_members_by_user;

CREATE TABLE conversation_members (
    conversation_id BLOB NOT NULL REFERENCES conversations (id),
    user_id         BLOB NOT NULL REFERENCES users (id),
    read_seq        INTEGER NOT NULL,
    joined_at       INTEGER NOT NULL,
    PRIMARY KEY (user_id, conversation_id)
) STRICT, WITHOUT ROWID;
INSERT INTO conversation_members
    SELECT conversation_id, user_id, read_seq, joined_at FROM conversation_members_before ORDER BY user_id, conversation_id;
CREATE INDEX conversation_members_by_time ON conversation_members (conversation_id, joined_at, user_id);

DROP TABLE conversation_members_before;
