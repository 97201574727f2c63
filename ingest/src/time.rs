//! Reads points in time, as texts and as numbers. All are UTC, in µs since 1970.
//!
//! Texts: RFC 3339 with any offset (`2024-05-01T10:00:00.5+02:00`, `…Z`); without an offset, or with a blank for the
//! `T`, as databases print it (`2024-05-01 10:00:00.123`), taken as UTC; and a date alone, its midnight. The offset
//! may be written `+02:00`, `+0200` or `+02`. What is finer than a µs is cut off.
//!
//! Numbers are time since 1970, and their size says the unit: below 10^11 seconds (until the year 5138), below 10^14
//! milliseconds (from March 1973), below 10^17 microseconds, below 10^20 nanoseconds. Fractions are kept down to the µs.
//! Where a day is asked for, an integer below 10^6 is days.

use chrono::{Datelike, NaiveDate};

use crate::number::{Below, Number};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The point in time that a text names, in µs.
pub(crate) fn from_text(text: &str) -> Option<i64> {
    usual(text.as_bytes()).or_else(|| any_text(text))
}

/// The time as nearly everybody writes it, `YYYY-MM-DDTHH:MM:SSZ` with or without milliseconds: what [`any_text`] says of it, sooner.
fn usual(text: &[u8]) -> Option<i64> {
    let (clock, fraction) = text.split_at_checked(19)?;
    let millis = match fraction {
        b"Z" => 0,
        [b'.', millis @ .., b'Z'] if millis.len() == 3 => number(millis)?,
        _ => return None,
    };
    let [.., b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _, b':', _, _] = clock else { return None };
    let (year, month, day) = (number(&clock[..4])?, number(&clock[5..7])?, number(&clock[8..10])?);
    let (hour, minute, second) = (number(&clock[11..13])?, number(&clock[14..16])?, number(&clock[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = i64::from(days_of(year, month, day)?);
    Some(
        ((days * 24 + i64::from(hour)) * 60 + i64::from(minute)) * 60 * SECOND
            + i64::from(second) * SECOND
            + i64::from(millis) * 1000,
    )
}

/// Few ASCII digits as a number.
#[inline]
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u32::from(digit - b'0')),
        _ => None,
    })
}

fn any_text(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let midnight = i64::from(days(date)?) * DAY;
    if rest.is_empty() {
        return Some(midnight);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    Some(midnight + since_midnight(clock)? - offset_of(offset)?)
}

/// The point in time that a JSON number means, in µs.
pub(crate) fn from_number(text: &str) -> Option<i64> {
    // In billionths of whatever the unit is.
    let value = Number::parse(text)?.scaled(9, Below::Floor)?;
    let below = |power: u32| value.unsigned_abs() < 10u128.pow(power + 9);
    let micros = match () {
        () if below(11) => value.div_euclid(1_000),
        () if below(14) => value.div_euclid(1_000_000),
        () if below(17) => value.div_euclid(1_000_000_000),
        () if below(20) => value.div_euclid(1_000_000_000_000),
        () => return None,
    };
    i64::try_from(micros).ok()
}

/// The UTC day that a JSON number means, in days since 1970. Small integers are days, as Avro and Debezium send dates: as seconds
/// they would all be within twelve days of the first of 1970.
pub(crate) fn day_from_number(text: &str) -> Option<i32> {
    let days = Number::parse(text)?.scaled(0, Below::Refuse).filter(|days| days.unsigned_abs() < 1_000_000);
    match days {
        Some(days) => i32::try_from(days).ok(),
        None => day_of(from_number(text)?),
    }
}

/// The UTC day of a point in time in µs, in days since 1970.
pub(crate) fn day_of(micros: i64) -> Option<i32> {
    i32::try_from(micros.div_euclid(DAY)).ok()
}

/// `YYYY-MM-DD` in days since 1970.
fn days(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() {
        return None;
    }
    days_of(year, month, day)
}

fn days_of(year: u32, month: u32, day: u32) -> Option<i32> {
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    Some(date.num_days_from_ce() - NaiveDate::default().num_days_from_ce())
}

/// `HH:MM:SS` with any fraction, in µs. A leap second is the first one of the next minute.
fn since_midnight(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, micros_of(fraction)?),
        None => (text, 0),
    };
    let mut parts = clock.split(':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if hour > 23 || minute > 59 || second > 60 || parts.next().is_some() {
        return None;
    }
    Some(i64::from((hour * 60 + minute) * 60 + second) * SECOND + fraction)
}

fn micros_of(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let six = fraction.get(..6).unwrap_or(fraction);
    Some(six.parse::<i64>().ok()? * 10i64.pow(6 - six.len() as u32))
}

