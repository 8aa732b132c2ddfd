-- name: place_hold(hold_id, account_key, number, ip, record_id, created_from, created_to, reason, case_ref, placed_by, placed_at, ends_at)!
-- Places a hold.
SELECT place_hold(:hold_id, :account_key, :number, :ip, :record_id, :created_from, :created_to,
                  :reason, :case_ref, :placed_by, :placed_at, :ends_at);

-- name: hold(hold_id)^
-- One hold.
SELECT h.*, a.account_id FROM abuse_hold h LEFT JOIN account a USING (account_key)
WHERE h.hold_id = :hold_id;

-- name: holds()
-- All holds, newest first.
SELECT h.*, a.account_id FROM abuse_hold h LEFT JOIN account a USING (account_key)
ORDER BY h.placed_at DESC, h.hold_id;

-- name: release_hold(hold_id, at, by)$
-- Releases a hold that is in force; gives its id when it was.
UPDATE abuse_hold SET released_at = :at, released_by = :by
WHERE hold_id = :hold_id AND released_at IS NULL AND ends_at > :at RETURNING hold_id;

-- name: lock_holds_alone()$
-- Waits until nothing is being destroyed; until the transaction ends nothing will be.
SELECT pg_advisory_xact_lock(7102, 1);

-- name: extend_hold(hold_id, at, ends_at)$
-- Lets a hold that is in force end at another time; gives its id when it was.
-- One whose end had passed for a job that destroyed copies since, by a clock a little ahead, is over.
UPDATE abuse_hold SET ends_at = :ends_at
WHERE hold_id = :hold_id AND released_at IS NULL AND ends_at > :at
  AND NOT EXISTS (SELECT FROM purge_ledger l
                  WHERE l.reason = 'hold-ended' AND l.at >= abuse_hold.ends_at)
RETURNING hold_id;

-- name: holds_active(now)$
-- How many holds are in force.
SELECT count(*) FROM abuse_hold WHERE released_at IS NULL AND ends_at > :now;

-- name: held_counts(hold_id)
-- How many copies a hold protects, by class; legal ones are counted, not shown.
SELECT data_class, rows FROM held_counts(:hold_id);

-- name: held_records(hold_id, after, limit, now)
-- The copies a hold covers that the reader's role may see, none past its expiry that no hold keeps.
SELECT r.held_key, r.data_class, r.record_id, r.created_at, r.expires_at, r.copied_at, r.content
FROM held_record r
WHERE r.held_key > :after AND protects(:hold_id, r)
  AND (r.expires_at > :now OR EXISTS (
      SELECT 1 FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > :now AND covers(h, r)))
ORDER BY r.held_key LIMIT :limit;
