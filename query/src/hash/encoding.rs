//! The canonical encoding of a row: the same bytes for the same visible values, whatever Arrow types carry them.
//!
//! A row is its columns in their order, without their names. A value is a tag of one byte and then, little endian:
//!
//! | tag | value | bytes after it |
//! |---:|---|---|
//! | 0 | null, of any type | none |
//! | 1, 2 | false, true | none |
//! | 3 | integer of any width, or a decimal without a fraction | 8 |
//! | 4 | decimal: digits and scale, zeros at the end of the fraction cut | 2 (scale), 8 (digits) |
//! | 5 | the same, and integers, whose digits need more than 64 bits | 2 (scale), 32 (digits) |
//! | 6 | float of any width: as 64 bits; one NaN, −0 = 0 | 8 |
//! | 7 | text of any type | length, UTF-8 |
//! | 8 | binary of any type | length, bytes |
//! | 9 | date, days since 1970 | 8 |
//! | 10 | time of day, µs | 8 |
//! | 11 | instant, µs since 1970; with a zone or without | 8 |
//! | 12 | interval: months, days, µs; a duration too | 4, 4, 8 |
//! | 13 | list of any type; a map is a list of pairs | length, each item |
//! | 14 | struct | each field |
//!
//! What is finer than that is cut off, as sinks do. By keys it is told apart, as DataFusion does, and keys have two tags more:
//!
//! | tag | value | bytes after it |
//! |---:|---|---|
//! | 15 | date, time or instant with a fraction of its unit | its tag, and 8: what it is in its own type |
//! | 16 | interval with nanoseconds | 4, 4, 8: months, days, ns |
//!
//! A length is LEB128. No encoding of a row begins another one of as many columns, so no two rows share their bytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, LargeBinaryArray, LargeStringArray, PrimitiveArray, StringArray, StringViewArray,
    StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, UInt64Type, i256,
};
use arrow::error::ArrowError;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const DECIMAL: u8 = 4;
const WIDE_DECIMAL: u8 = 5;
const FLOAT: u8 = 6;
const TEXT: u8 = 7;
const BINARY: u8 = 8;
const DATE: u8 = 9;
const TIME: u8 = 10;
const INSTANT: u8 = 11;
const INTERVAL: u8 = 12;
const LIST: u8 = 13;
const STRUCT: u8 = 14;
const FINE: u8 = 15;
const FINE_INTERVAL: u8 = 16;

/// What becomes of a value that is finer than the unit of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finer {
    CutOff,
    ToldApart,
}

/// Columns of one batch, and one buffer for all its rows.
pub(crate) struct RowEncoder {
    columns: Vec<Column>,
    bytes: Vec<u8>,
}

impl RowEncoder {
    /// # Errors
    /// A type without an encoding (a union), or a value that its plain type cannot hold.
    pub(crate) fn new(columns: &[ArrayRef]) -> Result<Self, ArrowError> {
        Self::with(columns, Finer::CutOff)
    }

    /// For rows that are told apart by these columns.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn of_keys(columns: &[ArrayRef]) -> Result<Self, ArrowError> {
        Self::with(columns, Finer::ToldApart)
    }

    fn with(columns: &[ArrayRef], finer: Finer) -> Result<Self, ArrowError> {
        let columns = columns.iter().map(|column| Column::new(column, finer)).collect::<Result<_, _>>()?;
        Ok(Self { columns, bytes: Vec::new() })
    }

    /// BLAKE3 of the row's encoding, 32 bytes. The row is in the batch.
    pub(crate) fn hash(&mut self, row: usize) -> [u8; 32] {
        self.bytes.clear();
        for column in &self.columns {
            column.encode(row, &mut self.bytes);
        }
        *blake3::hash(&self.bytes).as_bytes()
    }
}

/// A column in the plain type of its kind.
struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanBuffer),
    /// Whatever is a tag and 8 bytes.
    Plain(u8, ScalarBuffer<i64>),
    /// The same in a finer type, and how many of it are one.
    Fine(u8, ScalarBuffer<i64>, i64),
    Unsigned(ScalarBuffer<u64>),
    Decimal(ScalarBuffer<i128>, i8),
    WideDecimal(ScalarBuffer<i256>, i8),
    Float(ScalarBuffer<f64>),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Binary(LargeBinaryArray),
    Interval(ScalarBuffer<IntervalMonthDayNano>, Finer),
    /// Where each row's items begin, and the end of the last one's.
    List(Vec<usize>, Box<Column>),
    Struct(Vec<Column>),
}

