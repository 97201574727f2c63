//! One pass against the operators themselves: the same rows, and the same that is to be known.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::datasource::MemTable;
use lakebed_log::Store;

use super::*;
use crate::catalog;
use crate::dataflow::cut::cut;
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
}

async fn case(sql: &str) -> Case {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context = catalog::session(&lake, &runs).unwrap();
    let partitions = partitions();
    let schema = partitions[0][0].schema();
    catalog::register(&context, "silver", "t", Arc::new(Slot(Arc::clone(&schema)))).unwrap();
    let mut state = context.state();
    state.config_mut().options_mut().execution.target_partitions = 3;
    let plan = state.create_logical_plan(sql).await.unwrap();
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ()).unwrap();
    let flow = cut(&state, &plan, &|_| true).unwrap();
    let mut tables = Filling::default();
    tables.put("silver.t", Arc::new(MemTable::try_new(schema, partitions).unwrap()));
    Case { flow, runner: Runner::new(state), tables, columns: stored_schema(plan.schema().as_arrow()) }
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
        ("SELECT date_trunc('second', at), max(at) FROM silver.t GROUP BY 1".to_owned(), 1),
        ("SELECT n > 0, at::date, stddev(x), var_pop(x) FROM silver.t GROUP BY 1, 2".to_owned(), 2),
    ] {
        let Case { flow, runner, tables, columns } = case(&sql).await;
        let Whole { rows, noted } = flow.whole(&runner, &tables, usize::MAX).await.unwrap().expect("one pass");
        let mut of_pass = TableHash::EMPTY;
        for mut rows in rows {
            while let Some(batch) = rows.try_next().await.unwrap() {
                of_pass = of_pass.add(TableHash::of_batch(&cast(batch.columns(), &columns).unwrap()).unwrap());
            }
        }
        let ((_kept, learnt), (_here, applied)) = (cache("pass"), cache("operators"));
        let changes = TableChanges { added: tables, ..TableChanges::default() };
        let by_operators = flow.apply(&runner, &changes, &applied, Some(&columns)).await.unwrap();
        let rows = by_operators.changes.added;
        assert_eq!(of_pass, hash(&rows), "{sql}");
        let entries = noted.entries().expect("all groups have passed");
        let groups: usize = rows.iter().map(RecordBatch::num_rows).sum();
        assert!(groups > 1 && entries.len() == groups, "{sql}: {} states of {groups} groups", entries.len());
        learnt.put(entries, None).unwrap();
        applied.put(by_operators.entries, None).unwrap();
        for batch in rows {
            let keys = row_keys(&batch.columns()[..keys]).unwrap();
            let states = learnt.read(OPERATORS).unwrap().values(&keys).unwrap();
            assert!(states.iter().all(Option::is_some), "{sql}");
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
async fn what_one_pass_does_not_learn_is_left_to_the_operators() {
    for sql in [
        "SELECT count(*) FROM silver.t",
        "SELECT kind, count(DISTINCT word) FROM silver.t GROUP BY kind",
        "SELECT arrow_cast(at, 'Timestamp(Nanosecond, None)') AS at, count(*) FROM silver.t GROUP BY 1",
        "SELECT kind, first_value(n ORDER BY at) FROM silver.t GROUP BY kind",
        "SELECT a.kind, count(*) FROM (SELECT DISTINCT kind FROM silver.t) AS a GROUP BY a.kind",
    ] {
        let Case { flow, runner, tables, .. } = case(sql).await;
        assert!(flow.whole(&runner, &tables, usize::MAX).await.unwrap().is_none(), "{sql}");
    }
}

#[tokio::test]
async fn nothing_is_noted_of_groups_that_did_not_pass_or_are_too_many() {
    let grouped = "SELECT word, count(*) AS c FROM silver.t GROUP BY word";
    for (sql, most, noted) in [
        (grouped.to_owned(), 700, true),
        (grouped.to_owned(), 100, false),
        (format!("{grouped} HAVING count(*) > 3"), 700, true),
        (format!("{grouped} HAVING false"), 700, false),
    ] {
        let Case { flow, runner, tables, .. } = case(&sql).await;
        let whole = flow.whole(&runner, &tables, most).await.unwrap().expect("one pass");
        for mut rows in whole.rows {
            while rows.try_next().await.unwrap().is_some() {}
        }
        assert_eq!(whole.noted.entries().is_some(), noted, "{sql}, {most} at most");
    }
}
