//! Exact numbers of any size, for what is read off exact sums: added, multiplied, and divided once at the end.

/// `±magnitude * 2^exponent`.
#[derive(Clone, Debug)]
pub(super) struct Dyadic {
    negative: bool,
    /// The magnitude, least word first. Neither the first nor the last is zero; zero itself has none.
    words: Vec<u64>,
    exponent: i32,
}

impl From<u64> for Dyadic {
    fn from(whole: u64) -> Self {
        Self::new(false, vec![whole], 0)
    }
}

impl Dyadic {
    pub(super) fn new(negative: bool, mut words: Vec<u64>, exponent: i32) -> Self {
        words.truncate(words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1));
        let zeros = words.iter().take_while(|word| **word == 0).count();
        words.drain(..zeros);
        Self { negative: negative && !words.is_empty(), words, exponent: exponent + 64 * zeros as i32 }
    }

    /// `units * 2^exponent`.
    pub(super) fn of_units(units: i128, exponent: i32) -> Self {
        let magnitude = units.unsigned_abs();
        Self::new(units < 0, vec![magnitude as u64, (magnitude >> 64) as u64], exponent)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn is_negative(&self) -> bool {
        self.negative
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        self.combined(other, other.negative)
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.combined(other, !other.negative)
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut words = vec![0; self.words.len() + other.words.len()];
        for (at, word) in self.words.iter().enumerate() {
            let mut carry = 0;
            for (place, other) in words[at..].iter_mut().zip(other.words.iter().chain([&0])) {
                let sum = u128::from(*word) * u128::from(*other) + u128::from(*place) + carry;
                (*place, carry) = (sum as u64, sum >> 64);
            }
        }
        Self::new(self.negative != other.negative, words, self.exponent + other.exponent)
    }

    /// The quotient as a double, after three roundings: each of the two, and their division. Without one by zero.
    pub(super) fn over(&self, divisor: &Self) -> f64 {
        let ((dividend, exponent), (divisor, other)) = (self.leading(), divisor.leading());
        scaled(dividend / divisor, exponent - other)
    }

    /// The double nearest to the number, the even one of two; beyond the greatest it is infinite.
    pub(super) fn value(&self) -> f64 {
        let (leading, exponent) = self.leading();
        scaled(leading, exponent)
    }

    /// The number with its magnitude, and the other's with the sign that is given for it.
    fn combined(&self, other: &Self, negative: bool) -> Self {
        if other.is_zero() {
            return self.clone();
        }
        if self.is_zero() {
            return Self { negative, ..other.clone() };
        }
        let exponent = self.exponent.min(other.exponent);
        let (mut words, other) = (self.words_of(exponent), other.words_of(exponent));
        words.resize(words.len().max(other.len()), 0);
        let differ = self.negative != negative;
        let mut carry = differ;
        for (at, word) in words.iter_mut().enumerate() {
            let part = other.get(at).copied().unwrap_or(0);
            add_word(word, if differ { !part } else { part }, &mut carry);
        }
        // A difference that carries nothing out is of the other sign.
        let flipped = differ && !carry;
        if flipped {
            negate(&mut words);
        }
        Self::new(self.negative != flipped, words, exponent)
    }

    /// The magnitude in smaller units, with a word of room above it.
    fn words_of(&self, exponent: i32) -> Vec<u64> {
        let shift = (self.exponent - exponent).unsigned_abs();
        let mut words = vec![0; shift as usize / 64];
        let mut carry = 0;
        for word in &self.words {
            let shifted = u128::from(*word) << (shift % 64) | carry;
            words.push(shifted as u64);
            carry = shifted >> 64;
        }
        words.extend([carry as u64, 0]);
        words
    }

    /// A double of the number's first 53 bits, rounded, and the exponent of its units.
    fn leading(&self) -> (f64, i32) {
        let (magnitude, below) = match self.words.as_slice() {
            [] => return (0.0, 0),
            [word] => (u128::from(*word), 0),
            // The two words at the top have all the bits of a double and one more; what is below only breaks a tie.
            [below @ .., second, first] => {
                let rest = below.iter().any(|word| *word != 0);
                (u128::from(*first) << 64 | u128::from(*second) | u128::from(rest), below.len())
            }
        };
        let leading = if self.negative { -(magnitude as f64) } else { magnitude as f64 };
        (leading, self.exponent + 64 * below as i32)
    }
}

/// `word + part + carry`, in place.
pub(super) fn add_word(word: &mut u64, part: u64, carry: &mut bool) {
    let (partial, over) = word.overflowing_add(part);
    let (whole, over_by_carry) = partial.overflowing_add(u64::from(*carry));
    (*word, *carry) = (whole, over || over_by_carry);
}

/// The negative of a number in two's complement, in place.
pub(super) fn negate(words: &mut [u64]) {
    let mut carry = true;
    for word in words {
        (*word, carry) = (!*word).overflowing_add(u64::from(carry));
    }
}

/// `value * 2^exponent`, rounded at most once: a value of 53 bits that is at least one unit of the least double is exact
/// on its way down, and on its way up it is exact or infinite.
pub(super) fn scaled(value: f64, exponent: i32) -> f64 {
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

    fn small() -> impl Strategy<Value = (i64, i32)> {
        (-(1_i64 << 40)..1 << 40, 0..20)
    }

    proptest! {
        #[test]
        fn small_ones_are_integers((a, up) in small(), (b, by) in small()) {
            let (one, other) = (Dyadic::of_units(a.into(), up), Dyadic::of_units(b.into(), by));
            let (a, b) = (i128::from(a) << up, i128::from(b) << by);
            prop_assert_eq!(one.plus(&other).value(), (a + b) as f64);
            prop_assert_eq!(one.minus(&other).value(), (a - b) as f64);
            prop_assert_eq!(one.times(&other).value(), (a * b) as f64);
            prop_assert_eq!(one.minus(&other).is_negative(), a < b);
            prop_assert_eq!(one.minus(&other).is_zero(), a == b);
            prop_assume!(b != 0);
            let quotient = a as f64 / b as f64;
            prop_assert!((one.over(&other) - quotient).abs() <= quotient.abs() * 1e-15);
        }

        #[test]
        fn large_ones_keep_the_laws(a in any::<[i128; 3]>(), up in -2000..2000_i32, by in -2000..2000_i32) {
            let [x, y, z] = [(a[0], up), (a[1], by), (a[2], 0)].map(|(units, exponent)| Dyadic::of_units(units, exponent));
            let left = x.plus(&y).times(&z);
            let right = x.times(&z).plus(&y.times(&z));
            prop_assert!(left.minus(&right).is_zero());
            prop_assert!(x.plus(&y).minus(&y).minus(&x).is_zero());
            prop_assert!(x.is_zero() || x.times(&y).over(&x) == y.value() || (x.times(&y).over(&x) / y.value() - 1.0).abs() < 1e-15);
        }
    }
}
