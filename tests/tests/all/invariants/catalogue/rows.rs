//! Rows that are only ever added: the silver tables that the others read, projections, filters, unions, unnest.

use super::{Shape, query};

const JSON: &str = "it reads JSON with the product's functions";

pub(super) const SILVER: Shape = Shape {
    name: "silver",
    queries: &[
        query(
            "silver.seen",
            "SELECT event_id, event_type, event_time, event_date, CAST(date_part('epoch',
                 event_time) AS BIGINT) AS sec, kind, who, n,
                 x, y, price, flag, tags, path, late, id, seq, op, city
             FROM (SELECT *,
                 row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS occurrence FROM bronze.events)
             WHERE occurrence = 1",
        ),
        query("silver.rows", "SELECT * FROM silver.seen WHERE event_type = 'row'"),
        query(
            "silver.raw",
            "SELECT event_id, kind, who, n, y, price, flag FROM bronze.events
             WHERE event_type = 'row' AND kind <> 'k3'",
        ),
        query("silver.changes", "SELECT event_id, id, seq, op, kind, n FROM silver.seen WHERE event_type = 'change'"),
        query(
            "silver.current",
            "SELECT id, kind, n, seq FROM (
                 SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq DESC NULLS LAST, event_id DESC) AS newest
                 FROM silver.changes
             ) WHERE newest = 1 AND op <> 'd'",
        ),
        query(
            "silver.people",
            "SELECT who, city FROM (
                 SELECT who, city, row_number() OVER (PARTITION BY who ORDER BY event_time DESC,
                     event_id DESC) AS newest
                 FROM silver.seen WHERE event_type = 'person' AND who IS NOT NULL
             ) WHERE newest = 1",
        ),
    ],
};

pub(super) const ROWS: Shape = Shape {
    name: "rows",
    queries: &[
        query(
            "gold.projected",
            "SELECT event_id, n * 2 + 1 AS odd, concat(coalesce(who, '?'), '-', kind) AS label, upper(kind) AS shout,
                 nullif(n, 3) AS not_three, CASE WHEN flag THEN 'yes' WHEN NOT flag THEN 'no' END AS answer
             FROM silver.rows",
        ),
        query(
            "gold.filtered",
            "SELECT event_id, kind, n FROM silver.rows
             WHERE n > 3 AND (kind <> 'k1' OR kind IS NULL) AND flag IS NOT FALSE",
        ),
        query(
            "gold.unioned",
            "SELECT event_id, 'row' AS what, n FROM silver.rows
             UNION ALL SELECT event_id, 'change', seq FROM silver.changes
             UNION ALL SELECT event_id, 'raw', n FROM silver.raw WHERE n % 2 = 0",
        ),
        query("gold.parts", "SELECT event_id, unnest(string_to_array(nullif(path, ''), '/')) AS part FROM silver.rows"),
        query("gold.some_parts", "SELECT part, event_id FROM gold.parts WHERE part <> 'b'"),
        query(
            "gold.tags",
            "WITH each AS (SELECT event_id, unnest(json_get_array(tags)) AS tag FROM silver.rows)
             SELECT event_id, tag FROM each",
        )
        .in_neither(JSON),
        query(
            "gold.documents",
            "SELECT event_id, _doc ->> 'note' AS note, _doc -> 'deep' ->> 'er' AS deeper FROM bronze.events",
        )
        .in_neither(JSON),
        query(
            "gold.odd_numbers",
            "SELECT event_id, x / 0.0 AS by_zero, x - x AS nothing, -x AS negated, x * 1e300 AS huge,
                 y / (y - y) AS y_by_zero
             FROM silver.rows",
        ),
        query("gold.lately", "SELECT event_id, late + 1 AS later FROM silver.rows WHERE late IS NOT NULL"),
        query(
            "gold.times",
            "SELECT event_id, date_trunc('hour', event_time) AS hour, date_part('minute', event_time) AS minute,
                 event_date
             FROM silver.rows WHERE sec % 7200 < 3600",
        ),
        query(
            "gold.prices",
            "SELECT event_id, price + price AS twice, price - 0.01 AS less, price > 10 AS much FROM silver.rows",
        ),
        query("gold.repeats", "SELECT kind, n FROM silver.raw"),
        query(
            "gold.offsets",
            "SELECT event_id, _offset AS place_in_log FROM bronze.events WHERE event_type <> 'noise'",
        )
        .in_log_order(),
        query("gold.doubled", "SELECT kind, n FROM silver.rows UNION ALL SELECT kind, n FROM silver.rows WHERE flag"),
        query(
            "gold.with_constants",
            "SELECT 'none' AS kind, 0 AS n UNION ALL SELECT kind, n FROM silver.rows WHERE n < 3",
        ),
        query("gold.none", "SELECT event_id FROM bronze.events WHERE event_type = 'never'"),
    ],
};
