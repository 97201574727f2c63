-- Every event once, in clean columns: the first copy of an event_id in the log wins.
-- key: event_id
SELECT
    event_id,
    event_type,
    event_time,
    event_date,
    source,
    user_user_id AS user_id,
    user_anonymous_id AS anonymous_id,
    user_is_new AS is_new_user,
    user_plan AS plan,
    session_session_id AS session_id,
    session_sequence,
    user_agent_browser AS browser,
    user_agent_os AS os,
    user_agent_device AS device,
    location_country AS country,
    location_region AS region,
    location_city AS city,
    page_url,
    page_referrer AS referrer,
    page_title,
    engagement_duration_ms AS duration_ms,
    engagement_scroll_depth AS scroll_depth,
    engagement_clicks AS clicks,
    engagement_interactions AS interactions,
    properties_experiment AS experiment,
    properties_price AS price,
    properties_currency AS currency,
    properties_quantity AS quantity
-- Left in bronze on purpose: the original document, the address, the coordinates and the raw user agent, which
-- nothing below needs and which are personal; and _offset, which says when an event arrived, so that events that
-- come in another order still make the same tables. Where an order needs a tie-breaker, event_id is one.
FROM (
    -- Later copies never win, so a refresh only looks at new rows.
    SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS occurrence
    FROM bronze.events
)
WHERE occurrence = 1
