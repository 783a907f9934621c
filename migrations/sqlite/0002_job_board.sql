-- Why attempts failed: a JSON array of strings, oldest first, the last twenty.
ALTER TABLE jobs ADD COLUMN errors TEXT NOT NULL DEFAULT '[]';
UPDATE jobs SET errors = json_array(error) WHERE error IS NOT NULL;
ALTER TABLE jobs DROP COLUMN error;
ALTER TABLE jobs ADD COLUMN started_at INTEGER;

DROP INDEX jobs_dead;
CREATE INDEX jobs_dead ON jobs (finished_at, n) WHERE state = 'dead';
CREATE INDEX jobs_done ON jobs (finished_at, n) WHERE state = 'done';

-- What ended in a minute (since the Unix epoch): it outlives the jobs, of which only the last are kept.
CREATE TABLE job_minutes (
    minute INTEGER PRIMARY KEY,
    done   INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A buried row's job is dead: it is not handed on again, but may still be run. Those that died before had lost theirs.
ALTER TABLE outbox ADD COLUMN buried INTEGER NOT NULL DEFAULT 0;
INSERT INTO outbox (id, task, relayed_at, buried)
    SELECT id, task, finished_at, 1 FROM jobs WHERE state = 'dead' ON CONFLICT (id) DO UPDATE SET buried = 1;
