-- Monthly reports, what an account never wants in its history, its name and currency.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

ALTER TABLE account
    ADD COLUMN withheld     smallint NOT NULL DEFAULT 0 CHECK (withheld BETWEEN 0 AND 7),
    ADD COLUMN reports_from date,
    ADD COLUMN display_name text CHECK (length(display_name) BETWEEN 1 AND 100),
    ADD COLUMN currency     text CHECK (currency ~ '^[A-Z]{3}$');
COMMENT ON COLUMN account.withheld IS
    'fields that history omits of every new record, as in history_record.withheld';
COMMENT ON COLUMN account.reports_from IS
    'no report is made of a month before this one: reports were off when it ended, or usage was not counted yet';
COMMENT ON COLUMN account.currency IS 'ISO 4217; costs are in 1/10000 of it';
-- A month that had begun before usage was counted may be known in part only.
UPDATE account SET reports_from = (
    SELECT (date_trunc('month', applied_at AT TIME ZONE 'UTC') + interval '1 month')::date
    FROM schema_migration WHERE version = 10
);

-- The names of withheld fields, as records and settings have them.
CREATE FUNCTION withheld_names(p_withheld smallint) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT to_jsonb(array_remove(ARRAY[
        CASE WHEN p_withheld & 1 <> 0 THEN 'message' END,
        CASE WHEN p_withheld & 2 <> 0 THEN 'from' END,
        CASE WHEN p_withheld & 4 <> 0 THEN 'to' END], NULL))
$$;

-- Sets the current account's settings; NULL leaves one as it is, and p_days counts only when
-- p_history is true. Waits for batches on their way, so that none is written under the old
-- settings afterwards.
DROP FUNCTION change_settings(smallint, boolean, timestamptz, text);
CREATE FUNCTION change_settings(
    p_history boolean, p_days smallint, p_reports boolean, p_withheld smallint,
    p_at timestamptz, p_by text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
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
$$;
GRANT EXECUTE ON FUNCTION change_settings(boolean, smallint, boolean, smallint, timestamptz, text)
    TO trafficlog_customer, trafficlog_operator;

CREATE OR REPLACE FUNCTION close_account(p_account bigint, p_at timestamptz, p_by text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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

-- Sets the current account's name and currency; NULL leaves one as it is, '' takes it away.
-- The name is not repeated among the changes: it may be a person's.
CREATE FUNCTION describe_account(p_name text, p_currency text, p_at timestamptz, p_by text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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
GRANT EXECUTE ON FUNCTION describe_account(text, text, timestamptz, text) TO trafficlog_operator;

CREATE TABLE monthly_report (
    account_key bigint NOT NULL REFERENCES account,
    month       date NOT NULL CHECK (extract(day FROM month) = 1),
    made_at     timestamptz NOT NULL,
    final_from  timestamptz NOT NULL,
    final       boolean NOT NULL,
    deleted_at  timestamptz,
    currency    text,
    content     jsonb,
    PRIMARY KEY (account_key, month),
    CHECK ((deleted_at IS NULL) = (content IS NOT NULL))
);
COMMENT ON TABLE monthly_report IS
    'what an account used in a month; one that was deleted leaves only that it was, so that it does not come back';
COMMENT ON COLUMN monthly_report.final_from IS 'from then on no record of the month can be stored any more';
CREATE INDEX monthly_report_open ON monthly_report (final_from) WHERE NOT final AND deleted_at IS NULL;

-- Months whose statistics have changed since a report was last made of them.
CREATE TABLE usage_changed (
    month       date NOT NULL,
    account_key bigint NOT NULL REFERENCES account,
    PRIMARY KEY (month, account_key)
);
INSERT INTO usage_changed
SELECT DISTINCT date_trunc('month', day::timestamp)::date, account_key FROM usage_statistic;

CREATE OR REPLACE FUNCTION roll_up_usage(p_rows_max integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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

-- Makes the reports of a month for at most p_accounts_max accounts whose usage has changed, or
-- whose report is to be final; returns of how many accounts that was.
CREATE FUNCTION make_reports(
    p_month date, p_final_from timestamptz, p_at timestamptz, p_accounts_max integer
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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

-- Deletes the current account's report of a month, for good; true when there was one.
CREATE FUNCTION delete_report(p_month date, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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

ALTER TABLE monthly_report ENABLE ROW LEVEL SECURITY;
CREATE POLICY reports_of_customer ON monthly_report FOR SELECT TO trafficlog_customer
    USING (account_key = current_account_key() AND deleted_at IS NULL);
GRANT SELECT ON monthly_report TO trafficlog_customer;
GRANT EXECUTE ON FUNCTION delete_report(date, timestamptz) TO trafficlog_customer;
