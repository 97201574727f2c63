//! Exact sums: any order, any split and either width give the same bits, and what was added can be taken away again.

use proptest::prelude::*;

use super::*;

fn sum_of(values: &[f64]) -> ExactSum {
    let mut sum = ExactSum::default();
    for value in values {
        sum.add(*value, false);
    }
    sum
}

/// The same sum by way of 2,176 bits alone.
fn wide_sum_of(values: &[f64]) -> f64 {
    let mut sum = ExactSum::default();
    sum.widened();
    for value in values {
        sum.add(*value, false);
    }
    sum.value()
}

#[test]
fn nothing_is_lost_between_large_and_small() {
    assert_eq!(sum_of(&[1e300, 1.0, -1e300]).value(), 1.0);
    assert_eq!(sum_of(&[1e308, 1e308, -1e308]).value(), 1e308);
    assert_eq!(sum_of(&[1e308, 1e308]).value(), f64::INFINITY);
    assert_eq!(sum_of(&[f64::MIN_POSITIVE, 5e-324, -f64::MIN_POSITIVE]).value(), 5e-324);
    assert_eq!(sum_of(&[0.1; 10]).value(), 1.0, "ten times the double nearest to a tenth, rounded once");
    assert_eq!(sum_of(&[-0.0, -0.0]).value().to_bits(), 0.0_f64.to_bits());
}

#[test]
fn a_tie_goes_to_the_even_one_unless_anything_is_below_it() {
    let half = 2.0_f64.powi(-53);
    assert_eq!(sum_of(&[1.0, half]).value(), 1.0);
    assert_eq!(sum_of(&[1.0, half, 5e-324]).value(), 1.0 + f64::EPSILON);
    assert_eq!(sum_of(&[-1.0, -half, -5e-324]).value(), -1.0 - f64::EPSILON);
}

#[test]
fn what_is_no_number_is_counted_and_can_go_again() {
    let mut sum = sum_of(&[1.0, f64::INFINITY, f64::NAN]);
    assert!(sum.value().is_nan());
    sum.add(f64::NAN, true);
    assert_eq!(sum.value(), f64::INFINITY);
    sum.add(f64::NEG_INFINITY, false);
    assert!(sum.value().is_nan());
    sum.add(f64::INFINITY, true);
    assert_eq!(sum.value(), f64::NEG_INFINITY);
    sum.add(f64::NEG_INFINITY, true);
    assert_eq!(sum.value(), 1.0);
}

#[test]
fn other_bytes_are_no_sum() {
    assert!(ExactSum::from_bytes(&[]).is_none());
    assert!(ExactSum::from_bytes(&[0; 19]).is_none());
    assert!(ExactSum::from_bytes(&[0; 8 * WORDS]).is_none());
}

fn doubles() -> impl Strategy<Value = Vec<f64>> {
    let any = any::<u64>().prop_map(f64::from_bits).prop_filter("a number", |value| value.is_finite());
    let prices = (-1_000_000_i64..1_000_000).prop_map(|cents| cents as f64 / 100.0);
    prop_oneof![
        proptest::collection::vec(prices.clone(), 0..40),
        proptest::collection::vec(prop_oneof![any, prices], 0..40)
    ]
}

proptest! {
    #[test]
    fn order_splits_and_width_change_nothing(values in doubles(), at in 0_usize..40) {
        let whole = sum_of(&values);
        prop_assert_eq!(whole.value().to_bits(), wide_sum_of(&values).to_bits());
        let reversed: Vec<f64> = values.iter().rev().copied().collect();
        prop_assert_eq!(whole.value().to_bits(), sum_of(&reversed).value().to_bits());
        let (left, right) = values.split_at(at.min(values.len()));
        let mut merged = ExactSum::from_bytes(&sum_of(right).to_bytes()).unwrap();
        merged.merge(&sum_of(left));
        prop_assert_eq!(whole.value().to_bits(), merged.value().to_bits());
        let mut without = whole;
        for value in right {
            without.add(*value, true);
        }
        prop_assert_eq!(without.value().to_bits(), sum_of(left).value().to_bits());
    }

    #[test]
    fn what_is_negated_takes_away_what_was_merged(kept in doubles(), gone in doubles()) {
        let mut sum = sum_of(&[kept.clone(), gone.clone()].concat());
        sum.merge(&sum_of(&gone).negated());
        prop_assert_eq!(sum.value().to_bits(), sum_of(&kept).value().to_bits());
    }

    #[test]
    fn one_double_is_itself(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let sum = sum_of(&[value]).value();
        prop_assert!(sum == value || value.is_nan() && sum.is_nan());
        prop_assert!(wide_sum_of(&[value]) == value || value.is_nan());
    }

    #[test]
    fn integers_add_up_as_integers(values in proptest::collection::vec(-(1_i64 << 53)..1 << 53, 0..100)) {
        let exact: i128 = values.iter().copied().map(i128::from).sum();
        let doubles: Vec<f64> = values.iter().map(|value| *value as f64).collect();
        prop_assert_eq!(sum_of(&doubles).value(), exact as f64);
    }
}

/// The product of two doubles by way of its halves.
fn product_of(x: f64, y: f64, away: bool) -> f64 {
    let [high, low] = [Half::High, Half::Low].map(|half| {
        let mut sum = ExactSum::default();
        sum.add_half(half, x, y, away);
        sum
    });
    match (high.exact(), low.exact()) {
        (Ok(high), Ok(low)) => high.plus(&low).value(),
        (Err(value), _) | (_, Err(value)) => value,
    }
}

#[test]
fn products_at_the_ends_of_the_doubles() {
    assert_eq!(product_of(1e200, -1e200, false), f64::NEG_INFINITY);
    assert_eq!(product_of(f64::MAX, 1.0, false), f64::MAX);
    assert!(product_of(f64::INFINITY, 0.0, false).is_nan());
    assert_eq!(product_of(1e-200, 1e-200, false), 0.0);
    assert_eq!(product_of(-1e-200, 1e-200, false), 0.0);
    assert_eq!(product_of(f64::MIN_POSITIVE, f64::EPSILON, false), 5e-324);
}

proptest! {
    #[test]
    fn a_product_is_that_of_the_doubles(x in any::<u64>(), y in any::<u64>()) {
        let (x, y) = (f64::from_bits(x), f64::from_bits(y));
        prop_assume!(!(x * y).is_nan() && ((x * y).abs() > 1e-290 || x == 0.0 || y == 0.0));
        prop_assert_eq!(product_of(x, y, false), x * y);
        prop_assert!(product_of(x, y, true) == -(x * y) || !(x * y).is_finite());
    }
}
