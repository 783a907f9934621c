-- The relay looks four times a second for rows to hand on: in their order, past those that were handed on, and not at the
-- buried ones, of which an outage of the mail server leaves many.
CREATE INDEX outbox_due ON outbox (n, relayed_at) WHERE buried = 0;
