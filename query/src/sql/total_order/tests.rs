//! One answer for every order in which rows are read, the same columns as before, and what is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use datafusion::execution::SessionState;
use datafusion::optimizer::Analyzer;
use datafusion::physical_plan::collect;
use lakebed_log::Store;

use super::*;
use crate::catalog;

const ROWS: i64 = 48;

/// An order of the rows in storage, and how many partitions they are spread over there and in the plan.
#[derive(Clone, Copy, Debug)]
struct Arrangement {
    /// Row `n` of the log is stored at `n * step`, modulo the number of rows.
    step: i64,
    stored: usize,
    planned: usize,
}

const AS_IT_IS: Arrangement = Arrangement { step: 1, stored: 1, planned: 1 };

fn arrangements() -> impl Iterator<Item = Arrangement> {
    let of = |step| [(1, 4), (4, 1), (4, 4)].map(|(stored, planned)| Arrangement { step, stored, planned });
    [AS_IT_IS].into_iter().chain([1, 47, 17].into_iter().flat_map(of))
}

/// Few values in many rows, nulls among them, and one offset for each row.
fn log() -> RecordBatch {
    let column =
        |value: &dyn Fn(i64) -> Option<i64>| -> ArrayRef { Arc::new((0..ROWS).map(value).collect::<Int64Array>()) };
    let keys = (0..ROWS).map(|n| [Some("a"), Some("b"), None][(n % 3) as usize]);
    let texts = (0..ROWS).map(|n| (n % 7 != 0).then(|| format!("y{}", n % 5)));
    let floats = (0..ROWS).map(|n| [Some(0.1), Some(1e16), Some(-0.0), None][(n % 4) as usize]);
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(keys.collect::<StringArray>()) as ArrayRef, true),
        ("t", column(&|n| (n % 11 != 0).then_some(n % 4)), true),
        ("x", column(&|n| (n % 5 != 0).then_some(n * 7 % 6)), true),
        ("y", Arc::new(texts.collect::<StringArray>()), true),
        ("f", Arc::new(floats.collect::<Float64Array>()), true),
        ("_offset", column(&|n| Some(n)), false),
    ])
    .unwrap()
}

/// `bronze.events`; `silver.plain` without an offset, some of its rows equal; `silver.twice`, each offset twice; and
/// `silver.nested`, with a column that cannot be sorted by.
fn session(arrangement: Arrangement) -> SessionState {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context = catalog::session(&lake, &runs).unwrap();
    let log = log();
    let plain = log.project(&[0, 1, 2, 3, 4]).unwrap();
    let twice = arrow::compute::concat_batches(&log.schema(), [&log, &log]).unwrap();
    let inner: ArrayRef = Arc::clone(log.column(2));
    let nested = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), inner)]);
    let nested =
        RecordBatch::try_from_iter([("k", Arc::clone(log.column(0))), ("s", Arc::new(nested) as ArrayRef)]).unwrap();
    for (schema, name, rows) in [
        ("bronze", "events", log),
        ("silver", "plain", plain),
        ("silver", "twice", twice),
        ("silver", "nested", nested),
    ] {
        let count = rows.num_rows() as i64;
        let places: Int64Array = (0..count).map(|n| n * arrangement.step % count).collect();
        let rows = take_record_batch(&rows, &places).unwrap();
        let mut partitions = vec![Vec::new(); arrangement.stored];
        for (batch, from) in (0..rows.num_rows()).step_by(3).enumerate() {
            let batches = partitions.len();
            partitions[batch % batches].push(rows.slice(from, 3.min(rows.num_rows() - from)));
        }
        let table = MemTable::try_new(rows.schema(), partitions).unwrap();
        catalog::register(&context, schema, name, Arc::new(table)).unwrap();
    }
    let mut state = context.state();
    state.config_mut().options_mut().execution.target_partitions = arrangement.planned;
    *state.config_mut() = state.config().clone().with_batch_size(4);
    state
}

