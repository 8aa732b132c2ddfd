-- What operators watch in the browser: the last runs of the jobs, and what came in each minute.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

CREATE TABLE job_run (
    job          text COLLATE "C" PRIMARY KEY,
    ran_at       timestamptz NOT NULL,
    succeeded_at timestamptz,
    failed_at    timestamptz,
    failure      text,
    failures     bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE job_run IS 'the last runs of each job, whichever instance ran it';

CREATE TABLE ingest_minute (
    minute  timestamptz PRIMARY KEY,
    records bigint NOT NULL
);
COMMENT ON TABLE ingest_minute IS
    'records stored for the first time, by the minute in which their usage was summed up; kept a day';

-- What leaves usage_delta was added by all writers together; a later report adds as much as it takes.
CREATE FUNCTION count_ingest() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = trafficlog, pg_temp
AS $$
DECLARE
    added bigint := (SELECT sum(records) FROM gone);
BEGIN
    IF added > 0 THEN
        INSERT INTO ingest_minute AS m VALUES (date_trunc('minute', now()), added)
        ON CONFLICT (minute) DO UPDATE SET records = m.records + EXCLUDED.records;
        DELETE FROM ingest_minute WHERE minute < now() - interval '1 day';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER usage_delta_ingest AFTER DELETE ON usage_delta
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_ingest();

GRANT SELECT ON job_run, ingest_minute, look_up_catalogue, ended_session TO trafficlog_operator;
GRANT EXECUTE ON FUNCTION end_session(bytea, timestamptz, timestamptz) TO trafficlog_operator;
