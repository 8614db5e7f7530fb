-- An action as it stands. `announcement` is the event that told of it; `intent` the number of the act under which its end was
-- committed, and `intent_at` when; `over` is when it closed, or handed out its last request if that is later: NULL while open.
CREATE TABLE action (
  id           TEXT PRIMARY KEY,
  policy       TEXT NOT NULL,
  target       TEXT NOT NULL, -- the subject that its deployment is
  seq          INTEGER NOT NULL,
  stage        TEXT NOT NULL,
  announcement TEXT,
  intent       INTEGER,
  intent_at    INTEGER,
  over         INTEGER,
  body         TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;
CREATE INDEX action_open ON action (id) WHERE over IS NULL;
CREATE INDEX action_over ON action (over) WHERE over IS NOT NULL;

-- Every step that an action took, with its reason. What was written stays as it was written.
CREATE TABLE shift (
  seq        INTEGER PRIMARY KEY,
  action     TEXT NOT NULL,
  at         INTEGER NOT NULL,
  from_stage TEXT,          -- NULL: it began
  to_stage   TEXT NOT NULL,
  reason     TEXT NOT NULL  -- JSON
) STRICT;
CREATE INDEX shift_action ON shift (action);
CREATE TRIGGER shift_is_not_changed BEFORE UPDATE ON shift
  BEGIN SELECT RAISE(ABORT, 'the record of actions is never changed'); END;
CREATE TRIGGER shift_is_not_deleted BEFORE DELETE ON shift
  BEGIN SELECT RAISE(ABORT, 'the record of actions is never deleted'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER shift_is_not_replaced BEFORE INSERT ON shift WHEN EXISTS (SELECT 1 FROM shift WHERE seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'the record of actions is never changed'); END;

-- What people want: a deployment kept, a policy armed as it then stood, an action stopped.
CREATE TABLE keep (
  id     TEXT PRIMARY KEY,
  target TEXT NOT NULL, -- as an action's
  until  INTEGER,       -- NULL: for ever
  body   TEXT NOT NULL  -- JSON
) STRICT, WITHOUT ROWID;
CREATE TABLE arming (
  policy      TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  body        TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;
CREATE TABLE cancel (
  action TEXT PRIMARY KEY,
  body   TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

-- When each receiver last took anything; the outbox forgets.
CREATE TABLE confirmed (
  receiver TEXT PRIMARY KEY,
  at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO confirmed SELECT receiver, max(ended_at) FROM outbox WHERE state = 2 AND ended_at IS NOT NULL GROUP BY receiver;
