-- One row per page view, with the page as one name however it was linked to.
-- key: event_id
SELECT
    event_id,
    event_time,
    event_date,
    user_id,
    session_id,
    page_url,
    -- Campaign parameters and anchors would make thousands of pages out of one.
    split_part(split_part(page_url, '?', 1), '#', 1) AS page,
    page_title,
    -- Trackers send both '' and null for a visit that came from nowhere.
    nullif(referrer, '') AS referrer,
    device,
    country,
    duration_ms,
    scroll_depth,
    clicks,
    experiment
FROM silver.events
WHERE event_type = 'page_view'
