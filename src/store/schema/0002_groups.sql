-- Transitions that wait to be told together.
CREATE TABLE waiting (
  receiver TEXT NOT NULL,
  labels   TEXT NOT NULL,
  body     TEXT NOT NULL, -- JSON
  PRIMARY KEY (receiver, labels)
) STRICT, WITHOUT ROWID;

-- The whole new state of a silence.
CREATE TABLE silence (
  id   TEXT NOT NULL,
  step INTEGER NOT NULL,
  body TEXT, -- JSON; NULL: no longer known
  PRIMARY KEY (id, step)
) STRICT, WITHOUT ROWID;

-- What an open row stands in: its alert, or its group and the alerts it tells of. Rows of one lane go out in order.
CREATE TABLE lane (
  receiver TEXT NOT NULL,
  lane     TEXT NOT NULL,
  outbox   INTEGER NOT NULL REFERENCES outbox (seq) ON DELETE CASCADE,
  PRIMARY KEY (receiver, lane, outbox)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_outbox ON lane (outbox);
INSERT INTO lane SELECT receiver, lane, seq FROM outbox WHERE state < 2;
DROP INDEX outbox_lane;
ALTER TABLE outbox DROP COLUMN lane;
