//! `min` and `max` of floats.

use arrow::array::{Float16Array, Float32Array};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::prelude::ParquetReadOptions;
use proptest::prelude::*;

use super::*;

/// The accumulators of `min` or `max` of a type.
struct Typed<'a>(&'a AggregateUDF, DataType);

impl Typed<'_> {
    fn make<T>(&self, make: impl FnOnce(&AggregateUDF, AccumulatorArgs) -> T) -> T {
        let field = Arc::new(Field::new("x", self.1.clone(), true));
        make(
            self.0,
            AccumulatorArgs {
                return_field: Arc::clone(&field),
                schema: &Schema::empty(),
                ignore_nulls: false,
                order_bys: &[],
                is_reversed: false,
                name: "x",
                is_distinct: false,
                exprs: &[],
                expr_fields: &[field],
            },
        )
    }

    fn whole(&self) -> Box<dyn Accumulator> {
        self.make(|function, args| function.accumulator(args)).unwrap()
    }

    fn sliding(&self) -> Box<dyn Accumulator> {
        self.make(|function, args| function.create_sliding_accumulator(args)).unwrap()
    }

    fn groups(&self) -> Box<dyn GroupsAccumulator> {
        assert!(self.make(|function, args| function.groups_accumulator_supported(args)));
        self.make(|function, args| function.create_groups_accumulator(args)).unwrap()
    }
}

fn column(values: &[Option<f64>], kind: &DataType) -> ArrayRef {
    let doubles = Float64Array::from(values.to_vec());
    arrow::compute::cast(&doubles, kind).unwrap()
}

/// Which it is by the order of all floats, of those that there are.
fn expected(values: &[Option<f64>], greatest: bool) -> Option<f64> {
    let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value };
    let values = values.iter().copied().flatten().map(canonical);
    if greatest { values.max_by(f64::total_cmp) } else { values.min_by(f64::total_cmp) }
}

fn bits(value: &ScalarValue) -> Option<u64> {
    match value.cast_to(&DataType::Float64).unwrap() {
        ScalarValue::Float64(value) => value.map(f64::to_bits),
        other => panic!("{other:?} is no float"),
    }
}

/// Values that half a float holds, and what is no number.
fn values() -> impl Strategy<Value = Vec<Option<f64>>> {
    let odd = [f64::NAN, -f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY].map(Some);
    let value = prop_oneof![
        4 => (-1000_i32..1000).prop_map(|value| Some(f64::from(value) / 4.0)),
        1 => proptest::sample::select([&odd[..], &[None]].concat()),
    ];
    proptest::collection::vec(value, 0..12)
}

proptest! {
    #[test]
    fn it_is_one_order_of_all_floats(values in values(), at in 0_usize..12) {
        let (left, right) = values.split_at(at.min(values.len()));
        let functions = aggregates();
        for kind in [DataType::Float64, DataType::Float32, DataType::Float16] {
            for (name, greatest) in [("min", false), ("max", true)] {
                let of = Typed(functions.iter().find(|function| function.name() == name).unwrap(), kind.clone());
                let whole = expected(&values, greatest).map(f64::to_bits);

                let mut one = of.whole();
                one.update_batch(&[column(right, &kind)]).unwrap();
                let state = one.state().unwrap();
                prop_assert_eq!(state.iter().map(ScalarValue::data_type).collect::<Vec<_>>(), [kind.clone()]);
                let mut both = of.whole();
                both.merge_batch(&columns_of(state)).unwrap();
                both.update_batch(&[column(left, &kind)]).unwrap();
                let result = both.evaluate().unwrap();
                prop_assert_eq!(result.data_type(), kind.clone());
                prop_assert_eq!(bits(&result), whole, "{} of {:?}", name, &values);

                // A group has rows, if only nulls.
                let [left_rows, right_rows] = [left, right].map(|rows| [&[None], rows].concat());
                let mut groups = of.groups();
                groups.update_batch(&[column(&left_rows, &kind)], &vec![0; left_rows.len()], None, 1).unwrap();
                let converted = groups.convert_to_state(&[column(&right_rows, &kind)], None).unwrap();
                groups.merge_batch(&converted, &vec![0; right_rows.len()], 1).unwrap();
                let result = groups.evaluate(EmitTo::All).unwrap();
                prop_assert_eq!(bits(&ScalarValue::try_from_array(&result, 0).unwrap()), whole, "{} groups", name);

                let mut frame = of.sliding();
                frame.update_batch(&[column(&values, &kind)]).unwrap();
                frame.retract_batch(&[column(left, &kind)]).unwrap();
                let rest = expected(right, greatest).map(f64::to_bits);
                prop_assert_eq!(bits(&frame.evaluate().unwrap()), rest, "{} of a frame, {:?}", name, &values);
            }
        }
    }
}

/// The last rows of a table come first.
fn odd_rows() -> Vec<Row> {
    let value = |at: usize| match at % 5 {
        0 => None,
        1 => Some(-f64::NAN),
        2 => Some(at as f64 / 4.0),
        3 => Some(-0.0),
        _ => Some(0.0),
    };
    (0..2000).map(|at| (Some(at as i64 % 97), value(at * 7 / 3), Some(at % 3 == 0))).collect()
}

