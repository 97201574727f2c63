//! Models whose checks keep rows out, with the tables of what they quarantine, over every strategy.

use super::{Query, Shape, query};

/// Models of a header, a SELECT and the condition under which a row passes; of those that quarantine, what a row fails and the
/// condition under which it is kept, too.
macro_rules! checked {
    ($($name:literal: $header:literal, $select:literal, $passes:literal $(, $fails:literal, $kept:literal)?;)*) => {
        &[$(
            query($name, concat!("SELECT * FROM (", $select, ") m WHERE ", $passes))
                .of_text(concat!("-- ", $header, "\n", $select)),
            $(query(
                concat!($name, "_quarantine"),
                concat!("SELECT *, ", $fails, " AS failed_checks FROM (", $select, ") m WHERE ", $kept),
            )
            .made_by($name),)?
        )*]
    };
}

/// Rows, groups, latest rows, joins, windows.
const BY_STRATEGY: &[Query] = checked! {
    "gold.checked_rows":
        "check: n > 0  quarantine\n-- check: not_null(kind)  drop\n-- check: n < 100  warn",
        "SELECT event_id, kind, who, n FROM silver.rows",
        "(n > 0) IS NOT FALSE AND kind IS NOT NULL",
        "'n > 0'", "n <= 0 AND kind IS NOT NULL";
    "gold.checked_copies":
        "check: n <> 3  quarantine",
        "SELECT event_id, n, y FROM silver.raw",
        "n <> 3 OR n IS NULL",
        "'n <> 3'", "n = 3";
    "gold.checked_drops":
        "check: kind <> 'k1' AND not who = 'a'  drop",
        "SELECT event_id, kind, who FROM silver.rows",
        "(kind <> 'k1') IS NOT FALSE AND (NOT who = 'a') IS NOT FALSE";
    "gold.checked_division":
        "check: 100/n > 10  quarantine\n-- check: n<>0  quarantine",
        "SELECT event_id, n FROM silver.rows",
        "n IS NULL OR n BETWEEN 1 AND 9",
        "CASE WHEN n = 0 THEN 'n <> 0' ELSE '100 / n > 10' END", "n < 1 OR n > 9";
    "gold.checked_ratios":
        "check: 12 / n > 4 AND n <> 0  quarantine\n-- check: 12 / n < 100  drop",
        "SELECT who, sum(n) % 4 AS n FROM silver.rows GROUP BY who",
        "n IS NULL OR n IN (1, 2)",
        "'12 / n > 4 AND n <> 0'", "n NOT IN (1, 2)";
    "gold.checked_groups":
        "check: rows < 12  quarantine\n-- check: not_null(kind, n)  quarantine\n-- check: n >= 0  drop",
        "SELECT kind, count(*) AS rows, sum(n) AS n FROM silver.rows GROUP BY kind",
        "rows < 12 AND kind IS NOT NULL AND n >= 0",
        "concat_ws('; ', CASE WHEN rows >= 12 THEN 'rows < 12' END,
             CASE WHEN kind IS NULL OR n IS NULL THEN 'not_null(kind, n)' END)",
        "(n >= 0) IS NOT FALSE AND (rows >= 12 OR kind IS NULL OR n IS NULL)";
    "gold.checked_distinct":
        "check: not_null(third)  quarantine",
        "SELECT DISTINCT kind, n % 3 AS third FROM silver.rows",
        "third IS NOT NULL",
        "'not_null(third)'", "third IS NULL";
    "gold.checked_moved":
        "check: ids > 1  quarantine",
        "SELECT kind, count(*) AS ids, sum(n) AS n FROM silver.current GROUP BY kind",
        "ids > 1",
        "'ids > 1'", "ids <= 1";
    "gold.checked_latest":
        "check: y >= 0  quarantine\n-- check: kind <> 'k1'  drop",
        "SELECT who, event_id, kind, y FROM (
             SELECT *, row_number() OVER (PARTITION BY who ORDER BY event_time DESC, event_id DESC) AS place
             FROM silver.rows
         ) ranked WHERE place = 1",
        "(y >= 0) IS NOT FALSE AND (kind <> 'k1') IS NOT FALSE",
        "'y >= 0'", "y < 0 AND (kind <> 'k1') IS NOT FALSE";
    "gold.checked_top":
        "check: rows % 2 = 0  quarantine",
        "SELECT kind, rows FROM gold.counts ORDER BY rows DESC, kind NULLS LAST LIMIT 3",
        "rows % 2 = 0",
        "'rows % 2 = 0'", "rows % 2 <> 0";
    "gold.checked_join":
        "check: city <> 'rome'  quarantine\n-- check: not_null(id)  quarantine",
        "SELECT r.event_id, p.city, c.id FROM silver.rows r JOIN silver.people p ON r.who = p.who
         LEFT JOIN silver.current c ON c.kind = r.kind",
        "(city <> 'rome') IS NOT FALSE AND id IS NOT NULL",
        "concat_ws('; ', CASE WHEN city = 'rome' THEN 'city <> ''rome''' END,
             CASE WHEN id IS NULL THEN 'not_null(id)' END)",
        "city = 'rome' OR id IS NULL";
    "gold.checked_window":
        "check: before < n  quarantine",
        "SELECT event_id, who, n, lag(n) OVER (PARTITION BY who ORDER BY event_time, event_id) AS before
         FROM silver.rows",
        "(before < n) IS NOT FALSE",
        "'before < n'", "before >= n";
    "gold.checked_full":
        "check: place > 5  quarantine",
        "SELECT event_id, n, row_number() OVER (ORDER BY event_time, event_id) AS place FROM silver.rows",
        "place > 5",
        "'place > 5'", "place <= 5";
};

