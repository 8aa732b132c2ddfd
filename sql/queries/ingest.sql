-- name: count_usage(account_keys, days, kinds, directions, statuses, records, parts, seconds, costs)$
-- Adds to the usage statistics, takes part in the settings in force until the transaction ends, and says their epoch.
-- The lists are array literals; a day is counted from 1970, and the status 0 stands for none.
WITH added AS (
    INSERT INTO usage_delta
    SELECT account_key, date '1970-01-01' + day, kind, direction, nullif(status, 0), records, parts, seconds,
           costs
    FROM unnest(:account_keys::text::bigint[], :days::text::integer[], :kinds::text::smallint[],
                :directions::text::smallint[], :statuses::text::smallint[], :records::text::bigint[],
                :parts::text::bigint[], :seconds::text::bigint[], :costs::text::bigint[])
        AS u (account_key, day, kind, direction, status, records, parts, seconds, costs)
)
SELECT settings_in_force();

-- name: store_few(epoch, account_keys, created, traffic_hours, history_hours, delivered, durations, parts, costs, kinds, directions, statuses, withheld, ids, senders, recipients, ips, user_agents, owners, tags, messages)$
-- Stores and counts records not seen before if the settings are those of an epoch; says which epoch's they are.
-- The lists are array literals, with instants as microseconds since 1970. The lock is held, and the
-- epoch read, before the first row is made.
WITH in_force AS MATERIALIZED (
    SELECT settings_in_force() AS epoch
), given AS MATERIALIZED (
    SELECT g.*, 'epoch'::timestamptz + created * interval '1 microsecond' AS created_at,
           'epoch'::timestamptz + delivered * interval '1 microsecond' AS delivered_at
    FROM in_force, unnest(
        :account_keys::text::bigint[], :created::text::bigint[],
        :traffic_hours::text::integer[], :history_hours::text::integer[],
        :delivered::text::bigint[], :durations::text::integer[], :parts::text::integer[],
        :costs::text::integer[], :kinds::text::smallint[], :directions::text::smallint[],
        :statuses::text::smallint[], :withheld::text::smallint[], :ids::text::text[],
        :senders::text::text[], :recipients::text::text[], :ips::text::text[],
        :user_agents::text::text[], :owners::text::text[], :tags::text::text[],
        :messages::text::text[]
    ) AS g (account_key, created, traffic_hours, history_hours, delivered, duration, parts, cost,
            kind, direction, status, withheld, id, sender, recipient, ip, user_agent, owner, tags,
            message)
    WHERE in_force.epoch = :epoch
), legal AS (
    INSERT INTO traffic_record (created_at, expires_at, account_key, duration,
                                kind, direction, id, sender, recipient, ip, user_agent)
    SELECT created_at, created_at + make_interval(hours => traffic_hours), account_key, duration,
           kind, direction, id, sender, recipient, ip, user_agent
    FROM given
), history AS (
    INSERT INTO history_record (account_key, created_at, expires_at, delivered_at, duration,
                                parts, cost, kind, direction, status, withheld, id,
                                sender, recipient, owner, tags, message)
    SELECT account_key, created_at, created_at + make_interval(hours => history_hours),
           delivered_at, duration, parts, cost, kind, direction, status, withheld, id,
           CASE WHEN withheld & 2 = 0 THEN sender END,
           CASE WHEN withheld & 4 = 0 THEN recipient END,
           owner,
           CASE WHEN tags IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)) END,
           CASE WHEN withheld & 1 = 0 THEN message END
    FROM given WHERE history_hours IS NOT NULL
), usage AS (
    INSERT INTO usage_delta
    SELECT account_key, date '1970-01-01' + (created / 86400000000)::integer, kind, direction, status,
           count(*), coalesce(sum(parts), 0), coalesce(sum(duration), 0), coalesce(sum(cost), 0)
    FROM given GROUP BY 1, 2, 3, 4, 5
)
SELECT epoch FROM in_force;

-- name: settings_epoch()$
-- The epoch of the settings.
SELECT epoch FROM settings_epoch;

