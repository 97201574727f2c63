//! The exact sum of doubles: nothing is rounded before it is read, so that any order of arrival gives the same bits.
//!
//! A sum is an integer of units `2^exponent`. Doubles of like size fit 128 bits of them, which is a few instructions for
//! each; what does not fit moves to 2,176 bits, which hold every double. The idea of a sum as wide as the doubles' range
//! is Kulisch's; that most sums need only a window of it is Neal's ("Fast exact summation using small and large
//! superaccumulators", 2015).

use std::cmp::Ordering;

/// 64-bit words of a wide sum: from 2^-1074, the least double, to 2^1024, and 78 bits for carries and the sign.
const WORDS: usize = 34;

/// The exponent of the least double, in units of which a wide sum counts.
const LEAST: i32 = -1074;

/// Where a first value's last bit is put above the last bit of a sum, so that smaller ones find room below it.
const ROOM_BELOW: i32 = 30;

/// No value is shifted further than this into 128 bits: 53 bits of it, 10 bits for carries and the sign.
const SHIFTS: u32 = 64;

/// The exact sum of some doubles. `add` and `remove` are inverse, `merge` is associative and commutative.
#[derive(Clone, Debug)]
pub(crate) enum ExactSum {
    /// `units * 2^exponent`.
    Narrow {
        /// How many.
        units: i128,
        /// Of what size; at least [`LEAST`]. Without meaning while there are none.
        exponent: i32,
    },
    /// What needs more.
    Wide(Box<Wide>),
}

/// A sum that holds every double, and counts of those that are no numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    /// Two's complement, least word first, in units of `2^LEAST`.
    words: [u64; WORDS],
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self::Narrow { units: 0, exponent: LEAST }
    }
}

impl ExactSum {
    /// Adds a double; gives the bytes that were newly allocated for it.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) -> usize {
        self.add_signed(value, false)
    }

    /// Takes a double away that was added, or will be.
    pub(crate) fn remove(&mut self, value: f64) {
        self.add_signed(value, true);
    }

    #[inline]
    fn add_signed(&mut self, value: f64, negated: bool) -> usize {
        let Some((units, exponent)) = parts(value) else {
            let before = self.heap_bytes();
            self.widened().count(value, negated);
            return self.heap_bytes() - before;
        };
        let units = if negated { -units } else { units };
        if let Self::Narrow { units: sum, exponent: unit } = self {
            let shift = exponent.wrapping_sub(*unit).cast_unsigned();
            if shift <= SHIFTS
                && let Some(grown) = sum.checked_add(i128::from(units) << shift)
            {
                *sum = grown;
                return 0;
            }
        }
        self.add_units(i128::from(units), exponent)
    }

    /// Adds what another holds; gives the bytes that were newly allocated for it.
    pub(crate) fn merge(&mut self, other: &Self) -> usize {
        let before = self.heap_bytes();
        match other {
            Self::Narrow { units, exponent } => drop(self.add_units(*units, *exponent)),
            Self::Wide(other) => {
                let sum = self.widened();
                let mut carry = false;
                for (word, other) in sum.words.iter_mut().zip(other.words) {
                    let (partial, over) = word.overflowing_add(other);
                    let (whole, over_by_carry) = partial.overflowing_add(u64::from(carry));
                    (*word, carry) = (whole, over || over_by_carry);
                }
                sum.nans += other.nans;
                sum.infinities += other.infinities;
                sum.negative_infinities += other.negative_infinities;
            }
        }
        self.heap_bytes() - before
    }

    #[cold]
    fn add_units(&mut self, units: i128, exponent: i32) -> usize {
        if units == 0 {
            return 0;
        }
        let before = self.heap_bytes();
        if let Self::Narrow { units: sum, exponent: unit } = self {
            if *sum == 0 {
                // Room on both sides of the first value, so that what comes next seldom needs another unit.
                let below = ROOM_BELOW.min(exponent - LEAST);
                let fits = shifted(units, below.unsigned_abs());
                (*sum, *unit) = fits.map_or((units, exponent), |units| (units, exponent - below));
                return 0;
            }
            let (low, high) = match exponent.cmp(unit) {
                Ordering::Less => ((units, exponent), (*sum, *unit)),
                _ => ((*sum, *unit), (units, exponent)),
            };
            if let Some(high) = shifted(high.0, (high.1 - low.1).unsigned_abs())
                && let Some(grown) = low.0.checked_add(high)
            {
                (*sum, *unit) = (grown, low.1);
                return 0;
            }
        }
        self.widened().add_units(units, exponent);
        self.heap_bytes() - before
    }

    fn widened(&mut self) -> &mut Wide {
        if let Self::Narrow { units, exponent } = *self {
            let mut wide = Wide { words: [0; WORDS], nans: 0, infinities: 0, negative_infinities: 0 };
            wide.add_units(units, exponent);
            *self = Self::Wide(Box::new(wide));
        }
        match self {
            Self::Wide(wide) => wide,
            Self::Narrow { .. } => unreachable!("it was widened above"),
        }
    }

    /// The double nearest to the sum, the even one of two; beyond the greatest it is infinite. No sum of numbers is −0.
    pub(crate) fn value(&self) -> f64 {
        match self {
            Self::Narrow { units, exponent } => scaled(*units as f64, *exponent),
            Self::Wide(wide) => wide.value(),
        }
    }

    /// Bytes that [`Self::from_bytes`] reads back. Equal sums may have different bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Narrow { units, exponent } => [&exponent.to_le_bytes()[..], &units.to_le_bytes()].concat(),
            Self::Wide(wide) => {
                let counts = [wide.nans, wide.infinities, wide.negative_infinities];
                let words = wide.words.iter().flat_map(|word| word.to_le_bytes());
                words.chain(counts.iter().flat_map(|count| count.to_le_bytes())).collect()
            }
        }
    }

    /// What [`Self::to_bytes`] wrote, or `None` for other bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Some((exponent, units)) = bytes.split_first_chunk::<4>()
            && let Ok(units) = units.try_into()
        {
            return Some(Self::Narrow { units: i128::from_le_bytes(units), exponent: i32::from_le_bytes(*exponent) });
        }
        let (chunks, []) = bytes.as_chunks::<8>() else { return None };
        let (words, counts) = chunks.split_at_checked(WORDS)?;
        let [nans, infinities, negative_infinities] = counts else { return None };
        let mut wide = Wide {
            words: [0; WORDS],
            nans: i64::from_le_bytes(*nans),
            infinities: i64::from_le_bytes(*infinities),
            negative_infinities: i64::from_le_bytes(*negative_infinities),
        };
        for (word, bytes) in wide.words.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(Self::Wide(Box::new(wide)))
    }

    /// Bytes outside of the value itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Narrow { .. } => 0,
            Self::Wide(_) => size_of::<Wide>(),
        }
    }
}