/// Those whose rows hang on the order in which events came: of change data, the header makes another query of the SELECT.
const IN_LOG_ORDER: &[Query] = &[
    query(
        "gold.checked_first",
        "SELECT event_id, kind, n FROM (
             SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS occurrence FROM bronze.events
         ) numbered WHERE occurrence = 1 AND (n > 3) IS NOT FALSE",
    )
    .of_text(
        "-- check: n > 3  quarantine
         SELECT event_id, kind, n FROM (
             SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS occurrence FROM bronze.events
         ) numbered WHERE occurrence = 1",
    )
    .in_log_order(),
    query(
        "gold.checked_first_quarantine",
        "SELECT event_id, kind, n, 'n > 3' AS failed_checks FROM (
             SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS occurrence FROM bronze.events
         ) numbered WHERE occurrence = 1 AND n <= 3",
    )
    .made_by("gold.checked_first"),
    query(
        "gold.checked_changes",
        "SELECT id, kind, n, op, seq FROM (
             SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq DESC NULLS LAST, _offset DESC) AS newest
             FROM bronze.events WHERE event_type = 'change'
         ) ranked WHERE newest = 1 AND op <> 'd' AND (n > 3) IS NOT FALSE AND (kind <> 'k1') IS NOT FALSE",
    )
    .of_text(
        "-- key: id\n-- sequence: seq\n-- delete: op = 'd'\n-- check: n > 3  quarantine\n-- check: kind <> 'k1'  drop
         SELECT id, kind, n, op, seq FROM bronze.events WHERE event_type = 'change'",
    )
    .in_log_order(),
    query(
        "gold.checked_changes_quarantine",
        "SELECT id, kind, n, op, seq, 'n > 3' AS failed_checks FROM (
             SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq DESC NULLS LAST, _offset DESC) AS newest
             FROM bronze.events WHERE event_type = 'change'
         ) ranked WHERE newest = 1 AND op <> 'd' AND n <= 3 AND (kind <> 'k1') IS NOT FALSE",
    )
    .made_by("gold.checked_changes"),
    query(
        "gold.checked_history",
        "SELECT id, n, op, seq, valid_from, valid_to, valid_to IS NULL AS is_current FROM (
             SELECT id, n, op, seq, seq AS valid_from,
                 lead(seq) OVER (PARTITION BY id ORDER BY seq NULLS FIRST, _offset) AS valid_to,
                 row_number() OVER (PARTITION BY id, seq ORDER BY _offset DESC) AS last
             FROM bronze.events WHERE event_type = 'change'
         ) held WHERE last = 1 AND op <> 'd' AND (valid_to > 4) IS NOT FALSE",
    )
    .of_text(
        "-- key: id\n-- sequence: seq\n-- delete: op = 'd'\n-- history: 2\n-- check: valid_to > 4  quarantine
         SELECT id, n, op, seq FROM bronze.events WHERE event_type = 'change'",
    )
    .in_log_order(),
    query(
        "gold.checked_history_quarantine",
        "SELECT id, n, op, seq, valid_from, valid_to, false AS is_current, 'valid_to > 4' AS failed_checks FROM (
             SELECT id, n, op, seq, seq AS valid_from,
                 lead(seq) OVER (PARTITION BY id ORDER BY seq NULLS FIRST, _offset) AS valid_to,
                 row_number() OVER (PARTITION BY id, seq ORDER BY _offset DESC) AS last
             FROM bronze.events WHERE event_type = 'change'
         ) held WHERE last = 1 AND op <> 'd' AND valid_to <= 4",
    )
    .made_by("gold.checked_history"),
];

/// Models over what is left, and over what was kept out.
const ABOVE: &[Query] = &[
    query("gold.above_checked", "SELECT kind, count(*) AS rows, sum(n) AS n FROM gold.checked_rows GROUP BY kind"),
    query(
        "gold.above_quarantines",
        "SELECT failed_checks, count(*) AS rows FROM (
             SELECT failed_checks FROM gold.checked_rows_quarantine
             UNION ALL SELECT failed_checks FROM gold.checked_groups_quarantine
             UNION ALL SELECT failed_checks FROM gold.checked_latest_quarantine
         ) failed GROUP BY failed_checks",
    ),
];

pub(super) const CHECKS: Shape = Shape { name: "checks", queries: BY_STRATEGY };
pub(super) const CHECKED_IN_LOG_ORDER: Shape = Shape { name: "checks", queries: IN_LOG_ORDER };
pub(super) const ABOVE_CHECKS: Shape = Shape { name: "checks", queries: ABOVE };
