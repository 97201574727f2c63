//! The types on the wire. [`wire_schema`] alone decides how a result looks to clients; FlightInfo, DoGet,
//! GetSchema, prepared statements and table schemas all take it from here, because ADBC refuses a result whose
//! schema differs from the one announced.
//!
//! JDBC (up to 18.3), ODBC and Grafana know neither views, large types, dictionaries nor unsigned numbers, so
//! every value goes out in the nearest plain type that holds it.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::type_info;

/// Which types a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// Those that every client reads.
    #[default]
    Compat,
    /// Those that the plan has: views, dictionaries and unsigned numbers among them.
    Native,
    /// Those that Grafana's plugin draws: times in nanoseconds, decimals as DOUBLE.
    Grafana,
    /// Times without a zone, for tools that call `getObject` of everything: the JDBC driver (18.3) has none for TIMESTAMP WITH
    /// TIME ZONE.
    Jdbc,
}

impl Wire {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Native => "native",
            Self::Grafana => "grafana",
            Self::Jdbc => "jdbc",
        }
    }

    fn type_of(self, data_type: &DataType) -> DataType {
        match self {
            Self::Compat => wire_type(data_type),
            Self::Native => data_type.clone(),
            Self::Grafana => match wire_type(data_type) {
                DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone),
                DataType::Decimal128(..) | DataType::Decimal256(..) => DataType::Float64,
                other => other,
            },
            Self::Jdbc => match wire_type(data_type) {
                DataType::Timestamp(unit, _) => DataType::Timestamp(unit, None),
                other => other,
            },
        }
    }
}

impl FromStr for Wire {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Compat, Self::Native, Self::Grafana, Self::Jdbc];
        let found = known.into_iter().find(|wire| wire.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| format!("'{text}' is no kind of types; write compat, native, grafana or jdbc"))
    }
}

/// How the columns of a plan look on the wire: plain types, every field nullable, no metadata but the column's
/// SQL type.
pub(crate) fn wire_schema(schema: &Schema, wire: Wire) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let data_type = wire.type_of(field.data_type());
        let metadata = type_metadata(&data_type);
        Field::new(field.name(), data_type, true).with_metadata(metadata)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Casts a batch of the plan to the schema that [`wire_schema`] made of the plan's.
///
/// # Errors
/// Where a value does not fit: a timestamp in seconds may lie outside the microseconds of 64 bits.
pub(crate) fn wire_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    // A value that does not fit is an error; arrow's default would make it null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |(column, field): (&ArrayRef, &FieldRef)| cast_with_options(column, field.data_type(), &options);
    let columns = batch.columns().iter().zip(schema.fields()).map(cast).collect::<Result<Vec<_>, _>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

/// The first column in which two wire schemas have different types, as a sentence.
///
/// A cast between them could lose digits without a word, so a result is not sent where this finds one.
pub(crate) fn difference(announced: &Schema, real: &Schema) -> Option<String> {
    if announced.fields().len() != real.fields().len() {
        let (announced, real) = (announced.fields().len(), real.fields().len());
        return Some(format!("{announced} columns were announced and {real} came"));
    }
    let mut pairs = announced.fields().iter().zip(real.fields());
    pairs.find(|(announced, real)| announced.data_type() != real.data_type()).map(|(announced, real)| {
        let (name, promised, came) = (announced.name(), announced.data_type(), real.data_type());
        format!("column '{name}' was announced as {promised} and came as {came}")
    })
}

/// The metadata keys that JDBC and ADBC read about a column's type.
fn type_metadata(data_type: &DataType) -> HashMap<String, String> {
    let mut metadata = HashMap::from([(TYPE_NAME.to_owned(), type_info::sql_name(data_type).to_owned())]);
    if let Some((precision, scale)) = type_info::precision_and_scale(data_type) {
        metadata.insert(PRECISION.to_owned(), precision.to_string());
        metadata.insert(SCALE.to_owned(), scale.to_string());
    }
    metadata
}

const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";

fn wire_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| Arc::from("UTC")))
        }
        // pyarrow has no other interval, and DataFusion makes no other.
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Dictionary(_, value) => wire_type(value),
        DataType::RunEndEncoded(_, value) => wire_type(value.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(nullable(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect()),
        DataType::Map(entries, sorted) => DataType::Map(map_entries(entries), *sorted),
        // The rest is plain already; a union's children cannot be cast one by one.
        other => other.clone(),
    }
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), wire_type(field.data_type()), true))
}

/// A map's entries and keys cannot be null, by the format; its values can.
fn map_entries(entries: &FieldRef) -> FieldRef {
    let DataType::Struct(pair) = entries.data_type() else { return Arc::clone(entries) };
    let pair = pair
        .iter()
        .enumerate()
        .map(|(place, field)| Arc::new(Field::new(field.name(), wire_type(field.data_type()), place != 0)) as FieldRef);
    Arc::new(Field::new(entries.name(), DataType::Struct(pair.collect()), false))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, StringDictionaryBuilder, TimestampSecondArray, UInt64Array};
    use arrow::datatypes::{Decimal128Type, Int8Type};

    use super::*;

    fn wire(column: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let schema = Arc::new(Schema::new(vec![Field::new("c", column.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
        wire_batch(&batch, &wire_schema(&schema, Wire::Compat)).map(|batch| Arc::clone(batch.column(0)))
    }

    #[test]
    fn the_largest_unsigned_number_survives() {
        let column = wire(Arc::new(UInt64Array::from(vec![u64::MAX]))).unwrap();
        assert_eq!(column.as_primitive::<Decimal128Type>().value(0), i128::from(u64::MAX));
    }

    #[test]
    fn a_dictionary_becomes_its_values() {
        let mut builder = StringDictionaryBuilder::<Int8Type>::new();
        builder.append_value("a");
        builder.append_null();
        let column = wire(Arc::new(builder.finish())).unwrap();
        assert_eq!(column.as_string::<i32>().value(0), "a");
        assert!(column.is_null(1));
    }

    #[test]
    fn a_time_that_microseconds_cannot_hold_is_an_error_and_not_a_null() {
        assert!(wire(Arc::new(TimestampSecondArray::from(vec![i64::MAX / 1000]))).is_err());
    }

    #[test]
    fn zones_are_utc_and_none_stays_none() {
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("+07:00".into()));
        assert_eq!(wire_type(&zoned), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        let bare = DataType::Timestamp(TimeUnit::Second, None);
        assert_eq!(wire_type(&bare), DataType::Timestamp(TimeUnit::Microsecond, None));
    }

    #[test]
    fn nested_types_are_plain_to_the_last_level() {
        let item = Arc::new(Field::new("item", DataType::Utf8View, false));
        let pair = DataType::Struct(vec![Field::new("a", DataType::LargeList(item), false)].into());
        let expected = Arc::new(Field::new("item", DataType::Utf8, true));
        let expected = DataType::Struct(vec![Field::new("a", DataType::List(expected), true)].into());
        assert_eq!(wire_type(&pair), expected);
    }
}