#[tokio::test]
async fn order_threads_and_batches_change_no_bit_of_groups_and_frames() {
    let sql = "SELECT g, min(x), max(x), min(x) FILTER (WHERE counts), max(DISTINCT x) FROM t GROUP BY g ORDER BY g";
    let frame = "OVER (ORDER BY g, x ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING)";
    let frames =
        format!("SELECT 0, min(x) {frame} AS a, max(x) FILTER (WHERE counts) {frame} AS b FROM t ORDER BY g, x");
    let mut rows = odd_rows();
    let one = context(&rows, 2000, SessionConfig::new().with_target_partitions(1), None);
    let (groups, whole) = (answer(&one, sql).await, answer(&one, "SELECT 0, min(x), max(x) FROM t").await);
    let framed = answer(&one, &frames).await;
    for (group, found) in groups.iter().enumerate() {
        let values: Vec<_> = rows.iter().filter(|row| row.0 == Some(group as i64)).map(|row| row.1).collect();
        let both = [false, true].map(|greatest| expected(&values, greatest).map(f64::to_bits));
        assert_eq!(found[..2], both);
        assert_eq!(found[3], both[1]);
    }
    assert_eq!(whole, [[Some((-0.0_f64).to_bits()), Some(f64::NAN.to_bits())]]);
    for (threads, batch) in [(2, 500), (7, 31)] {
        rows.reverse();
        let config = SessionConfig::new().with_target_partitions(threads).with_batch_size(batch.min(64));
        let context = context(&rows, batch, config, None);
        assert_eq!(answer(&context, sql).await, groups);
        assert_eq!(answer(&context, &frames).await.len(), framed.len());
        assert_eq!(answer(&context, "SELECT 0, min(x), max(x) FROM t").await, whole);
    }
}

/// NaN is in no statistics, and a file whose statistics are within the bounds so far is one that is not read.
#[tokio::test]
async fn a_nan_is_found_in_a_file_whose_statistics_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let row = |value: f64| (Some(0), Some(value), None);
    for at in 0..12 {
        let values = if at % 6 == 5 { [1.0, 2.0, f64::NAN] } else { [5.0, 6.0, 7.0] };
        let part = context(&values.map(row), 3, SessionConfig::new(), None);
        let options = DataFrameWriteOptions::new().with_single_file_output(true);
        part.table("t").await.unwrap().write_parquet(&format!("{path}/{at:02}.parquet"), options, None).await.unwrap();
    }
    for threads in [1, 2, 12] {
        let config = SessionConfig::new().with_target_partitions(threads).with_collect_statistics(true);
        let context = context(&[row(0.0)], 1, config, None);
        context.register_parquet("files", path, ParquetReadOptions::default()).await.unwrap();
        let (least, most) = (Some(1.0_f64.to_bits()), Some(f64::NAN.to_bits()));
        assert_eq!(answer(&context, "SELECT 0, max(x) FROM files").await, [[most]], "{threads} threads");
        assert_eq!(answer(&context, "SELECT 0, min(x), max(x) FROM files").await, [[least, most]], "{threads} threads");
    }
}

#[tokio::test]
async fn the_first_groups_by_an_extreme_are_those_of_all() {
    let context = context(&odd_rows(), 100, SessionConfig::new().with_target_partitions(2), None);
    let sql = "SELECT g, max(x) AS most FROM t WHERE g IS NOT NULL GROUP BY g ORDER BY most DESC NULLS LAST, g";
    let all = answer(&context, sql).await;
    let first = "SELECT g, max(x) AS most FROM t GROUP BY g ORDER BY most DESC NULLS LAST LIMIT 3";
    assert_eq!(answer(&context, first).await, all[..3]);
}

#[tokio::test]
async fn names_types_and_what_is_no_float_are_as_they_were() {
    let context = context(&odd_rows()[..10], 10, SessionConfig::new(), None);
    let sql = "SELECT max(x), min(g), max(arrow_cast(g, 'Utf8')), min(DISTINCT x), max(arrow_cast(x, 'Float32')), \
               max(arrow_cast(x, 'Float16')), min(arrow_cast(g, 'Timestamp(Microsecond, None)')) FROM t";
    let ours = context.sql(sql).await.unwrap();
    let plain = SessionContext::new();
    plain.register_table("t", context.table_provider("t").await.unwrap()).unwrap();
    let theirs = plain.sql(sql).await.unwrap();
    assert_eq!(ours.schema(), theirs.schema());
    let (ours, theirs) = (ours.collect().await.unwrap(), theirs.collect().await.unwrap());
    assert_eq!(ours[0].schema(), theirs[0].schema());
    for column in [1, 2, 6] {
        assert_eq!(ours[0].column(column), theirs[0].column(column));
    }
    assert!(ours[0].column(4).as_any().downcast_ref::<Float32Array>().unwrap().value(0).is_nan());
    assert!(ours[0].column(5).as_any().downcast_ref::<Float16Array>().unwrap().value(0).is_nan());
    // What goes by the order of integers still does.
    let sql = "EXPLAIN SELECT g, max(g + 1) AS most FROM t GROUP BY g ORDER BY most DESC NULLS LAST LIMIT 3";
    let explained = context.sql(sql).await.unwrap().collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&explained).unwrap().to_string();
    assert!(text.contains("lim=[3]"), "{text}");
}
