-- Policies that change: from a date on, for records created from then on.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- Sets a policy for records created from p_from on. Waits for batches on their way, as a
-- change of an account's setting does. The date must lie ahead of every record that can
-- have been stored, so that no stored row's expiry changes; p_after is that limit.
CREATE FUNCTION set_policy(
    p_class text, p_from timestamptz, p_hours integer, p_basis text, p_by text,
    p_at timestamptz, p_after timestamptz
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7100, 1);
    IF p_from <= p_after THEN
        RAISE EXCEPTION 'a policy starts later than %', p_after
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE settings_epoch SET epoch = epoch + 1;
    INSERT INTO retention_policy (data_class, effective_from, period_hours, legal_basis, set_at, set_by)
    VALUES (p_class, p_from, p_hours, p_basis, p_at, p_by)
    ON CONFLICT (data_class, effective_from) DO UPDATE
        SET period_hours = p_hours, legal_basis = p_basis, set_at = p_at, set_by = p_by;
END
$$;
GRANT EXECUTE ON FUNCTION
    set_policy(text, timestamptz, integer, text, text, timestamptz, timestamptz) TO trafficlog_operator;
