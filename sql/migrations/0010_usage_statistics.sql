-- Usage statistics: counts that outlive the records they were made from.
--
-- Writers of records only ever append what they add (`usage_delta`), so that two of them never
-- wait for each other; a job sums it up (`usage_statistic`). Who reads takes both together.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

CREATE TABLE usage_statistic (
    account_key bigint NOT NULL REFERENCES account,
    day         date NOT NULL,
    kind        smallint NOT NULL,
    direction   smallint NOT NULL,
    status      smallint,
    records     bigint NOT NULL,
    parts       bigint NOT NULL,
    seconds     bigint NOT NULL,
    cost        bigint NOT NULL,
    CONSTRAINT usage_statistic_key UNIQUE NULLS NOT DISTINCT (account_key, day, kind, direction, status)
);
COMMENT ON TABLE usage_statistic IS
    'what an account used on a UTC day of creation; no number, no address, no text';

CREATE TABLE usage_delta (
    account_key bigint NOT NULL,
    day         date NOT NULL,
    kind        smallint NOT NULL,
    direction   smallint NOT NULL,
    status      smallint,
    records     bigint NOT NULL,
    parts       bigint NOT NULL,
    seconds     bigint NOT NULL,
    cost        bigint NOT NULL
);
COMMENT ON TABLE usage_delta IS 'what was added since the last time that usage was summed up';

-- A later report changes what a record counts for: what the row was goes off, what it is comes on.
-- By a trigger on the statement, because no server before 18 tells an UPDATE's old values.
CREATE FUNCTION count_changed_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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
CREATE TRIGGER history_record_usage AFTER UPDATE ON history_record
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_usage();

-- What is stored already counts, too. The trigger has locked out writers until the end.
INSERT INTO usage_statistic
SELECT account_key, (created_at AT TIME ZONE 'UTC')::date, kind, direction, status, count(*),
       coalesce(sum(parts), 0), coalesce(sum(duration), 0), coalesce(sum(cost), 0)
FROM history_record GROUP BY 1, 2, 3, 4, 5;

-- Sums up at most p_rows_max of what was added; returns how many.
CREATE FUNCTION roll_up_usage(p_rows_max integer) RETURNS bigint
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
    )
    SELECT count(*) INTO taken FROM gone;
    RETURN taken;
END
$$;

ALTER TABLE usage_statistic ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_delta ENABLE ROW LEVEL SECURITY;
CREATE POLICY usage_of_customer ON usage_statistic FOR SELECT TO trafficlog_customer
    USING (account_key = current_account_key());
CREATE POLICY usage_of_customer ON usage_delta FOR SELECT TO trafficlog_customer
    USING (account_key = current_account_key());
GRANT INSERT ON usage_delta TO trafficlog_ingest;
GRANT SELECT ON usage_statistic, usage_delta TO trafficlog_customer;
