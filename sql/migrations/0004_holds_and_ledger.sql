-- Abuse holds, the copies they keep, the ledger of everything destroyed, and
-- the functions through which anything is destroyed.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

CREATE TABLE abuse_hold (
    hold_id      text COLLATE "C" PRIMARY KEY,
    account_key  bigint REFERENCES account,
    number       text COLLATE "C",
    ip           text COLLATE "C",
    record_id    text COLLATE "C",
    created_from timestamptz,
    created_to   timestamptz,
    reason       text NOT NULL CHECK (reason <> ''),
    case_ref     text NOT NULL CHECK (case_ref <> ''),
    placed_by    text NOT NULL,
    placed_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    released_at  timestamptz,
    released_by  text,
    CHECK (num_nonnulls(account_key, number, ip) = 1),
    CHECK (record_id IS NULL OR account_key IS NOT NULL),
    CHECK (ends_at > placed_at),
    CHECK (created_from < created_to)
);
CREATE INDEX abuse_hold_active ON abuse_hold (ends_at) WHERE released_at IS NULL;

CREATE TABLE held_record (
    held_key    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    data_class  text NOT NULL,
    account_key bigint,
    created_at  timestamptz NOT NULL,
    record_id   text COLLATE "C" NOT NULL,
    expires_at  timestamptz NOT NULL,
    copied_at   timestamptz NOT NULL,
    content     jsonb NOT NULL,
    CONSTRAINT held_record_once UNIQUE NULLS NOT DISTINCT (data_class, account_key, created_at, record_id)
);
COMMENT ON COLUMN held_record.expires_at IS
    'the instant from which only a hold keeps it: the row''s own expiry, or its erasure if that came first';

-- Legal copies are for officers, all others for operators.
ALTER TABLE held_record ENABLE ROW LEVEL SECURITY;
CREATE POLICY held_for_operator ON held_record FOR SELECT TO trafficlog_operator
    USING (data_class <> 'traffic_record');
CREATE POLICY held_for_officer ON held_record FOR SELECT TO trafficlog_officer
    USING (data_class = 'traffic_record');

