-- name: reports_due(at, before)
-- The months that ended before a day and have reports to make, or to make final.
SELECT DISTINCT month FROM usage_changed WHERE month < :before::date
UNION
SELECT DISTINCT month FROM monthly_report
WHERE NOT final AND deleted_at IS NULL AND final_from <= :at::timestamptz
ORDER BY month;

-- name: make_reports(month, final_from, at, accounts_max)$
-- Makes the reports of a month for some of the accounts that are due; gives of how many that was.
SELECT make_reports(:month::date, :final_from::timestamptz, :at::timestamptz, :accounts_max);

-- name: reports(account_key)
-- The present account's reports, newest month first.
SELECT r.month, r.made_at, r.final_from, r.final, r.content, coalesce(r.currency, a.currency) AS currency,
       a.account_id, a.display_name
FROM monthly_report r JOIN account a USING (account_key)
WHERE r.account_key = :account_key AND r.deleted_at IS NULL
ORDER BY r.month DESC;

-- name: report_of_month(account_key, month)^
-- The present account's report of a month.
SELECT r.month, r.made_at, r.final_from, r.final, r.content, coalesce(r.currency, a.currency) AS currency,
       a.account_id, a.display_name
FROM monthly_report r JOIN account a USING (account_key)
WHERE r.account_key = :account_key AND r.month = :month::date AND r.deleted_at IS NULL;

-- name: delete_report(month, at)$
-- Deletes the present account's report of a month for good; true when there was one.
SELECT delete_report(:month::date, :at::timestamptz);
