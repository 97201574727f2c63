//! Groups, their aggregates, and sets of groups.

use super::{Shape, query};

const ROUNDED: &str = "it rounds sums of doubles on the way";

pub(super) const GROUPS: Shape = Shape {
    name: "groups",
    queries: &[
        query(
            "gold.counts",
            "SELECT kind, count(*) AS rows, count(x) AS xs, count(DISTINCT who) AS whos FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.sums",
            "SELECT who, kind, sum(n) AS n, avg(n) AS mean, sum(y) AS y, avg(y) AS mean_y, sum(price) AS price
             FROM silver.rows GROUP BY who, kind",
        ),
        query(
            "gold.by_null",
            "SELECT nullif(kind, 'k0') AS kind, count(*) AS rows, sum(n) AS n FROM silver.rows GROUP BY 1",
        ),
        query(
            "gold.by_expression",
            "SELECT n % 3 AS third, date_trunc('hour', event_time) AS hour, count(*) AS rows
             FROM silver.rows GROUP BY 1, 2",
        ),
        query(
            "gold.by_day",
            "SELECT event_date AS day, kind, count(*) AS rows, sum(n) AS n FROM silver.rows GROUP BY 1, 2",
        ),
        query(
            "gold.as_a_map",
            "SELECT kind, map(['rows', 'n'], [count(*), sum(n)]) AS of FROM silver.rows GROUP BY kind",
        ),
        query("gold.by_decimal", "SELECT price, count(*) AS rows FROM silver.rows GROUP BY price"),
        query("gold.by_flag", "SELECT flag, count(*) AS rows, min(y) AS low FROM silver.rows GROUP BY flag"),
        query("gold.by_double", "SELECT y, count(*) AS rows, max(event_id) AS last FROM silver.rows GROUP BY y"),
        query("gold.by_wild_double", "SELECT x, count(*) AS rows FROM silver.rows GROUP BY x")
            .not_in_duckdb("there −0.0 and 0.0 are one group"),
        query(
            "gold.by_pair",
            "SELECT named_struct('kind', kind, 'third', n % 3) AS pair, count(*) AS rows, sum(n) AS n
             FROM silver.rows GROUP BY 1",
        )
        .not_in_duckdb("it has another name for making a struct"),
        query(
            "gold.by_measure",
            "SELECT named_struct('kind', kind, 'x', x) AS measure, count(*) AS rows FROM silver.rows GROUP BY 1",
        )
        .not_in_duckdb("there −0.0 and 0.0 are one group"),
        query(
            "gold.by_nanosecond",
            "SELECT arrow_cast(n % 1500, 'Timestamp(Nanosecond, None)') AS at, count(*) AS rows
             FROM silver.rows GROUP BY 1",
        )
        .not_in_duckdb("it has no such cast"),
        query(
            "gold.nanoseconds",
            "SELECT kind, count(DISTINCT arrow_cast(n % 1500, 'Timestamp(Nanosecond, None)')) AS instants
             FROM silver.rows GROUP BY kind",
        )
        .not_in_duckdb("it has no such cast"),
        query(
            "gold.sums_and_rows",
            "SELECT kind, count(*) AS n FROM silver.rows GROUP BY kind UNION ALL SELECT who, n FROM silver.rows",
        ),
        query(
            "gold.by_quotient",
            "SELECT y / 0.0 AS quotient, count(*) AS rows, sum(n) AS n FROM silver.rows GROUP BY 1",
        ),
        query("gold.by_late", "SELECT late, count(*) AS rows FROM silver.rows GROUP BY late"),
        query(
            "gold.raw_types",
            "SELECT event_type, count(*) AS rows, count(DISTINCT event_id) AS ids FROM bronze.events GROUP BY 1",
        ),
        query("gold.raw_sums", "SELECT kind, sum(n) AS n, count(*) AS rows FROM silver.raw GROUP BY kind"),
        query("gold.unkeyed", "SELECT count(*) AS rows FROM silver.rows GROUP BY who, kind"),
        query(
            "gold.of_a_cte",
            "WITH per AS (SELECT event_date AS day, who,
                 sum(n) AS n FROM silver.rows WHERE x IS NOT NULL GROUP BY 1, 2)
             SELECT concat(who, '!') AS who, n * 2 AS twice FROM per AS p WHERE n > 5 ORDER BY n",
        ),
        query("gold.having", "SELECT who, count(*) % 3 AS rest FROM silver.rows GROUP BY who HAVING count(*) % 3 <> 1"),
        query("gold.having_sum", "SELECT kind, who, sum(n) AS n FROM silver.rows GROUP BY kind, who HAVING sum(n) > 4"),
        query(
            "gold.having_few",
            "SELECT kind, max(y) AS most FROM silver.rows GROUP BY kind HAVING count(DISTINCT who) < 3",
        ),
        query("gold.distinct", "SELECT DISTINCT kind, n % 3 AS third FROM silver.rows"),
        query("gold.distinct_doubles", "SELECT DISTINCT y, flag FROM silver.rows"),
        query(
            "gold.whole",
            "SELECT count(*) AS rows, sum(y) AS y, count(DISTINCT kind) AS kinds, max(n) - min(n) AS span
             FROM silver.rows",
        ),
        query(
            "gold.whole_of_nothing",
            "SELECT count(*) AS rows, sum(n) AS n, max(who) AS who, avg(y) AS y, bool_or(flag) AS flag
             FROM silver.rows WHERE n > 1000000",
        ),
        query("gold.whole_having", "SELECT count(*) AS rows, sum(n) AS n FROM silver.rows HAVING count(*) % 2 = 0"),
        query(
            "gold.whole_of_current",
            "SELECT count(*) AS ids, min(n) AS low, max(n) AS high FROM silver.current WHERE kind = 'k1'",
        ),
        query("gold.keys_only", "SELECT kind, CAST(n AS VARCHAR) AS n FROM silver.rows GROUP BY kind, n"),
        query(
            "gold.groups_of_nothing",
            "SELECT kind, count(*) AS rows FROM silver.rows WHERE n > 1000000 GROUP BY kind",
        ),
        query("gold.moved_distinct", "SELECT DISTINCT kind FROM silver.current"),
        query(
            "gold.moved_kinds",
            "SELECT op, count(DISTINCT kind) AS kinds, sum(DISTINCT seq) AS seqs FROM silver.changes GROUP BY op",
        ),
        query("gold.moved_lists", "SELECT kind, array_agg(id ORDER BY id) AS ids FROM silver.current GROUP BY kind"),
        query(
            "gold.moved",
            "SELECT kind, count(*) AS ids, sum(n) AS n, min(n) AS low, max(seq) AS seq FROM silver.current
             GROUP BY kind",
        ),
    ],
};

