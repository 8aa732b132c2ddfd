-- name: roll_up_usage(rows_max)$
-- Sums up what writers added to the usage statistics; gives how many rows that were.
SELECT roll_up_usage(:rows_max);

-- name: usage(account_key, unit, first, last)
-- What an account used in each day or month, by kind, direction and status.
SELECT date_trunc(:unit, u.day::timestamp)::date AS first_day, k.name AS kind, d.name AS direction,
       s.name AS status, sum(u.records)::bigint AS records, sum(u.parts)::bigint AS parts,
       sum(u.seconds)::bigint AS seconds, sum(u.cost)::bigint AS cost
FROM (
    SELECT * FROM usage_statistic
    WHERE account_key = :account_key AND day BETWEEN :first::date AND :last::date
    UNION ALL
    SELECT * FROM usage_delta
    WHERE account_key = :account_key AND day BETWEEN :first::date AND :last::date
) u
JOIN kind k ON k.code = u.kind
JOIN direction d ON d.code = u.direction
LEFT JOIN status s ON s.code = u.status
GROUP BY first_day, u.kind, k.name, u.direction, d.name, u.status, s.name
HAVING sum(u.records) <> 0 OR sum(u.parts) <> 0 OR sum(u.seconds) <> 0 OR sum(u.cost) <> 0
ORDER BY first_day, u.kind, u.direction, u.status NULLS FIRST;
