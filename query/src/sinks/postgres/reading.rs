//! Rows back from PostgreSQL: a binary COPY, decoded into the Arrow types that it was sent in.
//!
//! The format: PostgreSQL's documentation of COPY, "Binary Format", and the `send` functions of its types.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema};
use arrow::error::ArrowError;
use arrow_json::ReaderBuilder;
use bytes::{Buf, Bytes, BytesMut};
use futures::TryStreamExt;
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::session::{Session, literal, quoted, sql_name};
use super::tables::qualified;
use super::types::{Stored, Way, stored, to_wire};
use crate::error::{Error, Result};
use crate::sinks::TableImage;

/// Rows in a batch.
const ROWS: usize = 8_192;

/// What every binary COPY begins with, before the flags and the length of the header's extension.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// From 1970-01-01 to PostgreSQL's 2000-01-01.
const DAYS: i32 = 10_957;
const MICROS: i64 = DAYS as i64 * 86_400_000_000;

/// Gives every row of a table to `each`.
pub(super) async fn read(
    session: &mut Session,
    table: &TableImage,
    each: &mut (dyn FnMut(RecordBatch) -> Result<()> + Send),
) -> Result<()> {
    let columns = table.kept(stored)?;
    let names = columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
    let place = qualified(&table.schema, &table.name);
    let copy = format!("COPY (SELECT {names} FROM {place}) TO STDOUT (FORMAT binary)");
    let failed = session.failed();
    let mut received = session.connection.copy_out_raw(&copy).await.map_err(&failed)?;
    let wrong = |reason: &str| Error::PostgresRow { table: table.model(), reason: reason.to_owned() };
    let mut rows =
        Rows { waiting: BytesMut::new(), begun: false, ended: false, values: vec![Vec::new(); columns.len()] };
    let mut finish = |rows: &mut Rows| -> Result<()> {
        let fields = table.columns.fields().iter();
        let arrays = rows.values.iter_mut().zip(&columns).zip(fields).map(|((values, (name, kept)), field)| {
            let values = std::mem::take(values);
            column(&values, kept, field).map_err(|source| Error::Column {
                table: table.model(),
                column: name.clone(),
                source,
            })
        });
        let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let fields =
            columns.iter().zip(&arrays).map(|((name, _), array)| Field::new(name, array.data_type().clone(), true));
        each(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays)?)
    };
    while let Some(chunk) = received.try_next().await.map_err(&failed)? {
        rows.waiting.extend_from_slice(&chunk);
        rows.take().ok_or_else(|| wrong("its COPY cannot be read"))?;
        if rows.count() >= ROWS {
            finish(&mut rows)?;
        }
    }
    if rows.count() > 0 {
        finish(&mut rows)?;
    }
    if rows.ended { Ok(()) } else { Err(wrong("its COPY broke off")) }
}

/// The columns of a table that are of other types in the database, each with both. One that is not there is told by
/// who reads it.
pub(super) async fn altered(session: &mut Session, table: &TableImage) -> Result<Vec<String>> {
    let select = format!(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped",
        literal(&qualified(&table.schema, &table.name))
    );
    let failed = session.failed();
    let read = |row: &PgRow| -> sqlx::Result<(String, String)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let rows = session.rows(select).await?;
    let there: HashMap<String, String> = rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(failed)?;
    Ok(differing(&table.kept(stored)?, &there))
}

/// The columns whose types are others `there`, in words.
fn differing(columns: &[(String, Stored)], there: &HashMap<String, String>) -> Vec<String> {
    let differs = |(name, kept): &(String, Stored)| {
        let kind = there.get(&*sql_name(name)).filter(|kind| **kind != kept.sql)?;
        Some(format!("column {name} is {kind} there, {} here", kept.sql))
    };
    columns.iter().filter_map(differs).collect()
}

/// A COPY as far as it has come: the values of whole rows, by column.
struct Rows {
    waiting: BytesMut,
    begun: bool,
    ended: bool,
    values: Vec<Vec<Option<Bytes>>>,
}

