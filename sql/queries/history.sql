-- name: see_account(account_key)$
-- Lets the transaction see the rows of one account, and plans each statement for the partitions that it needs.
SELECT set_config('trafficlog.account_key', :account_key, true),
       set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: account_of_key(account_key)^
-- One account with its settings, and since when a move of its history is under way.
SELECT a.account_key, a.account_id, a.created_at, a.history_days, a.history_after, a.history_days_min,
       a.history_days_max, a.monthly_reports, a.settings_epoch, a.withheld, a.display_name, a.currency, a.closed_at,
       m.changed_at AS moving_since
FROM account a LEFT JOIN history_move m USING (account_key)
WHERE a.account_key = :account_key;

-- name: history_page(visible_key, account_key, epoch, lower, before_created, before_id, expires_from, expires_to, limit)
-- One account's records created after lower that stand behind a place of its list, if its settings are still those of an epoch.
SELECT h.created_at, h.updated_at, h.delivered_at, h.expires_at, h.duration, h.parts, h.cost,
       h.kind, h.direction, h.status, h.id, h.sender, h.recipient, h.owner, h.tags, h.message
FROM history_page(:visible_key, :account_key, :epoch, :lower, :before_created, :before_id, :expires_from, :expires_to,
                  :limit) h;

-- name: take_in_order()!
-- Has the transaction read rows in the order of a key, and not sort them or work on them in parallel.
SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true);

-- name: history_window(account_key, lower, before_created, before_id, expires_from, expires_to, kind, direction, status, sender, recipient, tag, limit)
-- One account's records created after lower that stand behind a place of its list, newest first.
SELECT h.created_at, h.updated_at, h.delivered_at, h.expires_at, h.duration, h.parts, h.cost,
       h.kind, h.direction, h.status, h.id, h.sender, h.recipient, h.owner, h.tags, h.message
FROM history_record h
WHERE h.account_key = :account_key AND h.created_at > :lower::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
  AND (h.created_at, h.id) < (:before_created::timestamptz, :before_id::text COLLATE "C")
  AND (:kind::smallint IS NULL OR h.kind = :kind)
  AND (:direction::smallint IS NULL OR h.direction = :direction)
  AND (:status::smallint IS NULL OR h.status = :status)
  AND (:sender::text IS NULL OR h.sender = :sender)
  AND (:recipient::text IS NULL OR h.recipient = :recipient)
  AND (:tag::text IS NULL OR :tag = ANY (h.tags))
ORDER BY h.created_at DESC, h.id DESC
LIMIT :limit;

-- name: history_scan(account_key, lower, before_created, before_id, expires_from, expires_to, kind, direction, status, sender, recipient, tag, rows_max, limit)
-- What history_window gives, of so many records that are looked at; the last of those is given too, with its place.
SELECT s.created_at, s.updated_at, s.delivered_at, s.expires_at, s.duration, s.parts, s.cost,
       s.kind, s.direction, s.status, s.id, s.sender, s.recipient, s.owner, s.tags, s.message,
       s.fits, s.place, s.is_last
FROM (
    SELECT h.*, row_number() OVER listed AS place, lead(h.id) OVER listed IS NULL AS is_last,
           (:kind::smallint IS NULL OR h.kind = :kind)
           AND (:direction::smallint IS NULL OR h.direction = :direction)
           AND coalesce(:status::smallint IS NULL OR h.status = :status, false)
           AND coalesce(:sender::text IS NULL OR h.sender = :sender, false)
           AND coalesce(:recipient::text IS NULL OR h.recipient = :recipient, false)
           AND coalesce(:tag::text IS NULL OR :tag = ANY (h.tags), false) AS fits
    FROM history_record h
    WHERE h.account_key = :account_key AND h.created_at > :lower::timestamptz
      AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
      AND (h.created_at, h.id) < (:before_created::timestamptz, :before_id::text COLLATE "C")
    WINDOW listed AS (ORDER BY h.created_at DESC, h.id DESC)
    ORDER BY h.created_at DESC, h.id DESC
    LIMIT :rows_max
) s
WHERE s.fits OR s.is_last OR s.place = :rows_max
ORDER BY s.created_at DESC, s.id DESC
LIMIT :limit;

-- name: history_sample(account_key, lower, before_created, before_id, expires_from, expires_to, kind, direction, status, sender, recipient, tag, rows_max)^
-- How many of one account's records there are, of so many at most, and how many of those a filter fits.
SELECT count(*) AS looked_at,
       count(*) FILTER (
           WHERE (:kind::smallint IS NULL OR s.kind = :kind)
             AND (:direction::smallint IS NULL OR s.direction = :direction)
             AND (:status::smallint IS NULL OR s.status = :status)
             AND (:sender::text IS NULL OR s.sender = :sender)
             AND (:recipient::text IS NULL OR s.recipient = :recipient)
             AND (:tag::text IS NULL OR :tag = ANY (s.tags))) AS fit
FROM (
    SELECT h.kind, h.direction, h.status, h.sender, h.recipient, h.tags FROM history_record h
    WHERE h.account_key = :account_key AND h.created_at > :lower::timestamptz
      AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
      AND (h.created_at, h.id) < (:before_created::timestamptz, :before_id::text COLLATE "C")
    LIMIT :rows_max
) s;

-- name: history_rows_expected(account_key, lower, before_created, before_id, expires_from, expires_to)$
-- The planner's idea of how many records one account has behind a place of its list, as JSON.
EXPLAIN (FORMAT JSON)
SELECT FROM history_record h
WHERE h.account_key = :account_key AND h.created_at > :lower::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
  AND (h.created_at, h.id) < (:before_created::timestamptz, :before_id::text COLLATE "C");

-- name: history_by_id(account_key, id, lower, upper, expires_from, expires_to)
-- One account's records of an id, newest first; an id may be used again at another time.
SELECT h.created_at, h.updated_at, h.delivered_at, h.expires_at, h.duration, h.parts, h.cost,
       h.kind, h.direction, h.status, h.id, h.sender, h.recipient, h.owner, h.tags, h.message
FROM history_record h
WHERE h.account_key = :account_key
  AND h.created_at > :lower::timestamptz AND h.created_at <= :upper::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
  AND h.id = :id
ORDER BY h.created_at DESC;

-- name: history_count(account_key, lower, upper, expires_from, expires_to)$
-- How many records one account has within (lower, upper].
SELECT count(*) FROM history_record h
WHERE h.account_key = :account_key
  AND h.created_at > :lower::timestamptz AND h.created_at <= :upper::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz;

-- name: keep_settings()$
-- Waits for a change of settings on its way, and holds up others until the transaction ends.
SELECT pg_advisory_xact_lock_shared(7100, 1);

-- name: erase_history(id, created, at)^
-- Erases the present account's records of an id that were created at these times; says how many went, and the latest expiry under which one ever stood.
SELECT rows_erased, last_expiry FROM erase_history(:id, :created::timestamptz[], :at);

-- name: change_settings(history, days, reports, withheld, at, by)!
-- Sets the present account's settings; NULL leaves one as it is, and no history takes no days.
SELECT change_settings(:history::boolean, :days::smallint, :reports::boolean, :withheld::smallint, :at, :by);

-- name: session_account(key_id, session_id)$
-- The present account's id while a page session of its key is in force.
SELECT session_account(:key_id, :session_id);

-- name: end_session(session_id, expires_at, at)!
-- Ends a page session before its time.
SELECT end_session(:session_id, :expires_at, :at);
