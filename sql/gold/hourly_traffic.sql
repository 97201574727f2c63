-- Traffic per hour (UTC) and device.
-- key: hour, device
SELECT
    date_trunc('hour', event_time) AS hour,
    coalesce(device, 'unknown') AS device,
    count(*) AS events,
    count(*) FILTER (WHERE event_type = 'page_view') AS page_views,
    count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
    count(DISTINCT user_id) AS users,
    count(DISTINCT session_id) AS sessions
FROM silver.events
GROUP BY 1, 2
