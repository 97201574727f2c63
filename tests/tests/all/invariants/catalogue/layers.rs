//! Models over models whose rows change and go.

use super::{Shape, query};

pub(super) const LAYERS: Shape = Shape {
    name: "layers",
    queries: &[
        query(
            "gold.groups_of_groups",
            "SELECT whos, count(*) AS kinds, sum(rows) AS rows FROM gold.counts GROUP BY whos",
        ),
        query(
            "gold.sum_of_groups",
            "SELECT sum(rows) AS rows, max(whos) AS most FROM gold.counts WHERE kind IS NOT NULL",
        ),
        query("gold.days", "SELECT day, sum(rows) AS rows, count(*) AS kinds FROM gold.by_day GROUP BY day"),
        query(
            "gold.groups_joined",
            "SELECT c.kind, c.rows, m.ids, m.n FROM gold.counts c LEFT JOIN gold.moved m ON m.kind = c.kind",
        ),
        query(
            "gold.groups_fully_joined",
            "SELECT c.kind, c.rows, m.kind AS moved, m.ids
             FROM gold.counts c FULL JOIN gold.moved m ON m.kind = c.kind",
        ),
        query(
            "gold.best_of_day",
            "SELECT day, kind, rows FROM (
                 SELECT *, row_number() OVER (PARTITION BY day ORDER BY rows DESC, kind NULLS LAST) AS place
                 FROM gold.by_day
             ) WHERE place = 1",
        ),
        query(
            "gold.top_groups",
            "SELECT who, kind, n FROM gold.sums ORDER BY n DESC NULLS LAST, who NULLS LAST, kind NULLS LAST LIMIT 3",
        ),
        query("gold.few", "SELECT kind, rows * 2 AS twice FROM gold.counts WHERE rows < 12"),
        query(
            "gold.groups_of_latest",
            "SELECT kind, count(*) AS whos, sum(y) AS y FROM gold.latest_of_who GROUP BY kind",
        ),
        query(
            "gold.groups_of_joined",
            "SELECT city, kind, count(*) AS rows, max(n) AS most FROM gold.inner GROUP BY city, kind",
        ),
        query("gold.distinct_of_joined", "SELECT DISTINCT city, kind FROM gold.inner"),
        query("gold.groups_of_top", "SELECT kind, sum(n) AS n FROM gold.top_of_kind GROUP BY kind"),
        query(
            "gold.groups_of_sessions",
            "SELECT who, count(*) AS sessions, avg(seconds) AS mean, max(events) AS most FROM gold.sessions
             GROUP BY who",
        ),
        query("gold.ranks_of_days", "SELECT day, rows, rows - lag(rows) OVER (ORDER BY day) AS more FROM gold.days"),
        query(
            "gold.windows_of_live",
            "SELECT id, kind, row_number() OVER (PARTITION BY kind ORDER BY id) AS place FROM gold.live",
        ),
        query("gold.live_and_new", "SELECT id AS what, n FROM gold.live UNION ALL SELECT event_id, n FROM silver.rows"),
        query("gold.without_live", "SELECT kind FROM gold.counts EXCEPT SELECT kind FROM silver.current"),
        query(
            "gold.parts_counted",
            "SELECT part, count(*) AS rows, count(DISTINCT event_id) AS ids FROM gold.parts GROUP BY part",
        ),
        query("gold.having_of_having", "SELECT n % 2 AS even, count(*) AS pairs FROM gold.having_sum GROUP BY 1"),
        query(
            "gold.self_of_groups",
            "SELECT a.kind, b.kind AS rarer FROM gold.counts a JOIN gold.counts b ON b.rows < a.rows",
        ),
        query(
            "gold.deep",
            "WITH pairs AS (SELECT who, kind, count(*) AS rows FROM silver.rows GROUP BY 1, 2),
                 busy AS (SELECT who, sum(rows) AS rows FROM pairs GROUP BY who)
             SELECT l.kind, max(b.rows) AS rows, count(*) AS whos
             FROM busy b JOIN gold.latest_of_who l ON l.who = b.who
             WHERE b.rows > (SELECT min(rows) FROM busy) GROUP BY l.kind",
        ),
        query(
            "gold.values_of_rollup",
            "SELECT count(*) AS lines, sum(rows) AS rows FROM gold.rollup WHERE no_kind = 0",
        ),
        query("gold.by_the_clock", "SELECT event_id FROM silver.rows WHERE event_time < now() + INTERVAL '1 day'")
            .in_log_order()
            .in_neither("its clock is the log's"),
        query("gold.clock", "SELECT now() AS as_of, count(*) AS rows FROM silver.rows")
            .in_log_order()
            .in_neither("its clock is the log's"),
    ],
};
