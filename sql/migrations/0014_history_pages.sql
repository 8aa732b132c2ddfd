-- A page of history in one round trip to the database.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- One account's records created later than p_lower that stand behind a place of its list, newest
-- first, as far as they belong to the account p_visible. Whoever calls has worked the bounds out
-- from the account's settings as of p_epoch: when they have changed since, nothing is given.
--
-- Rows are taken in the order of the key and no other way, whatever the planner believes of a day
-- that it has no statistics of yet: to sort all of a large account's day for each page would be
-- a hundred times as dear as to read a page of it. And each time is planned for its own partitions:
-- a plan for all of them, which the server would try once on each connection, takes half a second
-- to make when there are a thousand.
CREATE FUNCTION history_page(
    p_visible bigint, p_account bigint, p_epoch bigint, p_lower timestamptz, p_before_created timestamptz,
    p_before_id text, p_expires_from timestamptz, p_expires_to timestamptz, p_limit integer
) RETURNS SETOF history_record
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = trafficlog, pg_temp
SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0 SET jit = off SET plan_cache_mode = force_custom_plan
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
GRANT EXECUTE ON FUNCTION history_page(
    bigint, bigint, bigint, timestamptz, timestamptz, text, timestamptz, timestamptz, integer
) TO trafficlog_customer;
