//! Which PostgreSQL type keeps an Arrow type, and how a column is brought into what a binary COPY takes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, IntervalMonthDayNanoType, IntervalUnit, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use pgpq::ArrowToPostgresBinaryEncoder;
use pgpq::encoders::{EncoderBuilder, StringEncoderBuilder};
use pgpq::error::ErrorKind;
use pgpq::pg_schema::PostgresType;

use super::events::{document, documents};
use crate::sinks::decimal;

/// How PostgreSQL keeps a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// The column's type, spelled as `format_type` does.
    pub(super) sql: String,
    /// What the column is sent as.
    pub(super) wire: DataType,
    /// How it comes to be that.
    pub(super) way: Way,
}

/// How a column comes to be what it is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a cast that loses nothing.
    Cast,
    /// As text in which no character is U+0000, which PostgreSQL cannot hold: U+FFFD stands for it.
    Text,
    /// As JSON text.
    Json,
    /// As it is, for it is JSON text, but without what jsonb cannot hold.
    Document,
    /// As the bytes of an interval.
    Interval,
}

/// The type of a column in PostgreSQL, or `None` where it has none for it.
///
/// Exact but for what is finer than a microsecond, U+0000, and what JSON cannot say (NaN within a list, for example).
pub(super) fn stored(data_type: &DataType) -> Option<Stored> {
    use DataType as T;
    let of = |sql: &str, wire: DataType, way: Way| Some(Stored { sql: sql.to_owned(), wire, way });
    let plain = |sql: &str, wire: DataType| of(sql, wire, Way::Cast);
    match data_type {
        T::Null | T::Utf8 | T::LargeUtf8 | T::Utf8View => of("text", T::Utf8, Way::Text),
        T::Boolean => plain("boolean", T::Boolean),
        T::Int8 | T::Int16 | T::UInt8 => plain("smallint", T::Int16),
        T::Int32 | T::UInt16 => plain("integer", T::Int32),
        T::Int64 | T::UInt32 => plain("bigint", T::Int64),
        T::UInt64 => plain("numeric(20,0)", T::Decimal128(20, 0)),
        T::Float16 | T::Float32 => plain("real", T::Float32),
        T::Float64 => plain("double precision", T::Float64),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => {
            let (precision, scale) = decimal(*precision, *scale)?;
            plain(&format!("numeric({precision},{scale})"), T::Decimal128(precision, scale))
        }
        T::Date32 | T::Date64 => plain("date", T::Date32),
        T::Time32(_) | T::Time64(_) => plain("time without time zone", T::Time64(TimeUnit::Microsecond)),
        T::Timestamp(_, Some(_)) => plain("timestamp with time zone", T::Timestamp(TimeUnit::Microsecond, None)),
        T::Timestamp(_, None) => plain("timestamp without time zone", T::Timestamp(TimeUnit::Microsecond, None)),
        T::Duration(_) | T::Interval(_) => of("interval", T::Binary, Way::Interval),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => plain("bytea", T::Binary),
        T::List(_)
        | T::LargeList(_)
        | T::ListView(_)
        | T::LargeListView(_)
        | T::FixedSizeList(_, _)
        | T::Struct(_)
        | T::Map(_, _) => of("jsonb", T::Utf8, Way::Json),
        T::Dictionary(_, values) => stored(values),
        T::RunEndEncoded(_, values) => stored(values.data_type()),
        T::Union(_, _) => None,
    }
}

/// The column as it is sent.
///
/// # Errors
/// A value that the wire type cannot hold: nothing becomes null on the way.
pub(super) fn to_wire(column: &ArrayRef, kept: &Stored) -> Result<ArrayRef, ArrowError> {
    match kept.way {
        Way::Json => json(column),
        Way::Document => Ok(documents(&exact_cast(column, &DataType::Utf8)?)),
        Way::Interval => intervals(column),
        Way::Text => {
            let text = exact_cast(column, &DataType::Utf8)?;
            Ok(without_nul(text.as_string()).map_or(text, |clean| Arc::new(clean)))
        }
        Way::Cast if matches!(column.data_type(), DataType::Timestamp(_, Some(_))) => {
            // The instant stays; what is told of its zone goes.
            let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let utc = exact_cast(column, &micros)?;
            let instants: &TimestampMicrosecondArray = utc.as_primitive::<TimestampMicrosecondType>();
            Ok(Arc::new(instants.clone().with_timezone_opt(None::<Arc<str>>)))
        }
        Way::Cast => exact_cast(column, &kept.wire),
    }
}

fn exact_cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// The texts without U+0000, where there is one in them.
fn without_nul(texts: &StringArray) -> Option<StringArray> {
    let (first, last) = (texts.value_offsets().first()?, texts.value_offsets().last()?);
    let bytes = texts.value_data().get(*first as usize..*last as usize)?;
    bytes.contains(&0).then(|| texts.iter().map(|text| text.map(|text| text.replace('\0', "\u{FFFD}"))).collect())
}

/// A nested column as JSON, one text a row.
fn json(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let plain = plain_values(column)?;
    let field = Field::new("v", plain.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(&plain)])?;
    let mut written = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut written);
    writer.write(&batch)?;
    writer.finish()?;
    let mut texts = StringBuilder::with_capacity(column.len(), written.len());
    for (row, line) in written.split(|byte| *byte == b'\n').take(column.len()).enumerate() {
        let line = std::str::from_utf8(line).unwrap_or_default();
        let value = line.strip_prefix("{\"v\":").and_then(|line| line.strip_suffix('}'));
        match value.filter(|_| plain.is_valid(row)) {
            Some(value) => texts.append_value(document(value)),
            None => texts.append_null(),
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// A column without a dictionary around it.
fn plain_values(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, values) => exact_cast(column, values),
        _ => Ok(Arc::clone(column)),
    }
}

/// Intervals as PostgreSQL sends them: µs, days, months, big endian.
fn intervals(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let intervals = exact_cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let mut bytes = BinaryBuilder::with_capacity(intervals.len(), intervals.len() * 16);
    for interval in intervals.as_primitive::<IntervalMonthDayNanoType>() {
        let sent = interval.map(|interval| {
            let mut sent = [0; 16];
            sent[..8].copy_from_slice(&(interval.nanoseconds / 1_000).to_be_bytes());
            sent[8..12].copy_from_slice(&interval.days.to_be_bytes());
            sent[12..].copy_from_slice(&interval.months.to_be_bytes());
            sent
        });
        bytes.append_option(sent);
    }
    Ok(Arc::new(bytes.finish()))
}

/// The schema in which columns are sent.
pub(super) fn wire_schema(columns: &[(String, Stored)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kept)| Field::new(name, kept.wire.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What writes batches of [`wire_schema`] as a binary COPY.
pub(super) fn encoder(columns: &[(String, Stored)]) -> Result<ArrowToPostgresBinaryEncoder, ErrorKind> {
    let schema = wire_schema(columns);
    let mut encoders: HashMap<String, EncoderBuilder> = pgpq::build_encoders(schema.fields())?.into_iter().collect();
    for (field, (name, kept)) in schema.fields().iter().zip(columns) {
        if matches!(kept.way, Way::Json | Way::Document) {
            let jsonb = StringEncoderBuilder::new_with_output(Arc::clone(field), PostgresType::Jsonb)?;
            encoders.insert(name.clone(), EncoderBuilder::String(jsonb));
        }
    }
    ArrowToPostgresBinaryEncoder::try_new_with_encoders(&schema, &encoders)
}