-- name: accounts_by_id(account_ids)
-- Accounts by their ids, with what decides on their history.
SELECT account_key, account_id, history_days, history_after, history_days_min, history_days_max, withheld
FROM account WHERE account_id = ANY (:account_ids::text[]);

-- name: accounts_changed(epoch)
-- Accounts whose settings changed after an epoch.
SELECT account_key, account_id, history_days, history_after, history_days_min, history_days_max, withheld
FROM account WHERE settings_epoch > :epoch;

-- name: policies()
-- All retention policies.
SELECT data_class, effective_from, period_hours, legal_basis
FROM retention_policy ORDER BY data_class, effective_from;

-- name: add_accounts(account_ids, created_at, days)!
-- Makes the accounts that are not there yet, with the default period.
INSERT INTO account (account_id, created_at, history_days, history_days_min, history_days_max)
SELECT unnest(:account_ids::text[]), :created_at, :days, :days, :days
ON CONFLICT (account_id) DO NOTHING;

-- name: partitions_of(table_name)
-- The lower bounds of a table's partitions.
SELECT lower FROM partition_catalogue WHERE table_name = :table_name AND NOT detach_pending;

-- name: ensure_partition(table_name, lower, upper)$
-- Makes a partition when it is missing; true when it was.
SELECT ensure_partition(:table_name, :lower, :upper);

-- name: known_records(created_at, account_key, ids, expires_at, expires_from, expires_to)
-- The ids of those records that are stored already, looked up one by one by their whole keys.
SELECT s.id FROM unnest(:created_at::timestamptz[], :account_key::bigint[], :ids::text[],
                        :expires_at::timestamptz[]) AS s (created_at, account_key, id, expires_at)
CROSS JOIN LATERAL (
    SELECT FROM traffic_record t
    WHERE t.created_at = s.created_at AND t.account_key = s.account_key AND t.id = s.id
      AND t.expires_at = s.expires_at
      AND t.expires_at BETWEEN :expires_from::timestamptz AND :expires_to::timestamptz
    LIMIT 1
) stored;

-- name: make_stage#
-- Makes the connection's table for reports that may be known already.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_report (
    account_key     bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    traffic_expires timestamptz NOT NULL,
    history_expires timestamptz,
    history_from    timestamptz NOT NULL,
    history_to      timestamptz NOT NULL,
    updated_at      timestamptz,
    delivered_at    timestamptz,
    ordinal         integer NOT NULL,
    duration        integer,
    parts           integer,
    cost            integer,
    kind            smallint NOT NULL,
    direction       smallint NOT NULL,
    status          smallint,
    withheld        smallint NOT NULL,
    omitted         smallint NOT NULL,
    id              text COLLATE "C" NOT NULL,
    sender          text COLLATE "C" NOT NULL,
    recipient       text COLLATE "C" NOT NULL,
    ip              text COLLATE "C",
    user_agent      text COLLATE "C",
    owner           text COLLATE "C",
    tags            text[],
    message         text COLLATE "C"
) ON COMMIT DELETE ROWS;

