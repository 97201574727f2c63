//! Scalars as JSON text, written straight into the output: no allocation, no formatting machinery.

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const DAY_MS: i64 = 86_400_000;

/// Appends literal text.
pub(crate) fn text(out: &mut Vec<u8>, literal: &str) {
    out.extend_from_slice(literal.as_bytes());
}

/// Appends `value` in decimal.
pub(crate) fn integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = DIGITS[(value % 10) as usize];
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Appends the lowest `width` decimal digits of `value`, with leading zeros.
pub(crate) fn padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let first = out.len();
    out.resize(first + width, b'0');
    for digit in out[first..].iter_mut().rev() {
        *digit = DIGITS[(value % 10) as usize];
        value /= 10;
    }
}

/// Appends `value / 10^places` with all its decimals: `decimal(out, 1990, 2)` is `19.90`.
pub(crate) fn decimal(out: &mut Vec<u8>, value: i64, places: u32) {
    if value < 0 {
        out.push(b'-');
    }
    let unit = 10_u64.pow(places);
    integer(out, value.unsigned_abs() / unit);
    out.push(b'.');
    padded(out, value.unsigned_abs() % unit, places as usize);
}

/// Appends the lowest `width` hexadecimal digits of `value`.
pub(crate) fn hexadecimal(out: &mut Vec<u8>, mut value: u128, width: usize) {
    let first = out.len();
    out.resize(first + width, b'0');
    for digit in out[first..].iter_mut().rev() {
        *digit = DIGITS[(value & 15) as usize];
        value >>= 4;
    }
}

/// Appends 128 random bits as a UUID of version 4.
pub(crate) fn uuid(out: &mut Vec<u8>, bits: u128) {
    let version = (bits & !(0xf_u128 << 76)) | (4_u128 << 76);
    let id = (version & !(3_u128 << 62)) | (2_u128 << 62);
    for (place, (shift, width)) in [(96, 8), (80, 4), (64, 4), (48, 4), (0, 12)].into_iter().enumerate() {
        if place > 0 {
            out.push(b'-');
        }
        hexadecimal(out, id >> shift, width);
    }
}

/// Appends `ms`, milliseconds since 1970 in UTC, as `2026-11-01T00:00:00.000Z`. Four-digit years only.
pub(crate) fn time(out: &mut Vec<u8>, ms: i64) {
    let (year, month, day) = date(ms.div_euclid(DAY_MS));
    let rest = ms.rem_euclid(DAY_MS) as u64;
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (rest / 3_600_000, 2, b':'),
        (rest / 60_000 % 60, 2, b':'),
        (rest / 1_000 % 60, 2, b'.'),
        (rest % 1_000, 3, b'Z'),
    ];
    for (value, width, end) in parts {
        padded(out, value, width);
        out.push(end);
    }
}

/// Year, month and day of the proleptic Gregorian calendar for a count of days since 1970-01-01.
/// Counts in 400-year eras that begin on 1 March, so that the leap day is a year's last: Howard Hinnant's
/// `civil_from_days`, <https://howardhinnant.github.io/date_algorithms.html>.
fn date(days: i64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as u64, month as u64, day as u64)
}
