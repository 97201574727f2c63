//! Variances, covariances and regressions.

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use proptest::prelude::*;

use super::*;
use crate::sql::exact::groups::Groups;
use crate::sql::exact::running::{Distinct, Running};

/// A row of `y` and `x`.
type Pair = (Option<f64>, Option<f64>);

const READINGS: [Reading; 16] = [
    Reading::Count,
    Reading::Sum,
    Reading::Mean(1),
    Reading::Variance(Of::Sample),
    Reading::Variance(Of::Population),
    Reading::Deviation(Of::Sample),
    Reading::Deviation(Of::Population),
    Reading::Covariance(Of::Sample),
    Reading::Covariance(Of::Population),
    Reading::Correlation,
    Reading::Determination,
    Reading::Scatter(0, 0),
    Reading::Scatter(1, 1),
    Reading::Scatter(0, 1),
    Reading::Slope,
    Reading::Intercept,
];

fn columns(pairs: &[Pair]) -> Vec<ArrayRef> {
    let column = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    vec![column(pairs.iter().map(|pair| pair.0).collect()), column(pairs.iter().map(|pair| pair.1).collect())]
}

/// The bits of what was read: all NaNs that it gives are one.
fn bits(value: &ScalarValue) -> Option<u64> {
    match value {
        ScalarValue::Float64(value) => value.map(f64::to_bits),
        ScalarValue::UInt64(count) => *count,
        other => panic!("{other:?} is no reading"),
    }
}

fn read(reading: Reading, pairs: &[Pair]) -> Option<f64> {
    let mut all = Running::new(reading);
    all.update_batch(&columns(pairs)).unwrap();
    bits(&all.evaluate().unwrap()).map(f64::from_bits)
}

fn of_groups(groups: &mut Groups) -> Option<u64> {
    let values = groups.evaluate(EmitTo::All).unwrap();
    bits(&ScalarValue::try_from_array(&values, 0).unwrap())
}

fn doubles() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        8 => (-1_000_000_i64..1_000_000).prop_map(|cents| Some(cents as f64 / 100.0)),
        4 => (0_i64..4096).prop_map(|step| Some(1e9 + step as f64 / 1024.0)),
        2 => any::<u64>().prop_map(|bits| Some(f64::from_bits(bits)).filter(|value| value.is_finite())),
        1 => prop_oneof![Just(Some(-0.0)), Just(Some(0.0)), Just(None)],
    ]
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    proptest::collection::vec((doubles(), doubles()), 0..40)
}

/// The pairs, and the same in another order.
fn shuffled() -> impl Strategy<Value = (Vec<Pair>, Vec<Pair>)> {
    let no_number = prop_oneof![Just(f64::NAN), Just(-f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)];
    let with_one = (pairs(), proptest::option::weighted(0.2, no_number)).prop_map(|(mut pairs, extra)| {
        pairs.extend(extra.map(|extra| (Some(extra), Some(1.0))));
        pairs
    });
    with_one.prop_flat_map(|pairs| (Just(pairs.clone()), Just(pairs).prop_shuffle()))
}

