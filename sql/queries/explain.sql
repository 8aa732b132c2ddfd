-- name: explain_accounts(id, account_key)
-- The accounts that have anything stored under a record id, whatever its class.
SELECT DISTINCT account_key FROM (
    SELECT account_key FROM traffic_record WHERE id = :id
    UNION ALL SELECT account_key FROM history_record WHERE id = :id
    UNION ALL SELECT account_key FROM held_record WHERE record_id = :id
    UNION ALL SELECT account_key FROM debug_log WHERE record_id = :id
) stored
WHERE account_key IS NOT NULL AND (:account_key::bigint IS NULL OR account_key = :account_key);

-- name: explain_stored(id, account_key)
-- Where a record is stored: class, creation, expiry and table; nothing of what it says.
SELECT 'traffic_record' AS data_class, created_at, expires_at, tableoid::regclass::text AS stored_in
FROM traffic_record WHERE id = :id AND account_key = :account_key
UNION ALL
SELECT 'history_record', created_at, expires_at, tableoid::regclass::text
FROM history_record WHERE id = :id AND account_key = :account_key
UNION ALL
SELECT 'debug_log', created_at, expires_at, tableoid::regclass::text
FROM debug_log WHERE record_id = :id AND account_key = :account_key
UNION ALL
SELECT 'held ' || data_class, created_at, expires_at, 'held_record'
FROM held_record WHERE record_id = :id AND account_key = :account_key
ORDER BY 2, 1;

-- name: explain_holds(id, account_key, now)
-- The holds in force that cover a record, by whatever selector.
SELECT DISTINCT h.hold_id, h.case_ref, h.ends_at
FROM abuse_hold h
LEFT JOIN traffic_record t ON t.id = :id AND t.account_key = :account_key
LEFT JOIN held_record r ON r.record_id = :id AND r.account_key = :account_key
WHERE h.released_at IS NULL AND h.ends_at > :now
  AND (h.account_key = :account_key AND (h.record_id IS NULL OR h.record_id = :id)
       OR h.number IN (t.sender, t.recipient) OR h.ip = t.ip OR covers(h, r))
  AND (h.created_from IS NULL OR coalesce(t.created_at, r.created_at) >= h.created_from)
  AND (h.created_to IS NULL OR coalesce(t.created_at, r.created_at) < h.created_to)
ORDER BY h.hold_id;

-- name: explain_destroyed(data_class, expires_at)
-- The drops of the partition that held what expired at a time.
SELECT seq, at, object FROM purge_ledger
WHERE data_class = :data_class AND reason = 'expired'
  AND lower <= :expires_at AND upper > :expires_at
ORDER BY seq;
