-- Every order of a person that took effect: who armed, disarmed, kept or stopped what. What was written stays as it was written.
CREATE TABLE audit (
  seq     INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  what    TEXT NOT NULL, -- armed, disarmed, kept, keep_ended, cancelled, restored
  subject TEXT NOT NULL, -- a policy, a deployment's identity, an action, the database
  who     TEXT NOT NULL,
  body    TEXT NOT NULL  -- JSON
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the record of orders is never changed'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the record of orders is never deleted'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'the record of orders is never changed'); END;

-- How many commits changed an order or an action. The file beside the database says so too: a copy put back is behind it.
CREATE TABLE orders (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  database TEXT NOT NULL, -- by chance: which file beside it is its own
  count    INTEGER NOT NULL
) STRICT;
INSERT INTO orders VALUES (1, lower(hex(randomblob(16))), 0);
