-- name: lead()$
-- Becomes the one instance that runs the jobs, for as long as the connection lives.
SELECT pg_try_advisory_lock(7104, 1);

-- name: follow()$
-- Stops being the one that runs the jobs.
SELECT pg_advisory_unlock(7104, 1);

-- name: partitions()
-- Every partition of the retained tables, as the catalogue has it.
SELECT c.table_name, c.name, c.lower, c.upper, c.detach_pending, r.sealed_at IS NOT NULL AS sealed
FROM partition_catalogue c LEFT JOIN partition_register r ON r.name = c.name
ORDER BY c.table_name, c.lower;

-- name: history_periods()
-- The distinct periods of accounts that keep history, in days.
SELECT DISTINCT history_days FROM account WHERE history_days IS NOT NULL AND closed_at IS NULL;

-- name: last_reference()$
-- The reference time of the last run.
SELECT last_reference_at FROM retention_state;

-- name: set_reference(at)!
-- Notes the reference time of a run.
UPDATE retention_state SET last_reference_at = :at;

-- name: note_sealed(name, at)!
-- Notes that a partition was vacuumed and frozen.
UPDATE partition_register SET sealed_at = :at WHERE name = :name;

-- name: moves()
-- Accounts whose history is to be moved, the oldest change first.
SELECT m.account_key, a.account_id, m.changed_at FROM history_move m JOIN account a USING (account_key)
ORDER BY m.changed_at, m.account_key;

-- name: move_step(account_key, at, rows_max)^
-- Carries the move of one account's history on.
SELECT rows_read, rows_moved, rows_destroyed, done FROM move_history_step(:account_key, :at, :rows_max);

-- name: weigh_partition(table_name, name, at)^
-- How many rows a partition holds, and how many of them a hold protects.
SELECT rows, held FROM weigh_partition(:table_name, :name, :at);

-- name: begin_drop(table_name, name, at)^
-- First step of a drop.
SELECT table_oid, lower, upper FROM begin_drop(:table_name, :name, :at);

-- name: drops_begun()
-- Drops that were begun and not finished.
SELECT d.name, d.table_name, d.lower, d.upper, d.begun_at,
       i.inhrelid IS NOT NULL AS attached,
       coalesce(i.inhdetachpending, false) AS detach_pending
FROM partition_drop d LEFT JOIN pg_inherits i ON i.inhrelid = d.table_oid
ORDER BY d.upper, d.name;

-- name: settle_drop(name, at)$
-- Middle step of a drop; gives how many rows the detached table holds.
SELECT settle_drop(:name, :at);

-- name: finish_drop(name, at, rows)$
-- Last step of a drop; gives how many rows a hold kept.
SELECT finish_drop(:name, :at, :rows);

-- name: quote_identifier(name)$
-- A name as it may stand in a statement.
SELECT quote_ident(:name);

-- name: destroy_released(at, rows_max)$
-- Destroys held copies that no hold protects any more.
SELECT destroy_released(:at, :rows_max);

-- name: held_overdue(at)$
-- How many held copies are past their own expiry and under no hold.
SELECT count(*) FROM held_record r WHERE r.expires_at <= :at AND NOT is_held(r, :at);

-- name: partitions_missing()
-- Partitions that were made and are no longer attached though no drop of them began, or were lost and made anew.
SELECT r.table_name, r.name, r.lower, r.upper
FROM partition_register r
LEFT JOIN partition_catalogue c ON c.table_name = r.table_name AND c.lower = r.lower
WHERE r.lost
   OR c.name IS NULL AND NOT EXISTS (SELECT 1 FROM partition_drop d WHERE d.name = r.name)
ORDER BY r.table_name, r.lower;

-- name: partitions_unregistered()
-- Partitions that are attached though trafficlog did not make them.
SELECT c.table_name, c.name, c.lower, c.upper
FROM partition_catalogue c
LEFT JOIN partition_register r ON r.table_name = c.table_name AND r.lower = c.lower
WHERE r.name IS NULL ORDER BY c.table_name, c.lower;

-- name: stray_tables()
-- Tables that look like a partition of ours, are attached nowhere and are in no drop.
SELECT c.relname AS name FROM pg_class c
JOIN retained_table t ON c.relname ~ ('^' || t.table_name || '_[0-9]+_*$')
WHERE c.relnamespace = 'trafficlog'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
  AND NOT EXISTS (SELECT 1 FROM partition_drop d WHERE d.name = c.relname)
ORDER BY c.relname;

-- name: ledger(after, limit)
-- The ledger from a sequence number on.
SELECT seq, at, data_class, object, reason, lower, upper, rows, held, previous, hash
FROM purge_ledger WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: ledger_head()^
-- The end of the ledger as the head knows it.
SELECT seq, hash FROM purge_ledger_head;

-- name: ledger_early()
-- Partitions that were destroyed before their upper bound had passed.
SELECT seq, at, object, upper FROM purge_ledger
WHERE reason = 'expired' AND upper > at ORDER BY seq;

-- name: set_lock_timeout(timeout)$
-- How long the connection's statements wait for a lock.
SELECT set_config('lock_timeout', :timeout, false);