/// `Z`, `+HH:MM`, `+HHMM`, `+HH` or nothing, in µs.
fn offset_of(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z") {
        return Some(0);
    }
    let (sign, text) = text.split_at_checked(1)?;
    let (hours, minutes) = match text.len() {
        5 => text.split_once(':')?,
        4 => text.split_at_checked(2)?,
        _ => (text, "00"),
    };
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let offset = i64::from(hours * 60 + minutes) * 60 * SECOND;
    (hours <= 23 && minutes <= 59).then_some(if sign == "-" { -offset } else { offset })
}

/// A number of exactly so many ASCII digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count).then(|| number(text.as_bytes()))?
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};
    use proptest::prelude::*;

    use super::*;

    fn rfc(text: &str) -> Option<i64> {
        DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
    }

    #[test]
    fn texts() {
        let ten = rfc("2024-05-01T10:00:00Z");
        assert!(ten.is_some());
        for text in [
            "2024-05-01T10:00:00Z",
            "2024-05-01t10:00:00z",
            "2024-05-01T12:00:00+02:00",
            "2024-05-01T12:00:00+0200",
            "2024-05-01 12:00:00+02",
            "2024-05-01T04:30:00-05:30",
            "2024-05-01 10:00:00",
            "2024-05-01 10:00:00.0000009",
            "2024-05-01T10:00:00",
        ] {
            assert_eq!(from_text(text), ten, "{text}");
        }
        assert_eq!(from_text("2024-05-01 10:00:00.5"), ten.map(|ten| ten + 500_000));
        assert_eq!(from_text("2024-05-01"), rfc("2024-05-01T00:00:00Z"));
        assert_eq!(from_text("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(from_text("2016-12-31T23:59:60Z"), rfc("2017-01-01T00:00:00Z"));
        assert_eq!(from_text("0000-01-01"), rfc("0000-01-01T00:00:00Z"));
    }

    #[test]
    fn texts_that_are_no_time() {
        for text in [
            "",
            "2024",
            "2024-5-1",
            "2024-02-30",
            "2024-05-01T",
            "2024-05-01T10",
            "2024-05-01T10:00",
            "2024-05-01 24:00:00",
            "2024-05-01T10:60:00Z",
            "2024-05-01T10:00:61Z",
            "2024-05-01T10:00:00.Z",
            "2024-05-01T10:00:00+24:00",
            "2024-05-01T10:00:00+2",
            "2024-05-01T10:00:00+02:0",
            "2024-05-01T10:00:00ZZ",
            "2024-05-01X10:00:00",
            "+024-05-01",
            "2024-05-01T+1:00:00",
            "2024-05-0１",
            "yesterday",
            "1714557600",
            " 2024-05-01",
            "2024-05-01 ",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_by_their_size() {
        let time = Some(1_714_557_600_123_456);
        assert_eq!(from_number("1714557600.123456"), time);
        assert_eq!(from_number("1714557600123.456"), time);
        assert_eq!(from_number("1714557600123456"), time);
        assert_eq!(from_number("1714557600123456789"), time);
        assert_eq!(from_number("1.714557600123456e9"), time);
        assert_eq!(from_number("0"), Some(0));
        assert_eq!(from_number("-1"), Some(-SECOND));
        assert_eq!(from_number("-0.0000001"), Some(-1));
        assert_eq!(from_number("99999999999"), Some(99_999_999_999 * SECOND));
        assert_eq!(from_number("100000000000"), Some(100_000_000 * SECOND));
        assert_eq!(from_number("1e20"), None);
        assert_eq!(from_number("1e400"), None);
    }

    #[test]
    fn small_integers_are_days_where_a_day_is_asked_for() {
        assert_eq!(day_from_number("20758"), Some(20_758));
        assert_eq!(day_from_number("-1.0"), Some(-1));
        assert_eq!(day_from_number("999999"), Some(999_999));
        assert_eq!(day_from_number("1000000"), Some(11));
        assert_eq!(day_from_number("0.5"), Some(0));
        assert_eq!(day_from_number("1714557600123"), days("2024-05-01"));
        assert_eq!(day_from_number("1e20"), None);
    }

    #[test]
    fn days_go_down_before_1970() {
        assert_eq!(day_of(-1), Some(-1));
        assert_eq!(day_of(DAY), Some(1));
    }

    proptest! {
        #[test]
        fn it_reads_what_rfc_3339_prints(micros in -60_000_000_000_000_000i64..250_000_000_000_000_000, minutes in -1439i32..1440) {
            let offset = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
            let text = DateTime::from_timestamp_micros(micros).unwrap().with_timezone(&offset)
                .to_rfc3339_opts(SecondsFormat::Micros, true);
            prop_assume!(rfc(&text) == Some(micros));
            prop_assert_eq!(from_text(&text), Some(micros));
        }

        #[test]
        fn the_usual_way_is_no_other(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,4})?Z?") {
            if let Some(time) = usual(text.as_bytes()) {
                prop_assert_eq!(Some(time), any_text(&text));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}|[0-9TZ:+. -]{0,30}") {
            let _ = (from_text(&text), from_number(&text));
        }
    }
}
