-- What a deployment cost per hour before its last change of rate, and when that change was seen.
ALTER TABLE deployment ADD COLUMN rate_before INTEGER;
ALTER TABLE deployment ADD COLUMN rate_changed_at INTEGER;