CREATE TABLE purge_ledger (
    seq       bigint PRIMARY KEY,
    at        timestamptz NOT NULL,
    data_class text NOT NULL,
    object    text NOT NULL,
    reason    text NOT NULL CHECK (reason IN
              ('expired', 'erased', 'setting', 'completed', 'hold-ended')),
    lower     timestamptz,
    upper     timestamptz,
    rows      bigint NOT NULL CHECK (rows >= 0),
    held      bigint NOT NULL CHECK (held >= 0),
    previous  bytea NOT NULL,
    hash      bytea NOT NULL
);
CREATE TABLE purge_ledger_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq      bigint NOT NULL,
    hash     bytea NOT NULL
);
INSERT INTO purge_ledger_head (seq, hash) VALUES (0, sha256('trafficlog purge ledger'));

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the purge ledger is only ever added to';
END
$$;
CREATE TRIGGER purge_ledger_add_only BEFORE UPDATE OR DELETE OR TRUNCATE ON purge_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The text that is hashed: one field a line, instants in UTC to the microsecond.
CREATE FUNCTION ledger_text(
    p_seq bigint, p_at timestamptz, p_class text, p_object text, p_reason text,
    p_lower timestamptz, p_upper timestamptz, p_rows bigint, p_held bigint, p_previous bytea
) RETURNS text
LANGUAGE sql STABLE
SET timezone = 'UTC'
AS $$
    SELECT concat_ws(E'\n', p_seq, to_char(p_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_class, p_object,
        p_reason, coalesce(to_char(p_lower, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '-'),
        coalesce(to_char(p_upper, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '-'),
        p_rows, p_held, encode(p_previous, 'hex'))
$$;

CREATE FUNCTION ledger_append(
    p_at timestamptz, p_class text, p_object text, p_reason text,
    p_lower timestamptz, p_upper timestamptz, p_rows bigint, p_held bigint
) RETURNS bigint
LANGUAGE plpgsql SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    head purge_ledger_head;
    digest bytea;
BEGIN
    SELECT * INTO head FROM purge_ledger_head FOR UPDATE;
    digest := sha256(convert_to(ledger_text(head.seq + 1, p_at, p_class, p_object, p_reason,
                                            p_lower, p_upper, p_rows, p_held, head.hash), 'UTF8'));
    INSERT INTO purge_ledger VALUES (head.seq + 1, p_at, p_class, p_object, p_reason,
                                     p_lower, p_upper, p_rows, p_held, head.hash, digest);
    UPDATE purge_ledger_head SET seq = head.seq + 1, hash = digest;
    RETURN head.seq + 1;
END
$$;

-- Whatever destroys takes this lock shared until it commits; placing a hold
-- takes it alone. So a hold is seen by every destruction that ends after it.
CREATE FUNCTION lock_holds() RETURNS void LANGUAGE sql VOLATILE
AS $$ SELECT pg_advisory_xact_lock_shared(7102, 1) $$;

-- Copies what an active hold protects among the rows of `p_source` that satisfy
-- `p_condition` (SQL over the row `r`, with $4 to $6 the arguments), and returns how
-- many rows are protected. Copies made before are left as they are. Without p_copy
-- it only counts.
CREATE FUNCTION copy_held(
    p_source regclass, p_class text, p_at timestamptz, p_due timestamptz,
    p_condition text DEFAULT 'true', p_account bigint DEFAULT NULL, p_ids text[] DEFAULT NULL,
    p_created timestamptz[] DEFAULT NULL, p_copy boolean DEFAULT true
) RETURNS bigint
LANGUAGE plpgsql SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    identity text;
    parties text := 'false';
    address text := 'false';
    candidates text := 'r.account_key = ANY ($8)';
    accounts bigint[];
    numbers text[];
    addresses text[];
    protected bigint;
BEGIN
    SELECT array_agg(DISTINCT h.account_key) FILTER (WHERE h.account_key IS NOT NULL),
           array_agg(DISTINCT h.number) FILTER (WHERE h.number IS NOT NULL),
           array_agg(DISTINCT h.ip) FILTER (WHERE h.ip IS NOT NULL)
    INTO accounts, numbers, addresses
    FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at;
    IF num_nonnulls(accounts, numbers, addresses) = 0 THEN
        RETURN 0;
    END IF;
    CASE p_class
        WHEN 'traffic_record' THEN
            identity := 'r.id';
            parties := 'h.number IN (r.sender, r.recipient)';
            address := 'r.ip = h.ip';
        WHEN 'history_record' THEN
            identity := 'r.id';
            parties := 'h.number IN (r.sender, r.recipient)';
        WHEN 'debug_log' THEN
            identity := 'coalesce(r.record_id, '''')';
        WHEN 'in_transit' THEN
            identity := 'r.id';
        ELSE
            RETURN 0;
    END CASE;
    -- A row of none of these accounts, numbers and addresses is not held: what is left to
    -- compare with each hold are few, and holds by account alone are found by history's key.
    IF parties <> 'false' AND numbers IS NOT NULL THEN
        candidates := candidates || ' OR r.sender = ANY ($9) OR r.recipient = ANY ($9)';
    END IF;
    IF address <> 'false' AND addresses IS NOT NULL THEN
        candidates := candidates || ' OR r.ip = ANY ($10)';
    END IF;
    EXECUTE format($sql$
        WITH protected AS (
            SELECT r.account_key, r.created_at, r.expires_at, %1$s AS stored_id,
                   -- Without what has a column of its own.
                   jsonb_strip_nulls(to_jsonb(r)) - '{account_key,created_at,id,expires_at}'::text[] AS content
            FROM %2$s r
            WHERE (%3$s) AND (%7$s) AND EXISTS (
                SELECT 1 FROM abuse_hold h
                WHERE h.released_at IS NULL AND h.ends_at > $2
                  AND (h.account_key IS NULL OR h.account_key = r.account_key)
                  AND (h.record_id IS NULL OR h.record_id = %4$s)
                  AND (h.number IS NULL OR %5$s)
                  AND (h.ip IS NULL OR %6$s)
                  AND (h.created_from IS NULL OR r.created_at >= h.created_from)
                  AND (h.created_to IS NULL OR r.created_at < h.created_to)
            )
        ), copied AS (
            INSERT INTO held_record
                (data_class, account_key, created_at, record_id, expires_at, copied_at, content)
            SELECT $1, account_key, created_at, stored_id, least(expires_at, $3), $2, content
            FROM protected WHERE $7
            ON CONFLICT ON CONSTRAINT held_record_once DO NOTHING
        )
        SELECT count(*) FROM protected
    $sql$, CASE p_class WHEN 'debug_log' THEN 'r.line_id::text' ELSE 'r.id' END,
           p_source, p_condition, identity, parties, address, candidates)
    INTO protected USING p_class, p_at, p_due, p_account, p_ids, p_created, p_copy,
                         accounts, numbers, addresses;
    RETURN protected;
END
$$;

-- Places a hold; it is in force for every destruction that has not committed.
CREATE FUNCTION place_hold(
    p_hold_id text, p_account bigint, p_number text, p_ip text, p_record text,
    p_from timestamptz, p_to timestamptz, p_reason text, p_case text, p_by text,
    p_at timestamptz, p_ends timestamptz
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7102, 1);
    INSERT INTO abuse_hold (hold_id, account_key, number, ip, record_id, created_from, created_to,
                            reason, case_ref, placed_by, placed_at, ends_at)
    VALUES (p_hold_id, p_account, p_number, p_ip, p_record, p_from, p_to,
            p_reason, p_case, p_by, p_at, p_ends);
END
$$;

-- Whether a hold's selector covers a held copy.
CREATE FUNCTION covers(h abuse_hold, r held_record) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
    SELECT (h.account_key IS NULL OR h.account_key = r.account_key)
       AND (h.record_id IS NULL OR h.record_id =
            CASE r.data_class WHEN 'debug_log' THEN r.content ->> 'record_id' ELSE r.record_id END)
       AND (h.number IS NULL OR h.number IN (r.content ->> 'sender', r.content ->> 'recipient'))
       AND (h.ip IS NULL OR h.ip = r.content ->> 'ip')
       AND (h.created_from IS NULL OR r.created_at >= h.created_from)
       AND (h.created_to IS NULL OR r.created_at < h.created_to)
$$;

-- Whether some active hold protects a held copy.
CREATE FUNCTION is_held(r held_record, p_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = trafficlog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT 1 FROM abuse_hold h
        WHERE h.released_at IS NULL AND h.ends_at > p_at AND covers(h, r)
    )
$$;

-- Whether one hold, in force or not, covers a held copy.
CREATE FUNCTION protects(p_hold text, r held_record) RETURNS boolean
LANGUAGE sql STABLE SET search_path = trafficlog, pg_temp
AS $$
    SELECT EXISTS (SELECT 1 FROM abuse_hold h WHERE h.hold_id = p_hold AND covers(h, r))
$$;

-- How many copies a hold covers, by class. Definer, because an operator is told the
-- number of held legal records though only an officer may read them.
CREATE FUNCTION held_counts(p_hold text) RETURNS TABLE (data_class text, rows bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
    SELECT r.data_class, count(*) FROM held_record r JOIN abuse_hold h ON covers(h, r)
    WHERE h.hold_id = p_hold GROUP BY r.data_class ORDER BY r.data_class
$$;

-- Destroys held copies past their own expiry that no hold protects any more,
-- at most p_rows_max of them; returns how many.
CREATE FUNCTION destroy_released(p_at timestamptz, p_rows_max integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    gone record;
    total bigint := 0;
BEGIN
    PERFORM lock_holds();
    FOR gone IN
        WITH due AS (
            SELECT held_key FROM held_record r
            WHERE r.expires_at <= p_at AND NOT is_held(r, p_at)
            ORDER BY held_key LIMIT p_rows_max
        ), destroyed AS (
            DELETE FROM held_record USING due WHERE held_record.held_key = due.held_key
            RETURNING data_class
        )
        SELECT data_class, count(*) AS rows FROM destroyed GROUP BY data_class ORDER BY data_class
    LOOP
        PERFORM ledger_append(p_at, gone.data_class, 'held_record', 'hold-ended',
                              NULL, NULL, gone.rows, 0);
        total := total + gone.rows;
    END LOOP;
    RETURN total;
END
$$;

-- Erases the current account's history rows of one id; the held ones are copied first.
CREATE FUNCTION erase_history(p_id text, p_created timestamptz[], p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    account bigint := current_account_key();
    protected bigint;
    erased bigint;
BEGIN
    PERFORM lock_holds();
    protected := copy_held('history_record', 'history_record', p_at, p_at,
        'r.account_key = $4 AND r.id = $5[1] AND r.created_at = ANY ($6)',
        account, ARRAY[p_id], p_created);
    DELETE FROM history_record
    WHERE account_key = account AND id = p_id AND created_at = ANY (p_created);
    GET DIAGNOSTICS erased = ROW_COUNT;
    IF erased > 0 THEN
        PERFORM ledger_append(p_at, 'history_record', 'record', 'erased', NULL, NULL, erased, protected);
    END IF;
    RETURN erased;
END
$$;

-- Removes what was in transit once it is delivered; true when there was something.
CREATE FUNCTION complete_in_transit(p_id text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    protected bigint;
    removed bigint;
    alive bigint;
BEGIN
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

-- Sets the current account's settings. p_days NULL turns history off. Waits for
-- batches on their way, so that none is written under the old setting afterwards.
CREATE FUNCTION change_settings(p_days smallint, p_reports boolean, p_at timestamptz, p_by text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    old account;
    after timestamptz;
    new_epoch bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7100, 1);
    SELECT * INTO STRICT old FROM account WHERE account_key = current_account_key() FOR UPDATE;
    IF old.history_days IS NOT DISTINCT FROM p_days AND old.monthly_reports = p_reports THEN
        RETURN;
    END IF;
    UPDATE settings_epoch SET epoch = epoch + 1 RETURNING epoch INTO new_epoch;
    after := old.history_after;
    IF old.history_days IS DISTINCT FROM p_days THEN
        IF old.history_days IS NULL THEN
            -- What was written before it was turned off stays hidden, even a
            -- row created a little ahead of the clock.
            after := greatest(after, p_at, (SELECT max(created_at) FROM history_record
                                            WHERE account_key = old.account_key));
        ELSIF p_days IS NOT NULL THEN
            -- What is expired, or expires by this change, never comes back.
            after := greatest(after, p_at - least(old.history_days, p_days) * interval '24 hours');
        END IF;
        INSERT INTO history_move (account_key, changed_at, settings_epoch)
        VALUES (old.account_key, p_at, new_epoch)
        ON CONFLICT (account_key) DO UPDATE
            SET settings_epoch = new_epoch, after_created = NULL, after_id = NULL;
    END IF;
    UPDATE account SET
        history_days = p_days,
        history_after = after,
        history_days_min = least(history_days_min, p_days),
        history_days_max = greatest(history_days_max, p_days),
        monthly_reports = p_reports,
        settings_epoch = new_epoch
    WHERE account_key = old.account_key;
    INSERT INTO account_setting_change (account_key, changed_at, changed_by, old, new)
    VALUES (old.account_key, p_at, p_by,
            jsonb_build_object('history_days', old.history_days, 'monthly_reports', old.monthly_reports),
            jsonb_build_object('history_days', p_days, 'monthly_reports', p_reports));
END
$$;

-- Carries one account's move on by at most p_rows_max rows under the setting in
-- force now. Returns the rows read, moved and destroyed; done when none is left.
CREATE FUNCTION move_history_step(p_account bigint, p_at timestamptz, p_rows_max integer)
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
            protected := copy_held('history_record', 'history_record', p_at, p_at,
                -- The range of the step, or each step would read all of the account.
                'r.account_key = $4 AND (r.id, r.created_at) IN (SELECT * FROM unnest($5, $6))'
                ' AND r.created_at >= (SELECT min(c) FROM unnest($6) c)'
                ' AND r.created_at <= (SELECT max(c) FROM unnest($6) c)',
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

-- How many rows a partition holds, attached or not.
CREATE FUNCTION count_rows(p_name text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    counted bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I', p_name) INTO counted;
    RETURN counted;
END
$$;

-- What a partition holds and how much of it active holds protect.
CREATE FUNCTION weigh_partition(p_table text, p_name text, p_at timestamptz)
RETURNS TABLE (rows bigint, held bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
BEGIN
    rows := count_rows(p_name);
    held := copy_held(p_name::regclass, p_table, p_at, p_at, p_copy => false);
    RETURN NEXT;
END
$$;

-- First step of a drop: what is held is copied, and the intent written down.
CREATE FUNCTION begin_drop(p_table text, p_name text, p_at timestamptz)
RETURNS TABLE (table_oid oid, lower timestamptz, upper timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    part record;
    moving bigint;
BEGIN
    SELECT c.* INTO part FROM partition_catalogue c WHERE c.table_name = p_table AND c.name = p_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no partition % of %', p_name, p_table USING ERRCODE = 'undefined_table';
    END IF;
    IF part.upper > p_at THEN
        RAISE EXCEPTION 'partition % is not expired: its upper bound % lies after %',
            p_name, part.upper, p_at USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF p_table = 'history_record' THEN
        -- By its key for each account that moves: joined otherwise, every row might be read.
        EXECUTE format(
            'SELECT m.account_key FROM history_move m, LATERAL (SELECT FROM %I r'
            ' WHERE r.account_key = m.account_key LIMIT 1) its LIMIT 1', p_name)
        INTO moving;
        IF moving IS NOT NULL THEN
            RAISE EXCEPTION 'partition % holds rows that are still to be moved', p_name
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
    END IF;
    -- Without the lock, so that placing a hold never waits for a long copy.
    PERFORM copy_held(p_name::regclass, p_table, p_at, p_at);
    RETURN QUERY
    INSERT INTO partition_drop AS d (name, table_name, table_oid, lower, upper, begun_at)
    VALUES (p_name, p_table, part.table_oid, part.lower, part.upper, p_at)
    ON CONFLICT (name) DO UPDATE SET table_oid = part.table_oid, begun_at = p_at, holds_seen = NULL
    RETURNING d.table_oid, d.lower, d.upper;
END
$$;

-- Middle step of a drop, when nobody writes to the detached table any more: what is
-- held is copied, again without the lock, and the rows are counted.
CREATE FUNCTION settle_drop(p_name text, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    intent partition_drop;
    seen text[];
    protected bigint;
BEGIN
    SELECT * INTO STRICT intent FROM partition_drop d WHERE d.name = p_name;
    -- Before the copy: a hold that is placed meanwhile has not been seen.
    seen := ARRAY(SELECT h.hold_id FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at);
    protected := copy_held(p_name::regclass, intent.table_name, p_at, p_at);
    UPDATE partition_drop d SET holds_seen = seen, held = protected
    WHERE d.name = p_name AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = intent.table_oid);
    RETURN count_rows(p_name);
END
$$;

-- Last step of a drop: holds that came since are looked at under the lock, the detached
-- table goes, and the ledger says so, all in one transaction.
CREATE FUNCTION finish_drop(p_name text, p_at timestamptz, p_rows bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    intent partition_drop;
    protected bigint;
BEGIN
    PERFORM lock_holds();
    SELECT * INTO STRICT intent FROM partition_drop d WHERE d.name = p_name FOR UPDATE;
    IF EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = intent.table_oid) THEN
        RAISE EXCEPTION '% is attached again', p_name USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF intent.table_oid <> coalesce(to_regclass(p_name), 0)::oid THEN
        RAISE EXCEPTION '% is not the table whose drop began', p_name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- The rows are those that were looked at; only a new hold makes a difference.
    IF intent.holds_seen IS NULL OR EXISTS (
        SELECT 1 FROM abuse_hold h WHERE h.released_at IS NULL AND h.ends_at > p_at
                                     AND h.hold_id <> ALL (intent.holds_seen)
    ) THEN
        protected := copy_held(p_name::regclass, intent.table_name, p_at, p_at);
    ELSE
        protected := intent.held;
    END IF;
    EXECUTE format('DROP TABLE %I', p_name);
    PERFORM ledger_append(p_at, intent.table_name, p_name, 'expired',
                          intent.lower, intent.upper, p_rows, protected);
    DELETE FROM partition_register r WHERE r.name = p_name;
    DELETE FROM partition_drop d WHERE d.name = p_name;
    RETURN protected;
END
$$;

-- Closes the account: its history is turned off, its keys are revoked.
CREATE FUNCTION close_account(p_account bigint, p_at timestamptz, p_by text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
BEGIN
    PERFORM set_config('trafficlog.account_key', p_account::text, true);
    PERFORM change_settings(NULL, false, p_at, p_by);
    UPDATE account SET closed_at = p_at WHERE account_key = p_account AND closed_at IS NULL;
    UPDATE api_key SET revoked_at = p_at WHERE account_key = p_account AND revoked_at IS NULL;
END
$$;

-- The reference time of the last run, for the clock guard.
CREATE TABLE retention_state (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_reference_at timestamptz
);
INSERT INTO retention_state DEFAULT VALUES;

GRANT EXECUTE ON FUNCTION place_hold(text, bigint, text, text, text, timestamptz, timestamptz, text,
    text, text, timestamptz, timestamptz) TO trafficlog_operator;
GRANT EXECUTE ON FUNCTION held_counts(text), close_account(bigint, timestamptz, text)
    TO trafficlog_operator;
GRANT EXECUTE ON FUNCTION protects(text, held_record), covers(abuse_hold, held_record)
    TO trafficlog_operator, trafficlog_officer;
GRANT EXECUTE ON FUNCTION erase_history(text, timestamptz[], timestamptz) TO trafficlog_customer;
GRANT EXECUTE ON FUNCTION complete_in_transit(text, timestamptz) TO trafficlog_ingest;
GRANT EXECUTE ON FUNCTION change_settings(smallint, boolean, timestamptz, text)
    TO trafficlog_customer, trafficlog_operator;
GRANT SELECT ON abuse_hold, held_record, purge_ledger, purge_ledger_head, retention_state
    TO trafficlog_operator;
GRANT UPDATE (ends_at, released_at, released_by) ON abuse_hold TO trafficlog_operator;
GRANT SELECT ON held_record TO trafficlog_officer;
