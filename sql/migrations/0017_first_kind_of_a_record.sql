-- A record is of the kind that its first report names, also where reports of two kinds come together.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- Stores reports of records that may be stored already, if the settings are those of an epoch. Says
-- which epoch's they are, which reports made a record and which told a known one something; the legal
-- record decides what is new. Those made of several reports are stored if they are new, and not merged.
--
-- No report is held against each record that was made, however few of them the planner expects.
CREATE OR REPLACE FUNCTION store_later(
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
