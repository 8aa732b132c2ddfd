-- name: erasable(account_key, lower, upper, expires_from, expires_to, kind, direction, status, sender, recipient, tag)^
-- How many of one account's records created within (lower, upper] a filter means, the oldest and the newest.
SELECT count(*) AS records, min(h.created_at) AS oldest, max(h.created_at) AS newest
FROM history_record h
WHERE h.account_key = :account_key
  AND h.created_at > :lower::timestamptz AND h.created_at <= :upper::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
  AND (:kind::smallint IS NULL OR h.kind = :kind)
  AND (:direction::smallint IS NULL OR h.direction = :direction)
  AND (:status::smallint IS NULL OR h.status = :status)
  AND (:sender::text IS NULL OR h.sender = :sender)
  AND (:recipient::text IS NULL OR h.recipient = :recipient)
  AND (:tag::text IS NULL OR :tag = ANY (h.tags));

-- name: erasable_reports(account_key, at)$
-- How many monthly reports an account has of months that ended before.
SELECT count(*) FROM monthly_report
WHERE account_key = :account_key AND deleted_at IS NULL AND month + interval '1 month' <= :at::timestamptz;

-- name: lock_erasures(account_key)$
-- Lets an account's erasures be accepted one after the other until the transaction ends.
SELECT pg_advisory_xact_lock(7105, hashint8(:account_key));

-- name: erasures_open_of(account_key)$
-- How many erasures of an account are not finished.
SELECT count(*) FROM erasure WHERE account_key = :account_key AND finished_at IS NULL;

-- name: add_erasure(erasure_id, account_key, accepted_at, everything, fields, filter, created_after, created_up_to, ahead_to, expires_from, expires_to, found, reports, run_seconds, backup_days, repeat_key, repeat_body)!
-- Accepts an erasure, and notes what is stored of records created later that it means as well.
INSERT INTO erasure (erasure_id, account_key, accepted_at, everything, fields, filter, created_after,
                     created_up_to, ahead_created, ahead_ids, found, reports, run_seconds,
                     backup_days, repeat_key, repeat_body)
SELECT :erasure_id, :account_key, :accepted_at, :everything, :fields::text[], :filter::jsonb,
       :created_after, :created_up_to, array_agg(h.created_at ORDER BY h.created_at, h.id),
       array_agg(h.id ORDER BY h.created_at, h.id), :found, :reports, :run_seconds,
       :backup_days, :repeat_key, :repeat_body
FROM history_record h
WHERE h.account_key = :account_key
  AND h.created_at > :created_up_to AND h.created_at <= :ahead_to::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz;

-- name: erasure_repeated(account_key, repeat_key)^
-- The erasure that was accepted for an idempotency key, and what it asked.
SELECT erasure_id, repeat_body FROM erasure
WHERE account_key = :account_key AND repeat_key = :repeat_key;

-- name: erasure(account_key, erasure_id)^
-- One erasure of an account.
SELECT erasure_id, state, accepted_at, started_at, finished_at, everything, fields, filter, found,
       erased, kinds, oldest_day, newest_day, last_expiry, reports, reports_erased, run_seconds,
       backup_days
FROM erasure WHERE account_key = :account_key AND erasure_id = :erasure_id;

-- name: erasures(account_key, before_at, before_id, limit)
-- An account's erasures before a place in their list, newest first.
SELECT erasure_id, state, accepted_at, started_at, finished_at, everything, fields, filter, found,
       erased, kinds, oldest_day, newest_day, last_expiry, reports, reports_erased, run_seconds,
       backup_days
FROM erasure
WHERE account_key = :account_key
  AND (:before_at::timestamptz IS NULL
       OR (accepted_at, erasure_id) < (:before_at, :before_id::text COLLATE "C"))
ORDER BY accepted_at DESC, erasure_id DESC LIMIT :limit;

-- name: cancel_erasure(erasure_id, at)$
-- Cancels an erasure of the present account; true when it was under way.
SELECT cancel_erasure(:erasure_id, :at);

-- name: erasures_open(limit)
-- Erasures that are not finished, the oldest first.
SELECT erasure_id, accepted_at FROM erasure WHERE finished_at IS NULL
ORDER BY accepted_at, erasure_id LIMIT :limit;

-- name: erase_step(erasure_id, at, rows_max, width)^
-- Carries one erasure on.
SELECT rows_read, rows_erased, state
FROM erase_step(:erasure_id, :at, :rows_max, :width::interval);

-- name: fail_erasure(erasure_id, at, attempts_max)$
-- Notes that a step of an erasure failed; gives its state.
SELECT fail_erasure(:erasure_id, :at, :attempts_max);

-- name: forget_repeats(finished_up_to)!
-- Forgets what finished erasures keep to know a request that is sent again.
UPDATE erasure SET repeat_key = NULL, repeat_body = NULL
WHERE repeat_key IS NOT NULL AND finished_at <= :finished_up_to;

-- name: forget_erasures(finished_up_to)!
-- Deletes erasures that were finished long ago, with their receipts.
DELETE FROM erasure WHERE finished_at <= :finished_up_to;
