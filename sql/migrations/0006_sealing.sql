-- Which partitions were frozen because they get no more records.
SET LOCAL ROLE trafficlog_owner;
SET LOCAL search_path = trafficlog, pg_temp;

ALTER TABLE partition_register ADD COLUMN sealed_at timestamptz;
COMMENT ON COLUMN partition_register.sealed_at IS
    'when it was vacuumed and frozen, once; records that come later still go into it';
