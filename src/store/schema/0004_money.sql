-- The balance alone changed: what it was before is its `previous`, and `late` is the poll's time less its step's. In write
-- order, so that a step appends.
CREATE TABLE balance (
  step  INTEGER NOT NULL,
  team  INTEGER NOT NULL, -- word: its id
  value INTEGER NOT NULL,
  late  INTEGER NOT NULL,
  PRIMARY KEY (step, team)
) STRICT, WITHOUT ROWID;
-- The last of them of each team.
CREATE TABLE balance_now (
  team     INTEGER PRIMARY KEY, -- word: its id
  step     INTEGER NOT NULL,
  value    INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  previous INTEGER NOT NULL
) STRICT;

-- What the engine remembers of money: an account per deployment identity and volume, and a purse per team.
CREATE TABLE ledger (
  pk          INTEGER PRIMARY KEY,
  subject     TEXT NOT NULL UNIQUE,
  team        INTEGER NOT NULL, -- word
  since       INTEGER NOT NULL,
  until       INTEGER NOT NULL,
  rate        INTEGER NOT NULL,
  rest        INTEGER NOT NULL,
  charged     INTEGER NOT NULL,
  guesses     TEXT,             -- JSON; NULL for none
  reported    INTEGER,
  reported_at INTEGER,
  drift       INTEGER NOT NULL,
  ended       INTEGER NOT NULL
) STRICT;
CREATE TABLE purse (
  team  TEXT PRIMARY KEY,
  state TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

-- What was spent, added up: per account by hour and day, per team by hour. Hours and days are counted from 1970, UTC;
-- `estimated` is the part that was not observed and that nothing has confirmed. Hours of accounts are kept for 400 days; so
-- many in a row that cost the same, within one day, are one row, and `amount` is each one's.
CREATE TABLE cost_hour (
  hour      INTEGER NOT NULL,
  account   INTEGER NOT NULL,
  hours     INTEGER NOT NULL,
  amount    INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  PRIMARY KEY (hour, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE cost_day (
  day       INTEGER NOT NULL,
  account   INTEGER NOT NULL,
  amount    INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  PRIMARY KEY (day, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE cost_team (
  hour      INTEGER NOT NULL,
  team      INTEGER NOT NULL, -- word
  amount    INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  PRIMARY KEY (hour, team)
) STRICT, WITHOUT ROWID;

-- Where `totalCost` said otherwise than rate × time (1), or fell (2): what was added to an hour for it.
CREATE TABLE correction (
  pk      INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  account INTEGER NOT NULL,
  hour    INTEGER NOT NULL,
  amount  INTEGER NOT NULL,
  why     INTEGER NOT NULL
) STRICT;
CREATE INDEX correction_account ON correction (account);
