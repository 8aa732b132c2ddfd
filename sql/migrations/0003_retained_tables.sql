-- The retained tables: each range-partitioned by the instant its rows must be gone.
--
-- Columns stand widest first, so that no byte goes to padding, and each table
-- has one key, which is its listing order and its guard against duplicates.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

CREATE TABLE kind (code smallint PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO kind VALUES (1, 'sms'), (2, 'mms'), (3, 'call');

CREATE TABLE direction (code smallint PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO direction VALUES (1, 'incoming'), (2, 'outgoing'), (3, 'outgoing-reply');

-- In this order a later state outranks an earlier one reported for the same instant.
CREATE TABLE status (code smallint PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO status VALUES
    (1, 'created'), (2, 'ongoing'), (3, 'sent'), (4, 'received'), (5, 'delivered'),
    (6, 'failed'), (7, 'success'), (8, 'busy'), (9, 'no-answer');

CREATE TABLE retained_table (
    table_name text PRIMARY KEY,
    width      text NOT NULL CHECK (width IN ('hour', 'day', 'month'))
);
INSERT INTO retained_table VALUES
    ('traffic_record', 'day'), ('history_record', 'day'), ('debug_log', 'day'),
    ('in_transit', 'hour'), ('access_log', 'month');

-- The legal record. Nothing that serves customers, statistics or abuse work may read it.
CREATE TABLE traffic_record (
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    updated_at  timestamptz,
    account_key bigint NOT NULL,
    duration    integer,
    kind        smallint NOT NULL,
    direction   smallint NOT NULL,
    id          text COLLATE "C" NOT NULL,
    sender      text COLLATE "C" NOT NULL,
    recipient   text COLLATE "C" NOT NULL,
    ip          text COLLATE "C",
    user_agent  text COLLATE "C",
    CONSTRAINT traffic_record_key PRIMARY KEY (created_at, account_key, id, expires_at)
) PARTITION BY RANGE (expires_at);

CREATE TABLE history_record (
    account_key  bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    updated_at   timestamptz,
    delivered_at timestamptz,
    duration     integer,
    parts        integer,
    cost         integer,
    kind         smallint NOT NULL,
    direction    smallint NOT NULL,
    status       smallint,
    withheld     smallint NOT NULL,
    id           text COLLATE "C" NOT NULL,
    sender       text COLLATE "C",
    recipient    text COLLATE "C",
    owner        text COLLATE "C",
    tags         text[],
    message      text COLLATE "C",
    CONSTRAINT history_record_key PRIMARY KEY (account_key, created_at, id, expires_at)
) PARTITION BY RANGE (expires_at);
COMMENT ON COLUMN history_record.withheld IS
    'fields that some report of the record asked not to log: 1 message, 2 sender, 4 recipient';

CREATE TABLE debug_log (
    created_at  timestamptz NOT NULL,
    line_id     bigint NOT NULL,
    expires_at  timestamptz NOT NULL,
    account_key bigint,
    level       smallint NOT NULL,
    record_id   text COLLATE "C",
    source      text COLLATE "C" NOT NULL,
    line        text COLLATE "C" NOT NULL,
    CONSTRAINT debug_log_key PRIMARY KEY (created_at, line_id, expires_at)
) PARTITION BY RANGE (expires_at);

CREATE TABLE in_transit (
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    account_key bigint,
    id          text COLLATE "C" NOT NULL,
    content     bytea NOT NULL,
    CONSTRAINT in_transit_key PRIMARY KEY (id, expires_at)
) PARTITION BY RANGE (expires_at);

CREATE TABLE access_log (
    at         timestamptz NOT NULL,
    access_id  uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    subject    text NOT NULL,
    reason     text NOT NULL,
    rows       bigint NOT NULL,
    CONSTRAINT access_log_key PRIMARY KEY (at, access_id, expires_at)
) PARTITION BY RANGE (expires_at);

-- Every partition that was made and has not been dropped through retention:
-- what verification holds against the catalogue.
CREATE TABLE partition_register (
    table_name text NOT NULL REFERENCES retained_table,
    lower      timestamptz NOT NULL,
    upper      timestamptz NOT NULL,
    name       text NOT NULL UNIQUE,
    made_at    timestamptz NOT NULL DEFAULT now(),
    lost       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (table_name, lower)
);
COMMENT ON COLUMN partition_register.lost IS
    'an earlier partition of these bounds went by hand, with its rows; this one was made in its place';

-- A drop that has begun: what the next run finishes when this one is killed.
CREATE TABLE partition_drop (
    name       text PRIMARY KEY,
    table_name text NOT NULL REFERENCES retained_table,
    table_oid  oid NOT NULL,
    lower      timestamptz NOT NULL,
    upper      timestamptz NOT NULL,
    begun_at   timestamptz NOT NULL,
    holds_seen text[] COLLATE "C",
    held       bigint
);
COMMENT ON COLUMN partition_drop.holds_seen IS
    'the holds in force when what is held was last copied out of the detached table; NULL: not yet';

-- What partitions the catalogue knows, with their bounds; nothing is read from a name.
-- The bound is deparsed without naming its table, which would lock it: one partition
-- that somebody holds must not stop the work on all others.
CREATE VIEW partition_catalogue AS
SELECT
    parent.relname::text AS table_name,
    child.relname::text AS name,
    child.oid AS table_oid,
    (regexp_match(bound.expr, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS lower,
    (regexp_match(bound.expr, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS upper,
    i.inhdetachpending AS detach_pending
FROM pg_inherits i
JOIN pg_class parent ON parent.oid = i.inhparent
JOIN pg_class child ON child.oid = i.inhrelid
CROSS JOIN LATERAL (SELECT pg_get_expr(child.relpartbound, 0) AS expr) bound
WHERE parent.relnamespace = 'trafficlog'::regnamespace AND parent.relkind = 'p' AND child.relkind = 'r';

-- Makes a partition when it is not there: true when it made one.
-- LIKE and ATTACH, because PARTITION OF would lock out every reader and writer.
CREATE FUNCTION ensure_partition(p_table text, p_lower timestamptz, p_upper timestamptz)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp SET timezone = 'UTC'
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
GRANT EXECUTE ON FUNCTION ensure_partition(text, timestamptz, timestamptz)
    TO trafficlog_ingest, trafficlog_operator, trafficlog_retention;

-- Whether a report is later than what is stored. Of two for the same instant the
-- further state is the later one, so the order of arrival does not matter.
CREATE FUNCTION is_later(old_at timestamptz, old_status smallint, new_at timestamptz, new_status smallint)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN new_at IS NOT NULL
   AND (old_at IS NULL OR (new_at, coalesce(new_status, 0)) > (old_at, coalesce(old_status, 0)));

-- The newer value when it is later, else the older one; a missing value never wins.
CREATE FUNCTION prefer(later boolean, old_value anycompatible, new_value anycompatible)
RETURNS anycompatible LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN later THEN coalesce(new_value, old_value) ELSE coalesce(old_value, new_value) END $$;
GRANT EXECUTE ON FUNCTION is_later(timestamptz, smallint, timestamptz, smallint),
    prefer(boolean, anycompatible, anycompatible) TO trafficlog_ingest;

ALTER TABLE history_record ENABLE ROW LEVEL SECURITY;
CREATE POLICY history_of_customer ON history_record FOR SELECT TO trafficlog_customer
    USING (account_key = current_account_key());

GRANT SELECT ON kind, direction, status, retained_table, partition_catalogue TO
    trafficlog_ingest, trafficlog_customer, trafficlog_operator, trafficlog_officer;
GRANT INSERT ON traffic_record, history_record, debug_log TO trafficlog_ingest;
-- What the merge of a later report reads and writes, and no more.
GRANT SELECT (created_at, account_key, id, expires_at, updated_at, duration, ip, user_agent),
      UPDATE (updated_at, duration, ip, user_agent) ON traffic_record TO trafficlog_ingest;
GRANT SELECT (account_key, created_at, id, expires_at, updated_at, delivered_at, duration, parts,
              cost, status, withheld, sender, recipient, owner, tags, message),
      UPDATE (updated_at, delivered_at, duration, parts, cost, status, withheld, sender, recipient,
              owner, tags, message) ON history_record TO trafficlog_ingest;
GRANT SELECT, INSERT, UPDATE (content, account_key) ON in_transit TO trafficlog_ingest;
GRANT SELECT ON history_record TO trafficlog_customer;
GRANT SELECT ON debug_log TO trafficlog_operator;
GRANT SELECT ON partition_register, partition_drop TO trafficlog_operator;
GRANT INSERT ON access_log TO trafficlog_operator, trafficlog_officer;
GRANT SELECT ON access_log TO trafficlog_officer;
