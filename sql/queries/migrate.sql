-- name: has_schema()$
-- Whether any migration was ever applied to this database.
SELECT to_regclass('trafficlog.schema_migration') IS NOT NULL;

-- name: applied()
-- The migrations that were applied, with the checksums they had.
SELECT version, checksum FROM trafficlog.schema_migration ORDER BY version;

-- name: note_applied(version, name, checksum)!
-- Notes that a migration was applied.
INSERT INTO trafficlog.schema_migration (version, name, checksum)
VALUES (:version, :name, :checksum);

-- name: schema_version()$
-- The version of the schema.
SELECT max(version) FROM trafficlog.schema_migration;

-- name: lock_migrations()$
-- Lets one process at a time migrate this database, until its connection closes.
SELECT pg_advisory_lock(7199, 1)::text;
