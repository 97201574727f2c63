-- One row per purchase, with what was paid.
-- key: event_id
-- check: amount >= 0                              warn
SELECT
    event_id,
    event_time,
    event_date,
    user_id,
    session_id,
    country,
    device,
    split_part(split_part(page_url, '?', 1), '#', 1) AS page,
    experiment,
    currency,
    price,
    quantity,
    -- Exact, and wide enough that no price and quantity overflow it: one absurd event must not stop the model.
    CAST(CAST(price AS DECIMAL(28, 2)) * quantity AS DECIMAL(28, 2)) AS amount
FROM silver.events
WHERE event_type = 'purchase'
