//! One pass against the operators themselves: the same rows, and the same that is to be known.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use lakebed_log::Store;

use super::*;
use crate::catalog;
use crate::dataflow::cut::{cut, joined};
use crate::dataflow::run::TableChanges;
use crate::hash::TableHash;
use crate::run_files::{cast, stored_schema};
use crate::slots::Slot;
use crate::state_cache::{ModelCache, OPERATORS, StateCache};

/// Rows of every kind that is grouped by or aggregated, some of them null, in two partitions of small batches.
fn partitions() -> Vec<Vec<RecordBatch>> {
    let (mut seed, mut partitions) = (7_u64, vec![Vec::new(), Vec::new()]);
    let mut next = |of: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    for number in 0..40 {
        let mut column = |of: u64| -> Vec<Option<u64>> {
            (0..50).map(|_| next(of)).map(|value| (value > 0).then_some(value)).collect()
        };
        let (text, int, float) = (column(9), column(2_000), column(1_000));
        let (time, money, word) = (column(5), column(100), column(700));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("kind", Arc::new(text.iter().map(|n| n.map(|n| format!("kind {n}"))).collect::<StringArray>())),
            ("n", Arc::new(int.iter().map(|n| n.map(|n| n as i64 - 1_000)).collect::<Int64Array>())),
            ("x", Arc::new(float.iter().map(|n| n.map(|n| n as f64 / 7.0 - 50.0)).collect::<Float64Array>())),
            ("at", Arc::new(time.iter().map(|n| n.map(|n| n as i64 * 999_999)).collect::<TimestampMicrosecondArray>())),
            (
                "money",
                Arc::new(
                    Decimal128Array::from_iter(money.iter().map(|n| n.map(|n| i128::from(n) * 10)))
                        .with_precision_and_scale(12, 2)
                        .unwrap(),
                ),
            ),
            ("word", Arc::new(word.iter().map(|n| n.map(|n| n.to_string())).collect::<StringArray>())),
        ];
        partitions[number % 2].push(
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
                .unwrap(),
        );
    }
    partitions
}

struct Case {
    flow: Dataflow,
    runner: Runner,
    tables: Filling,
    /// The query's columns as they are stored.
    columns: SchemaRef,
    plan: LogicalPlan,
}

async fn case(sql: &str) -> Case {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context = catalog::session(&lake, &runs).unwrap();
    let partitions = partitions();
    let schema = partitions[0][0].schema();
    catalog::register(&context, "silver", "t", Arc::new(Slot(Arc::clone(&schema)))).unwrap();
    let mut state = context.state();
    let mut config = state.config().clone().with_target_partitions(3).with_batch_size(64);
    // Where most rows are a group of their own, a part of the aggregation is left out.
    config.options_mut().execution.skip_partial_aggregation_probe_rows_threshold = 100;
    *state.config_mut() = config;
    let plan = state.create_logical_plan(sql).await.unwrap();
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ()).unwrap();
    let flow = cut(&joined(&state, plan.clone()).unwrap(), &|_| true).unwrap();
    let mut tables = Filling::default();
    tables.put("silver.t", Arc::new(MemTable::try_new(schema, partitions).unwrap()));
    Case { flow, runner: Runner::new(state), tables, columns: stored_schema(plan.schema().as_arrow()), plan }
}

fn cache(of: &str) -> (tempfile::TempDir, ModelCache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = StateCache::open(directory.path()).unwrap().unwrap().model(of, "a");
    (directory, cache)
}

#[tokio::test]
async fn it_gives_the_rows_and_the_states_of_the_operators() {
    let all = "count(*), count(n), sum(n), avg(n), min(n), max(x), sum(x), avg(x), sum(money), min(word), \
               approx_distinct(word), bool_and(n > 0), bit_xor(n), sum(n) FILTER (WHERE x > 0)";
    for (sql, keys) in [
        (format!("SELECT kind, {all} FROM silver.t GROUP BY kind"), 1),
        (format!("SELECT word, {all} FROM silver.t WHERE n <> 5 GROUP BY word"), 1),
        (format!("SELECT kind, at, money, {all} FROM silver.t GROUP BY kind, at, money"), 3),
        ("SELECT n % 100 AS c, count(*) * 2 AS c2 FROM silver.t GROUP BY n % 100".to_owned(), 1),
        ("SELECT DISTINCT kind, at FROM silver.t".to_owned(), 2),
        ("SELECT DISTINCT word, n FROM silver.t".to_owned(), 2),
        ("SELECT kind, at, sum(x) FROM silver.t WHERE kind = 'kind 1' GROUP BY kind, at".to_owned(), 2),
        ("SELECT word, sum(x) FROM silver.t GROUP BY word UNION ALL SELECT kind, x FROM silver.t".to_owned(), 1),
        ("SELECT date_trunc('second', at), max(at) FROM silver.t GROUP BY 1".to_owned(), 1),
        ("SELECT n > 0, at::date, stddev(x), var_pop(x) FROM silver.t GROUP BY 1, 2".to_owned(), 2),
    ] {
        let Case { flow, runner, tables, columns, .. } = case(&sql).await;
        let ((_kept, learnt), (_here, applied)) = (cache("pass"), cache("operators"));
        let Whole { rows, noted } = whole(&flow, &runner, (&tables, MANY), &learnt, &columns).await.expect("one pass");
        let of_pass = drained(rows, &columns).await;
        let changes = TableChanges { added: tables, ..TableChanges::default() };
        let by_operators = flow.apply(&runner, &changes, &applied, Some(&columns)).await.unwrap();
        let rows = by_operators.changes.added;
        assert_eq!(of_pass, hash(&rows), "{sql}");
        learnt.put(noted.rest().expect("all groups have passed"), None).unwrap();
        applied.put(by_operators.entries, None).unwrap();
        for batch in rows {
            let keys = row_keys(&batch.columns()[..keys]).unwrap();
            let states = learnt.read(OPERATORS).unwrap().values(&keys).unwrap();
            assert!(states.iter().all(Option::is_some) || sql.contains("UNION ALL"), "{sql}");
        }
        // The same rows once more: every group goes, and comes with what both have taken in. States are not compared as bytes:
        // an exact sum may lie in its limbs in several ways.
        let mut again = [Vec::new(), Vec::new()];
        for (cache, again) in [learnt, applied].iter().zip(&mut again) {
            let more = flow.apply(&runner, &changes, cache, Some(&columns)).await.unwrap().changes;
            *again = vec![hash(&more.gone), hash(&more.added)];
        }
        assert_eq!(again[0], again[1], "{sql}");
    }
}

