-- Money is nano-dollars, times are milliseconds since 1970, enums are the codes of codes.rs.
PRAGMA application_id = 1397774155; -- "SPWK"

-- One committed step. The sequence orders everything: times may repeat or run backwards (FAULTS 48).
CREATE TABLE step (
  seq INTEGER PRIMARY KEY,
  at  INTEGER NOT NULL
) STRICT;

-- Texts that repeat: stored once, named by number.
CREATE TABLE word (
  pk   INTEGER PRIMARY KEY,
  text TEXT NOT NULL UNIQUE
) STRICT;

-- One poll of one feed. `late` is its time less its step's (0 takes no byte).
CREATE TABLE poll (
  seq     INTEGER PRIMARY KEY,
  step    INTEGER NOT NULL,
  late    INTEGER NOT NULL,
  feed    INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  items   INTEGER NOT NULL,
  failure INTEGER,
  trouble INTEGER -- word
) STRICT;

-- What a history is kept of: a deployment's identity (id, created_at), or a volume's.
-- `latest` is the last value of its one fast number: a deployment's total cost, a volume's used bytes.
CREATE TABLE line (
  pk         INTEGER PRIMARY KEY,
  kind       INTEGER NOT NULL,
  id         TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  latest     INTEGER NOT NULL,
  UNIQUE (kind, id, created_at)
) STRICT;

-- The fast number alone changed. In write order, so that a step appends.
CREATE TABLE sample (
  step  INTEGER NOT NULL,
  line  INTEGER NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (step, line)
) STRICT, WITHOUT ROWID;

-- Anything else changed: the whole new state. Of one id, the identity with the highest seq is the present one.
CREATE TABLE deployment (
  seq              INTEGER PRIMARY KEY,
  step             INTEGER NOT NULL,
  line             INTEGER NOT NULL,
  total_cost       INTEGER NOT NULL,
  hourly_rate      INTEGER NOT NULL,
  status           INTEGER NOT NULL, -- word
  status_since     INTEGER NOT NULL,
  status_before    INTEGER,          -- word
  presence         INTEGER NOT NULL,
  presence_at      INTEGER,
  not_found        INTEGER NOT NULL,
  first_seen       INTEGER NOT NULL,
  started_at       INTEGER,
  stopped_at       INTEGER,
  unreadable_since INTEGER,
  name             TEXT NOT NULL,
  team             INTEGER NOT NULL, -- word
  gpu_type         INTEGER NOT NULL, -- word
  gpu_count        INTEGER NOT NULL,
  provider         INTEGER NOT NULL, -- word
  region           INTEGER NOT NULL, -- word
  instance_type    INTEGER NOT NULL, -- word
  kubernetes       INTEGER NOT NULL
) STRICT;
CREATE INDEX deployment_line ON deployment (line);

CREATE TABLE volume (
  seq              INTEGER PRIMARY KEY,
  step             INTEGER NOT NULL,
  line             INTEGER NOT NULL,
  used_bytes       INTEGER NOT NULL,
  size_bytes       INTEGER NOT NULL,
  hourly_rate      INTEGER NOT NULL,
  status           INTEGER NOT NULL, -- word
  first_seen       INTEGER NOT NULL,
  gone_at          INTEGER,
  last_detached_at INTEGER,
  name             TEXT NOT NULL,
  team             INTEGER NOT NULL, -- word
  provider         INTEGER NOT NULL, -- word
  attached_to      TEXT              -- JSON array of deployment ids; NULL is the empty one
) STRICT;
CREATE INDEX volume_line ON volume (line);

-- A row for a new `balance_at` alone is not written: series.rs has the rule that rebuilds it.
CREATE TABLE team (
  team          INTEGER NOT NULL, -- word: its id
  step          INTEGER NOT NULL,
  name          INTEGER NOT NULL, -- word
  role          INTEGER NOT NULL, -- word
  balance       INTEGER,
  balance_at    INTEGER,
  previous      INTEGER,
  previous_at   INTEGER,
  unknown_since INTEGER,
  denied        INTEGER,          -- word
  PRIMARY KEY (team, step)
) STRICT, WITHOUT ROWID;

-- The small rest of the snapshot, and the whole list of offers, as JSON.
CREATE TABLE account (
  step INTEGER PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;
CREATE TABLE offers (
  step INTEGER PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;

-- The engine's state now.
CREATE TABLE alert (
  rule    TEXT NOT NULL,
  subject TEXT NOT NULL,
  state   TEXT NOT NULL, -- JSON
  PRIMARY KEY (rule, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE notice (
  pk    INTEGER PRIMARY KEY,
  event TEXT NOT NULL UNIQUE,
  at    INTEGER NOT NULL,
  body  TEXT NOT NULL -- JSON
) STRICT;

-- One notice for one receiver. Rows of one lane (receiver and alert) go out in order.
CREATE TABLE outbox (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  notice     INTEGER NOT NULL REFERENCES notice (pk),
  receiver   TEXT NOT NULL,
  lane       TEXT NOT NULL, -- rule and subject
  state      INTEGER NOT NULL, -- 0 waiting, 1 claimed, 2 delivered, 3 dead: open below 2
  attempts   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  next_at    INTEGER NOT NULL,
  claimed_at INTEGER,
  ended_at   INTEGER,
  UNIQUE (notice, receiver)
) STRICT;
CREATE INDEX outbox_open ON outbox (receiver, seq) WHERE state < 2;
CREATE INDEX outbox_lane ON outbox (receiver, lane, seq) WHERE state < 2;

-- What came of each attempt; only ever added to.
CREATE TABLE attempt (
  seq     INTEGER PRIMARY KEY,
  outbox  INTEGER NOT NULL REFERENCES outbox (seq) ON DELETE CASCADE,
  at      INTEGER NOT NULL,
  receipt TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX attempt_outbox ON attempt (outbox);
