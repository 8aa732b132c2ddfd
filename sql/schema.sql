-- The whole schema as the migrations make it, dumped by `python -m tests.sql.dump_schema`.
-- Generated, to be read and compared; never applied.
CREATE SCHEMA trafficlog;

ALTER SCHEMA trafficlog OWNER TO trafficlog_owner;

CREATE TYPE trafficlog.later_report AS (
	ordinal integer,
	account_key bigint,
	created_at timestamp with time zone,
	updated_at timestamp with time zone,
	delivered_at timestamp with time zone,
	traffic_expires timestamp with time zone,
	history_expires timestamp with time zone,
	history_from timestamp with time zone,
	history_to timestamp with time zone,
	duration integer,
	parts integer,
	cost integer,
	kind smallint,
	direction smallint,
	status smallint,
	withheld smallint,
	omitted smallint,
	id text COLLATE pg_catalog."C",
	sender text COLLATE pg_catalog."C",
	recipient text COLLATE pg_catalog."C",
	ip text COLLATE pg_catalog."C",
	user_agent text COLLATE pg_catalog."C",
	owner text COLLATE pg_catalog."C",
	tags text[],
	message text COLLATE pg_catalog."C",
	several boolean
);

ALTER TYPE trafficlog.later_report OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.are_holds(p_at timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT EXISTS (SELECT FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at)
$$;

ALTER FUNCTION trafficlog.are_holds(p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.authenticate(p_digest bytea) RETURNS TABLE(key_id text, scope text, account_key bigint, account_id text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT k.key_id, k.scope, k.account_key, a.account_id
    FROM api_key k LEFT JOIN account a USING (account_key)
    WHERE k.digest = p_digest AND k.revoked_at IS NULL
$$;

ALTER FUNCTION trafficlog.authenticate(p_digest bytea) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.begin_drop(p_table text, p_name text, p_at timestamp with time zone) RETURNS TABLE(table_oid oid, lower timestamp with time zone, upper timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    part record;
    moving bigint;
BEGIN
    SELECT c.* INTO part FROM partition_catalogue c WHERE c.table_name = p_table AND c.name = p_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no partition % of %', p_name, p_table USING ERRCODE = 'undefined_table';
    END IF;
    IF part.upper > p_at THEN
        RAISE EXCEPTION 'partition % is not expired: its upper bound % lies after %',
            p_name, part.upper, p_at USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF p_table = 'history_record' THEN
        -- By its key for each account that moves: joined otherwise, every row might be read.
        EXECUTE format(
            'SELECT m.account_key FROM history_move m, LATERAL (SELECT FROM %I r'
            ' WHERE r.account_key = m.account_key LIMIT 1) its LIMIT 1', p_name)
        INTO moving;
        IF moving IS NOT NULL THEN
            RAISE EXCEPTION 'partition % holds rows that are still to be moved', p_name
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Begun before under another name, which somebody changed.
    DELETE FROM partition_drop d WHERE d.table_oid = part.table_oid AND d.name <> p_name;
    RETURN QUERY
    INSERT INTO partition_drop AS d (name, table_name, table_oid, lower, upper, begun_at)
    VALUES (p_name, p_table, part.table_oid, part.lower, part.upper, p_at)
    ON CONFLICT (name) DO UPDATE SET table_oid = part.table_oid, begun_at = p_at, holds_seen = NULL
    RETURNING d.table_oid, d.lower, d.upper;
END
$$;

ALTER FUNCTION trafficlog.begin_drop(p_table text, p_name text, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.cancel_erasure(p_id text, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    PERFORM FROM erasure e
    WHERE e.erasure_id = p_id AND e.account_key = current_account_key() AND e.finished_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM finish_erasure(p_id, 'cancelled', p_at);
    RETURN true;
END
$$;

ALTER FUNCTION trafficlog.cancel_erasure(p_id text, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.change_settings(p_history boolean, p_days smallint, p_reports boolean, p_withheld smallint, p_at timestamp with time zone, p_by text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $_$
DECLARE
    old account;
    changed account;
    new_epoch bigint;
    protected bigint;
    destroyed bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7100, 1);
    SELECT * INTO STRICT old FROM account WHERE account_key = current_account_key() FOR UPDATE;
    changed := old;
    changed.history_days := CASE WHEN p_history IS NULL THEN old.history_days WHEN p_history THEN p_days END;
    changed.monthly_reports := coalesce(p_reports, old.monthly_reports);
    changed.withheld := coalesce(p_withheld, old.withheld);
    IF changed IS NOT DISTINCT FROM old THEN
        RETURN;
    END IF;
    UPDATE settings_epoch SET epoch = epoch + 1 RETURNING epoch INTO new_epoch;
    IF old.history_days IS DISTINCT FROM changed.history_days THEN
        IF old.history_days IS NULL THEN
            -- What was written before it was turned off stays hidden. A row created a little
            -- ahead of the clock would not be, so that goes now if it has not gone yet.
            changed.history_after := greatest(old.history_after, p_at);
            PERFORM lock_holds();
            protected := copy_held('history_record', 'history_record', p_at, p_at,
                'r.account_key = $4 AND r.created_at > $6[1]', old.account_key, NULL, ARRAY[p_at]);
            DELETE FROM history_record
            WHERE account_key = old.account_key AND created_at > p_at;
            GET DIAGNOSTICS destroyed = ROW_COUNT;
            IF destroyed > 0 THEN
                PERFORM ledger_append(p_at, 'history_record', 'setting change', 'setting',
                                      NULL, NULL, destroyed, protected);
            END IF;
        ELSIF changed.history_days IS NOT NULL THEN
            -- What is expired, or expires by this change, never comes back.
            changed.history_after := greatest(old.history_after,
                p_at - least(old.history_days, changed.history_days) * interval '24 hours');
        END IF;
        INSERT INTO history_move (account_key, changed_at, settings_epoch)
        VALUES (old.account_key, p_at, new_epoch)
        ON CONFLICT (account_key) DO UPDATE
            SET settings_epoch = new_epoch, after_created = NULL, after_id = NULL;
    END IF;
    IF changed.monthly_reports AND NOT old.monthly_reports THEN
        changed.reports_from := greatest(old.reports_from,
                                         date_trunc('month', p_at AT TIME ZONE 'UTC')::date);
    END IF;
    UPDATE account SET
        history_days = changed.history_days,
        history_after = changed.history_after,
        history_days_min = least(history_days_min, changed.history_days),
        history_days_max = greatest(history_days_max, changed.history_days),
        monthly_reports = changed.monthly_reports,
        reports_from = changed.reports_from,
        withheld = changed.withheld,
        settings_epoch = new_epoch
    WHERE account_key = old.account_key;
    INSERT INTO account_setting_change (account_key, changed_at, changed_by, old, new)
    VALUES (old.account_key, p_at, p_by,
            jsonb_build_object('history_days', old.history_days, 'monthly_reports', old.monthly_reports,
                               'dontlog', withheld_names(old.withheld)),
            jsonb_build_object('history_days', changed.history_days,
                               'monthly_reports', changed.monthly_reports,
                               'dontlog', withheld_names(changed.withheld)));
END
$_$;

ALTER FUNCTION trafficlog.change_settings(p_history boolean, p_days smallint, p_reports boolean, p_withheld smallint, p_at timestamp with time zone, p_by text) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.close_account(p_account bigint, p_at timestamp with time zone, p_by text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    PERFORM set_config('trafficlog.account_key', p_account::text, true);
    PERFORM change_settings(false, NULL, false, NULL, p_at, p_by);
    -- The name may be a person's; the currency is needed to read the reports.
    UPDATE account SET closed_at = coalesce(closed_at, p_at), display_name = NULL
    WHERE account_key = p_account AND (closed_at IS NULL OR display_name IS NOT NULL);
    UPDATE api_key SET revoked_at = p_at WHERE account_key = p_account AND revoked_at IS NULL;
END
$$;

ALTER FUNCTION trafficlog.close_account(p_account bigint, p_at timestamp with time zone, p_by text) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.complete_in_transit(p_id text, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $_$
DECLARE
    protected bigint;
    removed bigint;
    alive bigint;
BEGIN
    -- Nobody replaces it in between, not even in another account's name: what is copied is what goes.
    PERFORM pg_advisory_xact_lock(7103, hashtext(p_id));
    PERFORM lock_holds();
    protected := copy_held('in_transit', 'in_transit', p_at, p_at,
                           'r.id = $5[1]', NULL, ARRAY[p_id]);
    WITH gone AS (DELETE FROM in_transit WHERE id = p_id RETURNING expires_at)
    SELECT count(*), count(*) FILTER (WHERE expires_at > p_at) INTO removed, alive FROM gone;
    IF removed > 0 THEN
        PERFORM ledger_append(p_at, 'in_transit', 'communication', 'completed',
                              NULL, NULL, removed, protected);
    END IF;
    RETURN alive > 0;
END
$_$;

ALTER FUNCTION trafficlog.complete_in_transit(p_id text, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.copy_held(p_source regclass, p_class text, p_at timestamp with time zone, p_due timestamp with time zone, p_condition text DEFAULT 'true'::text, p_account bigint DEFAULT NULL::bigint, p_ids text[] DEFAULT NULL::text[], p_created timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], p_copy boolean DEFAULT true) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $_$
DECLARE
    identity text;
    parties text := 'false';
    address text := 'false';
    candidates text := 'r.account_key = ANY ($8)';
    accounts bigint[];
    numbers text[];
    addresses text[];
    protected bigint;
BEGIN
    SELECT array_agg(DISTINCT h.account_key) FILTER (WHERE h.account_key IS NOT NULL),
           array_agg(DISTINCT h.number) FILTER (WHERE h.number IS NOT NULL),
           array_agg(DISTINCT h.ip) FILTER (WHERE h.ip IS NOT NULL)
    INTO accounts, numbers, addresses
    FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at;
    IF num_nonnulls(accounts, numbers, addresses) = 0 THEN
        RETURN 0;
    END IF;
    CASE p_class
        WHEN 'traffic_record' THEN
            identity := 'r.id';
            parties := 'h.number IN (r.sender, r.recipient)';
            address := 'r.ip = h.ip';
        WHEN 'history_record' THEN
            identity := 'r.id';
            parties := 'h.number IN (r.sender, r.recipient)';
        WHEN 'debug_log' THEN
            identity := 'coalesce(r.record_id, '''')';
        WHEN 'in_transit' THEN
            identity := 'r.id';
        ELSE
            RETURN 0;
    END CASE;
    -- A row of none of these accounts, numbers and addresses is not held: what is left to
    -- compare with each hold are few, and holds by account alone are found by history's key.
    IF parties <> 'false' AND numbers IS NOT NULL THEN
        candidates := candidates || ' OR r.sender = ANY ($9) OR r.recipient = ANY ($9)';
    END IF;
    IF address <> 'false' AND addresses IS NOT NULL THEN
        candidates := candidates || ' OR r.ip = ANY ($10)';
    END IF;
    EXECUTE format($sql$
        WITH protected AS (
            SELECT r.account_key, r.created_at, r.expires_at, %1$s AS stored_id,
                   -- Without what has a column of its own.
                   jsonb_strip_nulls(to_jsonb(r)) - '{account_key,created_at,id,expires_at}'::text[] AS content
            FROM %2$s r
            WHERE (%3$s) AND (%7$s) AND EXISTS (
                SELECT 1 FROM abuse_hold h
                WHERE h.released_at IS NULL AND h.ends_at > $2
                  AND (h.account_key IS NULL OR h.account_key = r.account_key)
                  AND (h.record_id IS NULL OR h.record_id = %4$s)
                  AND (h.number IS NULL OR %5$s)
                  AND (h.ip IS NULL OR %6$s)
                  AND (h.created_from IS NULL OR r.created_at >= h.created_from)
                  AND (h.created_to IS NULL OR r.created_at < h.created_to)
            )
        ), copied AS (
            INSERT INTO held_record
                (data_class, account_key, created_at, record_id, expires_at, copied_at, content)
            SELECT $1, account_key, created_at, stored_id, least(expires_at, $3), $2, content
            FROM protected WHERE $7
            ON CONFLICT ON CONSTRAINT held_record_once DO NOTHING
        )
        SELECT count(*) FROM protected
    $sql$, CASE p_class WHEN 'debug_log' THEN 'r.line_id::text' ELSE 'r.id' END,
           p_source, p_condition, identity, parties, address, candidates)
    INTO protected USING p_class, p_at, p_due, p_account, p_ids, p_created, p_copy,
                         accounts, numbers, addresses;
    RETURN protected;
END
$_$;

ALTER FUNCTION trafficlog.copy_held(p_source regclass, p_class text, p_at timestamp with time zone, p_due timestamp with time zone, p_condition text, p_account bigint, p_ids text[], p_created timestamp with time zone[], p_copy boolean) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.count_changed_usage() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO usage_delta
    SELECT account_key, (created_at AT TIME ZONE 'UTC')::date, kind, direction, status,
           sum(records), sum(parts), sum(seconds), sum(cost)
    FROM (
        SELECT account_key, created_at, kind, direction, status, -1 AS records,
               -coalesce(parts, 0) AS parts, -coalesce(duration, 0) AS seconds, -coalesce(cost, 0) AS cost
        FROM old_rows
        UNION ALL
        SELECT account_key, created_at, kind, direction, status, 1,
               coalesce(parts, 0), coalesce(duration, 0), coalesce(cost, 0)
        FROM new_rows
    ) changed
    GROUP BY 1, 2, 3, 4, 5
    HAVING sum(records) <> 0 OR sum(parts) <> 0 OR sum(seconds) <> 0 OR sum(cost) <> 0;
    RETURN NULL;
END
$$;

ALTER FUNCTION trafficlog.count_changed_usage() OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.count_ingest() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    added bigint := (SELECT sum(records) FROM gone);
BEGIN
    IF added > 0 THEN
        INSERT INTO ingest_minute AS m VALUES (date_trunc('minute', now()), added)
        ON CONFLICT (minute) DO UPDATE SET records = m.records + EXCLUDED.records;
        DELETE FROM ingest_minute WHERE minute < now() - interval '1 day';
    END IF;
    RETURN NULL;
END
$$;

ALTER FUNCTION trafficlog.count_ingest() OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.count_rows(p_name text) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    counted bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I', p_name) INTO counted;
    RETURN counted;
END
$$;

ALTER FUNCTION trafficlog.count_rows(p_name text) OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.abuse_hold (
    hold_id text NOT NULL COLLATE pg_catalog."C",
    account_key bigint,
    number text COLLATE pg_catalog."C",
    ip text COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    created_from timestamp with time zone,
    created_to timestamp with time zone,
    reason text NOT NULL,
    case_ref text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    released_at timestamp with time zone,
    released_by text,
    swept_end timestamp with time zone,
    CONSTRAINT abuse_hold_case_ref_check CHECK ((case_ref <> ''::text)),
    CONSTRAINT abuse_hold_check CHECK ((num_nonnulls(account_key, number, ip) = 1)),
    CONSTRAINT abuse_hold_check1 CHECK (((record_id IS NULL) OR (account_key IS NOT NULL))),
    CONSTRAINT abuse_hold_check2 CHECK ((ends_at > placed_at)),
    CONSTRAINT abuse_hold_check3 CHECK ((created_from < created_to)),
    CONSTRAINT abuse_hold_reason_check CHECK ((reason <> ''::text))
);

ALTER TABLE trafficlog.abuse_hold OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.abuse_hold.swept_end IS 'the end of this hold after which what it alone had kept was destroyed; NULL: not yet';

CREATE TABLE trafficlog.held_record (
    held_key bigint NOT NULL,
    data_class text NOT NULL,
    account_key bigint,
    created_at timestamp with time zone NOT NULL,
    record_id text NOT NULL COLLATE pg_catalog."C",
    expires_at timestamp with time zone NOT NULL,
    copied_at timestamp with time zone NOT NULL,
    content jsonb NOT NULL
);

ALTER TABLE trafficlog.held_record OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.held_record.expires_at IS 'the instant from which only a hold keeps it: the row''s own expiry, or its erasure if that came first';

CREATE FUNCTION trafficlog.covers(h trafficlog.abuse_hold, r trafficlog.held_record) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT (h.account_key IS NULL OR h.account_key = r.account_key)
       AND (h.record_id IS NULL OR h.record_id =
            CASE r.data_class WHEN 'debug_log' THEN r.content ->> 'record_id' ELSE r.record_id END)
       AND (h.number IS NULL OR h.number IN (r.content ->> 'sender', r.content ->> 'recipient'))
       AND (h.ip IS NULL OR h.ip = r.content ->> 'ip')
       AND (h.created_from IS NULL OR r.created_at >= h.created_from)
       AND (h.created_to IS NULL OR r.created_at < h.created_to)
$$;

ALTER FUNCTION trafficlog.covers(h trafficlog.abuse_hold, r trafficlog.held_record) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.current_account_key() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (NULLIF(current_setting('trafficlog.account_key'::text, true), ''::text))::bigint;

ALTER FUNCTION trafficlog.current_account_key() OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.delete_report(p_month date, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    UPDATE monthly_report SET content = NULL, currency = NULL, deleted_at = p_at
    WHERE account_key = current_account_key() AND month = p_month AND deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM ledger_append(p_at, 'monthly_report', 'report', 'erased', NULL, NULL, 1, 0);
    RETURN true;
END
$$;

ALTER FUNCTION trafficlog.delete_report(p_month date, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.describe_account(p_name text, p_currency text, p_at timestamp with time zone, p_by text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    old account;
    wanted text;
BEGIN
    SELECT * INTO STRICT old FROM account WHERE account_key = current_account_key() FOR UPDATE;
    wanted := nullif(coalesce(p_currency, old.currency), '');
    UPDATE account SET currency = wanted, display_name = nullif(coalesce(p_name, display_name), '')
    WHERE account_key = old.account_key;
    IF old.currency IS DISTINCT FROM wanted THEN
        INSERT INTO account_setting_change (account_key, changed_at, changed_by, old, new)
        VALUES (old.account_key, p_at, p_by, jsonb_build_object('currency', old.currency),
                jsonb_build_object('currency', wanted));
    END IF;
END
$$;

ALTER FUNCTION trafficlog.describe_account(p_name text, p_currency text, p_at timestamp with time zone, p_by text) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.destroy_released(p_at timestamp with time zone, p_rows_max integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    ended text[];
    gone record;
    total bigint := 0;
BEGIN
    PERFORM lock_holds();
    -- Before the copies are looked at: a hold that ends meanwhile has its turn next time.
    ended := ARRAY(
        SELECT h.hold_id FROM abuse_hold h
        WHERE (h.released_at IS NOT NULL OR h.ends_at <= p_at)
          AND h.swept_end IS DISTINCT FROM coalesce(h.released_at, h.ends_at)
    );
    IF cardinality(ended) = 0 THEN
        RETURN 0;
    END IF;
    FOR gone IN
        WITH due AS (
            SELECT r.held_key FROM held_record r
            WHERE r.expires_at <= p_at AND NOT EXISTS (
                -- Spelt out, not by is_held(): one call for each copy costs four times as much.
                SELECT 1 FROM abuse_hold h
                WHERE h.released_at IS NULL AND h.ends_at > p_at AND covers(h, r)
            )
            ORDER BY r.held_key LIMIT p_rows_max
        ), destroyed AS (
            DELETE FROM held_record USING due WHERE held_record.held_key = due.held_key
            RETURNING data_class
        )
        SELECT data_class, count(*) AS rows FROM destroyed GROUP BY data_class ORDER BY data_class
    LOOP
        PERFORM ledger_append(p_at, gone.data_class, 'held_record', 'hold-ended',
                              NULL, NULL, gone.rows, 0);
        total := total + gone.rows;
    END LOOP;
    -- An erasure that began before the end, or by a clock that is a little behind, may still
    -- bring a copy: an end is done with when it is looked at an hour later. Copies that were
    -- made by a clock ahead of this one are looked at when their time has come.
    IF total < p_rows_max AND NOT EXISTS (SELECT FROM held_record r WHERE r.expires_at > p_at) THEN
        UPDATE abuse_hold h SET swept_end = coalesce(h.released_at, h.ends_at)
        WHERE h.hold_id = ANY (ended)
          AND coalesce(h.released_at, h.ends_at) <= p_at - interval '1 hour';
    END IF;
    RETURN total;
END
$$;

ALTER FUNCTION trafficlog.destroy_released(p_at timestamp with time zone, p_rows_max integer) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.disclose(p_account text, p_record text, p_number text, p_ip text, p_from timestamp with time zone, p_to timestamp with time zone, p_after_created timestamp with time zone, p_after_account bigint, p_after_id text, p_limit integer, p_at timestamp with time zone, p_by text, p_reason text, p_case text) RETURNS TABLE(created_at timestamp with time zone, expires_at timestamp with time zone, updated_at timestamp with time zone, account_key bigint, account_id text, duration integer, kind smallint, direction smallint, id text, sender text, recipient text, ip text, user_agent text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
#variable_conflict use_column
DECLARE
    condition text;
    subject text;
    owner bigint := (SELECT a.account_key FROM account a WHERE a.account_id = p_account);
    shortest interval;
    longest interval;
    lower timestamptz;
    upper timestamptz;
    width interval := '24 hours';
    given bigint;
    total bigint := 0;
BEGIN
    IF num_nonnulls(p_account, p_number, p_ip) <> 1 OR (p_record IS NOT NULL AND p_account IS NULL) THEN
        RAISE EXCEPTION 'a disclosure is of one account or record, number or IP'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF num_nulls(p_from, p_to, p_limit, p_at, p_by, p_reason, p_case) > 0
       OR btrim(p_reason) = '' OR btrim(p_case) = '' THEN
        RAISE EXCEPTION 'a disclosure has a window, a limit, an officer, a reason and a case'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    CASE
        WHEN p_record IS NOT NULL THEN
            condition := 't.id = $1 AND t.account_key = $2';
            subject := format('record %s/%s', p_account, p_record);
        WHEN p_account IS NOT NULL THEN
            condition := 't.account_key = $2';
            subject := format('account %s', p_account);
        WHEN p_number IS NOT NULL THEN
            condition := '(t.sender = $1 OR t.recipient = $1)';
            subject := format('number %s', p_number);
        ELSE
            condition := 't.ip = $1';
            subject := format('IP %s', p_ip);
    END CASE;
    SELECT min(p.period_hours) * interval '1 hour', max(p.period_hours) * interval '1 hour'
    INTO shortest, longest FROM retention_policy p WHERE p.data_class = 'traffic_record';
    -- What was created before this is expired under every policy.
    lower := greatest(p_from, p_after_created, p_at - longest);
    WHILE lower < p_to AND total < p_limit LOOP
        upper := least(p_to, lower + width);
        RETURN QUERY EXECUTE format($sql$
            SELECT t.created_at, t.expires_at, t.updated_at, t.account_key, a.account_id, t.duration,
                   t.kind, t.direction, t.id, t.sender, t.recipient, t.ip, t.user_agent
            FROM (
                SELECT t.* FROM traffic_record t
                WHERE %s AND t.created_at >= $3 AND t.created_at < $4
                  AND t.expires_at > $5 AND t.expires_at >= $6 AND t.expires_at < $7
                  AND ($8 IS NULL OR (t.created_at, t.account_key, t.id) > ($8, $9, $10 COLLATE "C"))
                ORDER BY t.created_at, t.account_key, t.id LIMIT $11
            ) t JOIN account a USING (account_key)
            ORDER BY t.created_at, t.account_key, t.id
        $sql$, condition)
        USING coalesce(p_record, p_number, p_ip), owner, lower, upper, p_at, lower + shortest,
              upper + longest, p_after_created, p_after_account, p_after_id, p_limit - total;
        GET DIAGNOSTICS given = ROW_COUNT;
        total := total + given;
        lower := upper;
        width := width * 2;
    END LOOP;
    PERFORM note_access(p_at, p_by, 'disclosure',
        format('%s, created %s to %s%s', subject, p_from, p_to,
               CASE WHEN p_after_created IS NOT NULL THEN ', continued' END),
        p_reason, p_case, total);
END
$_$;

ALTER FUNCTION trafficlog.disclose(p_account text, p_record text, p_number text, p_ip text, p_from timestamp with time zone, p_to timestamp with time zone, p_after_created timestamp with time zone, p_after_account bigint, p_after_id text, p_limit integer, p_at timestamp with time zone, p_by text, p_reason text, p_case text) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.end_session(p_session_id bytea, p_expires_at timestamp with time zone, p_at timestamp with time zone) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    DELETE FROM ended_session WHERE expires_at <= p_at;
    INSERT INTO ended_session (session_id, expires_at) VALUES (p_session_id, p_expires_at)
    ON CONFLICT DO NOTHING;
$$;

ALTER FUNCTION trafficlog.end_session(p_session_id bytea, p_expires_at timestamp with time zone, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.ensure_partition(p_table text, p_lower timestamp with time zone, p_upper timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
DECLARE
    step text := (SELECT width FROM retained_table WHERE table_name = p_table);
    child text;
BEGIN
    IF step IS NULL THEN
        RAISE EXCEPTION 'no retained table %', p_table USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF date_trunc(step, p_lower) <> p_lower OR p_lower + ('1 ' || step)::interval <> p_upper THEN
        RAISE EXCEPTION 'bounds % to % are not one % of %', p_lower, p_upper, step, p_table
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(7101, hashtext(p_table));
    IF EXISTS (SELECT 1 FROM partition_catalogue c
               WHERE c.table_name = p_table AND c.lower = p_lower AND NOT c.detach_pending) THEN
        RETURN false;
    END IF;
    child := p_table || '_' || to_char(p_lower, CASE step
        WHEN 'hour' THEN 'YYYYMMDDHH24' WHEN 'day' THEN 'YYYYMMDD' ELSE 'YYYYMM' END);
    -- One that was detached by hand keeps its name; records go on being stored all the same.
    WHILE to_regclass(quote_ident(child)) IS NOT NULL LOOP
        child := child || '_';
    END LOOP;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, p_table);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   p_table, child, p_lower, p_upper);
    INSERT INTO partition_register (table_name, lower, upper, name)
    VALUES (p_table, p_lower, p_upper, child)
    ON CONFLICT (table_name, lower) DO UPDATE
        SET name = child, upper = p_upper, made_at = now(), lost = true;
    RETURN true;
END
$$;

ALTER FUNCTION trafficlog.ensure_partition(p_table text, p_lower timestamp with time zone, p_upper timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.erase_history(p_id text, p_created timestamp with time zone[], p_at timestamp with time zone) RETURNS TABLE(rows_erased bigint, last_expiry timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $_$
DECLARE
    account bigint := current_account_key();
    protected bigint;
BEGIN
    PERFORM lock_holds();
    IF are_holds(p_at) THEN
        -- What is copied is what goes: no report changes a row in between.
        PERFORM FROM history_record h
        WHERE h.account_key = account AND h.id = p_id AND h.created_at = ANY (p_created) FOR UPDATE;
    END IF;
    protected := copy_held('history_record', 'history_record', p_at, p_at,
        'r.account_key = $4 AND r.id = $5[1] AND r.created_at = ANY ($6)',
        account, ARRAY[p_id], p_created);
    WITH gone AS (
        DELETE FROM history_record h
        WHERE h.account_key = account AND h.id = p_id AND h.created_at = ANY (p_created)
        RETURNING h.created_at, h.expires_at
    )
    SELECT count(*), greatest(max(g.expires_at), max(g.created_at)
               + longest_days_before(account, min(g.created_at)) * interval '24 hours')
    INTO rows_erased, last_expiry FROM gone g;
    IF rows_erased > 0 THEN
        PERFORM ledger_append(p_at, 'history_record', 'record', 'erased', NULL, NULL,
                              rows_erased, protected);
    END IF;
    RETURN NEXT;
END
$_$;

ALTER FUNCTION trafficlog.erase_history(p_id text, p_created timestamp with time zone[], p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.erase_step(p_id text, p_at timestamp with time zone, p_rows_max integer, p_width interval) RETURNS TABLE(rows_read bigint, rows_erased bigint, state text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $_$
#variable_conflict use_column
DECLARE
    -- Sorts after every id: ids are ASCII.
    past_all_ids CONSTANT text := chr(127);
    job erasure;
    owner account;
    w_kind smallint;
    w_direction smallint;
    w_status smallint;
    w_sender text;
    w_recipient text;
    w_tag text;
    lower timestamptz;
    lower_id text;
    upper timestamptz;
    expires_from timestamptz;
    expires_to timestamptz;
    ids text[];
    createds timestamptz[];
    expiries timestamptz[];
    first_expiry timestamptz;
    last_expiry timestamptz;
    next_at timestamptz;
    next_id text;
    protected bigint;
    gone record;
    late timestamptz;
    writers text[];
BEGIN
    rows_read := 0;
    rows_erased := 0;
    SELECT e.* INTO job FROM erasure e WHERE e.erasure_id = p_id;
    state := coalesce(job.state, 'gone');
    IF state NOT IN ('queued', 'running') THEN
        RETURN NEXT;
        RETURN;
    END IF;
    lower := coalesce(job.reached_at, job.created_after);
    lower_id := coalesce(job.reached_id, past_all_ids);
    IF job.ahead_ids IS NULL AND lower >= job.created_up_to THEN
        -- What is being written now, nobody sees yet: the last look comes after it. Whatever writes
        -- records has this lock shared until it commits.
        writers := ARRAY(
            SELECT l.virtualtransaction FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.classid = 7100 AND l.objid = 1 AND l.mode = 'ShareLock'
              AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
              AND l.granted AND l.pid <> pg_backend_pid()
              AND (job.waits_for IS NULL OR l.virtualtransaction = ANY (job.waits_for))
        );
        IF cardinality(writers) > 0 THEN
            UPDATE erasure e SET state = 'running', started_at = coalesce(e.started_at, p_at),
                                 waits_for = writers
            WHERE e.erasure_id = p_id AND e.finished_at IS NULL
              AND e.waits_for IS DISTINCT FROM writers;
            state := 'waiting';
            RETURN NEXT;
            RETURN;
        END IF;
        -- The last look is by settings that stay as they are: no row may come in under others.
        PERFORM pg_advisory_xact_lock_shared(7100, 1);
    END IF;
    SELECT a.* INTO STRICT owner FROM account a WHERE a.account_key = job.account_key;
    w_kind := (SELECT k.code FROM kind k WHERE k.name = job.filter ->> 'kind');
    w_direction := (SELECT d.code FROM direction d WHERE d.name = job.filter ->> 'direction');
    w_status := (SELECT s.code FROM status s WHERE s.name = job.filter ->> 'status');
    w_sender := job.filter ->> 'from';
    w_recipient := job.filter ->> 'to';
    w_tag := job.filter ->> 'tag';
    IF job.filter - '{kind,direction,status,from,to,tag,after,before}'::text[] <> '{}'
       OR (job.filter ? 'kind') <> (w_kind IS NOT NULL)
       OR (job.filter ? 'direction') <> (w_direction IS NOT NULL)
       OR (job.filter ? 'status') <> (w_status IS NOT NULL) THEN
        -- What is not understood must not pass for anything.
        RAISE EXCEPTION 'the erasure has a filter that is not known'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    upper := least(job.created_up_to, lower + p_width);
    -- What is read, is read before the lock on holds, which nobody is to wait for long.
    IF job.ahead_ids IS NOT NULL THEN
        -- First of all what was stored at the acceptance although it was created later.
        ids := job.ahead_ids[:p_rows_max];
        createds := job.ahead_created[:p_rows_max];
        rows_read := cardinality(ids);
        expires_from := createds[1] + owner.history_days_min * interval '24 hours';
        expires_to := createds[rows_read] + owner.history_days_max * interval '24 hours';
        SELECT array_agg(h.id ORDER BY h.created_at, h.id),
               array_agg(h.created_at ORDER BY h.created_at, h.id),
               array_agg(h.expires_at ORDER BY h.created_at, h.id),
               min(h.expires_at), max(h.expires_at)
        INTO ids, createds, expiries, first_expiry, last_expiry
        FROM history_record h
        WHERE h.account_key = job.account_key
          AND (h.created_at, h.id) IN (SELECT * FROM unnest(createds, ids))
          AND h.created_at BETWEEN createds[1] AND createds[rows_read]
          AND h.expires_at BETWEEN expires_from AND expires_to;
        next_at := lower;
        next_id := lower_id;
    ELSIF lower < job.created_up_to THEN
        expires_from := lower + owner.history_days_min * interval '24 hours';
        expires_to := upper + owner.history_days_max * interval '24 hours';
        SELECT count(*), (array_agg(r.id ORDER BY r.created_at DESC, r.id DESC))[1], max(r.created_at),
               array_agg(r.id ORDER BY r.created_at, r.id) FILTER (WHERE r.meant),
               array_agg(r.created_at ORDER BY r.created_at, r.id) FILTER (WHERE r.meant),
               array_agg(r.expires_at ORDER BY r.created_at, r.id) FILTER (WHERE r.meant),
               min(r.expires_at) FILTER (WHERE r.meant), max(r.expires_at) FILTER (WHERE r.meant)
        INTO rows_read, next_id, next_at, ids, createds, expiries, first_expiry, last_expiry
        FROM (
            SELECT h.id, h.created_at, h.expires_at,
                   (w_kind IS NULL OR h.kind = w_kind)
                   AND (w_direction IS NULL OR h.direction = w_direction)
                   AND (w_status IS NULL OR h.status = w_status)
                   AND (w_sender IS NULL OR h.sender = w_sender)
                   AND (w_recipient IS NULL OR h.recipient = w_recipient)
                   AND (w_tag IS NULL OR w_tag = ANY (h.tags)) AS meant
            FROM history_record h
            WHERE h.account_key = job.account_key
              AND (h.created_at, h.id) > (lower, lower_id COLLATE "C") AND h.created_at <= upper
              AND h.expires_at >= expires_from AND h.expires_at <= expires_to
            ORDER BY h.created_at, h.id LIMIT p_rows_max
        ) r;
        IF rows_read < p_rows_max THEN
            next_at := upper;
            next_id := past_all_ids;
        END IF;
    ELSE
        expires_from := job.created_after + owner.history_days_min * interval '24 hours';
        expires_to := job.created_up_to + owner.history_days_max * interval '24 hours';
        SELECT h.created_at INTO late FROM history_record h
        WHERE h.account_key = job.account_key
          AND h.created_at > job.created_after AND h.created_at <= job.created_up_to
          AND h.expires_at >= expires_from AND h.expires_at <= expires_to
          AND (w_kind IS NULL OR h.kind = w_kind)
          AND (w_direction IS NULL OR h.direction = w_direction)
          AND (w_status IS NULL OR h.status = w_status)
          AND (w_sender IS NULL OR h.sender = w_sender)
          AND (w_recipient IS NULL OR h.recipient = w_recipient)
          AND (w_tag IS NULL OR w_tag = ANY (h.tags))
        ORDER BY h.created_at LIMIT 1;
        next_at := late - interval '1 microsecond';
        next_id := past_all_ids;
    END IF;
    -- In this order everywhere: holds, the erasure, then rows.
    PERFORM lock_holds();
    SELECT e.* INTO job FROM erasure e WHERE e.erasure_id = p_id FOR UPDATE;
    IF job.finished_at IS NOT NULL OR job.erasure_id IS NULL THEN
        -- Cancelled while it was read: from then on nothing goes.
        state := coalesce(job.state, 'gone');
        RETURN NEXT;
        RETURN;
    END IF;
    IF ids IS NOT NULL THEN
        IF are_holds(p_at) THEN
            -- What is copied is what goes: no report changes a row in between.
            PERFORM FROM history_record h, unnest(ids, createds, expiries) AS s(id, created_at, expires_at)
            WHERE h.account_key = job.account_key AND h.created_at = s.created_at AND h.id = s.id
              AND h.expires_at = s.expires_at AND h.expires_at BETWEEN first_expiry AND last_expiry
              AND h.created_at BETWEEN createds[1] AND createds[cardinality(createds)]
            FOR UPDATE OF h;
        END IF;
        protected := copy_held('history_record', 'history_record', p_at, p_at,
            format('r.account_key = $4 AND (r.id, r.created_at) IN (SELECT * FROM unnest($5, $6))'
                   -- The range of the step, or each step would read all of the account.
                   ' AND r.created_at BETWEEN %L AND %L AND r.expires_at BETWEEN %L AND %L',
                   createds[1], createds[cardinality(createds)], first_expiry, last_expiry),
            job.account_key, ids, createds);
        WITH destroyed AS (
            DELETE FROM history_record h
            USING unnest(ids, createds, expiries) AS s(id, created_at, expires_at)
            WHERE h.account_key = job.account_key AND h.created_at = s.created_at AND h.id = s.id
              AND h.expires_at = s.expires_at AND h.expires_at BETWEEN first_expiry AND last_expiry
              AND h.created_at BETWEEN createds[1] AND createds[cardinality(createds)]
            RETURNING h.kind, h.created_at, h.expires_at
        ), by_kind AS (
            SELECT kind, count(*) AS rows, min(created_at) AS oldest, max(created_at) AS newest,
                   max(expires_at) AS last_expiry
            FROM destroyed GROUP BY kind
        )
        SELECT coalesce(sum(b.rows), 0)::bigint AS rows, min(b.oldest) AS oldest,
               max(b.newest) AS newest, max(b.last_expiry) AS last_expiry,
               coalesce(jsonb_object_agg(k.name, b.rows + coalesce((job.kinds ->> k.name)::bigint, 0)), '{}')
                   AS kinds
        INTO gone FROM by_kind b JOIN kind k ON k.code = b.kind;
        rows_erased := gone.rows;
        IF rows_erased > 0 THEN
            -- Not by the erasure's id: it would tell its owner how many of its rows are held.
            PERFORM ledger_append(p_at, 'history_record', 'erasure', 'erased', NULL, NULL,
                                  rows_erased, protected);
            UPDATE erasure e SET
                erased = e.erased + rows_erased, kinds = e.kinds || gone.kinds,
                oldest_day = least(e.oldest_day, gone.oldest::date),
                newest_day = greatest(e.newest_day, gone.newest::date),
                last_expiry = greatest(e.last_expiry, gone.last_expiry, gone.newest
                    + longest_days_before(job.account_key, gone.oldest) * interval '24 hours')
            WHERE e.erasure_id = p_id;
        END IF;
    END IF;
    state := 'running';
    UPDATE erasure e SET state = 'running', started_at = coalesce(e.started_at, p_at), failures = 0,
                         reached_at = next_at, reached_id = next_id,
                         ahead_ids = nullif(e.ahead_ids[p_rows_max + 1:], '{}'),
                         ahead_created = nullif(e.ahead_created[p_rows_max + 1:], '{}')
    WHERE e.erasure_id = p_id AND next_at IS NOT NULL;
    IF next_at IS NULL THEN
        state := 'done';
        IF job.reports THEN
            UPDATE monthly_report m SET content = NULL, currency = NULL, deleted_at = p_at
            WHERE m.account_key = job.account_key AND m.deleted_at IS NULL
              AND m.month + interval '1 month' <= job.accepted_at;
            GET DIAGNOSTICS rows_erased = ROW_COUNT;
            IF rows_erased > 0 THEN
                PERFORM ledger_append(p_at, 'monthly_report', 'erasure', 'erased', NULL, NULL,
                                      rows_erased, 0);
            END IF;
            -- Nor does one come that was not made yet of a month that had ended.
            INSERT INTO monthly_report (account_key, month, made_at, final_from, final, deleted_at)
            SELECT DISTINCT job.account_key, date_trunc('month', u.day::timestamp)::date, p_at, p_at, false, p_at
            FROM (
                SELECT s.account_key, s.day FROM usage_statistic s
                UNION ALL SELECT d.account_key, d.day FROM usage_delta d
            ) u
            WHERE u.account_key = job.account_key
              AND date_trunc('month', u.day::timestamp) + interval '1 month' <= job.accepted_at
            ON CONFLICT DO NOTHING;
        END IF;
        UPDATE erasure e SET started_at = coalesce(e.started_at, p_at), reports_erased = rows_erased
        WHERE e.erasure_id = p_id;
        PERFORM finish_erasure(p_id, 'done', p_at);
    END IF;
    RETURN NEXT;
END
$_$;

ALTER FUNCTION trafficlog.erase_step(p_id text, p_at timestamp with time zone, p_rows_max integer, p_width interval) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.fail_erasure(p_id text, p_at timestamp with time zone, p_attempts_max integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    failed integer;
BEGIN
    UPDATE erasure e SET failures = e.failures + 1
    WHERE e.erasure_id = p_id AND e.finished_at IS NULL RETURNING e.failures INTO failed;
    IF failed >= p_attempts_max THEN
        PERFORM finish_erasure(p_id, 'failed', p_at);
    END IF;
    RETURN (SELECT e.state FROM erasure e WHERE e.erasure_id = p_id);
END
$$;

ALTER FUNCTION trafficlog.fail_erasure(p_id text, p_at timestamp with time zone, p_attempts_max integer) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.finish_drop(p_name text, p_at timestamp with time zone, p_rows bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    intent partition_drop;
    protected bigint;
BEGIN
    PERFORM lock_holds();
    SELECT * INTO STRICT intent FROM partition_drop d WHERE d.name = p_name FOR UPDATE;
    IF EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = intent.table_oid) THEN
        RAISE EXCEPTION '% is attached again', p_name USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF intent.table_oid <> coalesce(to_regclass(p_name), 0)::oid THEN
        RAISE EXCEPTION '% is not the table whose drop began', p_name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- The rows are those that were looked at; only a new hold makes a difference.
    IF intent.holds_seen IS NULL OR EXISTS (
        SELECT 1 FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at
                                     AND h.hold_id <> ALL (intent.holds_seen)
    ) THEN
        protected := copy_held(p_name::regclass, intent.table_name, p_at, p_at);
    ELSE
        protected := intent.held;
    END IF;
    EXECUTE format('DROP TABLE %I', p_name);
    PERFORM ledger_append(p_at, intent.table_name, p_name, 'expired',
                          intent.lower, intent.upper, p_rows, protected);
    -- By its place too: it may stand there under the name it was made with.
    DELETE FROM partition_register r
    WHERE r.name = p_name
       OR r.table_name = intent.table_name AND r.lower = intent.lower
          AND to_regclass(quote_ident(r.name)) IS NULL;
    DELETE FROM partition_drop d WHERE d.name = p_name;
    RETURN protected;
END
$$;

ALTER FUNCTION trafficlog.finish_drop(p_name text, p_at timestamp with time zone, p_rows bigint) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.finish_erasure(p_id text, p_state text, p_at timestamp with time zone) RETURNS void
    LANGUAGE sql
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    UPDATE erasure SET
        state = p_state, finished_at = p_at, filter = NULL, created_after = NULL,
        created_up_to = NULL, reached_at = NULL, reached_id = NULL,
        ahead_created = NULL, ahead_ids = NULL, waits_for = NULL
    WHERE erasure_id = p_id AND finished_at IS NULL
$$;

ALTER FUNCTION trafficlog.finish_erasure(p_id text, p_state text, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.held_counts(p_hold text) RETURNS TABLE(data_class text, rows bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT r.data_class, count(*) FROM held_record r JOIN abuse_hold h ON covers(h, r)
    WHERE h.hold_id = p_hold GROUP BY r.data_class ORDER BY r.data_class
$$;

ALTER FUNCTION trafficlog.held_counts(p_hold text) OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.history_record (
    account_key bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone,
    delivered_at timestamp with time zone,
    duration integer,
    parts integer,
    cost integer,
    kind smallint NOT NULL,
    direction smallint NOT NULL,
    status smallint,
    withheld smallint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    sender text COLLATE pg_catalog."C",
    recipient text COLLATE pg_catalog."C",
    owner text COLLATE pg_catalog."C",
    tags text[],
    message text COLLATE pg_catalog."C"
)
PARTITION BY RANGE (expires_at);

ALTER TABLE trafficlog.history_record OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.history_record.withheld IS 'fields that some report of the record asked not to log: 1 message, 2 sender, 4 recipient';

CREATE FUNCTION trafficlog.history_page(p_visible bigint, p_account bigint, p_epoch bigint, p_lower timestamp with time zone, p_before_created timestamp with time zone, p_before_id text, p_expires_from timestamp with time zone, p_expires_to timestamp with time zone, p_limit integer) RETURNS SETOF trafficlog.history_record
    LANGUAGE plpgsql
    SET search_path TO 'trafficlog', 'pg_temp'
    SET enable_sort TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
BEGIN
    PERFORM set_config('trafficlog.account_key', p_visible::text, true);
    RETURN QUERY
        SELECT h.* FROM history_record h
        WHERE h.account_key = p_account AND h.created_at > p_lower
          AND h.expires_at >= p_expires_from AND h.expires_at <= p_expires_to
          AND (h.created_at, h.id) < (p_before_created, p_before_id COLLATE "C")
        ORDER BY h.created_at DESC, h.id DESC
        LIMIT p_limit;
    -- After the rows: what moved while they were read had its setting changed before this.
    IF p_epoch IS DISTINCT FROM (SELECT settings_epoch FROM account WHERE account_key = p_account) THEN
        RAISE EXCEPTION 'the account''s settings have changed' USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;

ALTER FUNCTION trafficlog.history_page(p_visible bigint, p_account bigint, p_epoch bigint, p_lower timestamp with time zone, p_before_created timestamp with time zone, p_before_id text, p_expires_from timestamp with time zone, p_expires_to timestamp with time zone, p_limit integer) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.is_held(r trafficlog.held_record, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT EXISTS (
        SELECT 1 FROM abuse_hold h
        WHERE h.released_at IS NULL AND h.ends_at > p_at AND covers(h, r)
    )
$$;

ALTER FUNCTION trafficlog.is_held(r trafficlog.held_record, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.is_later(old_at timestamp with time zone, old_status smallint, new_at timestamp with time zone, new_status smallint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((new_at IS NOT NULL) AND ((old_at IS NULL) OR (ROW(new_at, COALESCE((new_status)::integer, 0)) > ROW(old_at, COALESCE((old_status)::integer, 0)))));

ALTER FUNCTION trafficlog.is_later(old_at timestamp with time zone, old_status smallint, new_at timestamp with time zone, new_status smallint) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.ledger_append(p_at timestamp with time zone, p_class text, p_object text, p_reason text, p_lower timestamp with time zone, p_upper timestamp with time zone, p_rows bigint, p_held bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    head purge_ledger_head;
    digest bytea;
BEGIN
    SELECT * INTO head FROM purge_ledger_head FOR UPDATE;
    digest := sha256(convert_to(ledger_text(head.seq + 1, p_at, p_class, p_object, p_reason,
                                            p_lower, p_upper, p_rows, p_held, head.hash), 'UTF8'));
    INSERT INTO purge_ledger VALUES (head.seq + 1, p_at, p_class, p_object, p_reason,
                                     p_lower, p_upper, p_rows, p_held, head.hash, digest);
    UPDATE purge_ledger_head SET seq = head.seq + 1, hash = digest;
    RETURN head.seq + 1;
END
$$;

ALTER FUNCTION trafficlog.ledger_append(p_at timestamp with time zone, p_class text, p_object text, p_reason text, p_lower timestamp with time zone, p_upper timestamp with time zone, p_rows bigint, p_held bigint) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.ledger_text(p_seq bigint, p_at timestamp with time zone, p_class text, p_object text, p_reason text, p_lower timestamp with time zone, p_upper timestamp with time zone, p_rows bigint, p_held bigint, p_previous bytea) RETURNS text
    LANGUAGE sql STABLE
    SET "TimeZone" TO 'UTC'
    AS $$
    SELECT concat_ws(E'\n', p_seq, to_char(p_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_class, p_object,
        p_reason, coalesce(to_char(p_lower, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '-'),
        coalesce(to_char(p_upper, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '-'),
        p_rows, p_held, encode(p_previous, 'hex'))
$$;

ALTER FUNCTION trafficlog.ledger_text(p_seq bigint, p_at timestamp with time zone, p_class text, p_object text, p_reason text, p_lower timestamp with time zone, p_upper timestamp with time zone, p_rows bigint, p_held bigint, p_previous bytea) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.lock_holds() RETURNS void
    LANGUAGE sql
    AS $$ SELECT pg_advisory_xact_lock_shared(7102, 1) $$;

ALTER FUNCTION trafficlog.lock_holds() OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.longest_days_before(p_account bigint, p_created timestamp with time zone) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT max((c.old ->> 'history_days')::integer) FROM account_setting_change c
    WHERE c.account_key = p_account AND c.changed_at >= p_created - interval '10 minutes'
$$;

ALTER FUNCTION trafficlog.longest_days_before(p_account bigint, p_created timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.make_reports(p_month date, p_final_from timestamp with time zone, p_at timestamp with time zone, p_accounts_max integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    due bigint[];
BEGIN
    WITH taken AS (
        DELETE FROM usage_changed
        WHERE month = p_month AND account_key = ANY (ARRAY(
            SELECT account_key FROM usage_changed WHERE month = p_month
            ORDER BY account_key LIMIT p_accounts_max))
        RETURNING account_key
    )
    SELECT array_agg(account_key) INTO due FROM taken;
    IF due IS NULL THEN
        due := ARRAY(
            SELECT account_key FROM monthly_report
            WHERE NOT final AND deleted_at IS NULL AND final_from <= p_at AND month = p_month
            ORDER BY account_key LIMIT p_accounts_max);
    END IF;
    -- A statement of its own, that sees whatever was added up to here. What was added and not
    -- summed up yet counts; when it is, the month has changed again.
    WITH used AS (
        SELECT u.* FROM (
            SELECT * FROM usage_statistic UNION ALL SELECT * FROM usage_delta
        ) u
        WHERE u.account_key = ANY (due) AND u.day >= p_month AND u.day < p_month + interval '1 month'
    ), line AS (
        SELECT u.account_key, u.kind, u.direction, u.status, k.name AS kind_name,
               d.name AS direction_name, s.name AS status_name, sum(u.records) AS records,
               sum(u.parts) AS parts, sum(u.seconds) AS seconds, sum(u.cost) AS cost
        FROM used u
        JOIN kind k ON k.code = u.kind
        JOIN direction d ON d.code = u.direction
        LEFT JOIN status s ON s.code = u.status
        GROUP BY u.account_key, u.kind, u.direction, u.status, k.name, d.name, s.name
        HAVING sum(u.records) <> 0 OR sum(u.parts) <> 0 OR sum(u.seconds) <> 0 OR sum(u.cost) <> 0
    ), by_day AS (
        SELECT account_key, day, sum(records) AS records, sum(parts) AS parts,
               sum(seconds) AS seconds, sum(cost) AS cost
        FROM used GROUP BY account_key, day
        HAVING sum(records) <> 0 OR sum(parts) <> 0 OR sum(seconds) <> 0 OR sum(cost) <> 0
    ), lines AS (
        SELECT account_key, jsonb_agg(jsonb_build_object(
            'kind', kind_name, 'direction', direction_name, 'status', status_name,
            'records', records, 'parts', parts, 'seconds', seconds, 'cost', cost
        ) ORDER BY kind, direction, status NULLS FIRST) AS content
        FROM line GROUP BY account_key
    ), days AS (
        SELECT account_key, jsonb_agg(jsonb_build_object(
            'day', day, 'records', records, 'parts', parts, 'seconds', seconds, 'cost', cost
        ) ORDER BY day) AS content
        FROM by_day GROUP BY account_key
    )
    INSERT INTO monthly_report AS r (account_key, month, made_at, final_from, final, currency, content)
    SELECT a.account_key, p_month, p_at, p_final_from, p_final_from <= p_at, a.currency,
           jsonb_build_object('lines', coalesce(lines.content, '[]'), 'days', coalesce(days.content, '[]'))
    FROM account a LEFT JOIN lines USING (account_key) LEFT JOIN days USING (account_key)
    WHERE a.account_key = ANY (due)
      -- One that is there is kept up to date, also of an account that wants no new ones.
      AND (EXISTS (SELECT 1 FROM monthly_report m WHERE m.account_key = a.account_key AND m.month = p_month)
           OR a.monthly_reports AND lines.content IS NOT NULL
              AND (a.reports_from IS NULL OR p_month >= a.reports_from))
    ON CONFLICT (account_key, month) DO UPDATE SET
        made_at = p_at, final_from = p_final_from, final = EXCLUDED.final,
        currency = EXCLUDED.currency, content = EXCLUDED.content
    WHERE NOT r.final AND r.deleted_at IS NULL
      AND (r.content, r.currency, r.final, r.final_from) IS DISTINCT FROM
          (EXCLUDED.content, EXCLUDED.currency, EXCLUDED.final, EXCLUDED.final_from);
    RETURN coalesce(cardinality(due), 0);
END
$$;

ALTER FUNCTION trafficlog.make_reports(p_month date, p_final_from timestamp with time zone, p_at timestamp with time zone, p_accounts_max integer) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.merge_later(p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[]) RETURNS integer[]
    LANGUAGE plpgsql
    SET search_path TO 'trafficlog', 'pg_temp'
    SET enable_nestloop TO 'on'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET cpu_tuple_cost TO '1000000'
    SET cpu_index_tuple_cost TO '1000000'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
DECLARE
    changed integer[];
BEGIN
    WITH legal AS (
        UPDATE traffic_record t SET
            updated_at = greatest(t.updated_at, s.updated_at),
            duration = CASE WHEN t.updated_at IS NOT DISTINCT FROM s.updated_at
                THEN greatest(t.duration, s.duration)
                ELSE prefer(is_later(t.updated_at, NULL, s.updated_at, NULL), t.duration, s.duration) END,
            ip = coalesce(t.ip, s.ip),
            user_agent = coalesce(t.user_agent, s.user_agent)
        FROM unnest((SELECT p_reports)) s
        WHERE t.created_at = s.created_at AND t.account_key = s.account_key AND t.id = s.id
          AND t.expires_at = s.traffic_expires AND t.kind = s.kind AND NOT s.several
          AND t.expires_at BETWEEN p_traffic_from AND p_traffic_to
          AND (is_later(t.updated_at, NULL, s.updated_at, NULL)
               OR t.updated_at IS NOT DISTINCT FROM s.updated_at AND s.duration > t.duration
               OR num_nulls(t.duration, t.ip, t.user_agent)
                  > num_nulls(coalesce(t.duration, s.duration), coalesce(t.ip, s.ip),
                              coalesce(t.user_agent, s.user_agent)))
        RETURNING s.ordinal
    ), history AS (
        UPDATE history_record t SET
            updated_at = greatest(t.updated_at, s.updated_at),
            (status, delivered_at, duration, parts, cost, owner, tags, message) = (
                -- As prefer() has it, which would have to be read anew for each of them.
                SELECT CASE WHEN later THEN coalesce(s.status, t.status)
                            ELSE coalesce(t.status, s.status) END,
                       CASE WHEN later THEN coalesce(s.delivered_at, t.delivered_at)
                            ELSE coalesce(t.delivered_at, s.delivered_at) END,
                       CASE WHEN t.updated_at IS NOT DISTINCT FROM s.updated_at
                            THEN greatest(t.duration, s.duration)
                            WHEN later THEN coalesce(s.duration, t.duration)
                            ELSE coalesce(t.duration, s.duration) END,
                       CASE WHEN later THEN coalesce(s.parts, t.parts)
                            ELSE coalesce(t.parts, s.parts) END,
                       CASE WHEN later THEN coalesce(s.cost, t.cost)
                            ELSE coalesce(t.cost, s.cost) END,
                       CASE WHEN later THEN coalesce(s.owner, t.owner)
                            ELSE coalesce(t.owner, s.owner) END,
                       CASE WHEN later THEN coalesce(s.tags, t.tags)
                            ELSE coalesce(t.tags, s.tags) END,
                       CASE WHEN (t.withheld | s.withheld) & 1 <> 0 THEN NULL
                            WHEN later THEN coalesce(s.message, t.message)
                            ELSE coalesce(t.message, s.message) END
                -- Without OFFSET it would be worked out in each place where it is named.
                FROM (SELECT is_later(t.updated_at, t.status, s.updated_at, s.status) OFFSET 0)
                     AS each (later)),
            withheld = t.withheld | s.withheld,
            sender = CASE WHEN (t.withheld | s.withheld) & 2 = 0 THEN t.sender END,
            recipient = CASE WHEN (t.withheld | s.withheld) & 4 = 0 THEN t.recipient END
        FROM unnest((SELECT p_reports)) s
        WHERE t.account_key = s.account_key AND t.created_at = s.created_at AND t.id = s.id
          AND t.expires_at BETWEEN s.history_from AND s.history_to AND t.kind = s.kind AND NOT s.several
          AND (t.expires_at BETWEEN p_history_from[1] AND p_history_to[1]
               OR t.expires_at BETWEEN p_history_from[2] AND p_history_to[2]
               OR t.expires_at BETWEEN p_history_from[3] AND p_history_to[3]
               OR t.expires_at BETWEEN p_history_from[4] AND p_history_to[4]
               OR t.expires_at BETWEEN p_history_from[5] AND p_history_to[5]
               OR t.expires_at BETWEEN p_history_from[6] AND p_history_to[6]
               OR t.expires_at BETWEEN p_history_from[7] AND p_history_to[7]
               OR t.expires_at BETWEEN p_history_from[8] AND p_history_to[8]
               OR t.expires_at BETWEEN p_history_from[9] AND p_history_to[9]
               OR t.expires_at BETWEEN p_history_from[10] AND p_history_to[10]
               OR t.expires_at BETWEEN p_history_from[11] AND p_history_to[11]
               OR t.expires_at BETWEEN p_history_from[12] AND p_history_to[12]
               OR t.expires_at BETWEEN p_history_from[13] AND p_history_to[13]
               OR t.expires_at BETWEEN p_history_from[14] AND p_history_to[14]
               OR t.expires_at BETWEEN p_history_from[15] AND p_history_to[15]
               OR t.expires_at BETWEEN p_history_from[16] AND p_history_to[16]
               OR t.expires_at BETWEEN p_history_from[17] AND p_history_to[17]
               OR t.expires_at BETWEEN p_history_from[18] AND p_history_to[18]
               OR t.expires_at BETWEEN p_history_from[19] AND p_history_to[19]
               OR t.expires_at BETWEEN p_history_from[20] AND p_history_to[20]
               OR t.expires_at BETWEEN p_history_from[21] AND p_history_to[21]
               OR t.expires_at BETWEEN p_history_from[22] AND p_history_to[22]
               OR t.expires_at BETWEEN p_history_from[23] AND p_history_to[23]
               OR t.expires_at BETWEEN p_history_from[24] AND p_history_to[24])
          AND (is_later(t.updated_at, t.status, s.updated_at, s.status)
               OR t.updated_at IS NOT DISTINCT FROM s.updated_at AND s.duration > t.duration
               OR t.withheld <> t.withheld | s.withheld
               OR t.message IS NULL AND s.message IS NOT NULL AND (t.withheld | s.withheld) & 1 = 0
               OR num_nulls(t.status, t.delivered_at, t.duration, t.parts, t.cost, t.owner, t.tags)
                  > num_nulls(coalesce(t.status, s.status), coalesce(t.delivered_at, s.delivered_at),
                              coalesce(t.duration, s.duration), coalesce(t.parts, s.parts),
                              coalesce(t.cost, s.cost), coalesce(t.owner, s.owner), coalesce(t.tags, s.tags)))
        RETURNING s.ordinal
    )
    SELECT array_agg(ordinal) INTO changed
    FROM (SELECT ordinal FROM legal UNION ALL SELECT ordinal FROM history) told;
    RETURN changed;
END
$$;

ALTER FUNCTION trafficlog.merge_later(p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[]) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.move_history_step(p_account bigint, p_at timestamp with time zone, p_rows_max integer) RETURNS TABLE(rows_read bigint, rows_moved bigint, rows_destroyed bigint, done boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
DECLARE
    move history_move;
    owner account;
    ids text[];
    createds timestamptz[];
    fates timestamptz[];
    expiries timestamptz[];
    first_expiry timestamptz;
    last_expiry timestamptz;
    last_id text;
    last_created timestamptz;
    protected bigint;
    day timestamptz;
BEGIN
    -- In this order everywhere: settings, holds, then rows.
    PERFORM pg_advisory_xact_lock_shared(7100, 1);
    PERFORM lock_holds();
    SELECT * INTO move FROM history_move m WHERE m.account_key = p_account FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, true;
        RETURN;
    END IF;
    SELECT * INTO STRICT owner FROM account a WHERE a.account_key = p_account;
    -- The fate of a row: its new expiry, or NULL when it is to be destroyed.
    SELECT array_agg(s.id ORDER BY s.created_at, s.id),
           array_agg(s.created_at ORDER BY s.created_at, s.id),
           array_agg(s.fate ORDER BY s.created_at, s.id),
           array_agg(s.expires_at ORDER BY s.created_at, s.id),
           min(s.expires_at), max(s.expires_at), count(*)
    INTO ids, createds, fates, expiries, first_expiry, last_expiry, rows_read
    FROM (
        SELECT h.id, h.created_at, h.expires_at,
            CASE WHEN h.created_at > coalesce(owner.history_after, '-infinity')
                  AND h.created_at + owner.history_days * interval '24 hours' > p_at
                 THEN h.created_at + owner.history_days * interval '24 hours' END AS fate
        FROM history_record h
        WHERE h.account_key = p_account
          AND (move.after_created IS NULL
               OR (h.created_at, h.id) > (move.after_created, move.after_id))
        ORDER BY h.created_at, h.id LIMIT p_rows_max
    ) s;
    last_id := ids[rows_read];
    last_created := createds[rows_read];
    rows_moved := 0;
    rows_destroyed := 0;
    done := rows_read < p_rows_max;
    IF rows_read > 0 THEN
        FOR day IN SELECT DISTINCT date_trunc('day', f) FROM unnest(fates) f WHERE f IS NOT NULL LOOP
            PERFORM ensure_partition('history_record', day, day + interval '24 hours');
        END LOOP;
        -- With their expiry, which says in which of all partitions each row is.
        UPDATE history_record h SET expires_at = s.fate
        FROM unnest(ids, createds, fates, expiries) AS s(id, created_at, fate, expires_at)
        WHERE h.account_key = p_account AND h.created_at = s.created_at AND h.id = s.id
          AND h.expires_at = s.expires_at AND h.expires_at BETWEEN first_expiry AND last_expiry
          AND s.fate IS NOT NULL AND h.expires_at <> s.fate;
        GET DIAGNOSTICS rows_moved = ROW_COUNT;
        SELECT array_agg(s.id), array_agg(s.created_at), array_agg(s.expires_at)
        INTO ids, createds, expiries
        FROM unnest(ids, createds, fates, expiries) AS s(id, created_at, fate, expires_at)
        WHERE s.fate IS NULL;
        IF ids IS NOT NULL THEN
            IF are_holds(p_at) THEN
                -- What is copied is what goes: no report changes a row in between.
                PERFORM FROM history_record h, unnest(ids, createds, expiries) AS s(id, created_at, expires_at)
                WHERE h.account_key = p_account AND h.created_at = s.created_at AND h.id = s.id
                  AND h.expires_at = s.expires_at AND h.expires_at BETWEEN first_expiry AND last_expiry
                FOR UPDATE OF h;
            END IF;
            protected := copy_held('history_record', 'history_record', p_at, p_at,
                -- The range of the step, or each step would read all of the account.
                format('r.account_key = $4 AND (r.id, r.created_at) IN (SELECT * FROM unnest($5, $6))'
                       ' AND r.created_at BETWEEN %L AND %L AND r.expires_at BETWEEN %L AND %L',
                       (SELECT min(c) FROM unnest(createds) c), (SELECT max(c) FROM unnest(createds) c),
                       first_expiry, last_expiry),
                p_account, ids, createds);
            DELETE FROM history_record h
            USING unnest(ids, createds, expiries) AS s(id, created_at, expires_at)
            WHERE h.account_key = p_account AND h.created_at = s.created_at AND h.id = s.id
              AND h.expires_at = s.expires_at
              AND h.expires_at BETWEEN first_expiry AND last_expiry;
            GET DIAGNOSTICS rows_destroyed = ROW_COUNT;
            PERFORM ledger_append(p_at, 'history_record', 'setting change', 'setting',
                                  NULL, NULL, rows_destroyed, protected);
        END IF;
    END IF;
    IF done THEN
        DELETE FROM history_move m WHERE m.account_key = p_account;
        -- All that is stored now stands under the present setting.
        UPDATE account a SET history_days_min = coalesce(a.history_days, a.history_days_min),
                             history_days_max = coalesce(a.history_days, a.history_days_max)
        WHERE a.account_key = p_account;
    ELSE
        UPDATE history_move m SET after_created = last_created, after_id = last_id
        WHERE m.account_key = p_account;
    END IF;
    RETURN NEXT;
END
$_$;

ALTER FUNCTION trafficlog.move_history_step(p_account bigint, p_at timestamp with time zone, p_rows_max integer) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.note_access(p_at timestamp with time zone, p_actor text, p_action text, p_subject text, p_reason text, p_case text, p_rows bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
DECLARE
    expiry timestamptz := p_at + interval '1 hour' * (
        SELECT p.period_hours FROM retention_policy p
        WHERE p.data_class = 'access_log' AND p.effective_from <= p_at
        ORDER BY p.effective_from DESC LIMIT 1);
    month timestamptz := date_trunc('month', expiry);
BEGIN
    PERFORM ensure_partition('access_log', month, month + interval '1 month');
    INSERT INTO access_log (at, access_id, expires_at, actor, action, subject, reason, case_ref, rows)
    VALUES (p_at, gen_random_uuid(), expiry, p_actor, p_action, p_subject, p_reason, p_case, p_rows);
END
$$;

ALTER FUNCTION trafficlog.note_access(p_at timestamp with time zone, p_actor text, p_action text, p_subject text, p_reason text, p_case text, p_rows bigint) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.place_hold(p_hold_id text, p_account bigint, p_number text, p_ip text, p_record text, p_from timestamp with time zone, p_to timestamp with time zone, p_reason text, p_case text, p_by text, p_at timestamp with time zone, p_ends timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7102, 1);
    INSERT INTO abuse_hold (hold_id, account_key, number, ip, record_id, created_from, created_to,
                            reason, case_ref, placed_by, placed_at, ends_at)
    VALUES (p_hold_id, p_account, p_number, p_ip, p_record, p_from, p_to,
            p_reason, p_case, p_by, p_at, p_ends);
END
$$;

ALTER FUNCTION trafficlog.place_hold(p_hold_id text, p_account bigint, p_number text, p_ip text, p_record text, p_from timestamp with time zone, p_to timestamp with time zone, p_reason text, p_case text, p_by text, p_at timestamp with time zone, p_ends timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.prefer(later boolean, old_value anycompatible, new_value anycompatible) RETURNS anycompatible
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN later THEN coalesce(new_value, old_value) ELSE coalesce(old_value, new_value) END $$;

ALTER FUNCTION trafficlog.prefer(later boolean, old_value anycompatible, new_value anycompatible) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.protects(p_hold text, r trafficlog.held_record) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT EXISTS (SELECT 1 FROM abuse_hold h WHERE h.hold_id = p_hold AND covers(h, r))
$$;

ALTER FUNCTION trafficlog.protects(p_hold text, r trafficlog.held_record) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the purge ledger is only ever added to';
END
$$;

ALTER FUNCTION trafficlog.refuse_change() OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.roll_up_usage(p_rows_max integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
DECLARE
    taken bigint;
BEGIN
    WITH gone AS (
        DELETE FROM usage_delta
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM usage_delta LIMIT p_rows_max))
        RETURNING *
    ), summed AS (
        INSERT INTO usage_statistic AS u
        SELECT account_key, day, kind, direction, status, sum(records), sum(parts), sum(seconds), sum(cost)
        FROM gone GROUP BY account_key, day, kind, direction, status
        ON CONFLICT ON CONSTRAINT usage_statistic_key DO UPDATE SET
            records = u.records + EXCLUDED.records, parts = u.parts + EXCLUDED.parts,
            seconds = u.seconds + EXCLUDED.seconds, cost = u.cost + EXCLUDED.cost
    ), changed AS (
        INSERT INTO usage_changed
        SELECT DISTINCT date_trunc('month', day::timestamp)::date, account_key FROM gone
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO taken FROM gone;
    RETURN taken;
END
$$;

ALTER FUNCTION trafficlog.roll_up_usage(p_rows_max integer) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.session_account(p_key_id text, p_session_id bytea) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
    SELECT a.account_id
    FROM api_key k JOIN account a USING (account_key)
    WHERE k.key_id = p_key_id AND k.account_key = current_account_key() AND k.revoked_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM ended_session WHERE session_id = p_session_id)
$$;

ALTER FUNCTION trafficlog.session_account(p_key_id text, p_session_id bytea) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.set_policy(p_class text, p_from timestamp with time zone, p_hours integer, p_basis text, p_by text, p_at timestamp with time zone, p_after timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7100, 1);
    IF p_from <= p_after THEN
        RAISE EXCEPTION 'a policy starts later than %', p_after
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE settings_epoch SET epoch = epoch + 1;
    INSERT INTO retention_policy (data_class, effective_from, period_hours, legal_basis, set_at, set_by)
    VALUES (p_class, p_from, p_hours, p_basis, p_at, p_by)
    ON CONFLICT (data_class, effective_from) DO UPDATE
        SET period_hours = p_hours, legal_basis = p_basis, set_at = p_at, set_by = p_by;
END
$$;

ALTER FUNCTION trafficlog.set_policy(p_class text, p_from timestamp with time zone, p_hours integer, p_basis text, p_by text, p_at timestamp with time zone, p_after timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.settings_in_force() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7100, 1);
    RETURN (SELECT epoch FROM settings_epoch);
END
$$;

ALTER FUNCTION trafficlog.settings_in_force() OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.settle_drop(p_name text, p_at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
DECLARE
    intent partition_drop;
    seen text[];
    protected bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO STRICT intent FROM partition_drop d WHERE d.name = p_name;
    -- Before the copy: a hold that is placed meanwhile has not been seen.
    seen := ARRAY(SELECT h.hold_id FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at);
    protected := copy_held(p_name::regclass, intent.table_name, p_at, p_at);
    UPDATE partition_drop d SET holds_seen = seen, held = protected
    WHERE d.name = p_name AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = intent.table_oid);
    RETURN count_rows(p_name);
END
$$;

ALTER FUNCTION trafficlog.settle_drop(p_name text, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.store_later(p_epoch bigint, p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[], OUT epoch bigint, OUT fresh integer[], OUT changed integer[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'trafficlog', 'pg_temp'
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    AS $$
BEGIN
    -- The lock is held, and the epoch read, before the first row is made.
    epoch := settings_in_force();
    IF epoch <> p_epoch THEN
        RETURN;
    END IF;
    WITH made AS (
        INSERT INTO traffic_record (created_at, expires_at, updated_at, account_key, duration,
                                    kind, direction, id, sender, recipient, ip, user_agent)
        SELECT created_at, traffic_expires, updated_at, account_key, duration,
               kind, direction, id, sender, recipient, ip, user_agent
        -- Of two kinds that claim to be one record the first to come is it.
        FROM unnest(p_reports) ORDER BY traffic_expires, created_at, account_key, id, ordinal
        ON CONFLICT DO NOTHING
        RETURNING account_key, created_at, id, kind
    )
    SELECT array_agg(s.ordinal) INTO fresh
    FROM unnest(p_reports) s JOIN made USING (account_key, created_at, id, kind);
    IF fresh IS NOT NULL THEN
        WITH history AS (
            INSERT INTO history_record (account_key, created_at, expires_at, updated_at, delivered_at,
                                        duration, parts, cost, kind, direction, status, withheld, id,
                                        sender, recipient, owner, tags, message)
            SELECT s.account_key, s.created_at, s.history_expires, s.updated_at, s.delivered_at,
                   s.duration, s.parts, s.cost, s.kind, s.direction, s.status, s.omitted, s.id,
                   CASE WHEN s.omitted & 2 = 0 THEN s.sender END,
                   CASE WHEN s.omitted & 4 = 0 THEN s.recipient END,
                   s.owner, s.tags,
                   CASE WHEN s.omitted & 1 = 0 THEN s.message END
            FROM unnest(p_reports) s
            WHERE s.ordinal = ANY (fresh) AND s.history_expires IS NOT NULL
            ORDER BY s.history_expires, s.account_key, s.created_at
            ON CONFLICT DO NOTHING
        )
        INSERT INTO usage_delta
        SELECT s.account_key, (s.created_at AT TIME ZONE 'UTC')::date, s.kind, s.direction, s.status,
               count(*), coalesce(sum(s.parts), 0), coalesce(sum(s.duration), 0),
               coalesce(sum(s.cost), 0)
        FROM unnest(p_reports) s WHERE s.ordinal = ANY (fresh)
        GROUP BY 1, 2, 3, 4, 5;
    END IF;
    changed := merge_later(p_reports, p_traffic_from, p_traffic_to, p_history_from, p_history_to);
END
$$;

ALTER FUNCTION trafficlog.store_later(p_epoch bigint, p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[], OUT epoch bigint, OUT fresh integer[], OUT changed integer[]) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.weigh_partition(p_table text, p_name text, p_at timestamp with time zone) RETURNS TABLE(rows bigint, held bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'trafficlog', 'pg_temp'
    AS $$
BEGIN
    rows := count_rows(p_name);
    held := copy_held(p_name::regclass, p_table, p_at, p_at, p_copy => false);
    RETURN NEXT;
END
$$;

ALTER FUNCTION trafficlog.weigh_partition(p_table text, p_name text, p_at timestamp with time zone) OWNER TO trafficlog_owner;

CREATE FUNCTION trafficlog.withheld_names(p_withheld smallint) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT to_jsonb(array_remove(ARRAY[
        CASE WHEN p_withheld & 1 <> 0 THEN 'message' END,
        CASE WHEN p_withheld & 2 <> 0 THEN 'from' END,
        CASE WHEN p_withheld & 4 <> 0 THEN 'to' END], NULL))
$$;

ALTER FUNCTION trafficlog.withheld_names(p_withheld smallint) OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.access_log (
    at timestamp with time zone NOT NULL,
    access_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL,
    rows bigint NOT NULL,
    case_ref text
)
PARTITION BY RANGE (expires_at);

ALTER TABLE trafficlog.access_log OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.account (
    account_key bigint NOT NULL,
    account_id text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    history_days smallint,
    history_after timestamp with time zone,
    history_days_min smallint NOT NULL,
    history_days_max smallint NOT NULL,
    monthly_reports boolean DEFAULT true NOT NULL,
    settings_epoch bigint DEFAULT 0 NOT NULL,
    closed_at timestamp with time zone,
    withheld smallint DEFAULT 0 NOT NULL,
    reports_from date,
    display_name text,
    currency text,
    CONSTRAINT account_account_id_check CHECK ((account_id ~ '^[A-Za-z0-9._:@+~=-]{1,64}$'::text)),
    CONSTRAINT account_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT account_display_name_check CHECK (((length(display_name) >= 1) AND (length(display_name) <= 100))),
    CONSTRAINT account_history_days_check CHECK (((history_days >= 1) AND (history_days <= 1095))),
    CONSTRAINT account_history_days_max_check CHECK (((history_days_max >= 1) AND (history_days_max <= 1095))),
    CONSTRAINT account_history_days_min_check CHECK (((history_days_min >= 1) AND (history_days_min <= 1095))),
    CONSTRAINT account_withheld_check CHECK (((withheld >= 0) AND (withheld <= 7)))
);

ALTER TABLE trafficlog.account OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.account.history_days IS 'NULL: history is off';

COMMENT ON COLUMN trafficlog.account.history_after IS 'no history of records created up to here is shown or written, whatever the setting becomes';

COMMENT ON COLUMN trafficlog.account.history_days_min IS 'the shortest period that a row still stored can have been written under; history_days_max the longest';

COMMENT ON COLUMN trafficlog.account.withheld IS 'fields that history omits of every new record, as in history_record.withheld';

COMMENT ON COLUMN trafficlog.account.reports_from IS 'no report is made of a month before this one: reports were off when it ended, or usage was not counted yet';

COMMENT ON COLUMN trafficlog.account.currency IS 'ISO 4217; costs are in 1/10000 of it';

ALTER TABLE trafficlog.account ALTER COLUMN account_key ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME trafficlog.account_account_key_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE trafficlog.account_setting_change (
    change_id bigint NOT NULL,
    account_key bigint NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    changed_by text NOT NULL,
    old jsonb NOT NULL,
    new jsonb NOT NULL
);

ALTER TABLE trafficlog.account_setting_change OWNER TO trafficlog_owner;

ALTER TABLE trafficlog.account_setting_change ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME trafficlog.account_setting_change_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE trafficlog.api_key (
    key_id text NOT NULL COLLATE pg_catalog."C",
    scope text NOT NULL,
    account_key bigint,
    digest bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT api_key_check CHECK (((scope = 'customer'::text) = (account_key IS NOT NULL))),
    CONSTRAINT api_key_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT api_key_scope_check CHECK ((scope = ANY (ARRAY['ingest'::text, 'customer'::text, 'operator'::text, 'officer'::text, 'metrics'::text])))
);

ALTER TABLE trafficlog.api_key OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.api_key.digest IS 'SHA-256 of the key, which itself is 256 random bits and kept nowhere';

CREATE TABLE trafficlog.debug_log (
    created_at timestamp with time zone NOT NULL,
    line_id bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    account_key bigint,
    level smallint NOT NULL,
    record_id text COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    line text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY RANGE (expires_at);

ALTER TABLE trafficlog.debug_log OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.direction (
    code smallint NOT NULL,
    name text NOT NULL
);

ALTER TABLE trafficlog.direction OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.ended_session (
    session_id bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT ended_session_session_id_check CHECK ((length(session_id) = 16))
);

ALTER TABLE trafficlog.ended_session OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.erasure (
    erasure_id text NOT NULL COLLATE pg_catalog."C",
    account_key bigint NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    accepted_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    everything boolean NOT NULL,
    fields text[] NOT NULL,
    filter jsonb,
    created_after timestamp with time zone,
    created_up_to timestamp with time zone,
    reached_at timestamp with time zone,
    reached_id text COLLATE pg_catalog."C",
    failures integer DEFAULT 0 NOT NULL,
    found bigint NOT NULL,
    erased bigint DEFAULT 0 NOT NULL,
    kinds jsonb DEFAULT '{}'::jsonb NOT NULL,
    oldest_day date,
    newest_day date,
    last_expiry timestamp with time zone,
    reports boolean NOT NULL,
    reports_erased bigint DEFAULT 0 NOT NULL,
    run_seconds integer NOT NULL,
    backup_days integer NOT NULL,
    repeat_key bytea,
    repeat_body bytea,
    ahead_created timestamp with time zone[],
    ahead_ids text[] COLLATE pg_catalog."C",
    waits_for text[],
    CONSTRAINT erasure_check CHECK (((finished_at IS NULL) = (state = ANY (ARRAY['queued'::text, 'running'::text])))),
    CONSTRAINT erasure_check1 CHECK (((NOT everything) OR (fields = '{}'::text[]))),
    CONSTRAINT erasure_check2 CHECK (
CASE
    WHEN (finished_at IS NULL) THEN (num_nulls(filter, created_after, created_up_to) = 0)
    ELSE (num_nonnulls(filter, created_after, created_up_to, reached_at, reached_id) = 0)
END),
    CONSTRAINT erasure_finished_bare CHECK (((finished_at IS NULL) OR (num_nonnulls(ahead_created, ahead_ids, waits_for) = 0))),
    CONSTRAINT erasure_found_check CHECK ((found >= 0)),
    CONSTRAINT erasure_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'cancelled'::text, 'failed'::text])))
)
WITH (autovacuum_vacuum_threshold='0', autovacuum_vacuum_scale_factor='0');

ALTER TABLE trafficlog.erasure OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.erasure.fields IS 'which fields the filter has; their values are gone when it is finished';

COMMENT ON COLUMN trafficlog.erasure.created_up_to IS 'the acceptance, or the filter''s end before it; nothing later is erased but what ahead_ids names';

COMMENT ON COLUMN trafficlog.erasure.reached_id IS 'with reached_at how far the work has come; NULL: not begun';

COMMENT ON COLUMN trafficlog.erasure.oldest_day IS 'the UTC day of creation of the oldest record erased';

COMMENT ON COLUMN trafficlog.erasure.last_expiry IS 'the latest expiry under which an erased record ever stood: its dead row is in that partition';

COMMENT ON COLUMN trafficlog.erasure.run_seconds IS 'time between two retention runs when it was accepted';

COMMENT ON COLUMN trafficlog.erasure.repeat_key IS 'keyed digest of the request''s Idempotency-Key; repeat_body, of what it asked';

COMMENT ON COLUMN trafficlog.erasure.ahead_ids IS 'with ahead_created the records, stored at the acceptance and created later, that are meant as well';

COMMENT ON COLUMN trafficlog.erasure.waits_for IS 'virtual ids of the transactions that were writing when all was looked through; NULL: not yet, or none was';

ALTER TABLE trafficlog.held_record ALTER COLUMN held_key ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME trafficlog.held_record_held_key_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE trafficlog.history_move (
    account_key bigint NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    settings_epoch bigint NOT NULL,
    after_created timestamp with time zone,
    after_id text COLLATE pg_catalog."C"
);

ALTER TABLE trafficlog.history_move OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.history_move.after_created IS 'how far the move has come; NULL: not begun';

CREATE TABLE trafficlog.in_transit (
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    account_key bigint,
    id text NOT NULL COLLATE pg_catalog."C",
    content bytea NOT NULL
)
PARTITION BY RANGE (expires_at);

ALTER TABLE trafficlog.in_transit OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.ingest_minute (
    minute timestamp with time zone NOT NULL,
    records bigint NOT NULL
);

ALTER TABLE trafficlog.ingest_minute OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.ingest_minute IS 'records stored for the first time, by the minute in which their usage was summed up; kept a day';

CREATE TABLE trafficlog.installation (
    only_row boolean DEFAULT true NOT NULL,
    cursor_secret bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

ALTER TABLE trafficlog.installation OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.installation.cursor_secret IS 'signs paging cursors and page sessions';

CREATE TABLE trafficlog.job_run (
    job text NOT NULL COLLATE pg_catalog."C",
    ran_at timestamp with time zone NOT NULL,
    succeeded_at timestamp with time zone,
    failed_at timestamp with time zone,
    failure text,
    failures bigint DEFAULT 0 NOT NULL
);

ALTER TABLE trafficlog.job_run OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.job_run IS 'the last runs of each job, whichever instance ran it';

CREATE TABLE trafficlog.kind (
    code smallint NOT NULL,
    name text NOT NULL
);

ALTER TABLE trafficlog.kind OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.look_up_index (
    table_name text NOT NULL,
    suffix text NOT NULL,
    definition text NOT NULL,
    CONSTRAINT look_up_index_suffix_check CHECK ((suffix ~ '^by_[a-z]+$'::text))
);

ALTER TABLE trafficlog.look_up_index OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.look_up_index IS 'what a sealed partition is searched by; a partition''s index is named after both, and known by the suffix';

CREATE VIEW trafficlog.look_up_catalogue AS
 SELECT l.table_name,
    (child.relname)::text AS partition_name,
    l.definition,
    (COALESCE(x.relname, ((((child.relname)::text || '_'::text) || l.suffix))::name))::text AS name,
    (x.oid IS NOT NULL) AS made,
    COALESCE(i.indisvalid, false) AS valid
   FROM ((((trafficlog.look_up_index l
     JOIN pg_class parent ON (((parent.relname = l.table_name) AND (parent.relnamespace = ('trafficlog'::regnamespace)::oid) AND (parent.relkind = 'p'::"char"))))
     JOIN pg_inherits p ON ((p.inhparent = parent.oid)))
     JOIN pg_class child ON (((child.oid = p.inhrelid) AND (child.relkind = 'r'::"char"))))
     LEFT JOIN (pg_index i
     JOIN pg_class x ON ((x.oid = i.indexrelid))) ON (((i.indrelid = child.oid) AND ("right"((x.relname)::text, (length(l.suffix) + 1)) = ('_'::text || l.suffix)))));

ALTER VIEW trafficlog.look_up_catalogue OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.monthly_report (
    account_key bigint NOT NULL,
    month date NOT NULL,
    made_at timestamp with time zone NOT NULL,
    final_from timestamp with time zone NOT NULL,
    final boolean NOT NULL,
    deleted_at timestamp with time zone,
    currency text,
    content jsonb,
    CONSTRAINT monthly_report_check CHECK (((deleted_at IS NULL) = (content IS NOT NULL))),
    CONSTRAINT monthly_report_month_check CHECK ((EXTRACT(day FROM month) = (1)::numeric))
);

ALTER TABLE trafficlog.monthly_report OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.monthly_report IS 'what an account used in a month; one that was deleted leaves only that it was, so that it does not come back';

COMMENT ON COLUMN trafficlog.monthly_report.final_from IS 'from then on no record of the month can be stored any more';

CREATE TABLE trafficlog.retained_table (
    table_name text NOT NULL,
    width text NOT NULL,
    CONSTRAINT retained_table_width_check CHECK ((width = ANY (ARRAY['hour'::text, 'day'::text, 'month'::text])))
);

ALTER TABLE trafficlog.retained_table OWNER TO trafficlog_owner;

CREATE VIEW trafficlog.partition_catalogue AS
 SELECT table_name,
    name,
    table_oid,
    lower,
    upper,
    detach_pending
   FROM ( SELECT (parent.relname)::text AS table_name,
            (child.relname)::text AS name,
            child.oid AS table_oid,
            ((regexp_match(bound.expr, 'FROM \(''([^'']+)''\)'::text))[1])::timestamp with time zone AS lower,
            ((regexp_match(bound.expr, 'TO \(''([^'']+)''\)'::text))[1])::timestamp with time zone AS upper,
            i.inhdetachpending AS detach_pending
           FROM ((((pg_inherits i
             JOIN pg_class parent ON ((parent.oid = i.inhparent)))
             JOIN trafficlog.retained_table t ON ((t.table_name = parent.relname)))
             JOIN pg_class child ON ((child.oid = i.inhrelid)))
             CROSS JOIN LATERAL ( SELECT pg_get_expr(child.relpartbound, (0)::oid) AS expr) bound)
          WHERE ((parent.relnamespace = ('trafficlog'::regnamespace)::oid) AND (parent.relkind = 'p'::"char") AND (child.relkind = 'r'::"char"))) partition
  WHERE ((lower IS NOT NULL) AND (upper IS NOT NULL));

ALTER VIEW trafficlog.partition_catalogue OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.partition_drop (
    name text NOT NULL,
    table_name text NOT NULL,
    table_oid oid NOT NULL,
    lower timestamp with time zone NOT NULL,
    upper timestamp with time zone NOT NULL,
    begun_at timestamp with time zone NOT NULL,
    holds_seen text[] COLLATE pg_catalog."C",
    held bigint
);

ALTER TABLE trafficlog.partition_drop OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.partition_drop.holds_seen IS 'the holds in force when what is held was last copied out of the detached table; NULL: not yet';

CREATE TABLE trafficlog.partition_register (
    table_name text NOT NULL,
    lower timestamp with time zone NOT NULL,
    upper timestamp with time zone NOT NULL,
    name text NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    lost boolean DEFAULT false NOT NULL,
    sealed_at timestamp with time zone
);

ALTER TABLE trafficlog.partition_register OWNER TO trafficlog_owner;

COMMENT ON COLUMN trafficlog.partition_register.lost IS 'an earlier partition of these bounds went by hand, with its rows; this one was made in its place';

COMMENT ON COLUMN trafficlog.partition_register.sealed_at IS 'when it was vacuumed and frozen, once; records that come later still go into it';

CREATE TABLE trafficlog.purge_ledger (
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    data_class text NOT NULL,
    object text NOT NULL,
    reason text NOT NULL,
    lower timestamp with time zone,
    upper timestamp with time zone,
    rows bigint NOT NULL,
    held bigint NOT NULL,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT purge_ledger_held_check CHECK ((held >= 0)),
    CONSTRAINT purge_ledger_reason_check CHECK ((reason = ANY (ARRAY['expired'::text, 'erased'::text, 'setting'::text, 'completed'::text, 'hold-ended'::text]))),
    CONSTRAINT purge_ledger_rows_check CHECK ((rows >= 0))
);

ALTER TABLE trafficlog.purge_ledger OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.purge_ledger_head (
    only_row boolean DEFAULT true NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT purge_ledger_head_only_row_check CHECK (only_row)
);

ALTER TABLE trafficlog.purge_ledger_head OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.retention_policy (
    data_class text NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    period_hours integer NOT NULL,
    legal_basis text NOT NULL,
    set_at timestamp with time zone DEFAULT now() NOT NULL,
    set_by text NOT NULL,
    CONSTRAINT retention_policy_data_class_check CHECK ((data_class = ANY (ARRAY['traffic_record'::text, 'history_record'::text, 'debug_log'::text, 'in_transit'::text, 'access_log'::text]))),
    CONSTRAINT retention_policy_legal_basis_check CHECK ((legal_basis <> ''::text)),
    CONSTRAINT retention_policy_period_hours_check CHECK (((period_hours >= 1) AND (period_hours <= 87600)))
);

ALTER TABLE trafficlog.retention_policy OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.retention_policy IS 'for history_record the period is the default of a new account; the account''s own setting governs';

CREATE TABLE trafficlog.retention_state (
    only_row boolean DEFAULT true NOT NULL,
    last_reference_at timestamp with time zone,
    CONSTRAINT retention_state_only_row_check CHECK (only_row)
);

ALTER TABLE trafficlog.retention_state OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.schema_migration (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE trafficlog.schema_migration OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.settings_epoch (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    CONSTRAINT settings_epoch_only_row_check CHECK (only_row)
);

ALTER TABLE trafficlog.settings_epoch OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.settings_epoch IS 'goes up with every change of a setting or a policy';

CREATE TABLE trafficlog.status (
    code smallint NOT NULL,
    name text NOT NULL
);

ALTER TABLE trafficlog.status OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.traffic_record (
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone,
    account_key bigint NOT NULL,
    duration integer,
    kind smallint NOT NULL,
    direction smallint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    sender text NOT NULL COLLATE pg_catalog."C",
    recipient text NOT NULL COLLATE pg_catalog."C",
    ip text COLLATE pg_catalog."C",
    user_agent text COLLATE pg_catalog."C"
)
PARTITION BY RANGE (expires_at);

ALTER TABLE trafficlog.traffic_record OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.usage_changed (
    month date NOT NULL,
    account_key bigint NOT NULL
);

ALTER TABLE trafficlog.usage_changed OWNER TO trafficlog_owner;

CREATE TABLE trafficlog.usage_delta (
    account_key bigint NOT NULL,
    day date NOT NULL,
    kind smallint NOT NULL,
    direction smallint NOT NULL,
    status smallint,
    records bigint NOT NULL,
    parts bigint NOT NULL,
    seconds bigint NOT NULL,
    cost bigint NOT NULL
);

ALTER TABLE trafficlog.usage_delta OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.usage_delta IS 'what was added since the last time that usage was summed up';

CREATE TABLE trafficlog.usage_statistic (
    account_key bigint NOT NULL,
    day date NOT NULL,
    kind smallint NOT NULL,
    direction smallint NOT NULL,
    status smallint,
    records bigint NOT NULL,
    parts bigint NOT NULL,
    seconds bigint NOT NULL,
    cost bigint NOT NULL
);

ALTER TABLE trafficlog.usage_statistic OWNER TO trafficlog_owner;

COMMENT ON TABLE trafficlog.usage_statistic IS 'what an account used on a UTC day of creation; no number, no address, no text';

ALTER TABLE ONLY trafficlog.abuse_hold
    ADD CONSTRAINT abuse_hold_pkey PRIMARY KEY (hold_id);

ALTER TABLE ONLY trafficlog.access_log
    ADD CONSTRAINT access_log_key PRIMARY KEY (at, access_id, expires_at);

ALTER TABLE ONLY trafficlog.account
    ADD CONSTRAINT account_account_id_key UNIQUE (account_id);

ALTER TABLE ONLY trafficlog.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (account_key);

ALTER TABLE ONLY trafficlog.account_setting_change
    ADD CONSTRAINT account_setting_change_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY trafficlog.api_key
    ADD CONSTRAINT api_key_digest_key UNIQUE (digest);

ALTER TABLE ONLY trafficlog.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY trafficlog.debug_log
    ADD CONSTRAINT debug_log_key PRIMARY KEY (created_at, line_id, expires_at);

ALTER TABLE ONLY trafficlog.direction
    ADD CONSTRAINT direction_name_key UNIQUE (name);

ALTER TABLE ONLY trafficlog.direction
    ADD CONSTRAINT direction_pkey PRIMARY KEY (code);

ALTER TABLE ONLY trafficlog.ended_session
    ADD CONSTRAINT ended_session_pkey PRIMARY KEY (session_id);

ALTER TABLE ONLY trafficlog.erasure
    ADD CONSTRAINT erasure_pkey PRIMARY KEY (erasure_id);

ALTER TABLE ONLY trafficlog.erasure
    ADD CONSTRAINT erasure_repeated UNIQUE (account_key, repeat_key);

ALTER TABLE ONLY trafficlog.held_record
    ADD CONSTRAINT held_record_once UNIQUE NULLS NOT DISTINCT (data_class, account_key, created_at, record_id);

ALTER TABLE ONLY trafficlog.held_record
    ADD CONSTRAINT held_record_pkey PRIMARY KEY (held_key);

ALTER TABLE ONLY trafficlog.history_move
    ADD CONSTRAINT history_move_pkey PRIMARY KEY (account_key);

ALTER TABLE ONLY trafficlog.history_record
    ADD CONSTRAINT history_record_key PRIMARY KEY (account_key, created_at, id, expires_at);

ALTER TABLE ONLY trafficlog.in_transit
    ADD CONSTRAINT in_transit_key PRIMARY KEY (id, expires_at);

ALTER TABLE ONLY trafficlog.ingest_minute
    ADD CONSTRAINT ingest_minute_pkey PRIMARY KEY (minute);

ALTER TABLE ONLY trafficlog.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY trafficlog.job_run
    ADD CONSTRAINT job_run_pkey PRIMARY KEY (job);

ALTER TABLE ONLY trafficlog.kind
    ADD CONSTRAINT kind_name_key UNIQUE (name);

ALTER TABLE ONLY trafficlog.kind
    ADD CONSTRAINT kind_pkey PRIMARY KEY (code);

ALTER TABLE ONLY trafficlog.look_up_index
    ADD CONSTRAINT look_up_index_pkey PRIMARY KEY (table_name, suffix);

ALTER TABLE ONLY trafficlog.monthly_report
    ADD CONSTRAINT monthly_report_pkey PRIMARY KEY (account_key, month);

ALTER TABLE ONLY trafficlog.partition_drop
    ADD CONSTRAINT partition_drop_pkey PRIMARY KEY (name);

ALTER TABLE ONLY trafficlog.partition_register
    ADD CONSTRAINT partition_register_name_key UNIQUE (name);

ALTER TABLE ONLY trafficlog.partition_register
    ADD CONSTRAINT partition_register_pkey PRIMARY KEY (table_name, lower);

ALTER TABLE ONLY trafficlog.purge_ledger_head
    ADD CONSTRAINT purge_ledger_head_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY trafficlog.purge_ledger
    ADD CONSTRAINT purge_ledger_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY trafficlog.retained_table
    ADD CONSTRAINT retained_table_pkey PRIMARY KEY (table_name);

ALTER TABLE ONLY trafficlog.retention_policy
    ADD CONSTRAINT retention_policy_pkey PRIMARY KEY (data_class, effective_from);

ALTER TABLE ONLY trafficlog.retention_state
    ADD CONSTRAINT retention_state_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY trafficlog.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY trafficlog.settings_epoch
    ADD CONSTRAINT settings_epoch_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY trafficlog.status
    ADD CONSTRAINT status_name_key UNIQUE (name);

ALTER TABLE ONLY trafficlog.status
    ADD CONSTRAINT status_pkey PRIMARY KEY (code);

ALTER TABLE ONLY trafficlog.traffic_record
    ADD CONSTRAINT traffic_record_key PRIMARY KEY (created_at, account_key, id, expires_at);

ALTER TABLE ONLY trafficlog.usage_changed
    ADD CONSTRAINT usage_changed_pkey PRIMARY KEY (month, account_key);

ALTER TABLE ONLY trafficlog.usage_statistic
    ADD CONSTRAINT usage_statistic_key UNIQUE NULLS NOT DISTINCT (account_key, day, kind, direction, status);

CREATE INDEX abuse_hold_active ON trafficlog.abuse_hold USING btree (ends_at) WHERE (released_at IS NULL);

CREATE INDEX erasure_of_account ON trafficlog.erasure USING btree (account_key, accepted_at, erasure_id);

CREATE INDEX erasure_open ON trafficlog.erasure USING btree (accepted_at, erasure_id) WHERE (finished_at IS NULL);

CREATE INDEX monthly_report_open ON trafficlog.monthly_report USING btree (final_from) WHERE ((NOT final) AND (deleted_at IS NULL));

CREATE TRIGGER history_record_usage AFTER UPDATE ON trafficlog.history_record REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION trafficlog.count_changed_usage();

CREATE TRIGGER purge_ledger_add_only BEFORE DELETE OR UPDATE OR TRUNCATE ON trafficlog.purge_ledger FOR EACH STATEMENT EXECUTE FUNCTION trafficlog.refuse_change();

CREATE TRIGGER usage_delta_ingest AFTER DELETE ON trafficlog.usage_delta REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION trafficlog.count_ingest();

ALTER TABLE ONLY trafficlog.abuse_hold
    ADD CONSTRAINT abuse_hold_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.account_setting_change
    ADD CONSTRAINT account_setting_change_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.api_key
    ADD CONSTRAINT api_key_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.erasure
    ADD CONSTRAINT erasure_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.history_move
    ADD CONSTRAINT history_move_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.look_up_index
    ADD CONSTRAINT look_up_index_table_name_fkey FOREIGN KEY (table_name) REFERENCES trafficlog.retained_table(table_name);

ALTER TABLE ONLY trafficlog.monthly_report
    ADD CONSTRAINT monthly_report_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.partition_drop
    ADD CONSTRAINT partition_drop_table_name_fkey FOREIGN KEY (table_name) REFERENCES trafficlog.retained_table(table_name);

ALTER TABLE ONLY trafficlog.partition_register
    ADD CONSTRAINT partition_register_table_name_fkey FOREIGN KEY (table_name) REFERENCES trafficlog.retained_table(table_name);

ALTER TABLE ONLY trafficlog.usage_changed
    ADD CONSTRAINT usage_changed_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE ONLY trafficlog.usage_statistic
    ADD CONSTRAINT usage_statistic_account_key_fkey FOREIGN KEY (account_key) REFERENCES trafficlog.account(account_key);

ALTER TABLE trafficlog.account ENABLE ROW LEVEL SECURITY;

CREATE POLICY account_of_customer ON trafficlog.account FOR SELECT TO trafficlog_customer USING ((account_key = trafficlog.current_account_key()));

CREATE POLICY account_of_officer ON trafficlog.account FOR SELECT TO trafficlog_officer USING (true);

CREATE POLICY account_of_operator ON trafficlog.account TO trafficlog_operator USING (true) WITH CHECK (true);

ALTER TABLE trafficlog.erasure ENABLE ROW LEVEL SECURITY;

CREATE POLICY erasures_asked_by_customer ON trafficlog.erasure FOR INSERT TO trafficlog_customer WITH CHECK ((account_key = trafficlog.current_account_key()));

CREATE POLICY erasures_seen_by_customer ON trafficlog.erasure FOR SELECT TO trafficlog_customer USING ((account_key = trafficlog.current_account_key()));

CREATE POLICY held_for_officer ON trafficlog.held_record FOR SELECT TO trafficlog_officer USING ((data_class = 'traffic_record'::text));

CREATE POLICY held_for_operator ON trafficlog.held_record FOR SELECT TO trafficlog_operator USING ((data_class <> 'traffic_record'::text));

ALTER TABLE trafficlog.held_record ENABLE ROW LEVEL SECURITY;

CREATE POLICY history_of_customer ON trafficlog.history_record FOR SELECT TO trafficlog_customer USING ((account_key = trafficlog.current_account_key()));

ALTER TABLE trafficlog.history_record ENABLE ROW LEVEL SECURITY;

ALTER TABLE trafficlog.monthly_report ENABLE ROW LEVEL SECURITY;

CREATE POLICY reports_of_customer ON trafficlog.monthly_report FOR SELECT TO trafficlog_customer USING (((account_key = trafficlog.current_account_key()) AND (deleted_at IS NULL)));

ALTER TABLE trafficlog.usage_delta ENABLE ROW LEVEL SECURITY;

CREATE POLICY usage_of_customer ON trafficlog.usage_delta FOR SELECT TO trafficlog_customer USING ((account_key = trafficlog.current_account_key()));

CREATE POLICY usage_of_customer ON trafficlog.usage_statistic FOR SELECT TO trafficlog_customer USING ((account_key = trafficlog.current_account_key()));

ALTER TABLE trafficlog.usage_statistic ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA trafficlog TO trafficlog_ingest;
GRANT USAGE ON SCHEMA trafficlog TO trafficlog_customer;
GRANT USAGE ON SCHEMA trafficlog TO trafficlog_operator;
GRANT USAGE ON SCHEMA trafficlog TO trafficlog_officer;
GRANT USAGE ON SCHEMA trafficlog TO trafficlog_retention;

REVOKE ALL ON FUNCTION trafficlog.are_holds(p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.authenticate(p_digest bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.authenticate(p_digest bytea) TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.begin_drop(p_table text, p_name text, p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.cancel_erasure(p_id text, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.cancel_erasure(p_id text, p_at timestamp with time zone) TO trafficlog_customer;

REVOKE ALL ON FUNCTION trafficlog.change_settings(p_history boolean, p_days smallint, p_reports boolean, p_withheld smallint, p_at timestamp with time zone, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.change_settings(p_history boolean, p_days smallint, p_reports boolean, p_withheld smallint, p_at timestamp with time zone, p_by text) TO trafficlog_customer;
GRANT ALL ON FUNCTION trafficlog.change_settings(p_history boolean, p_days smallint, p_reports boolean, p_withheld smallint, p_at timestamp with time zone, p_by text) TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.close_account(p_account bigint, p_at timestamp with time zone, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.close_account(p_account bigint, p_at timestamp with time zone, p_by text) TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.complete_in_transit(p_id text, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.complete_in_transit(p_id text, p_at timestamp with time zone) TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.copy_held(p_source regclass, p_class text, p_at timestamp with time zone, p_due timestamp with time zone, p_condition text, p_account bigint, p_ids text[], p_created timestamp with time zone[], p_copy boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.count_changed_usage() FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.count_ingest() FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.count_rows(p_name text) FROM PUBLIC;

GRANT SELECT ON TABLE trafficlog.abuse_hold TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.abuse_hold TO trafficlog_officer;

GRANT UPDATE(ends_at) ON TABLE trafficlog.abuse_hold TO trafficlog_operator;

GRANT UPDATE(released_at) ON TABLE trafficlog.abuse_hold TO trafficlog_operator;

GRANT UPDATE(released_by) ON TABLE trafficlog.abuse_hold TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.held_record TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.held_record TO trafficlog_officer;

REVOKE ALL ON FUNCTION trafficlog.covers(h trafficlog.abuse_hold, r trafficlog.held_record) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.covers(h trafficlog.abuse_hold, r trafficlog.held_record) TO trafficlog_operator;
GRANT ALL ON FUNCTION trafficlog.covers(h trafficlog.abuse_hold, r trafficlog.held_record) TO trafficlog_officer;

REVOKE ALL ON FUNCTION trafficlog.current_account_key() FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.current_account_key() TO trafficlog_customer;
GRANT ALL ON FUNCTION trafficlog.current_account_key() TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.delete_report(p_month date, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.delete_report(p_month date, p_at timestamp with time zone) TO trafficlog_customer;

REVOKE ALL ON FUNCTION trafficlog.describe_account(p_name text, p_currency text, p_at timestamp with time zone, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.describe_account(p_name text, p_currency text, p_at timestamp with time zone, p_by text) TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.destroy_released(p_at timestamp with time zone, p_rows_max integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.disclose(p_account text, p_record text, p_number text, p_ip text, p_from timestamp with time zone, p_to timestamp with time zone, p_after_created timestamp with time zone, p_after_account bigint, p_after_id text, p_limit integer, p_at timestamp with time zone, p_by text, p_reason text, p_case text) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.disclose(p_account text, p_record text, p_number text, p_ip text, p_from timestamp with time zone, p_to timestamp with time zone, p_after_created timestamp with time zone, p_after_account bigint, p_after_id text, p_limit integer, p_at timestamp with time zone, p_by text, p_reason text, p_case text) TO trafficlog_officer;

REVOKE ALL ON FUNCTION trafficlog.end_session(p_session_id bytea, p_expires_at timestamp with time zone, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.end_session(p_session_id bytea, p_expires_at timestamp with time zone, p_at timestamp with time zone) TO trafficlog_customer;
GRANT ALL ON FUNCTION trafficlog.end_session(p_session_id bytea, p_expires_at timestamp with time zone, p_at timestamp with time zone) TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.ensure_partition(p_table text, p_lower timestamp with time zone, p_upper timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.ensure_partition(p_table text, p_lower timestamp with time zone, p_upper timestamp with time zone) TO trafficlog_ingest;
GRANT ALL ON FUNCTION trafficlog.ensure_partition(p_table text, p_lower timestamp with time zone, p_upper timestamp with time zone) TO trafficlog_retention;

REVOKE ALL ON FUNCTION trafficlog.erase_history(p_id text, p_created timestamp with time zone[], p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.erase_history(p_id text, p_created timestamp with time zone[], p_at timestamp with time zone) TO trafficlog_customer;

REVOKE ALL ON FUNCTION trafficlog.erase_step(p_id text, p_at timestamp with time zone, p_rows_max integer, p_width interval) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.fail_erasure(p_id text, p_at timestamp with time zone, p_attempts_max integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.finish_drop(p_name text, p_at timestamp with time zone, p_rows bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.finish_erasure(p_id text, p_state text, p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.held_counts(p_hold text) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.held_counts(p_hold text) TO trafficlog_operator;
GRANT ALL ON FUNCTION trafficlog.held_counts(p_hold text) TO trafficlog_officer;

GRANT INSERT ON TABLE trafficlog.history_record TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.history_record TO trafficlog_customer;

GRANT SELECT(account_key) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(created_at) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(expires_at) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(updated_at),UPDATE(updated_at) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(delivered_at),UPDATE(delivered_at) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(duration),UPDATE(duration) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(parts),UPDATE(parts) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(cost),UPDATE(cost) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(kind) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(status),UPDATE(status) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(withheld),UPDATE(withheld) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(id) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(sender),UPDATE(sender) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(recipient),UPDATE(recipient) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(owner),UPDATE(owner) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(tags),UPDATE(tags) ON TABLE trafficlog.history_record TO trafficlog_ingest;

GRANT SELECT(message),UPDATE(message) ON TABLE trafficlog.history_record TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.history_page(p_visible bigint, p_account bigint, p_epoch bigint, p_lower timestamp with time zone, p_before_created timestamp with time zone, p_before_id text, p_expires_from timestamp with time zone, p_expires_to timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.history_page(p_visible bigint, p_account bigint, p_epoch bigint, p_lower timestamp with time zone, p_before_created timestamp with time zone, p_before_id text, p_expires_from timestamp with time zone, p_expires_to timestamp with time zone, p_limit integer) TO trafficlog_customer;

REVOKE ALL ON FUNCTION trafficlog.is_held(r trafficlog.held_record, p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.is_later(old_at timestamp with time zone, old_status smallint, new_at timestamp with time zone, new_status smallint) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.is_later(old_at timestamp with time zone, old_status smallint, new_at timestamp with time zone, new_status smallint) TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.ledger_append(p_at timestamp with time zone, p_class text, p_object text, p_reason text, p_lower timestamp with time zone, p_upper timestamp with time zone, p_rows bigint, p_held bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.ledger_text(p_seq bigint, p_at timestamp with time zone, p_class text, p_object text, p_reason text, p_lower timestamp with time zone, p_upper timestamp with time zone, p_rows bigint, p_held bigint, p_previous bytea) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.lock_holds() FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.longest_days_before(p_account bigint, p_created timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.make_reports(p_month date, p_final_from timestamp with time zone, p_at timestamp with time zone, p_accounts_max integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.merge_later(p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[]) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.merge_later(p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[]) TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.move_history_step(p_account bigint, p_at timestamp with time zone, p_rows_max integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.note_access(p_at timestamp with time zone, p_actor text, p_action text, p_subject text, p_reason text, p_case text, p_rows bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.note_access(p_at timestamp with time zone, p_actor text, p_action text, p_subject text, p_reason text, p_case text, p_rows bigint) TO trafficlog_operator;
GRANT ALL ON FUNCTION trafficlog.note_access(p_at timestamp with time zone, p_actor text, p_action text, p_subject text, p_reason text, p_case text, p_rows bigint) TO trafficlog_officer;

REVOKE ALL ON FUNCTION trafficlog.place_hold(p_hold_id text, p_account bigint, p_number text, p_ip text, p_record text, p_from timestamp with time zone, p_to timestamp with time zone, p_reason text, p_case text, p_by text, p_at timestamp with time zone, p_ends timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.place_hold(p_hold_id text, p_account bigint, p_number text, p_ip text, p_record text, p_from timestamp with time zone, p_to timestamp with time zone, p_reason text, p_case text, p_by text, p_at timestamp with time zone, p_ends timestamp with time zone) TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.prefer(later boolean, old_value anycompatible, new_value anycompatible) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.prefer(later boolean, old_value anycompatible, new_value anycompatible) TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.protects(p_hold text, r trafficlog.held_record) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.protects(p_hold text, r trafficlog.held_record) TO trafficlog_operator;
GRANT ALL ON FUNCTION trafficlog.protects(p_hold text, r trafficlog.held_record) TO trafficlog_officer;

REVOKE ALL ON FUNCTION trafficlog.refuse_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.roll_up_usage(p_rows_max integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.session_account(p_key_id text, p_session_id bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.session_account(p_key_id text, p_session_id bytea) TO trafficlog_customer;

REVOKE ALL ON FUNCTION trafficlog.set_policy(p_class text, p_from timestamp with time zone, p_hours integer, p_basis text, p_by text, p_at timestamp with time zone, p_after timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.set_policy(p_class text, p_from timestamp with time zone, p_hours integer, p_basis text, p_by text, p_at timestamp with time zone, p_after timestamp with time zone) TO trafficlog_operator;

REVOKE ALL ON FUNCTION trafficlog.settings_in_force() FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.settings_in_force() TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.settle_drop(p_name text, p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.store_later(p_epoch bigint, p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[], OUT epoch bigint, OUT fresh integer[], OUT changed integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION trafficlog.store_later(p_epoch bigint, p_reports trafficlog.later_report[], p_traffic_from timestamp with time zone, p_traffic_to timestamp with time zone, p_history_from timestamp with time zone[], p_history_to timestamp with time zone[], OUT epoch bigint, OUT fresh integer[], OUT changed integer[]) TO trafficlog_ingest;

REVOKE ALL ON FUNCTION trafficlog.weigh_partition(p_table text, p_name text, p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION trafficlog.withheld_names(p_withheld smallint) FROM PUBLIC;

GRANT SELECT ON TABLE trafficlog.access_log TO trafficlog_officer;

GRANT SELECT,INSERT ON TABLE trafficlog.account TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.account TO trafficlog_customer;
GRANT SELECT,INSERT ON TABLE trafficlog.account TO trafficlog_operator;

GRANT SELECT(account_key) ON TABLE trafficlog.account TO trafficlog_officer;

GRANT SELECT(account_id) ON TABLE trafficlog.account TO trafficlog_officer;

GRANT SELECT ON TABLE trafficlog.account_setting_change TO trafficlog_operator;

GRANT SELECT,INSERT ON TABLE trafficlog.api_key TO trafficlog_operator;

GRANT UPDATE(revoked_at) ON TABLE trafficlog.api_key TO trafficlog_operator;

GRANT INSERT ON TABLE trafficlog.debug_log TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.debug_log TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.direction TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.direction TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.direction TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.direction TO trafficlog_officer;

GRANT SELECT ON TABLE trafficlog.ended_session TO trafficlog_operator;

GRANT SELECT(erasure_id),INSERT(erasure_id) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(account_key),INSERT(account_key) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(state) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(accepted_at),INSERT(accepted_at) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(started_at) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(finished_at) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(everything),INSERT(everything) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(fields),INSERT(fields) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(filter),INSERT(filter) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT INSERT(created_after) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT INSERT(created_up_to) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(found),INSERT(found) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(erased) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(kinds) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(oldest_day) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(newest_day) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(last_expiry) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(reports),INSERT(reports) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(reports_erased) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(run_seconds),INSERT(run_seconds) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(backup_days),INSERT(backup_days) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(repeat_key),INSERT(repeat_key) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT(repeat_body),INSERT(repeat_body) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT INSERT(ahead_created) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT INSERT(ahead_ids) ON TABLE trafficlog.erasure TO trafficlog_customer;

GRANT SELECT ON TABLE trafficlog.history_move TO trafficlog_operator;

GRANT SELECT(account_key) ON TABLE trafficlog.history_move TO trafficlog_customer;

GRANT SELECT(changed_at) ON TABLE trafficlog.history_move TO trafficlog_customer;

GRANT SELECT,INSERT ON TABLE trafficlog.in_transit TO trafficlog_ingest;

GRANT UPDATE(account_key) ON TABLE trafficlog.in_transit TO trafficlog_ingest;

GRANT UPDATE(content) ON TABLE trafficlog.in_transit TO trafficlog_ingest;

GRANT SELECT ON TABLE trafficlog.ingest_minute TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.installation TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.job_run TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.kind TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.kind TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.kind TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.kind TO trafficlog_officer;

GRANT SELECT ON TABLE trafficlog.look_up_catalogue TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.monthly_report TO trafficlog_customer;

GRANT SELECT ON TABLE trafficlog.retained_table TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.retained_table TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.retained_table TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.retained_table TO trafficlog_officer;

GRANT SELECT ON TABLE trafficlog.partition_catalogue TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.partition_catalogue TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.partition_catalogue TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.partition_catalogue TO trafficlog_officer;

GRANT SELECT ON TABLE trafficlog.partition_drop TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.partition_register TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.purge_ledger TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.purge_ledger_head TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.retention_policy TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.retention_policy TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.retention_policy TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.retention_state TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.schema_migration TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.schema_migration TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.schema_migration TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.schema_migration TO trafficlog_officer;
GRANT SELECT ON TABLE trafficlog.schema_migration TO trafficlog_retention;

GRANT SELECT ON TABLE trafficlog.settings_epoch TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.settings_epoch TO trafficlog_operator;

GRANT SELECT ON TABLE trafficlog.status TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.status TO trafficlog_customer;
GRANT SELECT ON TABLE trafficlog.status TO trafficlog_operator;
GRANT SELECT ON TABLE trafficlog.status TO trafficlog_officer;

GRANT INSERT ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(created_at) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(expires_at) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(updated_at),UPDATE(updated_at) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(account_key) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(duration),UPDATE(duration) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(kind) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(id) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(ip),UPDATE(ip) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT SELECT(user_agent),UPDATE(user_agent) ON TABLE trafficlog.traffic_record TO trafficlog_ingest;

GRANT INSERT ON TABLE trafficlog.usage_delta TO trafficlog_ingest;
GRANT SELECT ON TABLE trafficlog.usage_delta TO trafficlog_customer;

GRANT SELECT ON TABLE trafficlog.usage_statistic TO trafficlog_customer;
