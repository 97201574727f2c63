//! One row per key: the first, the last, and change data with deletes that come out of order.

use super::{Shape, query};

pub(super) const FIRST: Shape = Shape {
    name: "first",
    queries: &[
        query(
            "gold.first_of_kind",
            "SELECT kind, event_id FROM (
                 SELECT kind, event_id, row_number() OVER (PARTITION BY kind ORDER BY _offset) AS place
                 FROM bronze.events WHERE event_type = 'row'
             ) WHERE place = 1",
        )
        .in_log_order(),
        query(
            "gold.first_of_pair",
            "SELECT kind, who, n, place_in_log FROM (
                 SELECT kind, who, n, _offset AS place_in_log,
                     row_number() OVER (PARTITION BY kind, who ORDER BY _offset) AS place
                 FROM bronze.events
             ) WHERE place = 1",
        )
        .in_log_order(),
        query(
            "gold.first_by_time",
            "SELECT who, event_id, n FROM (
                 SELECT *, row_number() OVER (PARTITION BY who ORDER BY event_time, event_id) AS place
                 FROM silver.rows
             ) WHERE place = 1",
        ),
        query(
            "gold.first_of_double",
            "SELECT x, event_id FROM (
                 SELECT x, event_id, row_number() OVER (PARTITION BY x ORDER BY event_time DESC, event_id) AS place
                 FROM silver.rows
             ) WHERE place = 1",
        )
        .in_neither("there windows take −0.0 and 0.0 for two partitions, or either for the one that is shown"),
        query(
            "gold.first_tag",
            "WITH each AS (SELECT event_id, _offset, unnest(json_get_array(tags)) AS tag FROM bronze.events)
             SELECT tag, event_id FROM (
                 SELECT *, row_number() OVER (PARTITION BY tag ORDER BY _offset) AS place FROM each
             ) WHERE place = 1",
        )
        .in_log_order()
        .in_neither("it reads JSON with the product's functions"),
        query(
            "gold.distinct_on_first",
            "SELECT DISTINCT ON (kind, who) kind, who, event_id, y
             FROM silver.rows ORDER BY kind, who, event_time, event_id",
        ),
        query(
            "gold.second_of_who",
            "SELECT who, event_id FROM (
                 SELECT *, row_number() OVER (PARTITION BY who ORDER BY event_time, event_id) AS place
                 FROM silver.rows
             ) WHERE place = 2 AND n > 0",
        ),
        query(
            "gold.not_first",
            "SELECT event_id FROM (
                 SELECT *, row_number() OVER (PARTITION BY kind ORDER BY event_time, event_id) AS place
                 FROM silver.rows
             ) WHERE place > 1",
        ),
        query(
            "gold.every_copy",
            "SELECT event_id, place FROM (
                 SELECT event_id, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS place
                 FROM bronze.events
             ) WHERE place <= 2",
        ),
    ],
};

pub(super) const LATEST: Shape = Shape {
    name: "latest",
    queries: &[
        query(
            "gold.latest_of_who",
            "SELECT who, event_id, kind, y FROM (
                 SELECT *, row_number() OVER (PARTITION BY who ORDER BY event_time DESC, event_id DESC) AS place
                 FROM silver.rows
             ) WHERE place = 1",
        ),
        query(
            "gold.latest_on",
            "SELECT DISTINCT ON (who) who, event_id, price
             FROM silver.rows ORDER BY who, event_time DESC, event_id DESC",
        ),
        query(
            "gold.latest_qualified",
            "SELECT kind, event_id, n FROM silver.rows
             QUALIFY row_number() OVER (PARTITION BY kind ORDER BY event_time DESC, event_id DESC) = 1",
        ),
        query(
            "gold.latest_that_counts",
            "SELECT who, kind, n FROM (
                 SELECT *, row_number() OVER (PARTITION BY who ORDER BY n DESC NULLS LAST, event_id) AS place
                 FROM silver.rows
                 WHERE kind IS NOT NULL
             ) WHERE place = 1 AND n > 2",
        ),
        query(
            "gold.changed",
            "SELECT id, kind, n, op FROM (
                 SELECT id, kind, n, op, row_number() OVER (PARTITION BY id ORDER BY seq DESC NULLS LAST,
                     _offset DESC) AS newest
                 FROM bronze.events WHERE event_type = 'change'
             ) WHERE newest = 1 AND op <> 'd'",
        )
        .in_log_order(),
        query(
            "gold.changed_with_deletes",
            "SELECT id, kind, seq, op = 'd' AS gone FROM (
                 SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq DESC NULLS LAST, event_id DESC) AS newest
                 FROM silver.changes
             ) WHERE newest = 1",
        ),
        query("gold.live", "SELECT id, concat(kind, '!') AS kind, n FROM silver.current WHERE n IS NOT NULL"),
        query(
            "gold.parts_of_latest",
            "SELECT who, unnest(string_to_array(nullif(path, ''), '/')) AS part FROM (
                 SELECT *, row_number() OVER (PARTITION BY who ORDER BY event_time DESC, event_id DESC) AS place
                 FROM silver.rows
             ) WHERE place = 1",
        ),
        query(
            "gold.last_values",
            "SELECT who, last_value(n ORDER BY event_time, event_id) AS n,
                 first_value(kind ORDER BY event_time, event_id) AS kind
             FROM silver.rows GROUP BY who",
        )
        .not_in_duckdb("last_value is a window function there"),
        query(
            "gold.last_offset",
            "SELECT kind, place_in_log, event_id FROM (
                 SELECT kind, event_id, _offset AS place_in_log,
                     row_number() OVER (PARTITION BY kind ORDER BY _offset DESC) AS place
                 FROM bronze.events WHERE event_type = 'row'
             ) WHERE place = 1",
        )
        .in_log_order(),
    ],
};
