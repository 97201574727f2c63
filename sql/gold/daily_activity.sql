-- Activity per day and country. Users who were in two countries on one day count once in each; gold.cohort_retention
-- adds up to the exact number of users per day.
-- key: day, country
SELECT
    event_date AS day,
    -- Named rather than null: most dashboards drop the rows of a null group, and totals then stop adding up.
    coalesce(country, 'unknown') AS country,
    count(*) AS events,
    count(DISTINCT user_id) AS users,
    count(DISTINCT user_id) FILTER (WHERE is_new_user) AS new_users,
    count(DISTINCT session_id) AS sessions,
    count(*) FILTER (WHERE event_type = 'page_view') AS page_views,
    count(*) FILTER (WHERE event_type = 'search') AS searches,
    count(*) FILTER (WHERE event_type = 'add_to_cart') AS add_to_carts,
    count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
    avg(duration_ms) AS avg_duration_ms
FROM silver.events
GROUP BY 1, 2