impl Rows {
    fn count(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Takes up every row that is whole. `None` for what is no COPY of so many columns.
    fn take(&mut self) -> Option<()> {
        if !self.begun {
            let length = SIGNATURE.len() + 8;
            if self.waiting.len() < length {
                return Some(());
            }
            let mut header = self.waiting.split_to(length);
            let begun = header.starts_with(SIGNATURE);
            header.advance(SIGNATURE.len());
            // No flag and no extension is known to us.
            if !begun || header.get_u32() != 0 || header.get_u32() != 0 {
                return None;
            }
            self.begun = true;
        }
        while !self.ended {
            let Some(length) = self.whole_row()? else { return Some(()) };
            let mut row = self.waiting.split_to(length).freeze();
            if row.get_i16() == -1 {
                self.ended = true;
                break;
            }
            for values in &mut self.values {
                let value = match row.get_i32() {
                    -1 => None,
                    bytes => Some(row.split_to(usize::try_from(bytes).ok()?)),
                };
                values.push(value);
            }
        }
        Some(())
    }

    /// The bytes of the next row, if it is whole.
    fn whole_row(&self) -> Option<Option<usize>> {
        let mut rest = &self.waiting[..];
        if rest.len() < 2 {
            return Some(None);
        }
        let columns = rest.get_i16();
        if columns == -1 {
            return Some(Some(2));
        }
        if usize::try_from(columns).ok()? != self.values.len() {
            return None;
        }
        for _ in 0..columns {
            if rest.len() < 4 {
                return Some(None);
            }
            let bytes = rest.get_i32();
            let bytes = if bytes == -1 { 0 } else { usize::try_from(bytes).ok()? };
            if rest.len() < bytes {
                return Some(None);
            }
            rest.advance(bytes);
        }
        Some(Some(self.waiting.len() - rest.len()))
    }
}

/// The values of a column as an array.
fn column(values: &[Option<Bytes>], kept: &Stored, field: &Field) -> Result<ArrayRef, ArrowError> {
    macro_rules! numbers {
        ($array:ty, $get:ident, $width:expr) => {{
            let number =
                |value: &Option<Bytes>| fixed::<$width>(value).map(|value| value.map(|mut value| value.$get()));
            Arc::new(values.iter().map(number).collect::<Result<$array, _>>()?) as ArrayRef
        }};
    }
    Ok(match (&kept.wire, kept.way) {
        (_, Way::Json) => return json(values, field),
        (_, Way::Interval) => Arc::new(values.iter().map(interval).collect::<Result<IntervalMonthDayNanoArray, _>>()?),
        (DataType::Boolean, _) => {
            let truth = |value: &Option<Bytes>| fixed::<1>(value).map(|value| value.map(|value| value[0] != 0));
            Arc::new(values.iter().map(truth).collect::<Result<BooleanArray, _>>()?)
        }
        (DataType::Int16, _) => numbers!(Int16Array, get_i16, 2),
        (DataType::Int32, _) => numbers!(Int32Array, get_i32, 4),
        (DataType::Int64, _) => numbers!(Int64Array, get_i64, 8),
        (DataType::Float32, _) => numbers!(Float32Array, get_f32, 4),
        (DataType::Float64, _) => numbers!(Float64Array, get_f64, 8),
        (DataType::Date32, _) => {
            let days = |value: &Option<Bytes>| {
                fixed::<4>(value).map(|value| value.map(|mut value| value.get_i32().saturating_add(DAYS)))
            };
            Arc::new(values.iter().map(days).collect::<Result<Date32Array, _>>()?)
        }
        (DataType::Time64(_), _) => numbers!(Time64MicrosecondArray, get_i64, 8),
        (DataType::Timestamp(_, _), _) => {
            let micros = |value: &Option<Bytes>| {
                fixed::<8>(value).map(|value| value.map(|mut value| value.get_i64().saturating_add(MICROS)))
            };
            Arc::new(values.iter().map(micros).collect::<Result<TimestampMicrosecondArray, _>>()?)
        }
        (DataType::Decimal128(precision, scale), _) => {
            let digits = values.iter().map(|value| value.as_ref().map(|value| numeric(value, *scale)).transpose());
            let digits = digits.collect::<Result<Decimal128Array, _>>()?;
            Arc::new(digits.with_precision_and_scale(*precision, *scale)?)
        }
        (DataType::Binary, _) => Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>()),
        _ => {
            let text =
                |value: &Option<Bytes>| value.as_deref().map(|text| std::str::from_utf8(text).map(str::to_owned));
            let texts = values.iter().map(|value| text(value).transpose()).collect::<Result<StringArray, _>>();
            Arc::new(texts.map_err(|error| ArrowError::CastError(error.to_string()))?)
        }
    })
}

