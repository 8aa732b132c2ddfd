-- What is being written, or is dated ahead of the clock, at the moment when something is destroyed.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

ALTER TABLE erasure
    ADD COLUMN ahead_created timestamptz[],
    ADD COLUMN ahead_ids     text[] COLLATE "C",
    ADD COLUMN waits_for     text[],
    ADD CONSTRAINT erasure_finished_bare CHECK (
        finished_at IS NULL OR num_nonnulls(ahead_created, ahead_ids, waits_for) = 0);
COMMENT ON COLUMN erasure.created_up_to IS
    'the acceptance, or the filter''s end before it; nothing later is erased but what ahead_ids names';
COMMENT ON COLUMN erasure.ahead_ids IS
    'with ahead_created the records, stored at the acceptance and created later, that are meant as well';
COMMENT ON COLUMN erasure.waits_for IS
    'virtual ids of the transactions that were writing when all was looked through; NULL: not yet, or none was';
GRANT INSERT (ahead_created, ahead_ids) ON erasure TO trafficlog_customer;

-- Removes what was in transit once it is delivered; true when there was something.
CREATE OR REPLACE FUNCTION complete_in_transit(p_id text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    protected bigint;
    removed bigint;
    alive bigint;
BEGIN
    -- Nobody replaces it in between, not even in another account's name: what is copied is what goes.
    PERFORM pg_advisory_xact_lock(7103, hashtext(p_id));
    PERFORM lock_holds();
    protected := copy_held('in_transit', 'in_transit', p_at, p_at,
                           'r.id = $5[1]', NULL, ARRAY[p_id]);
    WITH gone AS (DELETE FROM in_transit WHERE id = p_id RETURNING expires_at)
    SELECT count(*), count(*) FILTER (WHERE expires_at > p_at) INTO removed, alive FROM gone;
    IF removed > 0 THEN
        PERFORM ledger_append(p_at, 'in_transit', 'communication', 'completed',
                              NULL, NULL, removed, protected);
    END IF;
    RETURN alive > 0;
END
$$;

-- Carries one account's move on by at most p_rows_max rows under the setting in
-- force now. Returns the rows read, moved and destroyed; done when none is left.
-- What is held is looked for in the partitions of the step alone: 60,000 held rows of 60 days went
-- in 1.0 s that way, and in 11 s when each step looked in all partitions.
CREATE OR REPLACE FUNCTION move_history_step(p_account bigint, p_at timestamptz, p_rows_max integer)
RETURNS TABLE (rows_read bigint, rows_moved bigint, rows_destroyed bigint, done boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    move history_move;
    owner account;
    ids text[];
    createds timestamptz[];
    fates timestamptz[];
    expiries timestamptz[];
    first_expiry timestamptz;
    last_expiry timestamptz;
    last_id text;
    last_created timestamptz;
    protected bigint;
    day timestamptz;
BEGIN
    -- In this order everywhere: settings, holds, then rows.
    PERFORM pg_advisory_xact_lock_shared(7100, 1);
    PERFORM lock_holds();
    SELECT * INTO move FROM history_move m WHERE m.account_key = p_account FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, true;
        RETURN;
    END IF;
    SELECT * INTO STRICT owner FROM account a WHERE a.account_key = p_account;
    -- The fate of a row: its new expiry, or NULL when it is to be destroyed.
    SELECT array_agg(s.id ORDER BY s.created_at, s.id),
           array_agg(s.created_at ORDER BY s.created_at, s.id),
           array_agg(s.fate ORDER BY s.created_at, s.id),
           array_agg(s.expires_at ORDER BY s.created_at, s.id),
           min(s.expires_at), max(s.expires_at), count(*)
    INTO ids, createds, fates, expiries, first_expiry, last_expiry, rows_read
    FROM (
        SELECT h.id, h.created_at, h.expires_at,
            CASE WHEN h.created_at > coalesce(owner.history_after, '-infinity')
                  AND h.created_at + owner.history_days * interval '24 hours' > p_at
                 THEN h.created_at + owner.history_days * interval '24 hours' END AS fate
        FROM history_record h
        WHERE h.account_key = p_account
          AND (move.after_created IS NULL
               OR (h.created_at, h.id) > (move.after_created, move.after_id))
        ORDER BY h.created_at, h.id LIMIT p_rows_max
    ) s;
    last_id := ids[rows_read];
    last_created := createds[rows_read];
    rows_moved := 0;
    rows_destroyed := 0;
    done := rows_read < p_rows_max;
    IF rows_read > 0 THEN
        FOR day IN SELECT DISTINCT date_trunc('day', f) FROM unnest(fates) f WHERE f IS NOT NULL LOOP
            PERFORM ensure_partition('history_record', day, day + interval '24 hours');
        END LOOP;
        -- With their expiry, which says in which of all partitions each row is.
        UPDATE history_record h SET expires_at = s.fate
        FROM unnest(ids, createds, fates, expiries) AS s(id, created_at, fate, expires_at)
        WHERE h.account_key = p_account AND h.created_at = s.created_at AND h.id = s.id
          AND h.expires_at = s.expires_at AND h.expires_at BETWEEN first_expiry AND last_expiry
          AND s.fate IS NOT NULL AND h.expires_at <> s.fate;
        GET DIAGNOSTICS rows_moved = ROW_COUNT;
        SELECT array_agg(s.id), array_agg(s.created_at), array_agg(s.expires_at)
        INTO ids, createds, expiries
        FROM unnest(ids, createds, fates, expiries) AS s(id, created_at, fate, expires_at)
        WHERE s.fate IS NULL;
        IF ids IS NOT NULL THEN
            IF are_holds(p_at) THEN
                -- What is copied is what goes: no report changes a row in between.
                PERFORM FROM history_record h, unnest(ids, createds, expiries) AS s(id, created_at, expires_at)
                WHERE h.account_key = p_account AND h.created_at = s.created_at AND h.id = s.id
                  AND h.expires_at = s.expires_at AND h.expires_at BETWEEN first_expiry AND last_expiry
                FOR UPDATE OF h;
            END IF;
            protected := copy_held('history_record', 'history_record', p_at, p_at,
                -- The range of the step, or each step would read all of the account.
                format('r.account_key = $4 AND (r.id, r.created_at) IN (SELECT * FROM unnest($5, $6))'
                       ' AND r.created_at BETWEEN %L AND %L AND r.expires_at BETWEEN %L AND %L',
                       (SELECT min(c) FROM unnest(createds) c), (SELECT max(c) FROM unnest(createds) c),
                       first_expiry, last_expiry),
                p_account, ids, createds);
            DELETE FROM history_record h
            USING unnest(ids, createds, expiries) AS s(id, created_at, expires_at)
            WHERE h.account_key = p_account AND h.created_at = s.created_at AND h.id = s.id
              AND h.expires_at = s.expires_at
              AND h.expires_at BETWEEN first_expiry AND last_expiry;
            GET DIAGNOSTICS rows_destroyed = ROW_COUNT;
            PERFORM ledger_append(p_at, 'history_record', 'setting change', 'setting',
                                  NULL, NULL, rows_destroyed, protected);
        END IF;
    END IF;
    IF done THEN
        DELETE FROM history_move m WHERE m.account_key = p_account;
        -- All that is stored now stands under the present setting.
        UPDATE account a SET history_days_min = coalesce(a.history_days, a.history_days_min),
                             history_days_max = coalesce(a.history_days, a.history_days_max)
        WHERE a.account_key = p_account;
    ELSE
        UPDATE history_move m SET after_created = last_created, after_id = last_id
        WHERE m.account_key = p_account;
    END IF;
    RETURN NEXT;
END
$$;

-- Ends an erasure and takes from it what may name numbers or records.
CREATE OR REPLACE FUNCTION finish_erasure(p_id text, p_state text, p_at timestamptz) RETURNS void
LANGUAGE sql SET search_path = trafficlog, pg_temp
AS $$
    UPDATE erasure SET
        state = p_state, finished_at = p_at, filter = NULL, created_after = NULL,
        created_up_to = NULL, reached_at = NULL, reached_id = NULL,
        ahead_created = NULL, ahead_ids = NULL, waits_for = NULL
    WHERE erasure_id = p_id AND finished_at IS NULL
$$;

-- Carries one erasure on: reads at most p_rows_max of the account's records, created within
-- p_width after the place that was reached, and erases those that the filter means. Whatever
-- says how far it has come commits with what is erased, so a kill loses and repeats nothing.
--
-- At the end of the scope it waits for what is being written then (the state is told as waiting),
-- and looks at all of the scope once more, in one statement: so whatever was acknowledged before
-- that look, or on its way before the wait, is gone when the erasure is done.
CREATE OR REPLACE FUNCTION erase_step(p_id text, p_at timestamptz, p_rows_max integer, p_width interval)
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
    writers text[];
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
    IF job.ahead_ids IS NULL AND lower >= job.created_up_to THEN
        -- What is being written now, nobody sees yet: the last look comes after it. Whatever writes
        -- records has this lock shared until it commits.
        writers := ARRAY(
            SELECT l.virtualtransaction FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.classid = 7100 AND l.objid = 1 AND l.mode = 'ShareLock'
              AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
              AND l.granted AND l.pid <> pg_backend_pid()
              AND (job.waits_for IS NULL OR l.virtualtransaction = ANY (job.waits_for))
        );
        IF cardinality(writers) > 0 THEN
            UPDATE erasure e SET state = 'running', started_at = coalesce(e.started_at, p_at),
                                 waits_for = writers
            WHERE e.erasure_id = p_id AND e.finished_at IS NULL
              AND e.waits_for IS DISTINCT FROM writers;
            state := 'waiting';
            RETURN NEXT;
            RETURN;
        END IF;
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
    IF job.ahead_ids IS NOT NULL THEN
        -- First of all what was stored at the acceptance although it was created later.
        ids := job.ahead_ids[:p_rows_max];
        createds := job.ahead_created[:p_rows_max];
        rows_read := cardinality(ids);
        expires_from := createds[1] + owner.history_days_min * interval '24 hours';
        expires_to := createds[rows_read] + owner.history_days_max * interval '24 hours';
        SELECT array_agg(h.id ORDER BY h.created_at, h.id),
               array_agg(h.created_at ORDER BY h.created_at, h.id),
               array_agg(h.expires_at ORDER BY h.created_at, h.id),
               min(h.expires_at), max(h.expires_at)
        INTO ids, createds, expiries, first_expiry, last_expiry
        FROM history_record h
        WHERE h.account_key = job.account_key
          AND (h.created_at, h.id) IN (SELECT * FROM unnest(createds, ids))
          AND h.created_at BETWEEN createds[1] AND createds[rows_read]
          AND h.expires_at BETWEEN expires_from AND expires_to;
        next_at := lower;
        next_id := lower_id;
    ELSIF lower < job.created_up_to THEN
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
                         reached_at = next_at, reached_id = next_id,
                         ahead_ids = nullif(e.ahead_ids[p_rows_max + 1:], '{}'),
                         ahead_created = nullif(e.ahead_created[p_rows_max + 1:], '{}')
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