impl Column {
    fn new(array: &ArrayRef, finer: Finer) -> Result<Self, ArrowError> {
        use DataType as T;
        let fine = fine(array.data_type()).filter(|_| finer == Finer::ToldApart);
        let values = match array.data_type() {
            _ if let Some((tag, of_one)) = fine => Values::Fine(tag, plain::<Int64Type>(array, &T::Int64)?, of_one),
            T::Null => Values::Null,
            T::Boolean => Values::Boolean(array.as_boolean().values().clone()),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
                Values::Plain(INTEGER, plain::<Int64Type>(array, &T::Int64)?)
            }
            T::UInt64 => Values::Unsigned(plain::<UInt64Type>(array, &T::UInt64)?),
            T::Decimal32(_, scale) | T::Decimal64(_, scale) | T::Decimal128(_, scale) => {
                Values::Decimal(plain::<Decimal128Type>(array, &T::Decimal128(38, *scale))?, *scale)
            }
            T::Decimal256(_, scale) => Values::WideDecimal(plain::<Decimal256Type>(array, array.data_type())?, *scale),
            T::Float16 | T::Float32 | T::Float64 => Values::Float(plain::<Float64Type>(array, &T::Float64)?),
            T::Utf8 => Values::Text(array.as_string::<i32>().clone()),
            T::LargeUtf8 => Values::LargeText(array.as_string::<i64>().clone()),
            T::Utf8View => Values::TextView(array.as_string_view().clone()),
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
                Values::Binary(exact_cast(array, &T::LargeBinary)?.as_binary::<i64>().clone())
            }
            T::Date32 | T::Date64 => {
                let days = plain::<Date32Type>(array, &T::Date32)?;
                Values::Plain(DATE, days.iter().map(|day| i64::from(*day)).collect())
            }
            T::Time32(_) | T::Time64(_) => {
                Values::Plain(TIME, plain::<Time64MicrosecondType>(array, &T::Time64(TimeUnit::Microsecond))?)
            }
            T::Timestamp(_, zone) => {
                // The zone stays: without it the cast would turn instants into local times.
                let micros = T::Timestamp(TimeUnit::Microsecond, zone.clone());
                Values::Plain(INSTANT, plain::<TimestampMicrosecondType>(array, &micros)?)
            }
            T::Duration(_) | T::Interval(_) => {
                let interval = T::Interval(IntervalUnit::MonthDayNano);
                Values::Interval(plain::<IntervalMonthDayNanoType>(array, &interval)?, finer)
            }
            T::List(_) => {
                let list = array.as_list::<i32>();
                items(list.values(), list.value_offsets().iter().map(|offset| i64::from(*offset)), finer)?
            }
            T::LargeList(_) => {
                let list = array.as_list::<i64>();
                items(list.values(), list.value_offsets().iter().copied(), finer)?
            }
            T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
                return Self::new(&exact_cast(array, &T::LargeList(Arc::clone(item)))?, finer);
            }
            T::Map(_, _) => {
                let map = array.as_map();
                let pairs: ArrayRef = Arc::new(map.entries().clone());
                items(&pairs, map.value_offsets().iter().map(|offset| i64::from(*offset)), finer)?
            }
            T::Struct(_) => Values::Struct(fields(array.as_struct(), finer)?),
            T::Dictionary(_, values) => return Self::new(&exact_cast(array, values)?, finer),
            T::RunEndEncoded(_, values) => return Self::new(&exact_cast(array, values.data_type())?, finer),
            T::Union(_, _) => {
                let message = format!("a column of type {} has no content hash", array.data_type());
                return Err(ArrowError::NotYetImplemented(message));
            }
        };
        Ok(Self { nulls: array.nulls().cloned(), values })
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return out.push(NULL);
        }
        match &self.values {
            Values::Null => out.push(NULL),
            Values::Boolean(values) => out.push(if values.value(row) { TRUE } else { FALSE }),
            Values::Plain(tag, values) => tagged(*tag, &values[row].to_le_bytes(), out),
            Values::Fine(tag, values, of_one) => {
                match (values[row].div_euclid(*of_one), values[row].rem_euclid(*of_one)) {
                    (whole, 0) => tagged(*tag, &whole.to_le_bytes(), out),
                    _ => {
                        out.push(FINE);
                        tagged(*tag, &values[row].to_le_bytes(), out);
                    }
                }
            }
            Values::Unsigned(values) => number(i256::from_i128(values[row].into()), 0, out),
            Values::Decimal(values, scale) => decimal(values[row], *scale, out),
            Values::WideDecimal(values, scale) => wide_decimal(values[row], *scale, out),
            Values::Float(values) => tagged(FLOAT, &canonical(values[row]).to_bits().to_le_bytes(), out),
            Values::Text(values) => sized(TEXT, values.value(row).as_bytes(), out),
            Values::LargeText(values) => sized(TEXT, values.value(row).as_bytes(), out),
            Values::TextView(values) => sized(TEXT, values.value(row).as_bytes(), out),
            Values::Binary(values) => sized(BINARY, values.value(row), out),
            Values::Interval(values, finer) => {
                let interval = values[row];
                let (tag, time) = match interval.nanoseconds % 1_000 {
                    0 => (INTERVAL, interval.nanoseconds / 1_000),
                    _ if *finer == Finer::CutOff => (INTERVAL, interval.nanoseconds / 1_000),
                    _ => (FINE_INTERVAL, interval.nanoseconds),
                };
                tagged(tag, &interval.months.to_le_bytes(), out);
                out.extend_from_slice(&interval.days.to_le_bytes());
                out.extend_from_slice(&time.to_le_bytes());
            }
            Values::List(offsets, items) => {
                out.push(LIST);
                length(offsets[row + 1] - offsets[row], out);
                (offsets[row]..offsets[row + 1]).for_each(|item| items.encode(item, out));
            }
            Values::Struct(fields) => {
                out.push(STRUCT);
                fields.iter().for_each(|field| field.encode(row, out));
            }
        }
    }
}