fn unreadable(what: &str) -> ArrowError {
    ArrowError::CastError(format!("this is no {what} of PostgreSQL's"))
}

/// A value of so many bytes.
fn fixed<const BYTES: usize>(value: &Option<Bytes>) -> Result<Option<&[u8]>, ArrowError> {
    match value.as_deref() {
        None => Ok(None),
        Some(value) if value.len() == BYTES => Ok(Some(value)),
        Some(_) => Err(unreadable("value of this width")),
    }
}

fn interval(value: &Option<Bytes>) -> Result<Option<IntervalMonthDayNano>, ArrowError> {
    let read = |mut value: &[u8]| {
        let (micros, days, months) = (value.get_i64(), value.get_i32(), value.get_i32());
        micros.checked_mul(1_000).map(|nanos| IntervalMonthDayNano::new(months, days, nanos))
    };
    fixed::<16>(value)?.map(|value| read(value).ok_or_else(|| unreadable("interval of a readable length"))).transpose()
}

/// Digits at a scale, of PostgreSQL's groups of four decimal digits.
fn numeric(value: &[u8], scale: i8) -> Result<i128, ArrowError> {
    let wrong = || unreadable("number that fits this column");
    let mut value = value;
    if value.len() < 8 {
        return Err(wrong());
    }
    let (groups, weight, sign, _shown) = (value.get_u16(), value.get_i16(), value.get_u16(), value.get_u16());
    if value.len() != usize::from(groups) * 2 || !matches!(sign, 0 | 0x4000) {
        return Err(wrong());
    }
    let mut digits = 0i128;
    for at in 0..i32::from(groups) {
        let group = i128::from(value.get_u16());
        // The group counts 10000^(weight - at), and the column counts 10^-scale.
        let power = (i32::from(weight) - at) * 4 + i32::from(scale);
        let counted = match u32::try_from(power) {
            Ok(power) => 10i128.checked_pow(power).and_then(|power| group.checked_mul(power)),
            // What is beyond the scale is zeros.
            Err(_) => Some(group / 10i128.checked_pow(power.unsigned_abs()).ok_or_else(wrong)?),
        };
        digits = counted.and_then(|counted| digits.checked_add(counted)).ok_or_else(wrong)?;
    }
    Ok(if sign == 0 { digits } else { -digits })
}

