-- Per day, how many sessions went from viewing to the cart to a purchase. A session counts on the day it began.
-- key: day
-- check: added_to_cart <= viewed                  fail
-- check: purchased <= added_to_cart               fail
WITH funnel AS (
    SELECT
        session_date AS day,
        count(*) AS sessions,
        -- Each stage asks for all stages before it, so that no rate exceeds one. That the stages came in this order
        -- within the session is taken as given: the clocks of clients are not good enough to prove it.
        count(*) FILTER (WHERE viewed) AS viewed,
        count(*) FILTER (WHERE viewed AND added_to_cart) AS added_to_cart,
        count(*) FILTER (WHERE viewed AND added_to_cart AND converted) AS purchased
    FROM silver.sessions
    GROUP BY 1
)
SELECT
    day,
    sessions,
    viewed,
    added_to_cart,
    purchased,
    CAST(viewed AS DOUBLE) / nullif(sessions, 0) AS view_rate,
    CAST(added_to_cart AS DOUBLE) / nullif(viewed, 0) AS cart_rate,
    CAST(purchased AS DOUBLE) / nullif(added_to_cart, 0) AS purchase_rate,
    CAST(purchased AS DOUBLE) / nullif(sessions, 0) AS conversion_rate
FROM funnel
