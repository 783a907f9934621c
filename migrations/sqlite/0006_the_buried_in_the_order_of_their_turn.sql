-- At each start all dead jobs are handed on again, part by part: each part begins where the last one ended, instead of going
-- through all that has had its turn.
CREATE INDEX outbox_buried ON outbox (coalesce(relayed_at, 0), n) WHERE buried = 1;
