//! Rows of Arrow as lines of JSON: an object each, in which nothing of a value is lost.
//!
//! A null is left out. A float that JSON has no number for is a text: `"NaN"`, `"Infinity"` or `"-Infinity"`. A map is an object;
//! its keys are texts, whatever they were, and an entry without a value is there, with null.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, Float64Array, MapArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use arrow::error::ArrowError;
use arrow_json::writer::{LineDelimited, NullableEncoder, make_encoder};
use arrow_json::{Encoder, EncoderFactory, EncoderOptions, WriterBuilder};
use serde_json::Value;

/// A line for each row of a batch.
///
/// # Errors
/// Where a column is of a type that JSON has nothing for.
pub(crate) fn lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let builder = WriterBuilder::new().with_encoder_factory(Arc::new(Whole));
    let mut writer = builder.build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// How arrow-json writes a value by itself.
static USUAL: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

/// Writes those values whole of which arrow-json by itself loses something.
#[derive(Debug)]
struct Whole;

impl EncoderFactory for Whole {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let values = cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
                if values.values().iter().all(|value| value.is_finite()) {
                    return Ok(None);
                }
                Box::new(Floats { values, finite: make_encoder(field, array, &USUAL)? })
            }
            DataType::Map(..) => Box::new(Map::new(field, array.as_map(), options)?),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// Floats of which some are no numbers of JSON.
struct Floats<'a> {
    values: Float64Array,
    finite: NullableEncoder<'a>,
}

impl Encoder for Floats<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text: &[u8] = match self.values.value(row) {
            value if value.is_finite() => return self.finite.encode(row, out),
            value if value.is_nan() => b"\"NaN\"",
            value if value > 0.0 => b"\"Infinity\"",
            _ => b"\"-Infinity\"",
        };
        out.extend_from_slice(text);
    }
}

struct Map<'a> {
    offsets: OffsetBuffer<i32>,
    keys: StringArray,
    values: NullableEncoder<'a>,
}

impl<'a> Map<'a> {
    fn new(field: &'a FieldRef, map: &'a MapArray, options: &'a EncoderOptions) -> Result<Self, ArrowError> {
        let keys = cast(map.keys(), &DataType::Utf8).ok().filter(|keys| keys.null_count() == 0);
        let keys = keys.ok_or_else(|| {
            let (name, kind) = (field.name(), map.keys().data_type());
            ArrowError::JsonError(format!("the keys of the map '{name}', which are {kind}, cannot be texts"))
        })?;
        let values = make_encoder(field, map.values(), options)?;
        Ok(Self { offsets: map.offsets().clone(), keys: keys.as_string::<i32>().clone(), values })
    }
}

impl Encoder for Map<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let (first, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        out.push(b'{');
        for entry in first..end {
            if entry > first {
                out.push(b',');
            }
            out.extend_from_slice(Value::from(self.keys.value(entry)).to_string().as_bytes());
            out.push(b':');
            match self.values.is_null(entry) {
                true => out.extend_from_slice(b"null"),
                false => self.values.encode(entry, out),
            }
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BinaryBuilder, Float32Array, Float64Builder, Int32Builder, ListArray, MapBuilder, StringBuilder,
        StructArray,
    };
    use arrow::datatypes::Field;

    use super::*;

    fn written(column: ArrayRef) -> Result<String, ArrowError> {
        let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)])?;
        lines(&batch).map(|lines| String::from_utf8(lines).unwrap())
    }

    #[test]
    fn floats_that_are_no_numbers_of_json_are_texts() {
        let floats =
            Float32Array::from(vec![Some(1.5), Some(f32::NAN), Some(f32::INFINITY), Some(-f32::INFINITY), None]);
        let expected = "{\"c\":1.5}\n{\"c\":\"NaN\"}\n{\"c\":\"Infinity\"}\n{\"c\":\"-Infinity\"}\n{}\n";
        for kind in [DataType::Float16, DataType::Float32, DataType::Float64] {
            assert_eq!(written(cast(&floats, &kind).unwrap()).unwrap(), expected, "{kind}");
        }
        let list = [Some(vec![Some(f64::NAN), None, Some(0.1)]), None];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(list));
        let field = Arc::new(Field::new("l", list.data_type().clone(), true));
        let within = StructArray::from(vec![(field, list)]);
        assert_eq!(written(Arc::new(within)).unwrap(), "{\"c\":{\"l\":[\"NaN\",null,0.1]}}\n{\"c\":{}}\n");
    }

    #[test]
    fn a_map_is_an_object_with_all_of_its_entries() {
        let mut map = MapBuilder::new(None, Int32Builder::new(), Float64Builder::new());
        map.keys().append_value(7);
        map.values().append_null();
        map.keys().append_value(-1);
        map.values().append_value(f64::INFINITY);
        map.append(true).unwrap();
        map.append(false).unwrap();
        map.append(true).unwrap();
        map.keys().append_value(0);
        map.values().append_value(0.5);
        map.append(true).unwrap();
        let expected = "{\"c\":{\"7\":null,\"-1\":\"Infinity\"}}\n{}\n{\"c\":{}}\n{\"c\":{\"0\":0.5}}\n";
        assert_eq!(written(Arc::new(map.finish())).unwrap(), expected);

        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("a \"b\"");
        map.values().append_null();
        map.append(true).unwrap();
        assert_eq!(written(Arc::new(map.finish())).unwrap(), "{\"c\":{\"a \\\"b\\\"\":null}}\n");

        let mut map = MapBuilder::new(None, BinaryBuilder::new(), StringBuilder::new());
        map.keys().append_value(b"\xff");
        map.values().append_null();
        map.append(true).unwrap();
        let said = written(Arc::new(map.finish())).unwrap_err().to_string();
        assert!(said.contains("the keys of the map 'c', which are Binary, cannot be texts"), "{said}");
    }
}