/// Only the items that the rows refer to: a slice of a list keeps all of its parent's.
fn items(values: &ArrayRef, offsets: impl Iterator<Item = i64>, finer: Finer) -> Result<Values, ArrowError> {
    let mut offsets = offsets
        .map(|offset| usize::try_from(offset).map_err(|error| ArrowError::ExternalError(Box::new(error))))
        .collect::<Result<Vec<_>, _>>()?;
    let first = offsets.first().copied().unwrap_or(0);
    offsets.iter_mut().for_each(|offset| *offset -= first);
    let used = offsets.last().copied().unwrap_or(0);
    Ok(Values::List(offsets, Box::new(Column::new(&values.slice(first, used), finer)?)))
}

fn fields(array: &StructArray, finer: Finer) -> Result<Vec<Column>, ArrowError> {
    array.columns().iter().map(|column| Column::new(column, finer)).collect()
}

/// Of a type that is finer than the unit of its kind: the kind's tag, and how many of it are one of that unit.
fn fine(kind: &DataType) -> Option<(u8, i64)> {
    match kind {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some((INSTANT, 1_000)),
        DataType::Time64(TimeUnit::Nanosecond) => Some((TIME, 1_000)),
        DataType::Date64 => Some((DATE, 86_400_000)),
        _ => None,
    }
}

fn plain<T: ArrowPrimitiveType>(array: &ArrayRef, to: &DataType) -> Result<ScalarBuffer<T::Native>, ArrowError> {
    let array = exact_cast(array, to)?;
    let values: &PrimitiveArray<T> = array.as_primitive();
    Ok(values.values().clone())
}

fn exact_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// One NaN for all, and 0 for −0.
pub(crate) fn canonical(value: f64) -> f64 {
    // A float is −0 or 0 exactly when it equals 0.
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// `digits · 10^-scale`.
fn decimal(mut digits: i128, scale: i8, out: &mut Vec<u8>) {
    if scale < 0 {
        return wide_decimal(i256::from_i128(digits), scale, out);
    }
    let mut scale = i16::from(scale);
    while scale > 0 && digits % 10 == 0 {
        digits /= 10;
        scale -= 1;
    }
    number(i256::from_i128(digits), scale, out);
}

/// A negative scale is written out in zeros, as far as 256 bits go.
fn wide_decimal(mut digits: i256, scale: i8, out: &mut Vec<u8>) {
    let ten = i256::from_i128(10);
    let mut scale = i16::from(scale);
    while scale > 0 && digits.wrapping_rem(ten) == i256::ZERO {
        digits = digits.wrapping_div(ten);
        scale -= 1;
    }
    while scale < 0
        && let Some(longer) = digits.checked_mul(ten)
    {
        digits = longer;
        scale += 1;
    }
    number(digits, scale, out);
}

fn number(digits: i256, scale: i16, out: &mut Vec<u8>) {
    match (digits.to_i128().and_then(|digits| i64::try_from(digits).ok()), scale) {
        (Some(digits), 0) => tagged(INTEGER, &digits.to_le_bytes(), out),
        (Some(digits), scale) => {
            tagged(DECIMAL, &scale.to_le_bytes(), out);
            out.extend_from_slice(&digits.to_le_bytes());
        }
        (None, scale) => {
            tagged(WIDE_DECIMAL, &scale.to_le_bytes(), out);
            out.extend_from_slice(&digits.to_le_bytes());
        }
    }
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn sized(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}
