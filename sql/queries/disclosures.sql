-- name: disclose(account, record, number, ip, created_from, created_to, after_created, after_account, after_id, limit, at, by, reason, case_ref)
-- A page of the legal record, oldest first; the access log notes who asked for what, and why.
SELECT created_at, expires_at, updated_at, account_key, account_id, duration, kind, direction, id,
       sender, recipient, ip, user_agent
FROM disclose(:account, :record, :number, :ip, :created_from, :created_to, :after_created,
              :after_account, :after_id, :limit, :at, :by, :reason, :case_ref);

-- name: access_entries(now, after, before, start_at, start_id, limit)
-- Entries of the access log between two times and before a place, newest first.
SELECT at, access_id, actor, action, subject, reason, case_ref, rows FROM access_log
WHERE expires_at > :now AND at > :after AND at < :before AND (at, access_id) < (:start_at, :start_id)
ORDER BY at DESC, access_id DESC LIMIT :limit;