proptest! {
    #[test]
    fn order_and_splits_change_no_bit((pairs, others) in shuffled(), at in 0_usize..40) {
        let (left, right) = others.split_at(at.min(others.len()));
        for reading in READINGS {
            let expected = read(reading, &pairs).map(f64::to_bits);
            let mut one = Running::new(reading);
            one.update_batch(&columns(right)).unwrap();
            let mut both = Running::new(reading);
            both.merge_batch(&columns_of(one.state().unwrap())).unwrap();
            both.update_batch(&columns(left)).unwrap();
            prop_assert_eq!(bits(&both.evaluate().unwrap()), expected, "{:?}", reading);

            let mut groups = Groups::new(reading);
            groups.update_batch(&columns(left), &vec![0; left.len()], None, 1).unwrap();
            let converted = groups.convert_to_state(&columns(right), None).unwrap();
            groups.merge_batch(&converted, &vec![0; right.len()], 1).unwrap();
            let state = groups.state(EmitTo::All).unwrap();
            groups.merge_batch(&state, &[0], 1).unwrap();
            prop_assert_eq!(of_groups(&mut groups), expected, "groups, {:?}", reading);
        }
    }

    #[test]
    fn what_is_taken_away_was_never_there((_, pairs) in shuffled(), at in 0_usize..40) {
        let (left, right) = pairs.split_at(at.min(pairs.len()));
        for reading in READINGS {
            let mut frame = Running::new(reading);
            frame.update_batch(&columns(&pairs)).unwrap();
            frame.retract_batch(&columns(left)).unwrap();
            let expected = read(reading, right).map(f64::to_bits);
            prop_assert_eq!(bits(&frame.evaluate().unwrap()), expected, "{:?}", reading);
        }
    }

    #[test]
    fn distinct_is_of_each_pair_once((pairs, others) in shuffled(), at in 0_usize..40) {
        let canonical = |value: Option<f64>| value.map(|value| if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits());
        let mut keys: Vec<_> = pairs.iter().map(|pair| (canonical(pair.0), canonical(pair.1))).collect();
        keys.sort_unstable();
        keys.dedup();
        let once: Vec<Pair> = keys.iter().map(|(y, x)| (y.map(f64::from_bits), x.map(f64::from_bits))).collect();
        let (left, right) = others.split_at(at.min(others.len()));
        for reading in READINGS {
            let mut one = Distinct::new(reading, 2);
            one.update_batch(&columns(right)).unwrap();
            let mut both = Distinct::new(reading, 2);
            both.update_batch(&columns(left)).unwrap();
            both.update_batch(&columns(left)).unwrap();
            both.retract_batch(&columns(left)).unwrap();
            both.merge_batch(&columns_of(one.state().unwrap())).unwrap();
            let expected = read(reading, &once).map(f64::to_bits);
            prop_assert_eq!(bits(&both.evaluate().unwrap()), expected, "{:?}", reading);
        }
    }

    /// Of multiples of 1/1024 around a billion, by integers of 128 bits.
    #[test]
    fn a_large_mean_costs_no_digit(steps in proptest::collection::vec((-4096_i64..4096, -4096_i64..4096), 2..200)) {
        let at = |step: &i64| i128::from(1_000_000_000 * 1024 + step);
        let units: Vec<_> = steps.iter().map(|(y, x)| (at(y), at(x))).collect();
        let count = units.len() as i128;
        let [y, x] = [units.iter().map(|unit| unit.0).sum::<i128>(), units.iter().map(|unit| unit.1).sum()];
        let in_x = count * units.iter().map(|unit| unit.1 * unit.1).sum::<i128>() - x * x;
        let in_both = count * units.iter().map(|unit| unit.0 * unit.1).sum::<i128>() - x * y;
        let divisor = (count * (count - 1) * 1024 * 1024) as f64;
        let double = |unit: i128| Some(unit as f64 / 1024.0);
        let pairs: Vec<Pair> = units.iter().map(|(y, x)| (double(*y), double(*x))).collect();
        let turned: Vec<Pair> = pairs.iter().map(|(y, x)| (*x, *y)).collect();
        for (found, expected) in [
            (read(Reading::Variance(Of::Sample), &turned), Some(in_x as f64 / divisor)),
            (read(Reading::Covariance(Of::Sample), &pairs), Some(in_both as f64 / divisor)),
            (read(Reading::Slope, &pairs), (in_x > 0).then(|| in_both as f64 / in_x as f64)),
        ] {
            let near = |(found, expected): (f64, f64)| (found - expected).abs() <= expected.abs() * 1e-15;
            prop_assert!(found.zip(expected).is_none_or(near), "{found:?} is not {expected:?}");
            prop_assert_eq!(found.is_some(), expected.is_some());
        }
    }
}

#[test]
fn a_line_is_a_line() {
    let pairs: Vec<Pair> = (0..100).map(|x| f64::from(x) / 8.0 + 1e6).map(|x| (Some(3.0 - 2.5 * x), Some(x))).collect();
    assert_eq!(read(Reading::Correlation, &pairs), Some(-1.0));
    assert_eq!(read(Reading::Determination, &pairs), Some(1.0));
    assert_eq!(read(Reading::Slope, &pairs), Some(-2.5));
    assert_eq!(read(Reading::Intercept, &pairs), Some(3.0));
}

