-- Erasures that a customer asks for by filter, or of its whole history: jobs and their receipts.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- What says which records, and how far the work has come, is there only until the erasure is
-- finished: it may name numbers. What stays for the receipt are counts and days.
CREATE TABLE erasure (
    erasure_id     text COLLATE "C" PRIMARY KEY,
    account_key    bigint NOT NULL REFERENCES account,
    state          text NOT NULL DEFAULT 'queued'
                   CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed')),
    accepted_at    timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz,
    everything     boolean NOT NULL,
    fields         text[] NOT NULL,
    filter         jsonb,
    created_after  timestamptz,
    created_up_to  timestamptz,
    reached_at     timestamptz,
    reached_id     text COLLATE "C",
    failures       integer NOT NULL DEFAULT 0,
    found          bigint NOT NULL CHECK (found >= 0),
    erased         bigint NOT NULL DEFAULT 0,
    kinds          jsonb NOT NULL DEFAULT '{}',
    oldest_day     date,
    newest_day     date,
    last_expiry    timestamptz,
    reports        boolean NOT NULL,
    reports_erased bigint NOT NULL DEFAULT 0,
    run_seconds    integer NOT NULL,
    backup_days    integer NOT NULL,
    repeat_key     bytea,
    repeat_body    bytea,
    CONSTRAINT erasure_repeated UNIQUE (account_key, repeat_key),
    CHECK ((finished_at IS NULL) = (state IN ('queued', 'running'))),
    CHECK (NOT everything OR fields = '{}'),
    CHECK (CASE WHEN finished_at IS NULL
                THEN num_nulls(filter, created_after, created_up_to) = 0
                ELSE num_nonnulls(filter, created_after, created_up_to, reached_at, reached_id) = 0 END)
-- The row's older versions have the filter until they are vacuumed: soon, then.
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
COMMENT ON COLUMN erasure.fields IS 'which fields the filter has; their values are gone when it is finished';
COMMENT ON COLUMN erasure.created_up_to IS 'the acceptance, or the filter''s end before it; nothing later is erased';
COMMENT ON COLUMN erasure.reached_id IS 'with reached_at how far the work has come; NULL: not begun';
COMMENT ON COLUMN erasure.oldest_day IS 'the UTC day of creation of the oldest record erased';
COMMENT ON COLUMN erasure.last_expiry IS
    'the latest expiry under which an erased record ever stood: its dead row is in that partition';
COMMENT ON COLUMN erasure.run_seconds IS 'time between two retention runs when it was accepted';
COMMENT ON COLUMN erasure.repeat_key IS 'keyed digest of the request''s Idempotency-Key; repeat_body, of what it asked';
CREATE INDEX erasure_of_account ON erasure (account_key, accepted_at, erasure_id);
CREATE INDEX erasure_open ON erasure (accepted_at, erasure_id) WHERE finished_at IS NULL;

-- Ends an erasure and takes from it what may name numbers or records.
CREATE FUNCTION finish_erasure(p_id text, p_state text, p_at timestamptz) RETURNS void
LANGUAGE sql SET search_path = trafficlog, pg_temp
AS $$
    UPDATE erasure SET
        state = p_state, finished_at = p_at, filter = NULL, created_after = NULL,
        created_up_to = NULL, reached_at = NULL, reached_id = NULL
    WHERE erasure_id = p_id AND finished_at IS NULL
$$;

-- The longest period that was given up by an account for what was created from an instant on: a
-- row that was moved left a dead one in the partition it came from. Records may be created a little
-- ahead of the clock.
CREATE FUNCTION longest_days_before(p_account bigint, p_created timestamptz) RETURNS integer
LANGUAGE sql STABLE SET search_path = trafficlog, pg_temp
AS $$
    SELECT max((c.old ->> 'history_days')::integer) FROM account_setting_change c
    WHERE c.account_key = p_account AND c.changed_at >= p_created - interval '10 minutes'
$$;

-- Whether some hold is in force.
CREATE FUNCTION are_holds(p_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = trafficlog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at)
$$;

-- Erases the current account's history rows of one id; the held ones are copied first. Says how
-- many went, and the latest expiry under which one of them ever stood.
DROP FUNCTION erase_history(text, timestamptz[], timestamptz);
CREATE FUNCTION erase_history(p_id text, p_created timestamptz[], p_at timestamptz)
RETURNS TABLE (rows_erased bigint, last_expiry timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
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
$$;
GRANT EXECUTE ON FUNCTION erase_history(text, timestamptz[], timestamptz) TO trafficlog_customer;

-- Carries one erasure on: reads at most p_rows_max of the account's records, created within
-- p_width after the place that was reached, and erases those that the filter means. Whatever
-- says how far it has come commits with what is erased, so a kill loses and repeats nothing.
--
-- At the end of the scope it is looked at once more, in one statement: an erasure is done when
-- nothing of its scope is stored, not even what came in late behind the place reached.
CREATE FUNCTION erase_step(p_id text, p_at timestamptz, p_rows_max integer, p_width interval)
RETURNS TABLE (rows_read bigint, rows_erased bigint, state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp SET timezone = 'UTC'
-- The partitions that a step touches follow from its bounds: a plan for all bounds locks them all.
-- Rows are taken by the key and in its order, whatever the planner believes of a day that it has
-- no statistics of yet.
SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET max_parallel_workers_per_gather = 0 SET jit = off
AS $$
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
    IF lower >= job.created_up_to THEN
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
    IF lower < job.created_up_to THEN
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
                         reached_at = next_at, reached_id = next_id
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
$$;

-- Cancels an erasure of the present account; true when it was under way. Waits for the step that
-- is being written: from then on nothing more of it is erased.
CREATE FUNCTION cancel_erasure(p_id text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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

-- Notes that a step of an erasure could not be done, and gives it up after so many in a row;
-- returns its state.
CREATE FUNCTION fail_erasure(p_id text, p_at timestamptz, p_attempts_max integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
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

ALTER TABLE erasure ENABLE ROW LEVEL SECURITY;
CREATE POLICY erasures_seen_by_customer ON erasure FOR SELECT TO trafficlog_customer
    USING (account_key = current_account_key());
CREATE POLICY erasures_asked_by_customer ON erasure FOR INSERT TO trafficlog_customer
    WITH CHECK (account_key = current_account_key());
GRANT SELECT (erasure_id, account_key, state, accepted_at, started_at, finished_at, everything,
              fields, filter, found, erased, kinds, oldest_day, newest_day, last_expiry, reports,
              reports_erased, run_seconds, backup_days, repeat_key, repeat_body),
      INSERT (erasure_id, account_key, accepted_at, everything, fields, filter, created_after,
              created_up_to, found, reports, run_seconds, backup_days, repeat_key, repeat_body)
    ON erasure TO trafficlog_customer;
GRANT EXECUTE ON FUNCTION cancel_erasure(text, timestamptz) TO trafficlog_customer;
