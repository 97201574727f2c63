//! Sums of integers and of long decimals.

use arrow::array::{Decimal128Array, Int64Array};
use arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::common::Result;

use super::*;

/// The table `t` of a group, an integer and its decimal, in partitions of three rows.
fn numbers(values: &[Option<i64>], threads: usize) -> SessionContext {
    let kinds = [("g", DataType::Int64), ("i", DataType::Int64), ("d", DataType::Decimal128(38, 0))];
    let schema = Arc::new(Schema::new(kinds.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
    let part = |(part, values): (usize, &[Option<i64>])| {
        let groups: Int64Array = (0..values.len()).map(|at| Some((part * 3 + at) as i64 % 5)).collect();
        let integers: Int64Array = values.iter().copied().collect();
        let long = values.iter().map(|value| value.map(|value| i128::from(value) * 10_i128.pow(19)));
        let long = long.collect::<Decimal128Array>().with_precision_and_scale(38, 0).unwrap();
        vec![RecordBatch::try_new(schema.clone(), vec![Arc::new(groups), Arc::new(integers), Arc::new(long)]).unwrap()]
    };
    let partitions = values.chunks(3).enumerate().map(part).collect();
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
    aggregates().into_iter().for_each(|aggregate| context.register_udaf(aggregate));
    context.register_table("t", Arc::new(MemTable::try_new(schema, partitions).unwrap())).unwrap();
    context
}

/// The first column, which is of integers, and the second, of decimals.
async fn sums(context: &SessionContext, sql: &str) -> Result<Vec<(Option<i64>, Option<i128>)>> {
    let batches = context.sql(sql).await?.collect().await?;
    let rows = batches.iter().flat_map(|batch| {
        let (integers, decimals) = (batch.column(0), batch.column(1));
        integers.as_primitive::<Int64Type>().iter().zip(decimals.as_primitive::<Decimal128Type>().iter())
    });
    Ok(rows.collect())
}

const BY_GROUP: &str = "SELECT sum(i), sum(d) FROM t GROUP BY g ORDER BY g";

#[tokio::test]
async fn sums_that_leave_their_bits_on_the_way_come_back() {
    let (most, least) = (i64::MAX, i64::MIN);
    // A group has every fifth of them.
    let values = [most, most, 1, least, 7, most, least, 1, least, 7, least, least, 1, most, 7, -5, 6, 7, most, 8];
    let values: Vec<Option<i64>> = values.into_iter().map(Some).chain([None; 4]).collect();
    let of_group = |group: usize| values.iter().skip(group).step_by(5).flatten().map(|value| i128::from(*value)).sum();
    let expected: Vec<_> = (0..5)
        .map(of_group)
        .map(|sum: i128| (Some(i64::try_from(sum).unwrap()), Some(sum * 10_i128.pow(19))))
        .collect();
    for threads in [1, 4] {
        let context = numbers(&values, threads);
        assert_eq!(sums(&context, BY_GROUP).await.unwrap(), expected);
        let filtered = "SELECT sum(i) FILTER (WHERE i = 7), sum(d) FILTER (WHERE i IS NULL) FROM t";
        assert_eq!(sums(&context, filtered).await.unwrap(), [(Some(28), None)]);
        let distinct = "SELECT sum(DISTINCT i), sum(DISTINCT d) FROM t";
        let once: i128 = [most, least, 1, 7, -5, 6, 8].map(i128::from).iter().sum();
        let expected = (Some(i64::try_from(once).unwrap()), Some(once * 10_i128.pow(19)));
        assert_eq!(sums(&context, distinct).await.unwrap(), [expected]);
    }
}

#[tokio::test]
async fn frames_lose_what_has_left_them() {
    let values = [i64::MAX, -1, i64::MIN, 4, 4].map(Some);
    let context = numbers(&values, 1);
    let moving = "OVER (ORDER BY g ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    let expected = [i128::from(i64::MAX), i128::from(i64::MAX) - 1, i128::from(i64::MIN) - 1];
    let error = sums(&context, &format!("SELECT sum(i) {moving}, sum(d) {moving} FROM t")).await.unwrap_err();
    assert!(error.to_string().contains("beyond the 64 bits of BIGINT"), "{error}");
    let decimals = sums(&context, &format!("SELECT i, sum(d) {moving} FROM t ORDER BY g LIMIT 3")).await.unwrap();
    let decimals: Vec<_> = decimals.into_iter().map(|(_, sum)| sum.unwrap() / 10_i128.pow(19)).collect();
    assert_eq!(decimals, expected);
    let distinct = format!("SELECT sum(DISTINCT i) {moving}, sum(DISTINCT d) {moving} FROM t WHERE g > 2 ORDER BY g");
    let four = (Some(4), Some(4 * 10_i128.pow(19)));
    assert_eq!(sums(&context, &distinct).await.unwrap(), [four, four]);
}

#[tokio::test]
async fn a_sum_that_is_too_large_in_the_end_is_an_error() {
    let context = numbers(&[Some(i64::MAX), None, None, None, None, Some(i64::MAX)], 2);
    for (sql, message) in [
        ("SELECT sum(i) FROM t", "CAST what it adds up to DECIMAL(38, 0)"),
        ("SELECT g, sum(i) FROM t GROUP BY g", "CAST what it adds up to DECIMAL(38, 0)"),
        ("SELECT sum(d) FROM t", "a sum has more than 38 digits"),
        ("SELECT g, sum(d) FROM t GROUP BY g", "a sum has more than 38 digits"),
    ] {
        let error = context.sql(sql).await.unwrap().collect().await.unwrap_err().to_string();
        assert!(error.contains(message), "{sql}: {error}");
    }
    let unsigned = context.sql("SELECT sum(arrow_cast(i, 'UInt64')) FROM t").await.unwrap().collect().await.unwrap();
    let sum = unsigned[0].column(0).as_primitive::<arrow::datatypes::UInt64Type>().value(0);
    assert_eq!(sum, u64::MAX - 1);
}
