-- Revenue per day, country and currency. Amounts of two currencies are never added up.
-- key: day, country, currency
-- check: revenue >= 0                             warn
SELECT
    event_date AS day,
    coalesce(country, 'unknown') AS country,
    coalesce(currency, 'unknown') AS currency,
    count(*) AS purchases,
    count(DISTINCT user_id) AS buyers,
    CAST(sum(quantity) AS BIGINT) AS items,
    sum(amount) AS revenue,
    -- The division is the only rounding: the sum above is exact.
    CAST(sum(amount) AS DOUBLE) / nullif(count(amount), 0) AS avg_purchase
FROM silver.purchases
GROUP BY 1, 2, 3
