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

-- name: store_few(epoch, account_keys, created, traffic_hours, history_hours, delivered, durations, parts, costs, kinds, directions, statuses, omitted, ids, senders, recipients, ips, user_agents, owners, tags, messages)$
-- Stores and counts records not seen before if the settings are those of an epoch; says which epoch's they are.
-- The lists are array literals, with instants as microseconds since 1970. The lock is held, and the
-- epoch read, before the first row is made. Arrays are unnested side by side in a list of columns, which
-- makes rows at once; in FROM each of them would be a table of its own first.
WITH in_force AS MATERIALIZED (
    SELECT settings_in_force() AS epoch
), given AS MATERIALIZED (
    SELECT g.*, 'epoch'::timestamptz + created * interval '1 microsecond' AS created_at,
           'epoch'::timestamptz + delivered * interval '1 microsecond' AS delivered_at
    FROM in_force CROSS JOIN LATERAL (
        SELECT unnest(:account_keys::text::bigint[]) AS account_key,
               unnest(:created::text::bigint[]) AS created,
               unnest(:traffic_hours::text::integer[]) AS traffic_hours,
               unnest(:history_hours::text::integer[]) AS history_hours,
               unnest(:delivered::text::bigint[]) AS delivered,
               unnest(:durations::text::integer[]) AS duration,
               unnest(:parts::text::integer[]) AS parts,
               unnest(:costs::text::integer[]) AS cost,
               unnest(:kinds::text::smallint[]) AS kind,
               unnest(:directions::text::smallint[]) AS direction,
               unnest(:statuses::text::smallint[]) AS status,
               unnest(:omitted::text::smallint[]) AS withheld,
               unnest(:ids::text::text[]) AS id,
               unnest(:senders::text::text[]) AS sender,
               unnest(:recipients::text::text[]) AS recipient,
               unnest(:ips::text::text[]) AS ip,
               unnest(:user_agents::text::text[]) AS user_agent,
               unnest(:owners::text::text[]) AS owner,
               unnest(:tags::text::text[]) AS tags,
               unnest(:messages::text::text[]) AS message
    ) g
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

-- name: look_up_by_key()$
-- Has the transaction look each record up by its key, however little the planner knows of its partition.
-- A plan made once for all bounds would lock every partition there is.
SELECT set_config('enable_seqscan', 'off', true) || set_config('jit', 'off', true)
    || set_config('plan_cache_mode', 'force_custom_plan', true);

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

-- name: store_later(epoch, created, updated, delivered, traffic_hours, history_hours, history_hours_min, history_hours_max, account_keys, durations, parts, costs, kinds, directions, statuses, withheld, omitted, ids, senders, recipients, ips, user_agents, owners, tags, messages, several, traffic_from, traffic_to, history_from, history_to)^
-- Stores reports of records that may be known, and merges those that are, if the settings are those of an epoch.
-- It says which epoch's they are, and of the reports by ordinal which made a record and which told a
-- known one something. The lists are array literals, with instants as microseconds since 1970.
SELECT * FROM store_later(:epoch, ARRAY(
    SELECT (ordinal, account_key, created_at,
            'epoch'::timestamptz + updated * interval '1 microsecond',
            'epoch'::timestamptz + delivered * interval '1 microsecond',
            created_at + make_interval(hours => traffic_hours),
            created_at + make_interval(hours => history_hours),
            created_at + make_interval(hours => history_hours_min),
            created_at + make_interval(hours => history_hours_max),
            duration, parts, cost, kind, direction, status, withheld, omitted,
            id, sender, recipient, ip, user_agent, owner,
            CASE WHEN tags IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)) END,
            CASE WHEN omitted & 1 = 0 THEN message END,
            several)::later_report
    FROM (
        SELECT generate_subscripts(:created::text::bigint[], 1) - 1 AS ordinal,
               unnest(:created::text::bigint[]) AS created,
               unnest(:updated::text::bigint[]) AS updated,
               unnest(:delivered::text::bigint[]) AS delivered,
               unnest(:traffic_hours::text::integer[]) AS traffic_hours,
               unnest(:history_hours::text::integer[]) AS history_hours,
               unnest(:history_hours_min::text::integer[]) AS history_hours_min,
               unnest(:history_hours_max::text::integer[]) AS history_hours_max,
               unnest(:account_keys::text::bigint[]) AS account_key,
               unnest(:durations::text::integer[]) AS duration,
               unnest(:parts::text::integer[]) AS parts,
               unnest(:costs::text::integer[]) AS cost,
               unnest(:kinds::text::smallint[]) AS kind,
               unnest(:directions::text::smallint[]) AS direction,
               unnest(:statuses::text::smallint[]) AS status,
               unnest(:withheld::text::smallint[]) AS withheld,
               unnest(:omitted::text::smallint[]) AS omitted,
               unnest(:ids::text::text[]) AS id,
               unnest(:senders::text::text[]) AS sender,
               unnest(:recipients::text::text[]) AS recipient,
               unnest(:ips::text::text[]) AS ip,
               unnest(:user_agents::text::text[]) AS user_agent,
               unnest(:owners::text::text[]) AS owner,
               unnest(:tags::text::text[]) AS tags,
               unnest(:messages::text::text[]) AS message,
               unnest(:several::text::boolean[]) AS several
    ) g
    CROSS JOIN LATERAL (SELECT 'epoch'::timestamptz + created * interval '1 microsecond') c (created_at)
), :traffic_from::timestamptz, :traffic_to::timestamptz,
   :history_from::timestamptz[], :history_to::timestamptz[]);
