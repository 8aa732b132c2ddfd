-- Accounts with their settings, API keys, retention policies.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- One row for the whole installation.
CREATE TABLE installation (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cursor_secret bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN installation.cursor_secret IS 'signs paging cursors and page sessions';
-- gen_random_uuid() draws on the server's strong random source.
INSERT INTO installation (cursor_secret)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

CREATE TABLE settings_epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    bigint NOT NULL
);
COMMENT ON TABLE settings_epoch IS 'goes up with every change of a setting or a policy';
INSERT INTO settings_epoch (epoch) VALUES (1);

CREATE TABLE account (
    account_key      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id       text COLLATE "C" NOT NULL UNIQUE
                     CHECK (account_id ~ '^[A-Za-z0-9._:@+~=-]{1,64}$'),
    created_at       timestamptz NOT NULL,
    history_days     smallint CHECK (history_days BETWEEN 1 AND 1095),
    history_after    timestamptz,
    history_days_min smallint NOT NULL CHECK (history_days_min BETWEEN 1 AND 1095),
    history_days_max smallint NOT NULL CHECK (history_days_max BETWEEN 1 AND 1095),
    monthly_reports  boolean NOT NULL DEFAULT true,
    settings_epoch   bigint NOT NULL DEFAULT 0,
    closed_at        timestamptz
);
COMMENT ON COLUMN account.history_days IS 'NULL: history is off';
COMMENT ON COLUMN account.history_after IS
    'no history of records created up to here is shown or written, whatever the setting becomes';
COMMENT ON COLUMN account.history_days_min IS
    'the shortest period that a row still stored can have been written under; history_days_max the longest';

CREATE TABLE account_setting_change (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_key bigint NOT NULL REFERENCES account,
    changed_at  timestamptz NOT NULL,
    changed_by  text NOT NULL,
    old         jsonb NOT NULL,
    new         jsonb NOT NULL
);

-- History whose expiry no longer fits its account's setting, being moved or destroyed.
CREATE TABLE history_move (
    account_key    bigint PRIMARY KEY REFERENCES account,
    changed_at     timestamptz NOT NULL,
    settings_epoch bigint NOT NULL,
    after_created  timestamptz,
    after_id       text COLLATE "C"
);
COMMENT ON COLUMN history_move.after_created IS 'how far the move has come; NULL: not begun';

CREATE TABLE api_key (
    key_id      text COLLATE "C" PRIMARY KEY,
    scope       text NOT NULL CHECK (scope IN ('ingest', 'customer', 'operator', 'officer', 'metrics')),
    account_key bigint REFERENCES account,
    digest      bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    CHECK ((scope = 'customer') = (account_key IS NOT NULL))
);
COMMENT ON COLUMN api_key.digest IS 'SHA-256 of the key, which itself is 256 random bits and kept nowhere';

CREATE TABLE retention_policy (
    data_class     text NOT NULL CHECK (data_class IN
                   ('traffic_record', 'history_record', 'debug_log', 'in_transit', 'access_log')),
    effective_from timestamptz NOT NULL,
    period_hours   integer NOT NULL CHECK (period_hours BETWEEN 1 AND 87600),
    legal_basis    text NOT NULL CHECK (legal_basis <> ''),
    set_at         timestamptz NOT NULL DEFAULT now(),
    set_by         text NOT NULL,
    PRIMARY KEY (data_class, effective_from)
);
COMMENT ON TABLE retention_policy IS
    'for history_record the period is the default of a new account; the account''s own setting governs';
INSERT INTO retention_policy (data_class, effective_from, period_hours, legal_basis, set_by) VALUES
    ('traffic_record', '-infinity', 60 * 24,
     'the operator''s obligation to keep traffic data (statute to be named by the operator)', 'migration'),
    ('history_record', '-infinity', 90 * 24,
     'contract with the customer, who chooses the period', 'migration'),
    ('debug_log', '-infinity', 14 * 24,
     'legitimate interest: finding faults in the service', 'migration'),
    ('in_transit', '-infinity', 72,
     'needed for the transmission of the communication', 'migration'),
    ('access_log', '-infinity', 365 * 24,
     'legitimate interest: accounting for access to personal data', 'migration');

-- Which account the statement at hand may see; set for each transaction.
CREATE FUNCTION current_account_key() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('trafficlog.account_key', true), '')::bigint;
GRANT EXECUTE ON FUNCTION current_account_key() TO trafficlog_customer, trafficlog_operator;

-- Who a key belongs to, by its digest; no row for a key that is unknown or revoked.
CREATE FUNCTION authenticate(p_digest bytea)
RETURNS TABLE (key_id text, scope text, account_key bigint, account_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
    SELECT k.key_id, k.scope, k.account_key, a.account_id
    FROM api_key k LEFT JOIN account a USING (account_key)
    WHERE k.digest = p_digest AND k.revoked_at IS NULL
$$;
GRANT EXECUTE ON FUNCTION authenticate(bytea) TO trafficlog_ingest;

-- Page sessions that were signed out before their end; forgotten when that has passed.
CREATE TABLE ended_session (
    session_id bytea PRIMARY KEY CHECK (length(session_id) = 16),
    expires_at timestamptz NOT NULL
);

-- The id of the present account while a page session of one of its keys is in force.
CREATE FUNCTION session_account(p_key_id text, p_session_id bytea) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
    SELECT a.account_id
    FROM api_key k JOIN account a USING (account_key)
    WHERE k.key_id = p_key_id AND k.account_key = current_account_key() AND k.revoked_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM ended_session WHERE session_id = p_session_id)
$$;
CREATE FUNCTION end_session(p_session_id bytea, p_expires_at timestamptz, p_at timestamptz)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
    DELETE FROM ended_session WHERE expires_at <= p_at;
    INSERT INTO ended_session (session_id, expires_at) VALUES (p_session_id, p_expires_at)
    ON CONFLICT DO NOTHING;
$$;
GRANT EXECUTE ON FUNCTION session_account(text, bytea), end_session(bytea, timestamptz, timestamptz)
    TO trafficlog_customer;

-- Takes part in the present settings until the transaction ends: a change of
-- any setting waits for it. Returns the epoch that a cache must have been read at.
CREATE FUNCTION settings_in_force() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7100, 1);
    RETURN (SELECT epoch FROM settings_epoch);
END
$$;
GRANT EXECUTE ON FUNCTION settings_in_force() TO trafficlog_ingest;

ALTER TABLE account ENABLE ROW LEVEL SECURITY;
CREATE POLICY account_of_customer ON account FOR SELECT TO trafficlog_customer
    USING (account_key = current_account_key());
CREATE POLICY account_of_operator ON account TO trafficlog_operator USING (true) WITH CHECK (true);

GRANT SELECT ON installation TO trafficlog_operator;
GRANT SELECT ON settings_epoch TO trafficlog_ingest, trafficlog_operator;
GRANT SELECT ON account TO trafficlog_ingest, trafficlog_customer, trafficlog_operator;
GRANT INSERT ON account TO trafficlog_ingest, trafficlog_operator;
GRANT SELECT ON account_setting_change, history_move TO trafficlog_operator;
GRANT SELECT (account_key, changed_at) ON history_move TO trafficlog_customer;
GRANT SELECT, INSERT ON api_key TO trafficlog_operator;
GRANT UPDATE (revoked_at) ON api_key TO trafficlog_operator;
GRANT SELECT ON retention_policy TO trafficlog_ingest, trafficlog_customer, trafficlog_operator;