/// Rows as they come back from a table that keeps them: without what PostgreSQL cannot hold.
pub(super) fn as_kept(batch: &RecordBatch, table: &TableImage) -> Result<RecordBatch> {
    let columns = table.kept(stored)?;
    let mut arrays = Vec::with_capacity(columns.len());
    for ((name, kept), field) in columns.iter().zip(table.columns.fields()) {
        let failed = |source| Error::Column { table: table.model(), column: name.clone(), source };
        let sent = batch.schema_ref().index_of(name).and_then(|at| to_wire(batch.column(at), kept)).map_err(failed)?;
        arrays.push(match kept.way {
            // A byte of a version is before the text.
            Way::Json => {
                let texts = sent.as_string::<i32>().iter();
                let values = texts.map(|text| text.map(|text| Bytes::from(format!("\u{1}{text}"))));
                json(&values.collect::<Vec<_>>(), field).map_err(failed)?
            }
            Way::Cast | Way::Text | Way::Interval | Way::Document => sent,
        });
    }
    let fields =
        columns.iter().zip(&arrays).map(|((name, _), array)| Field::new(name, array.data_type().clone(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays)?)
}

/// Nested values, from jsonb: a byte of its version and the text.
fn json(values: &[Option<Bytes>], field: &Field) -> Result<ArrayRef, ArrowError> {
    let plain = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    let schema = Arc::new(Schema::new(vec![Field::new("v", plain, true)]));
    let mut lines = Vec::new();
    for value in values {
        lines.extend_from_slice(b"{\"v\":");
        let text = value.as_deref().and_then(|value| std::str::from_utf8(value.get(1..)?).ok()).unwrap_or("null");
        let sorted =
            sorted(text, schema.field(0).data_type()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        lines.extend_from_slice(sorted.as_bytes());
        lines.extend_from_slice(b"}\n");
    }
    let mut reader = ReaderBuilder::new(schema).with_batch_size(values.len().max(1)).build(lines.as_slice())?;
    let batch = reader.next().transpose()?.ok_or_else(|| unreadable("JSON"))?;
    Ok(Arc::clone(batch.column(0)))
}

/// JSON text with the keys of its maps in one order: jsonb has an order of its own, and the last of equal keys.
fn sorted<'j>(text: &'j str, data_type: &DataType) -> serde_json::Result<Cow<'j, str>> {
    let mut written = String::new();
    match data_type {
        _ if !has_map(data_type) || text == "null" => return Ok(Cow::Borrowed(text)),
        DataType::Map(entries, _) => {
            let values = match entries.data_type() {
                DataType::Struct(fields) => fields.get(1).map_or(DataType::Null, |values| values.data_type().clone()),
                _ => DataType::Null,
            };
            for (key, value) in serde_json::from_str::<BTreeMap<String, &RawValue>>(text)? {
                written += if written.is_empty() { "{" } else { "," };
                write_entry(&mut written, &key, &sorted(value.get(), &values)?);
            }
            written += if written.is_empty() { "{}" } else { "}" };
        }
        DataType::Struct(fields) => {
            let values: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            for field in fields {
                let value = values.get(field.name()).map_or("null", |value| value.get());
                written += if written.is_empty() { "{" } else { "," };
                write_entry(&mut written, field.name(), &sorted(value, field.data_type())?);
            }
            written += if written.is_empty() { "{}" } else { "}" };
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            for value in serde_json::from_str::<Vec<&RawValue>>(text)? {
                written += if written.is_empty() { "[" } else { "," };
                written += &sorted(value.get(), item.data_type())?;
            }
            written += if written.is_empty() { "[]" } else { "]" };
        }
        _ => return Ok(Cow::Borrowed(text)),
    }
    Ok(Cow::Owned(written))
}

fn write_entry(written: &mut String, key: &str, value: &str) {
    *written += &serde_json::Value::from(key).to_string();
    *written += ":";
    *written += value;
}

fn has_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(_, _) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_map(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_map(item.data_type())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_other_types_are_named_with_both() {
        let columns = [("day", DataType::Date32), ("xmin", DataType::Utf8), ("gone", DataType::Int64)]
            .map(|(name, data_type)| (name.to_owned(), stored(&data_type).unwrap()));
        let there = |day: &str| {
            let kinds = [("day", day), ("xmin_", "text"), ("more", "text")];
            HashMap::from(kinds.map(|(name, kind)| (name.to_owned(), kind.to_owned())))
        };
        assert_eq!(differing(&columns, &there("date")), Vec::<String>::new());
        assert_eq!(differing(&columns, &there("text")), ["column day is text there, date here"]);
    }

    /// Numbers as `numeric_send` writes them.
    #[test]
    fn numbers_are_read_at_their_scale() {
        let sent = |weight: i16, sign: u16, groups: &[u16]| {
            let mut bytes = BytesMut::new();
            bytes.extend_from_slice(&(groups.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&weight.to_be_bytes());
            bytes.extend_from_slice(&sign.to_be_bytes());
            bytes.extend_from_slice(&2u16.to_be_bytes());
            groups.iter().for_each(|group| bytes.extend_from_slice(&group.to_be_bytes()));
            bytes
        };
        assert_eq!(numeric(&sent(0, 0, &[]), 2).unwrap(), 0);
        assert_eq!(numeric(&sent(0, 0, &[12, 3400]), 2).unwrap(), 1234);
        assert_eq!(numeric(&sent(1, 0x4000, &[1, 2345, 6700]), 2).unwrap(), -1_234_567);
        assert_eq!(numeric(&sent(-1, 0, &[500]), 4).unwrap(), 500);
        assert_eq!(numeric(&sent(2, 0, &[1]), 0).unwrap(), 100_000_000);
        assert!(numeric(&sent(0, 0xc000, &[]), 2).is_err(), "NaN");
        assert!(numeric(&sent(20, 0, &[1]), 2).is_err(), "too large");
    }
}
