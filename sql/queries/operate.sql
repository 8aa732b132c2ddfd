-- name: authenticate(digest)^
-- Whom a key belongs to, by its digest.
SELECT key_id, scope, account_key, account_id FROM authenticate(:digest);

-- name: add_key(key_id, scope, account_key, digest, created_at)!
-- Notes a new key by its digest.
INSERT INTO api_key (key_id, scope, account_key, digest, created_at)
VALUES (:key_id, :scope, :account_key, :digest, :created_at);

-- name: keys()
-- All keys, without what opens anything.
SELECT k.key_id, k.scope, a.account_id, k.created_at, k.revoked_at
FROM api_key k LEFT JOIN account a USING (account_key) ORDER BY k.created_at, k.key_id;

-- name: has_keys()$
-- Whether any key was ever made.
SELECT EXISTS (SELECT 1 FROM api_key);

-- name: revoke_key(key_id, at)$
-- Revokes a key; gives its id when it was in force.
UPDATE api_key SET revoked_at = :at WHERE key_id = :key_id AND revoked_at IS NULL RETURNING key_id;

-- name: account_key_of(account_id)$
-- The surrogate key of an account.
SELECT account_key FROM account WHERE account_id = :account_id;

-- name: add_account(account_id, created_at, days, fallback)$
-- Makes an account; nothing when its id is taken.
INSERT INTO account (account_id, created_at, history_days, history_days_min, history_days_max)
VALUES (:account_id, :created_at, :days::smallint, coalesce(:days::smallint, :fallback::smallint),
        coalesce(:days::smallint, :fallback::smallint))
ON CONFLICT (account_id) DO NOTHING RETURNING account_key;

-- name: accounts()
-- All accounts by their ids.
SELECT a.account_key, a.account_id, a.created_at, a.history_days, a.monthly_reports, a.closed_at,
       m.changed_at AS moving_since
FROM account a LEFT JOIN history_move m USING (account_key) ORDER BY a.account_id;

-- name: setting_changes(account_key)
-- Every change of an account's settings, oldest first.
SELECT changed_at, changed_by, old, new FROM account_setting_change
WHERE account_key = :account_key ORDER BY change_id;

-- name: hold_settings()$
-- Waits for batches and changes of settings on their way, and holds up others until the transaction ends.
SELECT pg_advisory_xact_lock(7100, 1);

-- name: describe_account(name, currency, at, by)!
-- Sets the present account's name and currency; NULL leaves one as it is, '' takes it away.
SELECT describe_account(:name::text, :currency::text, :at, :by);

-- name: close_account(account_key, at, by)!
-- Closes an account: history off, keys revoked.
SELECT close_account(:account_key, :at, :by);

-- name: cursor_secret()$
-- What signs cursors and page sessions.
SELECT cursor_secret FROM installation;

-- name: debug_lines(account_key, record_id, lower, upper, now, limit)
-- Debug lines that are not expired, newest first.
SELECT d.created_at, d.level, d.record_id, d.source, d.line, a.account_id
FROM debug_log d LEFT JOIN account a USING (account_key)
WHERE d.created_at >= :lower::timestamptz AND d.created_at < :upper::timestamptz
  AND d.expires_at > :now::timestamptz
  AND (:account_key::bigint IS NULL OR d.account_key = :account_key)
  AND (:record_id::text IS NULL OR d.record_id = :record_id)
ORDER BY d.created_at DESC, d.line_id DESC LIMIT :limit;

-- name: note_access(at, actor, action, subject, reason, case_ref, rows)!
-- Notes that staff read or changed personal data.
SELECT note_access(:at, :actor, :action, :subject, :reason, :case_ref, :rows);

-- name: put_in_transit(id, content, account_key, now)$
-- Replaces what is in transit under an id, within the time it already has; gives when that ends.
UPDATE in_transit SET content = :content, account_key = :account_key
WHERE id = :id AND expires_at > :now RETURNING expires_at;

-- name: add_in_transit(id, content, account_key, created_at, expires_at)!
-- Stores something in transit that was not there.
INSERT INTO in_transit (id, content, account_key, created_at, expires_at)
VALUES (:id, :content, :account_key, :created_at, :expires_at);

-- name: lock_in_transit(id)$
-- Lets one request at a time write what is in transit under an id.
SELECT pg_advisory_xact_lock(7103, hashtext(:id))::text;

-- name: get_in_transit(id, now)^
-- What is in transit under an id.
SELECT content, created_at, expires_at FROM in_transit WHERE id = :id AND expires_at > :now;

-- name: complete_in_transit(id, at)$
-- Removes what is in transit under an id; true when there was something.
SELECT complete_in_transit(:id, :at);

-- name: set_policy(data_class, effective_from, hours, legal_basis, by, at, after)!
-- Sets a policy for records created from a time on.
SELECT set_policy(:data_class, :effective_from, :hours, :legal_basis, :by, :at, :after);
