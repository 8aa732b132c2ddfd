-- name: see_account(account_key)$
-- Lets the transaction see the rows of one account.
SELECT set_config('trafficlog.account_key', :account_key, true);

-- name: account_of_key(account_key)^
-- One account with its settings, and since when a move of its history is under way.
SELECT a.account_key, a.account_id, a.created_at, a.history_days, a.history_after, a.history_days_min,
       a.history_days_max, a.monthly_reports, a.closed_at, m.changed_at AS moving_since
FROM account a LEFT JOIN history_move m USING (account_key)
WHERE a.account_key = :account_key;

-- name: history_window(account_key, lower, upper, after_created, after_id, expires_from, expires_to, kind, direction, status, sender, recipient, tag, limit)
-- One account's records created within (lower, upper], before a point of the list, newest first.
SELECT h.created_at, h.updated_at, h.delivered_at, h.expires_at, h.duration, h.parts, h.cost,
       h.kind, h.direction, h.status, h.id, h.sender, h.recipient, h.owner, h.tags, h.message
FROM history_record h
WHERE h.account_key = :account_key
  AND h.created_at > :lower::timestamptz AND h.created_at <= :upper::timestamptz
  AND h.expires_at >= :expires_from::timestamptz AND h.expires_at <= :expires_to::timestamptz
  AND (h.created_at, h.id) < (:after_created::timestamptz, :after_id::text COLLATE "C")
  AND (:kind::smallint IS NULL OR h.kind = :kind)
  AND (:direction::smallint IS NULL OR h.direction = :direction)
  AND (:status::smallint IS NULL OR h.status = :status)
  AND (:sender::text IS NULL OR h.sender = :sender)
  AND (:recipient::text IS NULL OR h.recipient = :recipient)
  AND (:tag::text IS NULL OR :tag = ANY (h.tags))
ORDER BY h.created_at DESC, h.id DESC
LIMIT :limit;

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

-- name: erase_history(id, created, at)$
-- Erases the present account's records of an id that were created at these times.
SELECT erase_history(:id, :created::timestamptz[], :at);

-- name: change_settings(days, reports, at, by)!
-- Sets the present account's settings; no days turn history off.
SELECT change_settings(:days::smallint, :reports, :at, :by);

-- name: session_account(key_id, session_id)$
-- The present account's id while a page session of its key is in force.
SELECT session_account(:key_id, :session_id);

-- name: end_session(session_id, expires_at, at)!
-- Ends a page session before its time.
SELECT end_session(:session_id, :expires_at, :at);
