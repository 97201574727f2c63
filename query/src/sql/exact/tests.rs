//! What is common to the tests of exact aggregates, and those of sums and means.

mod extremes;
mod moments;
mod wide;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::catalog::MemTable;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::number::ExactSum;
use super::*;

/// Rows of a group, a value and whether it counts.
type Row = (Option<i64>, Option<f64>, Option<bool>);

/// Values that no order of rounded additions gives right, with nulls, in `groups` groups and the null one.
fn rows(count: usize, groups: i64) -> Vec<Row> {
    let value = |at: usize| match at % 7 {
        0 => None,
        1 => Some(1e16),
        2 => Some(-1e16),
        3 => Some(0.1 * at as f64),
        4 => Some(1e-300),
        5 => Some(-0.0),
        _ => Some(at as f64 / 100.0),
    };
    let group = |at: usize| Some((at * 31 % 1009) as i64 % groups).filter(|group| *group != 3);
    (0..count).map(|at| (group(at), value(at), Some(at % 5 != 0).filter(|_| at % 11 != 0))).collect()
}

/// The state of an accumulator as columns of one row.
fn columns_of(state: Vec<ScalarValue>) -> Vec<ArrayRef> {
    state.iter().map(|value| value.to_array().unwrap()).collect()
}

/// The table `t` of the rows, in partitions of a batch each.
fn context(rows: &[Row], batch: usize, config: SessionConfig, memory: Option<usize>) -> SessionContext {
    let fields = [("g", DataType::Int64), ("x", DataType::Float64), ("counts", DataType::Boolean)];
    let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
    let part = |rows: &[Row]| {
        let groups = rows.iter().map(|row| row.0).collect::<arrow::array::Int64Array>();
        let values = rows.iter().map(|row| row.1).collect::<Float64Array>();
        let counts = rows.iter().map(|row| row.2).collect::<BooleanArray>();
        RecordBatch::try_new(schema.clone(), vec![Arc::new(groups), Arc::new(values), Arc::new(counts)]).unwrap()
    };
    let partitions = rows.chunks(batch).map(|rows| vec![part(rows)]).collect();
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = memory {
        runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(bytes)));
    }
    let context = SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap());
    aggregates().into_iter().for_each(|aggregate| context.register_udaf(aggregate));
    context.register_table("t", Arc::new(MemTable::try_new(schema.clone(), partitions).unwrap())).unwrap();
    context
}

async fn answer(context: &SessionContext, sql: &str) -> Vec<Vec<Option<u64>>> {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let bits = |column: &ArrayRef| -> Vec<Option<u64>> {
        column.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect()
    };
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().skip(1).map(bits).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row]).collect::<Vec<_>>()));
    }
    rows
}

const BY_GROUP: &str = "SELECT g, sum(x), avg(x), sum(x) FILTER (WHERE counts), avg(x) FILTER (WHERE counts) \
                        FROM t GROUP BY g ORDER BY g NULLS FIRST";

/// What the rows come to, one after the other.
fn expected(rows: &[Row], filtered: bool, group: Option<i64>) -> [Option<u64>; 2] {
    let (mut sum, mut count) = (ExactSum::default(), 0);
    for (_, value, _) in rows.iter().filter(|row| row.0 == group && (!filtered || row.2 == Some(true))) {
        if let Some(value) = value {
            sum.add(*value, false);
            count += 1;
        }
    }
    [sum.value(), sum.value() / f64::from(count)].map(|value| (count > 0).then(|| value.to_bits()))
}

#[tokio::test]
async fn order_threads_batches_and_memory_change_no_bit() {
    let mut rows = rows(40_000, 1009);
    let mut groups: Vec<Option<i64>> = rows.iter().map(|row| row.0).collect();
    groups.sort_unstable();
    groups.dedup();
    let expected: Vec<Vec<_>> =
        groups.iter().map(|group| [expected(&rows, false, *group), expected(&rows, true, *group)].concat()).collect();
    for (threads, batch, memory) in [(1, 40_000, None), (2, 1000, None), (7, 331, None), (2, 100, Some(1 << 20))] {
        let mut config = SessionConfig::new().with_target_partitions(threads).with_batch_size(batch.min(64));
        config.options_mut().execution.sort_spill_reservation_bytes = 1 << 10;
        let context = context(&rows, batch, config, memory);
        assert_eq!(answer(&context, BY_GROUP).await, expected, "{threads} threads, batches of {batch}, {memory:?}");
        rows.reverse();
    }
}

#[tokio::test]
async fn a_partial_aggregation_that_is_skipped_changes_no_bit() {
    let rows = rows(20_000, 1009);
    let mut config = SessionConfig::new().with_target_partitions(2);
    let plain = answer(&context(&rows, 1000, config.clone(), None), BY_GROUP).await;
    config.options_mut().execution.skip_partial_aggregation_probe_rows_threshold = 10;
    config.options_mut().execution.skip_partial_aggregation_probe_ratio_threshold = 0.0;
    assert_eq!(answer(&context(&rows, 1000, config, None), BY_GROUP).await, plain);
}

#[tokio::test]
async fn without_groups_without_rows_distinct_and_over_a_moving_frame() {
    let rows = rows(3000, 50);
    let config = SessionConfig::new().with_target_partitions(2);
    let context = context(&rows, 400, config, None);
    let all: Vec<Row> = rows.iter().map(|row| (None, row.1, row.2)).collect();
    let whole = answer(&context, "SELECT 0, sum(x), avg(x) FROM t").await;
    assert_eq!(whole, [expected(&all, false, None)]);
    assert_eq!(answer(&context, "SELECT 0, sum(x), avg(x) FROM t WHERE g > 9999").await, [[None, None]]);
    let mut distinct: Vec<f64> = rows.iter().filter_map(|row| row.1).map(|value| value + 0.0).collect();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    let distinct: Vec<Row> = distinct.into_iter().map(|value| (None, Some(value), None)).collect();
    let answered = answer(&context, "SELECT 0, sum(DISTINCT x), avg(DISTINCT x) FROM t").await;
    assert_eq!(answered, [expected(&distinct, false, None)]);
    // A frame that has lost its large values has nothing left of them, as it would of rounded ones.
    let frames = "SELECT 0, sum(x) OVER (ORDER BY at ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM \
                  (VALUES (1, 1e300), (2, 1.0), (3, 1e-9)) AS v(at, x) ORDER BY at";
    let expected = [1e300, 1e300, 1.0 + 1e-9].map(|value: f64| vec![Some(value.to_bits())]);
    assert_eq!(answer(&context, frames).await, expected);
}

#[tokio::test]
async fn what_is_no_double_is_as_it_was() {
    let context = context(&rows(10, 3), 10, SessionConfig::new(), None);
    let sql = "SELECT sum(i), avg(i), sum(d), mean(i + 0) FROM (SELECT column1 AS i, CAST(column1 AS DECIMAL(10, 2)) AS d \
               FROM (VALUES (1), (2)))";
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let types: Vec<_> = batches[0].schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let expected = [DataType::Int64, DataType::Float64, DataType::Decimal128(20, 2), DataType::Float64];
    assert_eq!(types, expected);
    assert_eq!(batches[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 3);
    assert_eq!(batches[0].column(3).as_primitive::<Float64Type>().value(0), 1.5);
}
