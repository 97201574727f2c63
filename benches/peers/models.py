"""The transformations that are timed: one silver table and four gold ones, as lakebed's models and as DuckDB's tables.

The SQL is the same for both, so that the answers can be compared. Only the deduplication is spelled twice: lakebed
orders by the log's offset, DuckDB by the time, which is the same for a file without duplicate ids.
"""

SILVER_LAKEBED = """-- Kept as it is stored, as the script of DuckDB keeps it; the gold tables are published.
-- sinks: none
SELECT event_id, event_type, event_time, event_date, user_user_id, location_country, page_url,
       engagement_duration_ms, engagement_scroll_depth, properties_price, user_agent_device
FROM (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS place FROM bronze.events) AS ordered
WHERE place = 1
"""

SILVER_DUCKDB = """SELECT event_id, event_type, event_time, event_date, user_user_id, location_country, page_url,
       engagement_duration_ms, engagement_scroll_depth, properties_price, user_agent_device
FROM (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY event_time) AS place FROM bronze) AS ordered
WHERE place = 1
"""

GOLD = {
    "daily": """SELECT event_date, location_country AS country, event_type, count(*) AS events,
       count(DISTINCT user_user_id) AS users, avg(engagement_duration_ms) AS avg_ms, sum(properties_price) AS revenue
FROM silver.events GROUP BY event_date, location_country, event_type
""",
    "users": """SELECT user_user_id, min(event_time) AS first_seen, max(event_time) AS last_seen, count(*) AS events,
       sum(coalesce(properties_price, 0)) AS revenue
FROM silver.events GROUP BY user_user_id
""",
    "pages": """SELECT page_url, count(*) AS views, avg(engagement_scroll_depth) AS depth
FROM silver.events GROUP BY page_url
""",
    "hourly": """SELECT date_trunc('hour', event_time) AS hour, user_agent_device AS device, count(*) AS events,
       {approx_distinct}(user_user_id) AS users
FROM silver.events GROUP BY date_trunc('hour', event_time), user_agent_device
""",
}

# What must be the same on both sides for their times to be comparable: rows, and a sum over each table.
CHECKS = {
    "silver.events": "SELECT count(*) AS n, sum(engagement_duration_ms) AS total FROM silver.events",
    "gold.daily": "SELECT count(*) AS n, sum(users) AS total FROM gold.daily",
    "gold.users": "SELECT count(*) AS n, sum(events) AS total FROM gold.users",
    "gold.pages": "SELECT count(*) AS n, sum(views) AS total FROM gold.pages",
    "gold.hourly": "SELECT count(*) AS n, sum(events) AS total FROM gold.hourly",
}

# What is served: many rows of mixed types as the log holds them, read from its files, and a silver and a gold table, which lakebed
# keeps in memory once they are asked for again.
SERVED = {
    "events": """SELECT event_id, event_type, event_time, source, user_user_id, session_session_id,
       user_agent_browser, location_country, location_latitude, page_url, engagement_duration_ms, properties_price
FROM bronze.events""",
    "silver.events": """SELECT event_id, event_type, event_time, user_user_id, location_country, page_url,
       engagement_duration_ms, engagement_scroll_depth, properties_price, user_agent_device
FROM silver.events""",
    "gold.users": "SELECT user_user_id, first_seen, last_seen, events, revenue FROM gold.users",
}


def gold(dialect):
    """The gold models by name; `dialect` is "lakebed" or "duckdb"."""
    approx_distinct = {"lakebed": "approx_distinct", "duckdb": "approx_count_distinct"}[dialect]
    return {name: sql.replace("{approx_distinct}", approx_distinct) for name, sql in GOLD.items()}
