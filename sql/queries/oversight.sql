-- name: note_job(job, at, failure)!
-- Notes how the last run of a job ended; no failure, all was done.
INSERT INTO job_run AS j (job, ran_at, succeeded_at, failed_at, failure, failures)
VALUES (:job, :at, CASE WHEN :failure::text IS NULL THEN :at::timestamptz END,
        CASE WHEN :failure::text IS NOT NULL THEN :at::timestamptz END, :failure::text,
        (:failure::text IS NOT NULL)::int)
ON CONFLICT (job) DO UPDATE SET
    ran_at = EXCLUDED.ran_at, succeeded_at = coalesce(EXCLUDED.succeeded_at, j.succeeded_at),
    failed_at = coalesce(EXCLUDED.failed_at, j.failed_at),
    failure = coalesce(EXCLUDED.failure, j.failure), failures = j.failures + EXCLUDED.failures;

-- name: job_runs()
-- The last runs of each job.
SELECT job, ran_at, succeeded_at, failed_at, failure, failures FROM job_run ORDER BY job;

-- name: ingest_minutes(minutes)
-- How many records came in each of the last minutes, the one that runs first; by the server's clock.
SELECT g.ago, coalesce(m.records, 0) AS records
FROM generate_series(0, :minutes::int - 1) AS g (ago)
LEFT JOIN ingest_minute m ON m.minute = date_trunc('minute', now()) - g.ago * interval '1 minute'
ORDER BY g.ago;

-- name: accounts_page(part, after, limit)
-- Accounts by their ids from one on, whose id or name has a text in it.
SELECT a.account_key, a.account_id, a.display_name, a.created_at, a.history_days, a.closed_at,
       m.changed_at AS moving_since
FROM account a LEFT JOIN history_move m USING (account_key)
WHERE a.account_id > :after::text COLLATE "C"
  AND (:part::text = '' OR strpos(lower(a.account_id), lower(:part)) > 0
       OR strpos(lower(a.display_name), lower(:part)) > 0)
ORDER BY a.account_id LIMIT :limit;

-- name: holds_page(is_active, now, after_at, after_id, limit)
-- Holds that are in force, or those that are over, newest first, from one on.
SELECT h.*, a.account_id FROM abuse_hold h LEFT JOIN account a USING (account_key)
WHERE (h.released_at IS NULL AND h.ends_at > :now::timestamptz) = :is_active::boolean
  AND (h.placed_at, h.hold_id) < (:after_at::timestamptz, :after_id::text COLLATE "C")
ORDER BY h.placed_at DESC, h.hold_id DESC LIMIT :limit;

-- name: ledger_latest(before, limit)
-- The newest entries of the ledger that stand before one.
SELECT seq, at, data_class, object, reason, lower, upper, rows, held, previous, hash
FROM purge_ledger WHERE seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: moves_pending()^
-- How many accounts' history is still to be moved, and since when the first.
SELECT count(*) AS accounts, min(changed_at) AS since FROM history_move;

-- name: operator_session(key_id, session_id)$
-- Whether a session of an operator's key is in force: neither was revoked or signed out.
SELECT EXISTS (SELECT 1 FROM api_key
               WHERE key_id = :key_id AND scope = 'operator' AND revoked_at IS NULL)
   AND NOT EXISTS (SELECT 1 FROM ended_session WHERE session_id = :session_id);