pub(super) const VALUES: Shape = Shape {
    name: "values",
    queries: &[
        query(
            "gold.extremes",
            "SELECT kind, min(n) AS low, max(n) AS high, min(x) AS low_x, max(x) AS high_x, min(price) AS cheap,
                 max(price) AS dear, min(event_time) AS first, max(event_time) AS last, min(who) AS low_who,
                 max(event_id) AS high_id
             FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.wild_sums",
            "SELECT kind, sum(x) AS x, avg(x) AS mean, sum(x * 3) AS thrice, sum(n / 8.0) AS eighths
             FROM silver.rows GROUP BY kind",
        )
        .in_neither(ROUNDED),
        query("gold.wild_total", "SELECT sum(x) AS x, avg(x) AS mean, sum(DISTINCT x) AS different FROM silver.rows")
            .in_neither(ROUNDED),
        query(
            "gold.odd_sums",
            "SELECT who, sum(y / 0.0) AS infinite, min(y / 0.0) AS low, max(y / 0.0) AS high, avg(0.0 / y) AS mean,
                 min(-y * 0.0) AS zero
             FROM silver.rows GROUP BY who",
        )
        .in_neither("a least NaN is another one there"),
        query(
            "gold.odd_extremes",
            "SELECT kind, max(y / 0.0) AS high, count(y / 0.0) AS there, max(y * 0.0) AS zero
             FROM silver.rows GROUP BY kind",
        )
        .in_neither("a greatest NaN is another one there"),
        query(
            "gold.prices_of_kinds",
            "SELECT kind, sum(price) AS sum, avg(price) AS mean, max(price) AS most FROM silver.rows GROUP BY kind",
        )
        .not_in_duckdb("the mean of decimals is a double there"),
        query(
            "gold.answers",
            "SELECT kind, bool_or(flag) AS any, bool_and(flag) AS every, bool_and(n > 0) AS above
             FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.bits",
            "SELECT kind, bit_and(n) AS both, bit_or(n) AS either, bit_xor(n) AS one FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.near",
            "SELECT kind, approx_distinct(event_id) AS ids, approx_distinct(n) AS ns FROM silver.rows GROUP BY kind",
        )
        .not_in_duckdb("it counts otherwise"),
        query(
            "gold.different",
            "SELECT who, count(DISTINCT n) AS ns, sum(DISTINCT n) AS sum, count(DISTINCT price) AS prices,
                 count(DISTINCT kind) AS kinds
             FROM silver.rows GROUP BY who",
        ),
        query(
            "gold.spread",
            "SELECT kind, stddev_pop(y) AS deviation, var_pop(y) AS variance, stddev_samp(n) AS of_n
             FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.together",
            "SELECT who, corr(n, y) AS corr, covar_pop(n, y) AS covar, regr_slope(y, n) AS slope
             FROM silver.rows GROUP BY who",
        )
        .not_in_duckdb("without a spread it gives NaN"),
        query("gold.middle", "SELECT kind, median(y) AS y FROM silver.rows GROUP BY kind"),
        query(
            "gold.middle_whole",
            "SELECT kind, median(n) AS n, median(price) AS price FROM silver.rows GROUP BY kind",
        )
        .not_in_duckdb("the median of two whole numbers is a double there"),
        query(
            "gold.texts",
            "SELECT who, string_agg(event_id, ',' ORDER BY event_time, event_id) AS ids FROM silver.rows GROUP BY who",
        ),
        query(
            "gold.texts_down",
            "SELECT kind, string_agg(who, '' ORDER BY sec DESC, event_id) AS whos FROM silver.rows GROUP BY kind",
        ),
        query(
            "gold.lists",
            "SELECT kind, array_agg(n ORDER BY event_time, event_id) AS ns FROM silver.rows GROUP BY kind",
        ),
        query("gold.list_of_all", "SELECT array_agg(DISTINCT kind ORDER BY kind NULLS LAST) AS kinds FROM silver.rows"),
        query(
            "gold.filters",
            "SELECT coalesce(kind, '?') AS kind, count(*) FILTER (WHERE n > 3) AS some,
                 sum(y) FILTER (WHERE who = 'a') AS ya,
                 count(DISTINCT n) FILTER (WHERE who <> 'a') AS ns, min(event_id) FILTER (WHERE flag) AS least
             FROM silver.rows GROUP BY 1",
        ),
        query(
            "gold.expressions",
            "SELECT who, sum(n) * 2 + count(*) AS mixed, max(n) - min(n) AS span, coalesce(sum(late), -1) AS late,
                 sum(CASE WHEN flag THEN 1 ELSE 0 END) AS flags
             FROM silver.rows GROUP BY who",
        ),
    ],
};

pub(super) const SETS: Shape = Shape {
    name: "sets",
    queries: &[
        query(
            "gold.rollup",
            "SELECT kind, who, count(*) AS rows, sum(n) AS n, grouping(kind) AS no_kind, grouping(who) AS no_who
             FROM silver.rows GROUP BY ROLLUP (kind, who)",
        ),
        query("gold.cube", "SELECT kind, flag, max(n) AS most FROM silver.rows GROUP BY CUBE (kind, flag)"),
        query(
            "gold.grouping_sets",
            "SELECT kind, who, event_date, count(*) AS rows FROM silver.rows
             GROUP BY GROUPING SETS ((kind, who), (event_date), ())",
        ),
    ],
};
