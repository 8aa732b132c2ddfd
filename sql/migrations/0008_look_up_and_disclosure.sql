-- Look-up indexes that sealed partitions get, and the officers' reading of the legal record.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- A table that takes inserts has its key and nothing else. These are built in bulk on a
-- partition that gets no more records, by id and by whatever a disclosure asks for.
-- Measured on a day of 1,000,000 lifelike traffic records (177 bytes a row, the key 86 more),
-- one core, seconds to build and bytes a row:
--   id         hash 2.5 and 33.6, btree 2.0 and 59.1: ids are random, so nothing repeats
--   sender     hash 2.5 and 40.0, btree 1.1 and 14.7, with created_at 1.6 and 39.2
--   recipient  hash 1.7 and 34.8, btree 1.2 and 24.2, with created_at 1.7 and 40.0
--   ip         btree 2.2 and 7.2
--   account    btree 0.9 and 7.1, with created_at 1.6 and 31.6
-- A value that repeats is stored once by a btree, but not when each entry has a time beside
-- it. One GIN over both parties takes 10.7 s and 55.6 bytes.
CREATE TABLE look_up_index (
    table_name text NOT NULL REFERENCES retained_table,
    suffix     text NOT NULL CHECK (suffix ~ '^by_[a-z]+$'),
    definition text NOT NULL,
    PRIMARY KEY (table_name, suffix)
);
COMMENT ON TABLE look_up_index IS
    'what a sealed partition is searched by; a partition''s index is named after both, and known by the suffix';
INSERT INTO look_up_index VALUES
    ('traffic_record', 'by_id', 'USING hash (id)'),
    ('traffic_record', 'by_sender', '(sender)'),
    ('traffic_record', 'by_recipient', '(recipient)'),
    ('traffic_record', 'by_ip', '(ip)'),
    ('traffic_record', 'by_account', '(account_key)'),
    ('history_record', 'by_id', 'USING hash (id)');

-- Which look-up indexes each partition would have, and whether it has them. One that a kill
-- left behind is there and not valid.
CREATE VIEW look_up_catalogue AS
SELECT l.table_name, child.relname::text AS partition_name, l.definition,
       coalesce(x.relname, child.relname || '_' || l.suffix)::text AS name,
       x.oid IS NOT NULL AS made, coalesce(i.indisvalid, false) AS valid
FROM look_up_index l
JOIN pg_class parent ON parent.relname = l.table_name
    AND parent.relnamespace = 'trafficlog'::regnamespace AND parent.relkind = 'p'
JOIN pg_inherits p ON p.inhparent = parent.oid
JOIN pg_class child ON child.oid = p.inhrelid AND child.relkind = 'r'
LEFT JOIN (pg_index i JOIN pg_class x ON x.oid = i.indexrelid)
    ON i.indrelid = child.oid AND right(x.relname, length(l.suffix) + 1) = '_' || l.suffix;

-- Notes that staff read or changed personal data, in the transaction that did it.
ALTER TABLE access_log ADD COLUMN case_ref text;
CREATE FUNCTION note_access(
    p_at timestamptz, p_actor text, p_action text, p_subject text, p_reason text, p_case text,
    p_rows bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp SET timezone = 'UTC'
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

-- A page of a disclosure: rows of the legal record that are under retention, oldest first,
-- after a place in that order. The access log says who asked for what, why, in which case and
-- how many rows were given, whether there were any or not: it commits with the reading.
--
-- Asked are exactly one of an account (or a record of it), a number on either side, an IP,
-- always within creation times [p_from, p_to). Windows of creation time grow from the place on
-- until the page is full, so each statement touches few partitions: a row's expiry lies
-- between the shortest and the longest period of any policy after its creation.
CREATE FUNCTION disclose(
    p_account text, p_record text, p_number text, p_ip text,
    p_from timestamptz, p_to timestamptz,
    p_after_created timestamptz, p_after_account bigint, p_after_id text, p_limit integer,
    p_at timestamptz, p_by text, p_reason text, p_case text
) RETURNS TABLE (
    created_at timestamptz, expires_at timestamptz, updated_at timestamptz, account_key bigint,
    account_id text, duration integer, kind smallint, direction smallint, id text, sender text,
    recipient text, ip text, user_agent text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = trafficlog, pg_temp SET timezone = 'UTC'
AS $$
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
$$;

-- What staff reads is noted by these functions alone.
REVOKE INSERT ON access_log FROM trafficlog_operator, trafficlog_officer;
REVOKE EXECUTE ON FUNCTION ensure_partition(text, timestamptz, timestamptz) FROM trafficlog_operator;
GRANT EXECUTE ON FUNCTION note_access(timestamptz, text, text, text, text, text, bigint)
    TO trafficlog_operator, trafficlog_officer;
GRANT EXECUTE ON FUNCTION disclose(text, text, text, text, timestamptz, timestamptz, timestamptz,
    bigint, text, integer, timestamptz, text, text, text) TO trafficlog_officer;

-- Officers find the hold whose legal copies they read, and see whose it is.
CREATE POLICY account_of_officer ON account FOR SELECT TO trafficlog_officer USING (true);
GRANT SELECT (account_key, account_id) ON account TO trafficlog_officer;
GRANT SELECT ON abuse_hold TO trafficlog_officer;
GRANT EXECUTE ON FUNCTION held_counts(text) TO trafficlog_officer;
