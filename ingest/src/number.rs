//! Decimal numbers exactly as their text says, without a float in between.

/// A number in JSON's notation. Texts may also start with `+` and have leading zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

/// What happens to digits below the wanted scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// They must be zeros.
    Refuse,
    /// They are rounded down, towards negative infinity.
    Floor,
}

impl<'a> Number<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`; `None` for anything else, blanks too.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (text, 0),
        };
        let negative = mantissa.starts_with('-');
        let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (unsigned, ""),
        };
        is_digits(whole).then_some(Self { negative, whole, fraction, exponent })
    }

    /// The number times 10^`scale` as an integer. `None` if it does not fit 128 bits, or digits are left over that
    /// `below` refuses.
    pub(crate) fn scaled(&self, scale: i8, below: Below) -> Option<i128> {
        let digits = self.whole.bytes().chain(self.fraction.bytes());
        let length = (self.whole.len() + self.fraction.len()) as i64;
        // How many digits stand before the point once it is moved; zeros are added where the text has fewer.
        let before = (self.whole.len() as i64).saturating_add(self.exponent).saturating_add(scale.into());
        let mut value: i128 = 0;
        let mut left_over = false;
        for (place, digit) in (0i64..).zip(digits) {
            if place < before {
                value = value.checked_mul(10)?.checked_add((digit - b'0').into())?;
            } else if digit != b'0' {
                left_over = true;
                break;
            }
        }
        if left_over && below == Below::Refuse {
            return None;
        }
        if value != 0 {
            // Ends early: a value above zero overflows after 38 more digits.
            for _ in length..before {
                value = value.checked_mul(10)?;
            }
        }
        Some(if self.negative { -value - i128::from(left_over) } else { value })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn exponent_of(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !is_digits(digits) {
        return None;
    }
    // More digits than an i64 has: as large as anything that makes a difference.
    let value = digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(text: &str, scale: i8) -> Option<i128> {
        Number::parse(text)?.scaled(scale, Below::Refuse)
    }

    fn floor(text: &str, scale: i8) -> Option<i128> {
        Number::parse(text)?.scaled(scale, Below::Floor)
    }

    #[test]
    fn the_text_decides() {
        assert_eq!(exact("1", 2), Some(100));
        assert_eq!(exact("1.0", 0), Some(1));
        assert_eq!(exact("1.5", 0), None);
        assert_eq!(exact("-12.30", 1), Some(-123));
        assert_eq!(exact("1.5e3", 0), Some(1500));
        assert_eq!(exact("1500E-3", 1), Some(15));
        assert_eq!(exact("0.000e5", 0), Some(0));
        assert_eq!(exact("-0", 2), Some(0));
        assert_eq!(exact("0.1", 38), Some(10i128.pow(37)));
        assert_eq!(exact("9007199254740993", 0), Some(9_007_199_254_740_993));
        assert_eq!(exact("+007", 0), Some(7));
    }

    #[test]
    fn huge_ones_end_soon() {
        assert_eq!(exact("0e99999999999999999999", 0), Some(0));
        assert_eq!(exact("1e99999999999999999999", 0), None);
        assert_eq!(exact("1e-99999999999999999999", 0), None);
        assert_eq!(floor("1e-99999999999999999999", 0), Some(0));
        assert_eq!(exact(&"9".repeat(40), 0), None);
        assert_eq!(exact(&format!("{}e-100", "0".repeat(100_000)), 0), Some(0));
    }

    #[test]
    fn cutting_goes_down() {
        assert_eq!(floor("1.999", 2), Some(199));
        assert_eq!(floor("-1.999", 2), Some(-200));
        assert_eq!(floor("-0.001", 0), Some(-1));
    }

    #[test]
    fn anything_else_is_no_number() {
        for text in
            ["", "-", ".5", "5.", "1e", "1e+", " 1", "1 ", "0x1", "NaN", "Infinity", "1_000", "--1", "1.2.3", "１"]
        {
            assert!(Number::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_come_back(value in any::<i64>(), zeros in 0usize..5) {
            let text = if zeros == 0 { value.to_string() } else { format!("{value}.{}", "0".repeat(zeros)) };
            prop_assert_eq!(exact(&text, 0), Some(value.into()));
            prop_assert_eq!(exact(&format!("{value}e-3"), 3), Some(value.into()));
            prop_assert_eq!(floor(&format!("{value}e-3"), 0), Some(i128::from(value.div_euclid(1000))));
        }
    }
}
