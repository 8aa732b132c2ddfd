-- The database roles, the schema, and the record of migrations.
--
-- Roles belong to the whole server, so another database may have made them.
-- trafficlog_ingest bypasses row-level security because COPY refuses tables
-- that have it; what it may read is limited by column grants instead.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'trafficlog_owner', 'trafficlog_ingest', 'trafficlog_customer',
        'trafficlog_operator', 'trafficlog_officer', 'trafficlog_retention'
    ] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        -- A superuser needs no membership to take a role on; others do.
        IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            EXECUTE format('GRANT %I TO %I', wanted, current_user);
        END IF;
    END LOOP;
    IF NOT (SELECT rolbypassrls FROM pg_roles WHERE rolname = 'trafficlog_ingest') THEN
        ALTER ROLE trafficlog_ingest BYPASSRLS;
    END IF;
    -- Retention detaches and drops, which only an owner may.
    IF NOT pg_has_role('trafficlog_retention', 'trafficlog_owner', 'MEMBER') THEN
        GRANT trafficlog_owner TO trafficlog_retention;
    END IF;
    EXECUTE format('REVOKE CREATE ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

CREATE SCHEMA trafficlog AUTHORIZATION trafficlog_owner;
REVOKE ALL ON SCHEMA trafficlog FROM PUBLIC;
GRANT USAGE ON SCHEMA trafficlog TO
    trafficlog_ingest, trafficlog_customer, trafficlog_operator,
    trafficlog_officer, trafficlog_retention;

SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

-- Functions are for those who are given them, not for everybody.
ALTER DEFAULT PRIVILEGES FOR ROLE trafficlog_owner
    REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE TABLE schema_migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON schema_migration TO
    trafficlog_ingest, trafficlog_customer, trafficlog_operator,
    trafficlog_officer, trafficlog_retention;
