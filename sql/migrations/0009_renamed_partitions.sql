-- A partition that somebody renamed is dropped like any other, and nothing of it is left behind.
--
-- It was known to the register by the name it was made with, so verification missed it after
-- its drop.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- Last step of a drop: holds that came since are looked at under the lock, the detached
-- table goes, and the ledger says so, all in one transaction.
CREATE OR REPLACE FUNCTION finish_drop(p_name text, p_at timestamptz, p_rows bigint) RETURNS bigint
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
    -- By its place too: it may stand there under the name it was made with.
    DELETE FROM partition_register r
    WHERE r.name = p_name
       OR r.table_name = intent.table_name AND r.lower = intent.lower
          AND to_regclass(quote_ident(r.name)) IS NULL;
    DELETE FROM partition_drop d WHERE d.name = p_name;
    RETURN protected;
END
$$;
