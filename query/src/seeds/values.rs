//! Which type a column of texts has, and the values that the texts are.
//!
//! A type is taken only where every text of the column is written as its values are and hardly anything else is: what could be
//! a code, such as `00123`, `+49` or `1e5`, is a text. A pin says what is meant, and takes whatever is a value.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Date32Type;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use lakebed_log::ColumnType;
use serde::de::IgnoredAny;

/// The types that are recognized, in the order in which they are tried.
const RECOGNIZED: [ColumnType; 5] =
    [ColumnType::Boolean, ColumnType::BigInt, ColumnType::Double, ColumnType::Date, ColumnType::Timestamp];

/// The type of a column by its values; VARCHAR for one without values, and for one whose values are not all of one kind.
pub(super) fn kind_of(cells: &[Option<&str>]) -> ColumnType {
    let texts = || cells.iter().flatten();
    let is_of = |kind: &&ColumnType| texts().all(|text| is_written_as(**kind, text));
    RECOGNIZED.iter().find(is_of).filter(|_| texts().next().is_some()).copied().unwrap_or(ColumnType::Varchar)
}

/// Whether a text is how a value of a type is written, and hardly anything else.
fn is_written_as(kind: ColumnType, text: &str) -> bool {
    match kind {
        ColumnType::Boolean => boolean(text).is_some(),
        ColumnType::BigInt => is_number(text) && text.parse::<i64>().is_ok(),
        // A whole number that 64 bits do not hold would lose its last digits.
        ColumnType::Double => is_number(text) && (text.contains('.') || text.parse::<i64>().is_ok()),
        ColumnType::Date => day(text).is_some(),
        ColumnType::Timestamp => text.len() > DAY && instant(text).is_some(),
        _ => true,
    }
}

/// Whether it is a number without an exponent, a plus, or a zero before its first digit: `-12.50`.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, places) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    are_digits(whole) && are_digits(places) && (whole == "0" || !whole.starts_with('0'))
}

/// The texts as values of a type.
///
/// # Errors
/// The number of the first row whose text is none.
pub(super) fn array(kind: ColumnType, cells: &[Option<&str>]) -> Result<ArrayRef, usize> {
    Ok(match kind {
        ColumnType::Boolean => Arc::new(BooleanArray::from(each(cells, boolean)?)),
        ColumnType::Integer => Arc::new(Int32Array::from(each(cells, |text| text.parse().ok())?)),
        ColumnType::BigInt => Arc::new(Int64Array::from(each(cells, |text| text.parse().ok())?)),
        ColumnType::Double => Arc::new(Float64Array::from(each(cells, |text| text.parse().ok())?)),
        ColumnType::Decimal(precision, scale) => {
            let values = Decimal128Array::from(each(cells, |text| decimal(text, precision, scale))?);
            // What a pin may say are precisions and scales that there are.
            Arc::new(values.with_precision_and_scale(precision, scale).map_err(|_| 0_usize)?)
        }
        ColumnType::Varchar => Arc::new(StringArray::from(cells.to_vec())),
        ColumnType::Json => {
            let json = |text| serde_json::from_str::<IgnoredAny>(text).is_ok().then_some(text);
            Arc::new(StringArray::from(each(cells, json)?))
        }
        ColumnType::Date => {
            Arc::new(Date32Array::from(each(cells, |text| day(text).map(Date32Type::from_naive_date))?))
        }
        ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::from(each(cells, instant)?).with_timezone("UTC")),
    })
}

fn each<'c, T>(cells: &[Option<&'c str>], value: impl Fn(&'c str) -> Option<T>) -> Result<Vec<Option<T>>, usize> {
    let of_row = |(row, cell): (usize, &Option<&'c str>)| match cell {
        Some(text) => value(text).map(Some).ok_or(row),
        None => Ok(None),
    };
    cells.iter().enumerate().map(of_row).collect()
}

fn boolean(text: &str) -> Option<bool> {
    match () {
        () if text.eq_ignore_ascii_case("true") => Some(true),
        () if text.eq_ignore_ascii_case("false") => Some(false),
        () => None,
    }
}

/// A decimal, times ten to the power of its scale; `None` for one that has more digits than fit before or behind the point.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, places) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let (written, scale) = (whole.len() + places.len(), usize::try_from(scale).ok()?);
    let places = places.trim_end_matches('0');
    let mut digits = whole.bytes().chain(places.bytes());
    if written == 0 || places.len() > scale || !digits.all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let all = format!("{whole}{places:0<scale$}");
    let all = all.trim_start_matches('0');
    if all.len() > usize::from(precision) {
        return None;
    }
    let value = if all.is_empty() { 0 } else { all.parse::<i128>().ok()? };
    Some(if text.starts_with('-') { -value } else { value })
}

/// Bytes of a day, `2026-11-23`.
const DAY: usize = 10;

fn day(text: &str) -> Option<NaiveDate> {
    let is_in_place = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    let is_day = text.len() == DAY && text.bytes().enumerate().all(is_in_place);
    is_day.then(|| NaiveDate::parse_from_str(text, "%F").ok()).flatten()
}

/// The µs of a day and a time with `T` or a blank between them, in UTC where no zone is named; of a day alone those of its begin.
fn instant(text: &str) -> Option<i64> {
    let day = day(text.get(..DAY)?)?;
    if text.len() == DAY {
        return Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros());
    }
    let text = text.replacen(' ', "T", 1);
    let to_the_minute = || DateTime::parse_from_str(&text.replace('Z', "+00:00"), "%FT%R%:z");
    let zoned = DateTime::parse_from_rfc3339(&text).or_else(|_| to_the_minute()).ok();
    let local = ["%FT%T%.f", "%FT%R"].iter().find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok());
    let time = zoned.map(|time| time.to_utc()).or_else(|| local.map(|time| time.and_utc()))?;
    Some(time.timestamp_micros())
}
