-- Of the users first seen on one day, how many came back after so many days.
-- key: cohort_day, days_since
-- check: active_users <= cohort_users             fail
WITH user_days AS (
    SELECT DISTINCT user_id, event_date AS day
    FROM silver.events
    WHERE user_id IS NOT NULL
),
-- First seen is measured, not claimed: clients set is_new_user as they please.
first_days AS (
    SELECT user_id, min(day) AS cohort_day
    FROM user_days
    GROUP BY user_id
),
cohorts AS (
    SELECT cohort_day, count(*) AS cohort_users
    FROM first_days
    GROUP BY cohort_day
),
returns AS (
    SELECT first_days.cohort_day, user_days.day, count(*) AS active_users
    FROM user_days
    JOIN first_days ON user_days.user_id = first_days.user_id
    GROUP BY first_days.cohort_day, user_days.day
)
SELECT
    returns.cohort_day,
    CAST(returns.day - returns.cohort_day AS BIGINT) AS days_since,
    -- A user is in one cohort, so active_users summed over a day is the exact number of users of that day.
    returns.day,
    cohorts.cohort_users,
    returns.active_users,
    CAST(returns.active_users AS DOUBLE) / cohorts.cohort_users AS retention_rate
FROM returns
JOIN cohorts ON returns.cohort_day = cohorts.cohort_day
