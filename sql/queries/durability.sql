-- name: durability()
-- How the server sees to it that what this connection commits is on disk.
SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name;
