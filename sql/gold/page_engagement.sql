-- How each page is read: views, readers, time, depth and clicks.
-- key: page
SELECT
    coalesce(page, 'unknown') AS page,
    count(*) AS views,
    count(DISTINCT user_id) AS users,
    avg(duration_ms) AS avg_duration_ms,
    -- Depths are decimals, so their sum is exact in any order; the mean is rounded once.
    CAST(sum(scroll_depth) AS DOUBLE) / nullif(count(scroll_depth), 0) AS avg_scroll_depth,
    CAST(count(*) FILTER (WHERE scroll_depth >= 0.5) AS DOUBLE) / nullif(count(scroll_depth), 0) AS past_half_rate,
    CAST(sum(clicks) AS BIGINT) AS clicks
FROM silver.page_views
GROUP BY 1