fn analyzed(state: &SessionState, plan: LogicalPlan) -> LogicalPlan {
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ()).unwrap()
}

/// The lines of the answer, in any order; analyzed twice, as a session does.
async fn answer(sql: &str, state: &SessionState) -> Vec<String> {
    let plan = analyzed(state, state.create_logical_plan(sql).await.unwrap());
    let physical = state.create_physical_plan(&plan).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let schema = physical.schema();
    let batches = collect(physical, state.task_ctx()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let table = pretty_format_batches(&[vec![RecordBatch::new_empty(schema)], batches].concat()).unwrap().to_string();
    let mut lines: Vec<String> = table.lines().skip(3).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Queries whose rows tie.
const ORDERS: [&str; 51] = [
    // LIMIT
    "SELECT x, y FROM bronze.events ORDER BY t LIMIT 5",
    "SELECT x AS t, t AS x FROM bronze.events ORDER BY t DESC LIMIT 5",
    "SELECT * FROM silver.plain ORDER BY t NULLS FIRST LIMIT 7 OFFSET 2",
    "SELECT * FROM silver.twice ORDER BY t LIMIT 7",
    "SELECT concat(y, x) AS yx FROM (SELECT * FROM silver.plain ORDER BY t LIMIT 19) AS q LIMIT 4 OFFSET 3",
    "SELECT k, count(*) AS n FROM silver.plain GROUP BY k, x ORDER BY n LIMIT 4",
    "SELECT DISTINCT x FROM silver.plain ORDER BY x LIMIT 2",
    "SELECT * FROM (SELECT x FROM silver.plain UNION ALL SELECT t FROM bronze.events) ORDER BY x % 2 LIMIT 9",
    "SELECT k FROM silver.plain WHERE x = (SELECT x FROM bronze.events ORDER BY t LIMIT 1)",
    "SELECT e.x, p.y FROM bronze.events e JOIN silver.plain p ON e.t = p.t ORDER BY e.k LIMIT 11",
    "SELECT k, unnest(xs) AS x FROM (SELECT k, array_agg(x) AS xs FROM silver.plain GROUP BY k) ORDER BY k LIMIT 5",
    // DISTINCT ON
    "SELECT DISTINCT ON (k) k, x, y FROM bronze.events ORDER BY k, t",
    "SELECT DISTINCT ON (k) x, y FROM silver.plain",
    "SELECT DISTINCT ON (k, t) * FROM silver.plain ORDER BY k DESC, t, f DESC",
    // Places
    "SELECT x, row_number() OVER (PARTITION BY k ORDER BY t) FROM bronze.events",
    "SELECT x, y, row_number() OVER (PARTITION BY k ORDER BY t) AS n FROM silver.plain",
    "SELECT x, row_number() OVER () AS n FROM silver.plain",
    "SELECT x, row_number() OVER (ORDER BY t RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM silver.plain",
    "SELECT x, ntile(3) OVER (ORDER BY t) FROM silver.plain",
    "SELECT x, lag(x) OVER (ORDER BY t), lead(y, 2, '-') OVER (ORDER BY t) FROM bronze.events",
    "SELECT x, lag(x) IGNORE NULLS OVER (PARTITION BY k ORDER BY t DESC) FROM silver.plain",
    "SELECT x, rank() OVER (ORDER BY t), row_number() OVER (ORDER BY t), lag(x) OVER (PARTITION BY k) FROM silver.plain",
    "SELECT n, lag(x) OVER (ORDER BY n) FROM (SELECT x, rank() OVER (ORDER BY t) AS n FROM silver.plain)",
    // Frames
    "SELECT k, first_value(x) OVER (PARTITION BY k ORDER BY t) FROM silver.plain",
    "SELECT k, first_value(x) IGNORE NULLS OVER (PARTITION BY k ORDER BY t) FROM silver.plain",
    "SELECT t, last_value(x) OVER (PARTITION BY k ORDER BY t) FROM silver.plain",
    "SELECT t, last_value(x) IGNORE NULLS OVER (ORDER BY t) FROM bronze.events",
    "SELECT k, last_value(x) OVER (PARTITION BY k), first_value(y) OVER (PARTITION BY k) FROM silver.plain",
    "SELECT t, nth_value(x, 3) OVER (PARTITION BY k ORDER BY t) FROM silver.plain",
    "SELECT t, nth_value(x, 2) OVER (ORDER BY t GROUPS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM silver.plain",
    "SELECT t, nth_value(x, 2) OVER (ORDER BY t RANGE BETWEEN CURRENT ROW AND CURRENT ROW) FROM silver.plain",
    "SELECT t, array_agg(x) OVER (PARTITION BY k ORDER BY t) AS xs FROM bronze.events",
    "SELECT t, string_agg(y, ',') OVER (PARTITION BY k ORDER BY t) AS ys FROM silver.plain",
    "SELECT t, array_agg(x) OVER (ORDER BY t ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS xs FROM silver.plain",
    "SELECT t, sum(x) OVER (PARTITION BY k ORDER BY t ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM silver.plain",
    "SELECT t, sum(f) OVER (ORDER BY t), count(*) OVER (PARTITION BY k ORDER BY t GROUPS 1 PRECEDING) FROM silver.plain",
    // Aggregates
    "SELECT k, array_agg(x), array_agg(y ORDER BY t DESC) FROM bronze.events GROUP BY k",
    "SELECT k, array_agg(x), array_agg(y) FROM silver.plain GROUP BY k",
    "SELECT k, array_agg(x ORDER BY t), first_value(y ORDER BY t) FROM silver.twice GROUP BY k",
    "SELECT array_agg(DISTINCT x), array_agg(DISTINCT y ORDER BY y DESC), count(DISTINCT t) FROM silver.plain",
    "SELECT k, string_agg(y, ','), string_agg(DISTINCT y, '-') FROM silver.plain GROUP BY k",
    "SELECT k, string_agg(y, ',' ORDER BY t), string_agg(y, ';' ORDER BY x) FROM bronze.events GROUP BY k",
    "SELECT k, first_value(x), last_value(y ORDER BY t), first_value(y ORDER BY t) FROM silver.plain GROUP BY k",
    "SELECT k, first_value(x ORDER BY t) IGNORE NULLS FROM silver.plain GROUP BY k",
    "SELECT k, nth_value(x, 2 ORDER BY t) FROM bronze.events GROUP BY k",
    "SELECT k, any_value(x), any_value(y) FILTER (WHERE x > 1) FROM silver.plain GROUP BY k",
    "SELECT x, (SELECT array_agg(p.x ORDER BY p.t) FROM silver.plain p WHERE p.k = e.k) FROM bronze.events e",
    "SELECT k, t, array_agg(x) FROM silver.plain GROUP BY ROLLUP (k, t)",
    "SELECT k, array_agg(x + 1 ORDER BY t) FILTER (WHERE x > 0) AS xs FROM silver.plain GROUP BY k HAVING count(*) > 1",
    "SELECT array_agg(n) FROM (SELECT k, count(*) AS n FROM silver.plain GROUP BY k)",
    "SELECT first_value(s['x']), any_value(k) FROM silver.nested",
];

#[tokio::test]
async fn every_order_of_the_rows_gives_one_answer() {
    let sessions: Vec<_> = arrangements().map(|arrangement| (arrangement, session(arrangement))).collect();
    for sql in ORDERS {
        let expected = answer(sql, &sessions[0].1).await;
        for (arrangement, state) in &sessions[1..] {
            assert_eq!(answer(sql, state).await, expected, "{sql}: {arrangement:?}");
        }
    }
}

/// Names, types and all, as if there were no such rule; and once is enough.
#[tokio::test]
async fn the_columns_stay_and_a_second_pass_changes_nothing() {
    let state = session(AS_IT_IS);
    let mut left_alone = BTreeSet::new();
    for sql in ORDERS {
        let plan = state.create_logical_plan(sql).await.unwrap();
        let without = Analyzer::new().execute_and_check(plan.clone(), state.config_options(), |_, _| ()).unwrap();
        let once = analyzed(&state, plan);
        assert_eq!(once.schema().columns(), without.schema().columns(), "{sql}");
        assert_eq!(once.schema().as_arrow(), without.schema().as_arrow(), "{sql}");
        let twice = analyzed(&state, once.clone());
        assert_eq!(twice.display_indent_schema().to_string(), once.display_indent_schema().to_string(), "{sql}");
        if once == without {
            left_alone.insert(sql);
        }
    }
    // Peers are what these two count by, and in the third no two rows are equal.
    let alone = ["SELECT t, sum(f) OVER (ORDER BY t), count", "SELECT DISTINCT x FROM silver.plain ORDER BY x LIMIT 2"];
    assert!(left_alone.iter().all(|sql| alone.iter().any(|alone| sql.starts_with(alone))), "{left_alone:?}");
}

/// What orders by the offset, by the columns of a GROUP BY, or not at all, is not made dearer.
#[tokio::test]
async fn a_total_order_is_left_alone() {
    let state = session(AS_IT_IS);
    for sql in [
        "SELECT x FROM bronze.events ORDER BY t",
        "SELECT * FROM bronze.events ORDER BY t, _offset LIMIT 3",
        "SELECT k, x, count(*) AS n FROM silver.plain GROUP BY k, x ORDER BY n, x, k LIMIT 3",
        "SELECT *, row_number() OVER (PARTITION BY k ORDER BY _offset DESC) AS n FROM bronze.events",
        "SELECT *, lag(x) OVER (ORDER BY o) FROM (SELECT x, _offset AS o FROM bronze.events WHERE x > 1)",
        "SELECT first_value(x) OVER (PARTITION BY _offset RANGE UNBOUNDED PRECEDING) FROM bronze.events",
        "SELECT array_agg(e.x ORDER BY p._offset, e._offset) FROM bronze.events e JOIN bronze.events p ON e.t = p.t",
        "SELECT sum(x) OVER (PARTITION BY k), sum(x) OVER (ORDER BY t), rank() OVER (ORDER BY t) FROM silver.plain",
        "SELECT k, sum(f), avg(x), max(y), median(x) FROM silver.plain GROUP BY k",
        "SELECT * FROM bronze.events LIMIT 3",
    ] {
        let plan = state.create_logical_plan(sql).await.unwrap();
        let without = Analyzer::new().execute_and_check(plan.clone(), state.config_options(), |_, _| ()).unwrap();
        assert_eq!(analyzed(&state, plan).to_string(), without.to_string(), "{sql}");
    }
}

#[tokio::test]
async fn ties_go_by_offset_and_only_by_it_in_the_log() {
    let state = session(AS_IT_IS);
    for (sql, order) in [
        ("SELECT x FROM bronze.events ORDER BY t LIMIT 3", "Sort: t ASC NULLS LAST, _offset ASC NULLS LAST"),
        ("SELECT lag(x) OVER (ORDER BY t) FROM bronze.events", "ORDER BY [t ASC NULLS LAST, _offset ASC NULLS LAST]"),
        ("SELECT array_agg(x) FROM bronze.events", "array_agg(x) ORDER BY [_offset ASC NULLS LAST]"),
        ("SELECT array_agg(x) FROM silver.twice", "array_agg(x) ORDER BY [_offset ASC NULLS LAST, x ASC NULLS LAST]"),
    ] {
        let plan = analyzed(&state, state.create_logical_plan(sql).await.unwrap()).to_string();
        let plan = plan.replace("bronze.events.", "").replace("silver.twice.", "");
        assert!(plan.contains(order), "{sql}: {plan}");
    }
    let last =
        "SELECT DISTINCT last_value(_offset) OVER (PARTITION BY k ORDER BY t) AS o FROM bronze.events WHERE t = 1";
    let lines = answer(last, &state).await.join("\n");
    // Of rows that tie the last of all of them, not each its own: 45, 37 and 41 are the last of the three keys.
    assert_eq!(lines.matches(|sign: char| sign.is_ascii_digit()).count(), 6, "{lines}");
    assert!(["45", "37", "41"].iter().all(|offset| lines.contains(offset)), "{lines}");
}

async fn refusal(sql: &str) -> Refused {
    let state = session(AS_IT_IS);
    let plan = state.create_logical_plan(sql).await.unwrap();
    refuse(&plan).expect_err(sql)
}

#[tokio::test]
async fn what_is_no_function_of_the_log_is_refused_with_a_hint() {
    for (sql, message) in [
        ("SELECT random() FROM silver.plain", "random() gives another answer each time"),
        ("SELECT x FROM silver.plain ORDER BY uuid()", "uuid() gives another answer each time"),
        ("SELECT x FROM silver.plain WHERE f > (SELECT max(random()) FROM silver.plain)", "random() gives another"),
        ("SELECT x FROM silver.plain LIMIT 3", "LIMIT without ORDER BY takes any rows"),
        ("SELECT x FROM silver.plain OFFSET 3", "OFFSET without ORDER BY takes any rows"),
        ("SELECT x FROM (SELECT x FROM silver.plain LIMIT 3) ORDER BY x LIMIT 2", "LIMIT without ORDER BY"),
        // An order without LIMIT below a FROM is none: DataFusion takes it out.
        ("SELECT x FROM (SELECT * FROM silver.plain ORDER BY t) LIMIT 3", "LIMIT without ORDER BY takes any rows"),
        ("SELECT x FROM (SELECT x FROM silver.plain ORDER BY x LIMIT 9) WHERE x > 1 LIMIT 2", "LIMIT without ORDER BY"),
        ("SELECT x FROM silver.plain WHERE x IN (SELECT x FROM bronze.events LIMIT 3)", "LIMIT without ORDER BY"),
        ("SELECT approx_median(x) FROM silver.plain", "approx_median() comes out as the order in which rows are read"),
        (
            "SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM silver.plain",
            "approx_percentile_cont() comes",
        ),
        (
            "SELECT first_value(x) OVER (ORDER BY t RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM bronze.events",
            "first_value() over a frame of RANGE or GROUPS goes by the order of rows that tie",
        ),
        ("SELECT array_agg(DISTINCT x) OVER () FROM bronze.events", "array_agg() of DISTINCT values has no order"),
        ("SELECT * FROM silver.nested ORDER BY k LIMIT 3", "LIMIT takes rows that tie in any order"),
        ("SELECT array_agg(s) FROM silver.nested", "array_agg() takes rows that tie in any order"),
        ("SELECT lag(k) OVER (ORDER BY k) FROM silver.nested", "lag() takes rows that tie in any order"),
        ("SELECT DISTINCT ON (k) s FROM silver.nested", "DISTINCT ON takes rows that tie in any order"),
    ] {
        let refused = refusal(sql).await;
        assert!(refused.message.starts_with(message) && !refused.hint.is_empty(), "{sql}: {refused:?}");
        assert!(sql.contains(&refused.word), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn what_is_one_is_not() {
    let state = session(AS_IT_IS);
    let one = [
        "SELECT count(*) FROM silver.plain LIMIT 1",
        "SELECT x FROM (SELECT x FROM silver.plain ORDER BY x LIMIT 9) LIMIT 3",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x), stddev(x), var_pop(x), mean(x) FROM silver.plain",
        "SELECT k, array_agg(s['x']) FROM silver.nested GROUP BY k",
        "SELECT first_value(x) OVER (ORDER BY _offset RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM bronze.events",
    ];
    for sql in ORDERS.into_iter().chain(one) {
        let plan = state.create_logical_plan(sql).await.unwrap();
        assert_eq!(refuse(&plan), Ok(()), "{sql}");
        assert_eq!(refuse(&analyzed(&state, plan)), Ok(()), "{sql}");
    }
}

/// Without the rule, these queries do not all come out the same: the data has the ties that the tests are about.
#[tokio::test]
async fn the_rows_tie() {
    let mut answers = BTreeSet::new();
    for arrangement in arrangements() {
        let state = session(arrangement);
        let sql = "SELECT k, array_agg(x ORDER BY t) FROM silver.plain GROUP BY k";
        let plan = state.create_logical_plan(sql).await.unwrap();
        let plan = Analyzer::new().execute_and_check(plan, state.config_options(), |_, _| ()).unwrap();
        let plan = state.optimizer().optimize(plan, &state, |_, _| ()).unwrap();
        let physical = state.query_planner().create_physical_plan(&plan, &state).await.unwrap();
        let batches = collect(physical, state.task_ctx()).await.unwrap();
        answers.insert(pretty_format_batches(&batches).unwrap().to_string());
    }
    assert!(answers.len() > 1);
}

/// What is inferred from a GROUP BY does not hold for the rows that an UNNEST makes of it.
#[tokio::test]
async fn no_column_is_taken_to_depend_on_another_that_does_not() {
    let state = session(AS_IT_IS);
    let grouped = "(SELECT k, array_agg(DISTINCT t) AS ts FROM silver.plain WHERE k IS NULL GROUP BY k)";
    let rows = format!("(SELECT k, unnest(ts) AS t FROM {grouped})");
    for (sql, lines) in [
        (format!("SELECT k, t FROM {rows} ORDER BY k, t DESC NULLS LAST LIMIT 1"), "|   | 3 |"),
        (
            format!("SELECT k, t, count(*) AS n FROM {rows} GROUP BY k, t"),
            "|   |   | 1 |\n|   | 0 | 1 |\n|   | 1 | 1 |\n|   | 2 | 1 |\n|   | 3 | 1 |",
        ),
        (format!("SELECT count(*) AS n FROM (SELECT k, count(*) FROM {rows} GROUP BY k, t)"), "| 5 |"),
        (format!("SELECT count(*) AS n FROM (SELECT DISTINCT k FROM {rows})"), "| 1 |"),
        (
            "SELECT k, k AS l, count(*) AS n FROM silver.plain WHERE k = 'a' GROUP BY 1, 2 ORDER BY l, k, l".to_owned(),
            "| a | a | 16 |",
        ),
    ] {
        let answer = answer(&sql, &state).await;
        let rows = answer.iter().filter(|line| !line.starts_with('+')).cloned().collect::<Vec<_>>();
        assert_eq!(rows.join("\n"), lines, "{sql}");
    }
}

/// Two aggregates of DataFusion's that have the same columns in opposite directions.
#[tokio::test]
async fn opposite_orders_are_both_kept() {
    let sql = "SELECT array_agg(_offset ORDER BY _offset) AS up, array_agg(_offset ORDER BY _offset DESC) AS down, \
               array_agg(DISTINCT t ORDER BY t NULLS LAST) AS once FROM bronze.events WHERE _offset < 4 OR _offset > 45";
    for arrangement in arrangements() {
        let lines = answer(sql, &session(arrangement)).await.join("\n");
        assert!(lines.contains("[0, 1, 2, 3, 46, 47] | [47, 46, 3, 2, 1, 0]"), "{arrangement:?}: {lines}");
        assert!(lines.contains("[1, 2, 3, ]"), "{arrangement:?}: {lines}");
    }
}
