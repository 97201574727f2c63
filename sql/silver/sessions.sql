-- One row per session: when, how long, where it began and ended, and whether it converted.
-- key: session_id
WITH steps AS (
    SELECT
        *,
        -- The page behind its time in microseconds, 18 digits wide: the least of these is where a session began, the
        -- greatest where it ended, and no order of arrival can change which. Two pages in one microsecond go by name.
        concat(
            lpad(CAST(CAST(round(date_part('epoch', event_time) * 1000000) AS BIGINT) AS VARCHAR), 18, '0'),
            split_part(split_part(page_url, '?', 1), '#', 1)
        ) AS step
    FROM silver.events
    WHERE session_id IS NOT NULL
),
sessions AS (
    SELECT
        session_id,
        -- A session has one user, device and country; where a client says otherwise, the least is as good as any, and
        -- the same for everybody.
        min(user_id) AS user_id,
        min(device) AS device,
        min(country) AS country,
        min(event_date) AS session_date,
        min(event_time) AS started_at,
        max(event_time) AS ended_at,
        count(*) AS events,
        count(*) FILTER (WHERE event_type = 'page_view') AS page_views,
        min(step) FILTER (WHERE page_url IS NOT NULL) AS first_step,
        max(step) FILTER (WHERE page_url IS NOT NULL) AS last_step,
        bool_or(event_type = 'page_view') AS viewed,
        bool_or(event_type = 'add_to_cart') AS added_to_cart,
        bool_or(event_type = 'purchase') AS converted
    FROM steps
    GROUP BY session_id
)
SELECT
    session_id,
    user_id,
    device,
    country,
    session_date,
    started_at,
    ended_at,
    CAST(round(1000 * (date_part('epoch', ended_at) - date_part('epoch', started_at))) AS BIGINT) AS duration_ms,
    events,
    page_views,
    substr(first_step, 19) AS entry_page,
    substr(last_step, 19) AS exit_page,
    viewed,
    added_to_cart,
    converted
FROM sessions