impl Wide {
    fn count(&mut self, value: f64, negated: bool) {
        let count = match value {
            value if value.is_nan() => &mut self.nans,
            value if value > 0.0 => &mut self.infinities,
            _ => &mut self.negative_infinities,
        };
        *count += if negated { -1 } else { 1 };
    }

    fn add_units(&mut self, units: i128, exponent: i32) {
        let shift = (exponent - LEAST).unsigned_abs() as usize;
        let (first, bits) = (shift / 64, shift % 64);
        // 192 bits: the units behind their shift, with their sign above.
        let low = (units as u128) << bits;
        let high = if bits == 0 { (units >> 127) as u64 } else { (units >> (128 - bits)) as u64 };
        let sign = (units >> 127) as u64;
        let parts = [low as u64, (low >> 64) as u64, high];
        let mut carry = false;
        for (place, word) in self.words.iter_mut().skip(first).enumerate() {
            let part = parts.get(place).copied().unwrap_or(sign);
            let (partial, over) = word.overflowing_add(part);
            let (whole, over_by_carry) = partial.overflowing_add(u64::from(carry));
            (*word, carry) = (whole, over || over_by_carry);
            // Above the units there is only their sign: a carry ends it, or the lack of one.
            if place >= parts.len() && carry == (sign != 0) {
                break;
            }
        }
    }

    fn value(&self) -> f64 {
        match (self.nans != 0, self.infinities != 0, self.negative_infinities != 0) {
            (true, _, _) | (_, true, true) => return f64::NAN,
            (_, true, _) => return f64::INFINITY,
            (_, _, true) => return f64::NEG_INFINITY,
            _ => {}
        }
        let negative = self.words[WORDS - 1] >> 63 == 1;
        let mut words = self.words;
        if negative {
            let mut carry = true;
            for word in &mut words {
                (*word, carry) = (!*word).overflowing_add(u64::from(carry));
            }
        }
        let Some(top) = words.iter().rposition(|word| *word != 0) else { return 0.0 };
        let below = top.saturating_sub(1);
        // The two words at the top have all the bits of a double and one more; what is below them only breaks a tie.
        let mut leading = u128::from(words[top]) << if top > below { 64 } else { 0 };
        if top > below {
            leading |= u128::from(words[below]) | u128::from(words[..below].iter().any(|word| *word != 0));
        }
        let exponent = LEAST + i32::try_from(below * 64).unwrap_or(i32::MAX);
        let magnitude = scaled(leading as f64, exponent);
        if negative { -magnitude } else { magnitude }
    }
}

/// A finite double as units of a power of two; `None` for what is no number.
#[inline]
fn parts(value: f64) -> Option<(i64, i32)> {
    let bits = value.to_bits();
    let (field, fraction) = ((bits >> 52) as i32 & 0x7FF, (bits & ((1 << 52) - 1)).cast_signed());
    let (units, exponent) = match field {
        0 => (fraction, LEAST),
        0x7FF => return None,
        field => (fraction | 1 << 52, field + LEAST - 1),
    };
    Some((if bits >> 63 == 1 { -units } else { units }, exponent))
}

/// `units * 2^bits`, if it fits.
fn shifted(units: i128, bits: u32) -> Option<i128> {
    let room = if units < 0 { units.leading_ones() } else { units.leading_zeros() };
    (bits < room).then(|| units << bits)
}

/// `value * 2^exponent`, rounded at most once: a value of 53 bits that is at least one unit of the least double is exact
/// on its way down, and on its way up it is exact or infinite.
fn scaled(value: f64, exponent: i32) -> f64 {
    let power = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << 52);
    let (mut value, mut exponent) = (value, exponent);
    while exponent < -1022 {
        (value, exponent) = (value * power(-1022), exponent + 1022);
    }
    while exponent > 1023 {
        (value, exponent) = (value * power(1023), exponent - 1023);
    }
    value * power(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for value in values {
            sum.add(*value);
        }
        sum
    }

    /// The same sum by way of 2,176 bits alone.
    fn wide_sum_of(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        sum.widened();
        for value in values {
            sum.add(*value);
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
        sum.remove(f64::NAN);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.value().is_nan());
        sum.remove(f64::INFINITY);
        assert_eq!(sum.value(), f64::NEG_INFINITY);
        sum.remove(f64::NEG_INFINITY);
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
            right.iter().for_each(|value| without.remove(*value));
            prop_assert_eq!(without.value().to_bits(), sum_of(left).value().to_bits());
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
}