#[test]
fn of_few_of_equal_and_of_what_is_no_number() {
    let readings = |pairs: &[Pair]| {
        let of = [Reading::Variance(Of::Sample), Reading::Variance(Of::Population), Reading::Covariance(Of::Sample)];
        let rest = [Reading::Correlation, Reading::Slope, Reading::Determination, Reading::Count];
        [&of[..], &rest].concat().into_iter().map(|reading| read(reading, pairs)).collect::<Vec<_>>()
    };
    let count = |count: u64| Some(f64::from_bits(count));
    let nan = |read: &Option<f64>| read.is_some_and(|read| read.to_bits() == f64::NAN.to_bits());
    assert_eq!(readings(&[]), [None, None, None, None, None, None, count(0)]);
    assert_eq!(readings(&[(None, Some(1.0)), (Some(2.0), None)]), readings(&[]));
    assert_eq!(readings(&[(Some(1.5), Some(0.1))]), [None, Some(0.0), None, None, None, None, count(1)]);
    let equal = [(Some(0.1), Some(0.3)); 3];
    assert_eq!(readings(&equal), [Some(0.0), Some(0.0), Some(0.0), None, None, None, count(3)]);
    for odd in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let read = readings(&[(Some(odd), Some(1.0)), (Some(2.0), Some(3.0)), (Some(2.0), Some(4.0))]);
        assert!(read[..6].iter().all(nan), "{read:?}");
    }
    // Products beyond the doubles are infinite, those below them nothing.
    let large = readings(&[(Some(1e200), Some(1e200)), (Some(-1e200), Some(1.0))]);
    assert_eq!(large[..3], [Some(f64::INFINITY); 3]);
    assert!(large[3..6].iter().all(nan), "{large:?}");
    let small = readings(&[(Some(1e-200), Some(1e-200)), (Some(-1e-200), Some(1e-200))]);
    assert_eq!(small[..3], [Some(0.0); 3]);
}

const ALL: &str = "var(x), var_samp(x), var_sample(x), var_pop(x), var_population(x), stddev(x), stddev_samp(x), \
                   stddev_pop(x), covar_samp(y, x), covar(y, x), covar_pop(y, x), corr(y, x), regr_slope(y, x), \
                   regr_intercept(y, x), regr_r2(y, x), regr_avgx(y, x), regr_avgy(y, x), regr_sxx(y, x), \
                   regr_syy(y, x), regr_sxy(y, x), CAST(regr_count(y, x) AS DOUBLE), sum(x), avg(x), min(x), max(x), \
                   var_pop(x) FILTER (WHERE counts), corr(y, x) FILTER (WHERE counts), max(x) FILTER (WHERE counts)";

fn by_group() -> String {
    let source = "SELECT g, counts, x, CAST(g % 7 AS DOUBLE) * 0.3 - x / 3 AS y FROM t";
    format!("SELECT g, {ALL} FROM ({source}) GROUP BY g ORDER BY g NULLS FIRST")
}

/// Prices with nulls, in groups.
fn prices(count: usize) -> Vec<Row> {
    let price = |at: usize| Some((at * 7919 % 100_003) as f64 / 100.0).filter(|_| !at.is_multiple_of(13));
    let group = |at: usize| Some((at % 101) as i64).filter(|group| *group != 3);
    (0..count).map(|at| (group(at), price(at), Some(at % 5 != 0).filter(|_| at % 11 != 0))).collect()
}