-- name: insert_staged()
-- Stores staged records that are new and says which; the legal record decides what is new.
WITH fresh AS (
    INSERT INTO traffic_record (created_at, expires_at, updated_at, account_key, duration,
                                kind, direction, id, sender, recipient, ip, user_agent)
    SELECT created_at, traffic_expires, updated_at, account_key, duration,
           kind, direction, id, sender, recipient, ip, user_agent
    FROM staged_report ORDER BY traffic_expires, created_at, account_key, id
    ON CONFLICT DO NOTHING
    RETURNING account_key, created_at, id
), history AS (
    INSERT INTO history_record (account_key, created_at, expires_at, updated_at, delivered_at,
                                duration, parts, cost, kind, direction, status, withheld, id,
                                sender, recipient, owner, tags, message)
    SELECT s.account_key, s.created_at, s.history_expires, s.updated_at, s.delivered_at,
           s.duration, s.parts, s.cost, s.kind, s.direction, s.status, s.omitted, s.id,
           CASE WHEN s.omitted & 2 = 0 THEN s.sender END,
           CASE WHEN s.omitted & 4 = 0 THEN s.recipient END,
           s.owner, s.tags,
           CASE WHEN s.omitted & 1 = 0 THEN s.message END
    FROM staged_report s JOIN fresh USING (account_key, created_at, id)
    WHERE s.history_expires IS NOT NULL
    ORDER BY s.history_expires, s.account_key, s.created_at
    ON CONFLICT DO NOTHING
), usage AS (
    INSERT INTO usage_delta
    SELECT s.account_key, (s.created_at AT TIME ZONE 'UTC')::date, s.kind, s.direction, s.status,
           count(*), coalesce(sum(s.parts), 0), coalesce(sum(s.duration), 0),
           coalesce(sum(s.cost), 0)
    FROM staged_report s JOIN fresh USING (account_key, created_at, id)
    GROUP BY 1, 2, 3, 4, 5
)
SELECT s.ordinal FROM staged_report s JOIN fresh USING (account_key, created_at, id);

-- name: merge_by_key()$
-- Has the transaction look each record up by its key.
-- The planner knows nothing of the stage and little of a day that still fills, and would read whole
-- partitions for a few reports (measured: 119 us a report in a day of 100,000 records and 262 us in
-- one of 260,000; by key 39 us in both). So would a plan made once for all bounds, which takes them
-- to be narrow and begins with the day's records (measured: 248 us against 16 with half updates).
-- And while the day is young, or many partitions are there, it would hold each record against each
-- report: so the stage seems dear to read, more than once at least (measured: 4.6 s for a merge of
-- 1,500 reports into 19,000 records in 72 partitions, 34 ms by key). Costs like that would have it
-- compiled, which takes longer than to run it.
SELECT set_config('enable_hashjoin', 'off', true) || set_config('enable_mergejoin', 'off', true)
    || set_config('enable_seqscan', 'off', true) || set_config('enable_material', 'off', true)
    || set_config('seq_page_cost', '1000000', true) || set_config('jit', 'off', true)
    || set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: merge_traffic(expires_from, expires_to)
-- Brings the legal record of known ones up to date, and says which changed.
-- It has no status that could say which of two reports for one instant is the further one, so
-- there the longer duration stands, in both tables.
UPDATE traffic_record t SET
    updated_at = greatest(t.updated_at, s.updated_at),
    duration = CASE WHEN t.updated_at IS NOT DISTINCT FROM s.updated_at
        THEN greatest(t.duration, s.duration)
        ELSE prefer(is_later(t.updated_at, NULL, s.updated_at, NULL), t.duration, s.duration) END,
    ip = coalesce(t.ip, s.ip),
    user_agent = coalesce(t.user_agent, s.user_agent)
FROM staged_report s
WHERE t.created_at = s.created_at AND t.account_key = s.account_key AND t.id = s.id
  AND t.expires_at = s.traffic_expires
  AND t.expires_at BETWEEN :expires_from::timestamptz AND :expires_to::timestamptz
  AND (is_later(t.updated_at, NULL, s.updated_at, NULL)
       OR t.updated_at IS NOT DISTINCT FROM s.updated_at AND s.duration > t.duration
       OR num_nulls(t.duration, t.ip, t.user_agent)
          > num_nulls(coalesce(t.duration, s.duration), coalesce(t.ip, s.ip),
                      coalesce(t.user_agent, s.user_agent)))
RETURNING s.ordinal;

