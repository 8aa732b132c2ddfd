-- Later reports in one round trip to the database.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- A report of a record that may be stored already.
CREATE TYPE later_report AS (
    ordinal         integer,
    account_key     bigint,
    created_at      timestamptz,
    updated_at      timestamptz,
    delivered_at    timestamptz,
    traffic_expires timestamptz,
    -- NULL: there is to be no history of it.
    history_expires timestamptz,
    -- Between which expiries its history stands, if it is there already.
    history_from    timestamptz,
    history_to      timestamptz,
    duration        integer,
    parts           integer,
    cost            integer,
    kind            smallint,
    direction       smallint,
    status          smallint,
    -- What the report withholds, and with that what its account does.
    withheld        smallint,
    omitted         smallint,
    id              text COLLATE "C",
    sender          text COLLATE "C",
    recipient       text COLLATE "C",
    ip              text COLLATE "C",
    user_agent      text COLLATE "C",
    owner           text COLLATE "C",
    tags            text[],
    message         text COLLATE "C",
    -- Made of several reports: what each of them tells a known record is asked one by one.
    several         boolean
);

-- Brings known records up to date, in both tables, and says which reports changed something.
--
-- The legal record has no status that could say which of two reports for one instant is the further
-- one, so there the longer duration stands, in both tables. What was withheld once stays so. A report
-- of another kind than the record's tells nothing of it: its status would be none of that kind.
--
-- Each range of expiries names partitions: those between two ranges would cost more to plan for than
-- all the rest (measured: a group of 31 in a store with 1,095 partitions took 117 ms with one range
-- over all of them, and 2 ms so). Ranges that are not given are NULL, and fall away when it is planned.
--
-- Each record is looked up by its key. The planner knows little of a day that still fills, and would
-- read whole partitions for a few reports (measured: 119 us a report in a day of 100,000 records and
-- 262 us in one of 260,000; by key 39 us in both). So would a plan made once for all bounds, which
-- takes them to be narrow and begins with the day's records (measured: 248 us against 16 with half
-- updates). And while the day is young, or many partitions are there, it would hold each record
-- against each report: so every row that is looked at seems dear, in a table or in an index (measured:
-- 4.6 s for a merge of 1,500 reports into 19,000 records in 72 partitions, 34 ms by key), and a
-- sub-select hides how many reports there are: it takes them for ten. Costs like that would have it
-- compiled, which takes longer than to run it.
CREATE FUNCTION merge_later(
    p_reports later_report[], p_traffic_from timestamptz, p_traffic_to timestamptz,
    p_history_from timestamptz[], p_history_to timestamptz[]
) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = trafficlog, pg_temp
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off SET enable_material = off SET enable_memoize = off
SET cpu_tuple_cost = 1000000 SET cpu_index_tuple_cost = 1000000 SET jit = off
SET plan_cache_mode = force_custom_plan
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

-- Stores reports of records that may be stored already, if the settings are those of an epoch. Says
-- which epoch's they are, which reports made a record and which told a known one something; the legal
-- record decides what is new. Those made of several reports are stored if they are new, and not merged.
--
-- No report is held against each record that was made, however few of them the planner expects.
CREATE FUNCTION store_later(
    p_epoch bigint, p_reports later_report[], p_traffic_from timestamptz, p_traffic_to timestamptz,
    p_history_from timestamptz[], p_history_to timestamptz[],
    OUT epoch bigint, OUT fresh integer[], OUT changed integer[]
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = trafficlog, pg_temp
SET enable_nestloop = off SET jit = off
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
        FROM unnest(p_reports) ORDER BY traffic_expires, created_at, account_key, id
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
GRANT EXECUTE ON FUNCTION
    merge_later(later_report[], timestamptz, timestamptz, timestamptz[], timestamptz[]),
    store_later(bigint, later_report[], timestamptz, timestamptz, timestamptz[], timestamptz[])
TO trafficlog_ingest;
-- What kind a known record is of: a report of another one tells nothing of it.
GRANT SELECT (kind) ON traffic_record, history_record TO trafficlog_ingest;