#[tokio::test]
async fn threads_batches_and_memory_change_no_bit_of_any() {
    for (mut rows, bytes) in [(rows(5000, 101), 8 << 20), (prices(5000), 1 << 20)] {
        let config = SessionConfig::new().with_target_partitions(1);
        let expected = answer(&context(&rows, 5000, config, None), &by_group()).await;
        for (threads, batch, memory, skip) in
            [(2, 1000, None, false), (7, 331, None, true), (2, 100, Some(bytes), false)]
        {
            rows.reverse();
            let mut config = SessionConfig::new().with_target_partitions(threads).with_batch_size(batch.min(64));
            config.options_mut().execution.sort_spill_reservation_bytes = 1 << 10;
            if skip {
                config.options_mut().execution.skip_partial_aggregation_probe_rows_threshold = 10;
                config.options_mut().execution.skip_partial_aggregation_probe_ratio_threshold = 0.0;
            }
            let context = context(&rows, batch, config, memory);
            assert_eq!(answer(&context, &by_group()).await, expected, "{threads} threads, batches of {batch}");
        }
    }
}

#[tokio::test]
async fn plain_numbers_are_as_datafusion_has_them() {
    let rows = prices(10_000);
    let config = || SessionConfig::new().with_target_partitions(2);
    let exact = context(&rows, 1000, config(), None);
    let inexact = SessionContext::new_with_config(config());
    inexact.register_table("t", exact.table_provider("t").await.unwrap()).unwrap();
    let (exact, inexact) = (answer(&exact, &by_group()).await, answer(&inexact, &by_group()).await);
    assert_eq!(exact.len(), 101);
    for (exact, inexact) in exact.iter().flatten().zip(inexact.iter().flatten()) {
        match (exact.map(f64::from_bits), inexact.map(f64::from_bits)) {
            (Some(exact), Some(inexact)) => {
                assert!((exact - inexact).abs() <= inexact.abs() * 1e-9 + 1e-9, "{exact} {inexact}")
            }
            (exact, inexact) => assert_eq!(exact, inexact),
        }
    }
}

#[tokio::test]
async fn a_moving_frame_is_as_if_it_stood() {
    let rows = rows(60, 1);
    let context = context(&rows, 60, SessionConfig::new().with_target_partitions(1), None);
    let source = "SELECT CAST(row_number() OVER () AS BIGINT) AS at, x, x * x AS y FROM t";
    let frame = "OVER (ORDER BY at ROWS BETWEEN 4 PRECEDING AND CURRENT ROW)";
    let moving = format!(
        "SELECT 0, stddev(x) {frame} AS a, corr(y, x) {frame} AS b, var_pop(DISTINCT x) {frame} AS c, \
         sum(x) FILTER (WHERE x > 0) {frame} AS d FROM ({source}) ORDER BY at"
    );
    let standing = format!(
        "WITH s AS ({source}) SELECT a.at, stddev(b.x), corr(b.y, b.x), var_pop(DISTINCT b.x), \
         sum(b.x) FILTER (WHERE b.x > 0) FROM s a JOIN s b ON b.at BETWEEN a.at - 4 AND a.at GROUP BY a.at ORDER BY a.at"
    );
    let moving = answer(&context, &moving).await;
    assert_eq!(moving.len(), 60);
    assert_eq!(moving, answer(&context, &standing).await);
}

#[tokio::test]
async fn without_groups_and_without_rows() {
    let context = context(&prices(1000), 100, SessionConfig::new().with_target_partitions(2), None);
    let count =
        answer(&context, "SELECT 0, CAST(regr_count(x, x) AS DOUBLE), corr(x, x), stddev(DISTINCT x) FROM t").await;
    assert_eq!(count[0][..2], [Some(923.0_f64.to_bits()), Some(1.0_f64.to_bits())]);
    assert!(count[0][2].is_some());
    let nothing =
        "SELECT 0, CAST(regr_count(x, x) AS DOUBLE), corr(x, x), stddev(x), min(x), max(x) FROM t WHERE g > 9999";
    assert_eq!(answer(&context, nothing).await, [[Some(0.0_f64.to_bits()), None, None, None, None]]);
}

#[test]
fn the_names_are_those_of_functions_that_datafusion_has() {
    let context = SessionContext::new();
    for aggregate in aggregates() {
        let own = context.udaf(aggregate.name()).unwrap();
        assert_eq!((own.name(), own.aliases()), (aggregate.name(), aggregate.aliases()));
        assert!(merges(own.name()));
    }
    assert!(!merges("median"));
}
