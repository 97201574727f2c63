//! The top of groups and of everything, windows, and orders with ties.

use super::{Shape, query};

pub(super) const TOP: Shape = Shape {
    name: "top",
    queries: &[
        query("gold.top", "SELECT event_id, n FROM silver.rows ORDER BY n DESC NULLS LAST, event_id LIMIT 5"),
        query(
            "gold.top_but_two",
            "SELECT event_id, y FROM silver.rows ORDER BY y NULLS LAST, event_id LIMIT 3 OFFSET 2",
        ),
        query(
            "gold.top_wild",
            "SELECT event_id, x / 0.0 AS x FROM silver.rows WHERE x > 0 ORDER BY x DESC, event_id LIMIT 4",
        ),
        query("gold.top_double", "SELECT x, event_id FROM silver.rows ORDER BY x, event_id LIMIT 6")
            .in_neither("there −0.0 comes before 0.0, whatever comes after it in the order"),
        query(
            "gold.doubles",
            "SELECT kind, count(*) AS rows, count(DISTINCT x) AS doubles, count(DISTINCT who) AS people
             FROM silver.rows WHERE x = 0 OR x > 3 GROUP BY kind",
        )
        .in_neither("there −0.0 and 0.0 count twice beside another DISTINCT"),
        query(
            "gold.top_of_kind",
            "SELECT kind, event_id, n, place FROM (
                 SELECT *, row_number() OVER (PARTITION BY kind ORDER BY n DESC NULLS LAST, event_id) AS place
                 FROM silver.rows
             ) WHERE place <= 2",
        ),
        query(
            "gold.top_ranks",
            "SELECT who, event_id, n, place FROM (
                 SELECT *, rank() OVER (PARTITION BY who ORDER BY n DESC NULLS LAST) AS place FROM silver.rows
             ) WHERE place <= 2",
        ),
        query(
            "gold.top_sums",
            "SELECT who, sum(n) AS n FROM silver.rows GROUP BY who ORDER BY n DESC NULLS LAST, who NULLS LAST LIMIT 2",
        ),
        query("gold.all_but_top", "SELECT event_id, n FROM silver.rows ORDER BY n DESC NULLS LAST, event_id OFFSET 5"),
        query(
            "gold.kinds_of_last",
            "SELECT kind, count(*) AS rows FROM (
                 SELECT * FROM silver.rows ORDER BY event_time DESC, event_id DESC LIMIT 10
             ) GROUP BY kind",
        ),
        query("gold.top_of_current", "SELECT id, n FROM silver.current ORDER BY n DESC NULLS LAST, id LIMIT 3"),
    ],
};

