//! Which DuckDB type keeps an Arrow type, and how a column is brought into the Arrow type that DuckDB's appender takes.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;

use crate::quoting::quoted;
use crate::sinks;

/// How DuckDB keeps a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// The column's type in a `CREATE TABLE`.
    pub(super) sql: String,
    /// What the column is appended as.
    pub(super) wire: DataType,
}

/// The type of a column in the published file, or `None` where DuckDB has none for it.
///
/// Exact but for what is finer than a microsecond in an instant with a zone, a time of day, a duration or an interval.
pub(super) fn stored(data_type: &DataType) -> Option<Stored> {
    use DataType as T;
    let plain = |sql: &str, wire: DataType| Some(Stored { sql: sql.to_owned(), wire });
    match data_type {
        T::Null => plain("VARCHAR", T::Utf8),
        T::Boolean => plain("BOOLEAN", T::Boolean),
        T::Int8 => plain("TINYINT", T::Int8),
        T::Int16 => plain("SMALLINT", T::Int16),
        T::Int32 => plain("INTEGER", T::Int32),
        T::Int64 => plain("BIGINT", T::Int64),
        T::UInt8 => plain("UTINYINT", T::UInt8),
        T::UInt16 => plain("USMALLINT", T::UInt16),
        T::UInt32 => plain("UINTEGER", T::UInt32),
        T::UInt64 => plain("UBIGINT", T::UInt64),
        T::Float16 | T::Float32 => plain("FLOAT", T::Float32),
        T::Float64 => plain("DOUBLE", T::Float64),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => decimal(*precision, *scale),
        T::Date32 | T::Date64 => plain("DATE", T::Date32),
        T::Time32(_) | T::Time64(_) => plain("TIME", T::Time64(TimeUnit::Microsecond)),
        T::Timestamp(_, Some(_)) => {
            plain("TIMESTAMP WITH TIME ZONE", T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        T::Timestamp(TimeUnit::Nanosecond, None) => plain("TIMESTAMP_NS", data_type.clone()),
        T::Timestamp(_, None) => plain("TIMESTAMP", T::Timestamp(TimeUnit::Microsecond, None)),
        // As text, which the appender casts: the DuckDB crate writes a null interval as an empty one.
        T::Duration(_) | T::Interval(_) => plain("INTERVAL", T::Utf8),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => plain("VARCHAR", data_type.clone()),
        T::Binary | T::LargeBinary | T::BinaryView => plain("BLOB", data_type.clone()),
        T::FixedSizeBinary(_) => plain("BLOB", T::Binary),
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            let item = nested(item.data_type())?;
            Some(Stored {
                sql: format!("{}[]", item.sql),
                wire: T::List(Arc::new(Field::new("item", item.wire, true))),
            })
        }
        T::Struct(fields) => record(fields),
        T::Map(entries, sorted) => map(entries, *sorted),
        T::Dictionary(_, values) => stored(values),
        T::RunEndEncoded(_, values) => stored(values.data_type()),
        T::Union(_, _) => None,
    }
}

/// A type inside another one. An interval there has no way in, see [`stored`].
fn nested(data_type: &DataType) -> Option<Stored> {
    match data_type {
        DataType::Duration(_) | DataType::Interval(_) => None,
        _ => stored(data_type),
    }
}

fn decimal(precision: u8, scale: i8) -> Option<Stored> {
    let (precision, scale) = sinks::decimal(precision, scale)?;
    Some(Stored { sql: format!("DECIMAL({precision},{scale})"), wire: DataType::Decimal128(precision, scale) })
}

fn record(fields: &Fields) -> Option<Stored> {
    let mut sql = Vec::with_capacity(fields.len());
    let mut wire = Vec::with_capacity(fields.len());
    for field in fields {
        let kept = nested(field.data_type())?;
        sql.push(format!("{} {}", quoted(field.name()), kept.sql));
        wire.push(Field::new(field.name(), kept.wire, true));
    }
    let fields = Fields::from(wire);
    (!fields.is_empty()).then(|| Stored { sql: format!("STRUCT({})", sql.join(", ")), wire: DataType::Struct(fields) })
}

fn map(entries: &Field, sorted: bool) -> Option<Stored> {
    let DataType::Struct(fields) = entries.data_type() else { return None };
    let [key, value] = fields.as_ref() else { return None };
    let (key, value) = (nested(key.data_type())?, nested(value.data_type())?);
    let fields = Fields::from(vec![Field::new("key", key.wire, false), Field::new("value", value.wire, true)]);
    Some(Stored {
        sql: format!("MAP({}, {})", key.sql, value.sql),
        wire: DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), sorted),
    })
}

/// The column as `kept` wants it appended. A text stays in the layout it comes in, whichever the table declares.
///
/// # Errors
/// A value that the wire type cannot hold: nothing becomes null on the way.
pub(super) fn to_wire(column: &ArrayRef, kept: &Stored) -> Result<ArrayRef, ArrowError> {
    if let DataType::Duration(_) | DataType::Interval(_) = column.data_type() {
        return interval_text(column);
    }
    let own = stored(column.data_type()).filter(|own| own.sql == kept.sql);
    let wire = own.map_or_else(|| kept.wire.clone(), |own| own.wire);
    if *column.data_type() == wire {
        return Ok(Arc::clone(column));
    }
    exact_cast(column, &wire)
}

/// The column as another type.
///
/// # Errors
/// A value that this type cannot hold: nothing becomes null on the way.
pub(super) fn exact_cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Intervals as DuckDB reads them from text.
fn interval_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let intervals = exact_cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let mut text = StringBuilder::with_capacity(intervals.len(), intervals.len() * 32);
    for interval in intervals.as_primitive::<IntervalMonthDayNanoType>() {
        if let Some(interval) = interval {
            let (months, days, micros) = (interval.months, interval.days, interval.nanoseconds / 1_000);
            write!(text, "{months} months {days} days {micros} microseconds")
                .map_err(|error| ArrowError::CastError(error.to_string()))?;
            text.append_value("");
        } else {
            text.append_null();
        }
    }
    Ok(Arc::new(text.finish()))
}