fn hash(rows: &[RecordBatch]) -> TableHash {
    rows.iter().fold(TableHash::EMPTY, |sum, batch| sum.add(TableHash::of_batch(batch).unwrap()))
}

#[tokio::test]
async fn tables_that_fit_memory_are_one_pass_for_every_operator() {
    for sql in [
        "SELECT count(*) FROM silver.t",
        "SELECT kind, count(DISTINCT word), sum(x) FROM silver.t GROUP BY kind",
        "SELECT kind, count(DISTINCT arrow_cast(n, 'Timestamp(Nanosecond, None)')) FROM silver.t GROUP BY kind",
        "SELECT count(*) FROM silver.t GROUP BY named_struct('at', arrow_cast(n, 'Timestamp(Nanosecond, None)'))",
        "SELECT kind, max(c) FROM (SELECT kind, word, count(*) AS c FROM silver.t GROUP BY 1, 2) AS a GROUP BY kind",
        "SELECT a.kind, count(*) FROM (SELECT DISTINCT kind FROM silver.t) AS a GROUP BY a.kind",
        "SELECT kind, n, row_number() OVER (PARTITION BY kind ORDER BY n, x, word, at, money) FROM silver.t",
    ] {
        let Case { flow, runner, tables, columns, plan } = case(sql).await;
        let (_kept, cache) = cache("pass");
        assert!(whole(&flow, &runner, (&tables, MANY), &cache, &columns).await.is_none(), "{sql}");
        let Whole { rows, noted } = whole(&flow, &runner, (&tables, 2_000), &cache, &columns).await.expect("one pass");
        let of_query = runner.streams(&tables.bind_or_empty(&plan).unwrap()).await.unwrap();
        assert_eq!(drained(rows, &columns).await, drained(of_query, &columns).await, "{sql}");
        assert!(noted.rest().is_some_and(|entries| entries.len() > 0), "{sql}");
    }
}

#[tokio::test]
async fn what_may_be_more_rows_than_were_read_is_two_passes() {
    for sql in [
        "SELECT a.n, b.word FROM silver.t AS a JOIN silver.t AS b ON a.money = b.money",
        "SELECT kind, unnest(words) FROM (SELECT kind, array_agg(word ORDER BY n) AS words FROM silver.t GROUP BY kind)",
    ] {
        let Case { flow, runner, tables, columns, .. } = case(sql).await;
        let (_kept, cache) = cache("pass");
        assert!(whole(&flow, &runner, (&tables, 2_000), &cache, &columns).await.is_none(), "{sql}");
    }
}

#[tokio::test]
async fn nothing_is_noted_where_groups_did_not_pass() {
    for (having, noted) in [("count(*) > 3", true), ("false", false)] {
        let sql = format!("SELECT word, count(*) AS c FROM silver.t GROUP BY word HAVING {having}");
        let (_kept, cache) = cache("pass");
        let Case { flow, runner, tables, columns, .. } = case(&sql).await;
        let whole = whole(&flow, &runner, (&tables, MANY), &cache, &columns).await.expect("one pass");
        drained(whole.rows, &columns).await;
        assert_eq!(whole.noted.rest().is_some(), noted, "{sql}");
    }
}

/// More rows than are taken up at once.
const MANY: u64 = u64::MAX;

async fn whole(
    flow: &Dataflow,
    runner: &Runner,
    tables: (&Filling, u64),
    cache: &ModelCache,
    columns: &SchemaRef,
) -> Option<Whole> {
    flow.whole(runner, tables, (cache.clone(), None), columns).await.unwrap()
}

async fn drained(streams: Vec<SendableRecordBatchStream>, columns: &SchemaRef) -> TableHash {
    let mut hash = TableHash::EMPTY;
    for mut rows in streams {
        while let Some(batch) = rows.try_next().await.unwrap() {
            hash = hash.add(TableHash::of_batch(&cast(batch.columns(), columns).unwrap()).unwrap());
        }
    }
    hash
}
