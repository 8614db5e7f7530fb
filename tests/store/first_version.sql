-- What a daemon of the first schema left: a fleet, a balance that moved, alerts, a message that waits and one that went.
INSERT INTO step (seq, at) VALUES (1, 1800000000000), (2, 1800000060000), (3, 1800000120000);
INSERT INTO word (pk, text) VALUES (1, 't1'), (2, 'Lab'), (3, 'owner'), (4, 'running'), (5, 'terminated'), (6, 'h100'),
  (7, 'spheron-ai'), (8, 'us-east-1'), (9, 'DEDICATED'), (10, 'available'), (11, '500 INTERNAL_ERROR');
INSERT INTO poll (step, late, feed, outcome, items, failure, trouble) VALUES
  (1, 0, 0, 0, 1, NULL, NULL), (1, 5, 1, 0, 2, NULL, NULL), (1, 5, 2, 0, 1, NULL, NULL),
  (2, 0, 0, 0, 1, NULL, NULL), (2, 5, 1, 0, 2, NULL, NULL), (3, 0, 1, 2, 0, 5, 11);
INSERT INTO line (pk, kind, id, created_at, latest) VALUES (1, 0, 'd1', 1799990000000, 5000000000),
  (2, 0, 'd2', 1799980000000, 7000000000), (3, 1, 'v1', 1799000000000, 120000000000);
INSERT INTO deployment (seq, step, line, total_cost, hourly_rate, status, status_since, status_before, presence, presence_at,
    not_found, first_seen, started_at, stopped_at, unreadable_since, name, team, gpu_type, gpu_count, provider, region,
    instance_type, kubernetes) VALUES
  (1, 1, 1, 4000000000, 2000000000, 4, 1800000000005, NULL, 0, NULL, 0, 1800000000005, 1799990060000, NULL, NULL, 'train', 1, 6, 2,
    7, 8, 9, 0),
  (2, 1, 2, 7000000000, 1000000000, 4, 1800000000005, NULL, 0, NULL, 0, 1800000000005, NULL, NULL, NULL, 'eval', 1, 6, 1, 7, 8, 9, 0),
  (3, 2, 2, 7000000000, 1000000000, 5, 1800000060005, 4, 2, 1800000060005, 0, 1800000000005, NULL, 1800000030000, NULL, 'eval', 1,
    6, 1, 7, 8, 9, 0);
INSERT INTO sample (step, line, value) VALUES (2, 1, 5000000000);
INSERT INTO volume (seq, step, line, used_bytes, size_bytes, hourly_rate, status, first_seen, gone_at, last_detached_at, name, team,
    provider, attached_to) VALUES
  (1, 1, 3, 120000000000, 200000000000, 27400000, 10, 1800000000005, NULL, NULL, 'data', 1, 7, NULL);
INSERT INTO team (team, step, name, role, balance, balance_at, previous, previous_at, unknown_since, denied) VALUES
  (1, 1, 2, 3, 100000000000, 1800000000000, NULL, NULL, NULL, NULL),
  (1, 2, 2, 3, 97000000000, 1800000060000, 100000000000, 1800000060000, NULL, NULL);
INSERT INTO account (step, body) VALUES
  (1, '{"shrunk":{},"key_rejected_since":null,"unscoped_covers":true,"first_observed":1800000000000}');
INSERT INTO offers (step, body) VALUES (1, '[]');
INSERT INTO alert (rule, subject, state) VALUES
  ('low-balance', 'team/t1', '{"state":"firing","since":1800000060000,"told":1800000060000,"cleared":null}'),
  ('running-long', 'deployment/d1@1799990000000', '{"state":"pending","since":1800000060000}'),
  ('provider-stopped', 'deployment/d2@1799980000000', '{"state":"told","at":1800000060000}');
INSERT INTO notice (pk, event, at, body) VALUES
  (1, 'evt_1', 1800000060000, '{"id":"evt_1","key":{"rule":"low-balance","subject":{"kind":"team","id":"t1"}},"kind":"balance",
    "transition":"firing","severity":"critical","title":"low balance: Lab has $97.00 left","reason":"r","advice":"a",
    "details":[["team","Lab (t1)"]],"since":1800000060000,"at":1800000060000,"receivers":["ops","chat"]}');
INSERT INTO outbox (seq, notice, receiver, lane, state, attempts, created_at, next_at, claimed_at, ended_at) VALUES
  (1, 1, 'ops', 'low-balance team/t1', 2, 1, 1800000060000, 1800000060000, NULL, 1800000061000),
  (2, 1, 'chat', 'low-balance team/t1', 0, 1, 1800000060000, 1800000065000, NULL, NULL);
INSERT INTO attempt (seq, outbox, at, receipt) VALUES (1, 1, 1800000061000, '{"is":"delivered","detail":"200"}');
