-- One row per interaction (hover, tap, focus) inside an event. Equal interactions of one event are rows of their own.
--
-- json_get_array gives the elements of a JSON array, each as JSON text, and null for what is no
-- array. DuckDB runs this file after
--   CREATE MACRO json_get_array(document) AS TRY_CAST(document AS JSON[])
WITH elements AS (
    SELECT
        event_id,
        event_time,
        event_date,
        user_id,
        session_id,
        device,
        unnest(json_get_array(interactions)) AS interaction
    FROM silver.events
)
SELECT
    event_id,
    event_time,
    event_date,
    user_id,
    session_id,
    device,
    interaction ->> 'type' AS interaction_type,
    -- TRY_CAST: a client that sends words here loses this value, and nobody loses the table. Browsers send fractions.
    TRY_CAST(interaction ->> 'at_ms' AS DOUBLE) AS at_ms
FROM elements
