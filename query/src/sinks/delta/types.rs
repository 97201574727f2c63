//! Which Delta type keeps an Arrow type, and how a column is brought into it and back.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::sinks::{TableImage, decimal};

/// The type of a column in the table's files, or `None` where Delta has none for it.
///
/// Exact but for what is finer than a microsecond. A time of day is text; an instant without a zone is one of UTC, since the
/// type without a zone is a feature that many readers lack.
pub(super) fn stored(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Null | T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Time32(_) | T::Time64(_) => T::Utf8,
        T::Boolean => T::Boolean,
        T::Int8 => T::Int8,
        T::Int16 | T::UInt8 => T::Int16,
        T::Int32 | T::UInt16 => T::Int32,
        T::Int64 | T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 | T::Float32 => T::Float32,
        T::Float64 => T::Float64,
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => {
            let (precision, scale) = decimal(*precision, *scale)?;
            T::Decimal128(precision, scale)
        }
        T::Date32 | T::Date64 => T::Date32,
        T::Timestamp(_, _) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            T::List(Arc::new(Field::new("element", stored(item.data_type())?, true)))
        }
        T::Struct(fields) => {
            let kept = |field: &Arc<Field>| Some(Field::new(field.name(), stored(field.data_type())?, true));
            let fields: Fields = fields.iter().map(kept).collect::<Option<_>>()?;
            return (!fields.is_empty()).then_some(T::Struct(fields));
        }
        T::Map(entries, _) => {
            let T::Struct(fields) = entries.data_type() else { return None };
            let [key, value] = fields.as_ref() else { return None };
            let key = Field::new("key", stored(key.data_type())?, false);
            let value = Field::new("value", stored(value.data_type())?, true);
            T::Map(Arc::new(Field::new("key_value", T::Struct(vec![key, value].into()), false)), false)
        }
        T::Dictionary(_, values) => return stored(values),
        T::RunEndEncoded(_, values) => return stored(values.data_type()),
        T::Duration(_) | T::Interval(_) | T::Union(_, _) => return None,
    })
}

/// The columns of a table's files.
///
/// # Errors
/// [`Error::UnsupportedColumn`] for a type that Delta has nothing for.
pub(super) fn schema(table: &TableImage) -> Result<SchemaRef> {
    let kept = table.kept(stored)?;
    Ok(Arc::new(Schema::new(kept.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>())))
}

/// A batch in the types of a schema with as many columns.
///
/// # Errors
/// [`Error::Column`] for a value that its new type cannot hold: nothing becomes null on the way.
pub(super) fn cast(batch: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let one = |(column, field): (&ArrayRef, &Arc<Field>)| {
        cast_with_options(column, field.data_type(), &options).map_err(|source| Error::Column {
            table: table.to_owned(),
            column: field.name().clone(),
            source,
        })
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(one).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
