//! The exact sum of doubles: nothing is rounded before it is read, so that any order of arrival gives the same bits.
//!
//! A sum is an integer of units `2^exponent`. Doubles of like size fit 128 bits of them, which is a few instructions for
//! each; what does not fit moves to 2,176 bits, which hold every double. The idea of a sum as wide as the doubles' range
//! is Kulisch's; that most sums need only a window of it is Neal's ("Fast exact summation using small and large
//! superaccumulators", 2015).

use std::cmp::Ordering;

use super::dyadic::{Dyadic, add_word, negate, scaled};

/// 64-bit words of a wide sum: from 2^-1074, the least double, to 2^1024, and 78 bits for carries and the sign.
const WORDS: usize = 34;

/// The exponent of the least double, in units of which a wide sum counts.
const LEAST: i32 = -1074;

/// Where a first value's last bit is put above the last bit of a sum, so that smaller ones find room below it.
const ROOM_BELOW: i32 = 30;

/// No value is shifted further than this into 128 bits: 53 bits of it, 10 bits for carries and the sign.
const SHIFTS: u32 = 64;

/// Bits of the low half of a product, which has 106 at most.
const HALF: u32 = 53;

/// One half of a product of two doubles. Each half of like products is of like size, as the whole is not: it would leave no
/// room in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    High,
    Low,
}

/// The exact sum of some doubles. What was added can be taken away, `merge` is associative and commutative.
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
    /// Adds a double, or takes one away that was added or will be; gives the bytes that were newly allocated for it.
    #[inline]
    pub(super) fn add(&mut self, value: f64, away: bool) -> usize {
        match parts(value) {
            Some((units, exponent)) => self.add_scaled(units, exponent, away),
            None => self.add_uncounted(value, away),
        }
    }

    /// Adds one half of a product, exactly: the two halves of `x * y` add up to it. A product that is too large for a
    /// double is infinite, and all of it in its high half; of one that is too small the bits below 2^-1074 are cut off.
    #[inline]
    pub(super) fn add_half(&mut self, half: Half, x: f64, y: f64, away: bool) -> usize {
        match (product(x, y), half) {
            (Some((units, exponent)), Half::High) => {
                self.add_scaled((units >> HALF) as i64, exponent + HALF.cast_signed(), away)
            }
            (Some((units, exponent)), Half::Low) => self.add_scaled((units & ((1 << HALF) - 1)) as i64, exponent, away),
            (None, Half::High) => self.add_uncounted(x * y, away),
            (None, Half::Low) => 0,
        }
    }

    #[cold]
    fn add_uncounted(&mut self, value: f64, away: bool) -> usize {
        let before = self.heap_bytes();
        self.widened().count(value, away);
        self.heap_bytes() - before
    }

    /// Adds units of at most 54 bits.
    #[inline]
    fn add_scaled(&mut self, units: i64, exponent: i32, away: bool) -> usize {
        let units = if away { -units } else { units };
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
                    add_word(word, other, &mut carry);
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
    pub(super) fn value(&self) -> f64 {
        match self {
            Self::Narrow { units, exponent } => scaled(*units as f64, *exponent),
            Self::Wide(wide) => wide.exact().map_or_else(|value| value, |sum| sum.value()),
        }
    }

    /// The sum without a rounding.
    ///
    /// # Errors
    /// What it is, where that is no number.
    pub(super) fn exact(&self) -> Result<Dyadic, f64> {
        match self {
            Self::Narrow { units, exponent } => Ok(Dyadic::of_units(*units, *exponent)),
            Self::Wide(wide) => wide.exact(),
        }
    }

    /// What takes this away, where it is merged.
    pub(crate) fn negated(mut self) -> Self {
        if let Self::Narrow { units, .. } = &mut self
            && let Some(negative) = units.checked_neg()
        {
            *units = negative;
            return self;
        }
        let wide = self.widened();
        negate(&mut wide.words);
        for count in [&mut wide.nans, &mut wide.infinities, &mut wide.negative_infinities] {
            *count = -*count;
        }
        self
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
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Narrow { .. } => 0,
            Self::Wide(_) => size_of::<Wide>(),
        }
    }
}

impl Wide {
    fn count(&mut self, value: f64, away: bool) {
        let count = match value {
            value if value.is_nan() => &mut self.nans,
            value if value > 0.0 => &mut self.infinities,
            _ => &mut self.negative_infinities,
        };
        *count += if away { -1 } else { 1 };
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
            add_word(word, part, &mut carry);
            // Above the units there is only their sign: a carry ends it, or the lack of one.
            if place >= parts.len() && carry == (sign != 0) {
                break;
            }
        }
    }

    fn exact(&self) -> Result<Dyadic, f64> {
        match (self.nans != 0, self.infinities != 0, self.negative_infinities != 0) {
            (true, _, _) | (_, true, true) => Err(f64::NAN),
            (_, true, _) => Err(f64::INFINITY),
            (_, _, true) => Err(f64::NEG_INFINITY),
            _ => {
                let negative = self.words[WORDS - 1] >> 63 == 1;
                let mut words = self.words.to_vec();
                if negative {
                    negate(&mut words);
                }
                Ok(Dyadic::new(negative, words, LEAST))
            }
        }
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

/// The exact product of two finite doubles as units of a power of two; `None` where it is no number or too large for one.
#[inline]
fn product(x: f64, y: f64) -> Option<(i128, i32)> {
    let ((x, up), (y, by)) = (parts(x)?, parts(y)?);
    let (units, exponent) = (i128::from(x) * i128::from(y), up + by);
    let bits = i128::BITS - units.unsigned_abs().leading_zeros();
    if bits.cast_signed() + exponent > 1024 {
        return None;
    }
    if exponent >= LEAST {
        return Some((units, exponent));
    }
    let kept = (units.unsigned_abs() >> (LEAST - exponent).clamp(0, 127)).cast_signed();
    Some((if units < 0 { -kept } else { kept }, LEAST))
}

#[cfg(test)]
mod tests;
