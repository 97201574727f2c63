-- One row per known user: first and last seen, how much they do, and the plan they are on.
-- key: user_id
WITH user_events AS (
    SELECT
        *,
        -- The plan behind its time in microseconds, 18 digits wide, as in silver.sessions: the greatest is the latest.
        concat(
            lpad(CAST(CAST(round(date_part('epoch', event_time) * 1000000) AS BIGINT) AS VARCHAR), 18, '0'),
            plan
        ) AS plan_at
    FROM silver.events
    WHERE user_id IS NOT NULL
),
users AS (
    SELECT
        user_id,
        max(plan_at) FILTER (WHERE plan IS NOT NULL) AS last_plan,
        min(event_time) AS first_seen,
        max(event_time) AS last_seen,
        count(DISTINCT event_date) AS active_days,
        count(*) AS events,
        count(*) FILTER (WHERE event_type = 'page_view') AS page_views,
        count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
        CAST(sum(duration_ms) AS BIGINT) AS duration_ms
    FROM user_events
    GROUP BY user_id
)
SELECT
    user_id,
    substr(last_plan, 19) AS plan,
    first_seen,
    last_seen,
    active_days,
    events,
    page_views,
    purchases,
    duration_ms
FROM users
