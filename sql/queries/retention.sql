-- name: lead()$
-- Becomes the one instance that runs the jobs, for as long as the connection lives.
SELECT pg_try_advisory_lock(7104, 1);

-- name: follow()$
-- Stops being the one that runs the jobs.
SELECT pg_advisory_unlock(7104, 1);

-- name: partitions()
-- Every partition of the retained tables, as the catalogue has it.
SELECT c.table_name, c.name, c.lower, c.upper, c.detach_pending,
       r.sealed_at IS NOT NULL
       AND c.name NOT IN (SELECT partition_name FROM look_up_catalogue WHERE NOT valid) AS sealed
FROM partition_catalogue c
LEFT JOIN partition_register r ON r.table_name = c.table_name AND r.lower = c.lower
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

-- name: look_ups_missing(name)
-- The look-up indexes that a partition is to get, and which of them were begun and not finished.
SELECT name, definition, made FROM look_up_catalogue
WHERE partition_name = :name AND NOT valid ORDER BY name;

-- name: is_frozen(table_name, lower)$
-- Whether a partition was vacuumed and frozen.
SELECT sealed_at IS NOT NULL FROM partition_register
WHERE table_name = :table_name AND lower = :lower;

-- name: note_frozen(table_name, lower, at)!
-- Notes that a partition was vacuumed and frozen.
UPDATE partition_register SET sealed_at = :at WHERE table_name = :table_name AND lower = :lower;

-- name: set_parallel_builds(workers)$
-- How many processes may help the connection to build an index.
SELECT set_config('max_parallel_maintenance_workers', :workers, false);

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
-- Drops that were begun and not finished; a pending detach first, because it bars all others of its table.
SELECT d.name, d.table_name, d.lower, d.upper, d.begun_at,
       i.inhrelid IS NOT NULL AS attached,
       coalesce(i.inhdetachpending, false) AS detach_pending
FROM partition_drop d LEFT JOIN pg_inherits i ON i.inhrelid = d.table_oid
ORDER BY detach_pending DESC, d.upper, d.name;

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

-- name: partitions_unbounded()
-- Partitions of the retained tables that have not two bounds, such as a default one: what is in them is never dropped.
SELECT child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bounds
FROM pg_inherits i
JOIN pg_class parent ON parent.oid = i.inhparent
JOIN retained_table t ON t.table_name = parent.relname
JOIN pg_class child ON child.oid = i.inhrelid
WHERE parent.relnamespace = 'trafficlog'::regnamespace
  AND NOT EXISTS (SELECT 1 FROM partition_catalogue c WHERE c.table_oid = child.oid)
ORDER BY child.relname;

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

-- name: ledger_early(clock, skew)
-- Partitions that were destroyed before their upper bound had passed, as far as any clock tells that was read since.
-- From the end on, so that the window only grows: otherwise each row would count all that follow.
SELECT seq, at, object, upper, known_at FROM (
    SELECT seq, at, object, reason, upper,
           least(at, :clock::timestamptz + :skew::interval,
                 min(at) OVER (ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                     + :skew::interval) AS known_at
    FROM purge_ledger
) entry
WHERE reason = 'expired' AND upper > known_at ORDER BY seq;

-- name: set_lock_timeout(timeout)$
-- How long the connection's statements wait for a lock.
SELECT set_config('lock_timeout', :timeout, false);

-- name: partition_blocks()
-- How many blocks each partition has on disk.
SELECT name, pg_relation_size(table_oid) / current_setting('block_size')::int AS blocks
FROM partition_catalogue;

-- name: verify_policy_rows(table_name, lower, upper, first_tid, end_tid)^
-- Among some blocks of a partition: the rows, and those whose expiry does not follow from policy.
-- By place, not by key: the columns that are looked at are never changed where a row stands.
SELECT count(*) AS rows,
       count(*) FILTER (WHERE r.expires_at < r.created_at + p.period) AS early,
       count(*) FILTER (WHERE r.expires_at > r.created_at + p.period) AS late,
       min(r.created_at) FILTER (WHERE r.expires_at <> r.created_at + p.period) AS first_wrong
FROM (
    SELECT created_at, expires_at
    FROM (
        SELECT 'traffic_record' AS table_name, created_at, expires_at, ctid AS place
        FROM traffic_record
        UNION ALL
        SELECT 'debug_log', created_at, expires_at, ctid FROM debug_log
        UNION ALL
        SELECT 'in_transit', created_at, expires_at, ctid FROM in_transit
        UNION ALL
        SELECT 'access_log', at, expires_at, ctid FROM access_log
    ) kept
    WHERE table_name = :table_name AND expires_at >= :lower AND expires_at < :upper
      AND place >= :first_tid::tid AND place < :end_tid::tid
    -- Or the planner would look the policy's rows up in the whole partition's key.
    OFFSET 0
) r
JOIN (
    SELECT effective_from, period_hours * interval '1 hour' AS period,
           lead(effective_from, 1, 'infinity') OVER (ORDER BY effective_from) AS effective_to
    FROM retention_policy WHERE data_class = :table_name
) p ON r.created_at >= p.effective_from AND r.created_at < p.effective_to;

-- name: verify_history_rows(at, lower, upper, first_tid, end_tid)^
-- Among some blocks of history: the rows, those that the account's setting does not explain, and those without their legal record.
-- While a move is pending a row stands under any of the periods that the account has had since.
SELECT count(*) AS rows,
       count(*) FILTER (WHERE r.expires_at < kept.from_at) AS early,
       count(*) FILTER (WHERE r.expires_at > kept.to_at) AS late,
       count(*) FILTER (WHERE kept.unwanted) AS unwanted,
       count(*) FILTER (WHERE legal.expires_at > :at AND NOT EXISTS (
           SELECT FROM traffic_record t
           WHERE t.created_at = r.created_at AND t.account_key = r.account_key AND t.id = r.id
             AND t.expires_at = legal.expires_at)) AS without_legal,
       min(r.created_at) FILTER (WHERE r.expires_at < kept.from_at OR r.expires_at > kept.to_at
                                    OR kept.unwanted) AS first_wrong
FROM (
    SELECT account_key, created_at, id, expires_at FROM history_record
    WHERE expires_at >= :lower AND expires_at < :upper
      AND ctid >= :first_tid::tid AND ctid < :end_tid::tid
    OFFSET 0
) r
JOIN account a USING (account_key)
LEFT JOIN history_move m USING (account_key)
CROSS JOIN LATERAL (
    SELECT r.created_at + CASE WHEN m.account_key IS NULL THEN a.history_days
                               ELSE a.history_days_min END * interval '24 hours' AS from_at,
           r.created_at + CASE WHEN m.account_key IS NULL THEN a.history_days
                               ELSE a.history_days_max END * interval '24 hours' AS to_at,
           m.account_key IS NULL AND (a.history_days IS NULL OR r.created_at <= a.history_after)
               AS unwanted
) kept
JOIN (
    SELECT effective_from, period_hours * interval '1 hour' AS period,
           lead(effective_from, 1, 'infinity') OVER (ORDER BY effective_from) AS effective_to
    FROM retention_policy WHERE data_class = 'traffic_record'
) p ON r.created_at >= p.effective_from AND r.created_at < p.effective_to
CROSS JOIN LATERAL (SELECT r.created_at + p.period AS expires_at) legal;