-- name: merge_history(expires_from, expires_to)
-- Brings known history up to date and says which rows changed; what was withheld once stays so.
-- Each range of expiries names partitions: those between two ranges would cost more to plan for than
-- all the rest (measured: a group of 31 in a store with 1,095 partitions took 117 ms with one range over
-- all of them, and 2 ms so). Ranges that are not given are NULL, and fall away when it is planned.
UPDATE history_record t SET
    updated_at = greatest(t.updated_at, s.updated_at),
    status = prefer(is_later(t.updated_at, t.status, s.updated_at, s.status), t.status, s.status),
    delivered_at = prefer(is_later(t.updated_at, t.status, s.updated_at, s.status),
                          t.delivered_at, s.delivered_at),
    duration = CASE WHEN t.updated_at IS NOT DISTINCT FROM s.updated_at
        THEN greatest(t.duration, s.duration)
        ELSE prefer(is_later(t.updated_at, t.status, s.updated_at, s.status),
                    t.duration, s.duration) END,
    parts = prefer(is_later(t.updated_at, t.status, s.updated_at, s.status), t.parts, s.parts),
    cost = prefer(is_later(t.updated_at, t.status, s.updated_at, s.status), t.cost, s.cost),
    owner = prefer(is_later(t.updated_at, t.status, s.updated_at, s.status), t.owner, s.owner),
    tags = prefer(is_later(t.updated_at, t.status, s.updated_at, s.status), t.tags, s.tags),
    withheld = t.withheld | s.withheld,
    sender = CASE WHEN (t.withheld | s.withheld) & 2 = 0 THEN t.sender END,
    recipient = CASE WHEN (t.withheld | s.withheld) & 4 = 0 THEN t.recipient END,
    message = CASE WHEN (t.withheld | s.withheld) & 1 = 0 THEN
        prefer(is_later(t.updated_at, t.status, s.updated_at, s.status), t.message, s.message) END
FROM staged_report s
WHERE t.account_key = s.account_key AND t.created_at = s.created_at AND t.id = s.id
  AND t.expires_at BETWEEN s.history_from AND s.history_to
  AND (t.expires_at BETWEEN (:expires_from::timestamptz[])[1] AND (:expires_to::timestamptz[])[1]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[2] AND (:expires_to::timestamptz[])[2]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[3] AND (:expires_to::timestamptz[])[3]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[4] AND (:expires_to::timestamptz[])[4]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[5] AND (:expires_to::timestamptz[])[5]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[6] AND (:expires_to::timestamptz[])[6]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[7] AND (:expires_to::timestamptz[])[7]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[8] AND (:expires_to::timestamptz[])[8]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[9] AND (:expires_to::timestamptz[])[9]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[10] AND (:expires_to::timestamptz[])[10]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[11] AND (:expires_to::timestamptz[])[11]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[12] AND (:expires_to::timestamptz[])[12]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[13] AND (:expires_to::timestamptz[])[13]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[14] AND (:expires_to::timestamptz[])[14]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[15] AND (:expires_to::timestamptz[])[15]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[16] AND (:expires_to::timestamptz[])[16]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[17] AND (:expires_to::timestamptz[])[17]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[18] AND (:expires_to::timestamptz[])[18]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[19] AND (:expires_to::timestamptz[])[19]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[20] AND (:expires_to::timestamptz[])[20]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[21] AND (:expires_to::timestamptz[])[21]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[22] AND (:expires_to::timestamptz[])[22]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[23] AND (:expires_to::timestamptz[])[23]
       OR t.expires_at BETWEEN (:expires_from::timestamptz[])[24] AND (:expires_to::timestamptz[])[24])
  AND (is_later(t.updated_at, t.status, s.updated_at, s.status)
       OR t.updated_at IS NOT DISTINCT FROM s.updated_at AND s.duration > t.duration
       OR t.withheld <> t.withheld | s.withheld
       OR t.message IS NULL AND s.message IS NOT NULL AND (t.withheld | s.withheld) & 1 = 0
       OR num_nulls(t.status, t.delivered_at, t.duration, t.parts, t.cost, t.owner, t.tags)
          > num_nulls(coalesce(t.status, s.status), coalesce(t.delivered_at, s.delivered_at),
                      coalesce(t.duration, s.duration), coalesce(t.parts, s.parts),
                      coalesce(t.cost, s.cost), coalesce(t.owner, s.owner), coalesce(t.tags, s.tags)))
RETURNING s.ordinal;
