-- Of each receiver, what ended last.
CREATE INDEX outbox_ended ON outbox (receiver, ended_at, seq) WHERE state >= 2;