pub(super) const WINDOWS: Shape = Shape {
    name: "windows",
    queries: &[
        query(
            "gold.lags",
            "SELECT event_id, lag(n) OVER w AS before, lead(y, 2, 0.5) OVER w AS after FROM silver.rows
             WINDOW w AS (PARTITION BY who ORDER BY event_time, event_id)",
        ),
        query(
            "gold.running",
            "SELECT event_id, sum(n) OVER w AS n, count(*) OVER w AS rows, max(y) OVER w AS most FROM silver.rows
             WINDOW w AS (PARTITION BY kind ORDER BY event_time, event_id ROWS UNBOUNDED PRECEDING)",
        ),
        query(
            "gold.moving",
            "SELECT event_id, sum(y) OVER w AS y, avg(n) OVER w AS mean, min(n) OVER w AS least FROM silver.rows
             WINDOW w AS (PARTITION BY who ORDER BY event_time, event_id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)",
        ),
        query(
            "gold.moving_wild",
            "SELECT event_id, sum(x) OVER w AS x, avg(x) OVER w AS mean FROM silver.rows
             WINDOW w AS (PARTITION BY who ORDER BY event_time, event_id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
        )
        .in_neither("it rounds sums of doubles on the way"),
        query(
            "gold.hourly",
            "SELECT event_id, sum(n) OVER w AS n, count(*) OVER w AS rows FROM silver.rows
             WINDOW w AS (PARTITION BY who ORDER BY sec RANGE BETWEEN 3600 PRECEDING AND CURRENT ROW)",
        ),
        query(
            "gold.ranks",
            "SELECT event_id, rank() OVER w AS rank, dense_rank() OVER w AS dense, percent_rank() OVER w AS percent,
                 cume_dist() OVER w AS dist
             FROM silver.rows WINDOW w AS (PARTITION BY kind ORDER BY n NULLS LAST)",
        ),
        query(
            "gold.tiles",
            "SELECT event_id, ntile(3) OVER w AS tile, row_number() OVER w AS place FROM silver.rows
             WINDOW w AS (PARTITION BY kind ORDER BY event_time, event_id)",
        ),
        query(
            "gold.ends",
            "SELECT event_id, first_value(n) OVER w AS first, last_value(n) OVER w AS last,
                 nth_value(event_id, 2) OVER w AS second
             FROM silver.rows
             WINDOW w AS (PARTITION BY who ORDER BY event_time, event_id
                 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
        ),
        query(
            "gold.shares",
            "SELECT event_id, CAST(n AS DOUBLE) / nullif(sum(n) OVER (PARTITION BY kind), 0) AS share,
                 y - avg(y) OVER (PARTITION BY kind, flag) AS off_mean
             FROM silver.rows",
        ),
        query(
            "gold.two_windows",
            "SELECT event_id, row_number() OVER (PARTITION BY who ORDER BY event_time, event_id) AS of_who,
                 row_number() OVER (PARTITION BY kind ORDER BY n NULLS LAST, event_id) AS of_kind
             FROM silver.rows",
        ),
        query(
            "gold.sessions",
            "WITH gaps AS (
                 SELECT who, sec, event_id, n,
                     sec - lag(sec) OVER (PARTITION BY who ORDER BY sec, event_id) AS gap
                 FROM silver.rows WHERE who IS NOT NULL
             ), numbered AS (
                 SELECT *, sum(CASE WHEN gap <= 1800 THEN 0 ELSE 1 END) OVER (PARTITION BY who ORDER BY sec, event_id
                     ROWS UNBOUNDED PRECEDING) AS session
                 FROM gaps
             )
             SELECT who, session, min(sec) AS began, max(sec) - min(sec) AS seconds, count(*) AS events, sum(n) AS n
             FROM numbered GROUP BY who, session",
        ),
        query(
            "gold.whole_window",
            "SELECT event_id, row_number() OVER (ORDER BY event_time, event_id) AS place, sum(n) OVER () AS n
             FROM silver.rows",
        ),
        query(
            "gold.rank_of_sums",
            "SELECT kind, sum(n) AS n, rank() OVER (ORDER BY sum(n) DESC NULLS LAST) AS place
             FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.known_before",
            "SELECT event_id, lag(n) IGNORE NULLS OVER (PARTITION BY who ORDER BY event_time, event_id) AS n
             FROM silver.rows",
        )
        .not_in_duckdb("IGNORE NULLS stands elsewhere there"),
        query(
            "gold.peers",
            "SELECT event_id,
                 sum(n) OVER (PARTITION BY who ORDER BY sec GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n
             FROM silver.rows",
        ),
        query(
            "gold.windows_of_current",
            "SELECT id, kind, count(*) OVER (PARTITION BY kind) AS ids,
                 lag(id) OVER (PARTITION BY kind ORDER BY id) AS before
             FROM silver.current",
        ),
        query(
            "gold.steps",
            "SELECT who, event_id, n FROM (
                 SELECT *, lag(kind) OVER (PARTITION BY who ORDER BY event_time, event_id) AS was FROM silver.rows
             ) WHERE kind IS DISTINCT FROM was",
        ),
    ],
};

/// Only compared among the product's own ways to the same table.
pub(super) const TIES: Shape = Shape {
    name: "ties",
    queries: &[
        query(
            "gold.tied_latest",
            "SELECT id, op, n FROM (
                 SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq DESC NULLS LAST) AS newest
                 FROM bronze.events
                 WHERE event_type = 'change'
             ) WHERE newest = 1",
        )
        .tied(),
        query("gold.tied_top", "SELECT event_id, n FROM silver.rows ORDER BY n LIMIT 4").tied(),
        query(
            "gold.tied_window",
            "SELECT event_id, row_number() OVER (PARTITION BY kind ORDER BY flag) AS place FROM silver.rows",
        )
        .tied(),
        query("gold.tied_on", "SELECT DISTINCT ON (who) who, event_id FROM silver.rows ORDER BY who, n DESC").tied(),
        query(
            "gold.tied_texts",
            "SELECT kind, string_agg(event_id, ',' ORDER BY n) AS ids FROM silver.rows GROUP BY kind",
        )
        .tied(),
    ],
};
