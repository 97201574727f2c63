//! Rows in the formats that people ask for them in, batch by batch.

use std::collections::HashSet;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow_json::writer::{JsonArray, LineDelimited, Writer as JsonWriter};
use parquet::arrow::ArrowWriter;

/// Bytes that a row group of Parquet is held in until it is written. Its rows alone would be no bound: by default a million of them
/// are a row group, of any size.
const ROW_GROUP: usize = 32 << 20;

/// And it has so many bytes at least: of many columns, what each holds for itself is more than that, whatever is in them.
const LEAST_ROW_GROUP: usize = 4 << 20;

/// Bytes of text that rows are to be written in at once, as far as that can be told from their columns.
const TEXT: usize = 512 << 10;
/// What a value has of it, beside its column's name.
const VALUE: usize = 24;
/// Rows that are written at once at most.
const MOST_ROWS: usize = 4_096;

/// A format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An array of objects; nulls are written out.
    Json,
    /// A line of names, then a line for each row.
    Csv,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// Its word on the command line and in URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// Rows to write at once, for whoever holds what is written until somebody takes it. A text can be far longer than what it is of:
    /// in JSON every row has the columns' names, and a column of nulls has no bytes in memory.
    pub fn rows_at_once(self, schema: &Schema) -> usize {
        let row: usize = schema.fields().iter().map(|field| field.name().len() + VALUE).sum();
        match self {
            Self::Json | Self::Csv => (TEXT / row.max(1)).clamp(1, MOST_ROWS),
            Self::Parquet | Self::Arrow => usize::MAX,
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Parquet, Self::Arrow];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("'{text}' is no format; write json, csv, parquet or arrow"))
    }
}

/// Rows on their way into `W`, in one of the formats.
pub struct RowsWriter<W: Write + Send>(Inner<W>);

enum Inner<W: Write + Send> {
    Json(JsonWriter<W, JsonArray>),
    Csv(Box<arrow_csv::Writer<W>>),
    Parquet(Box<ArrowWriter<W>>),
    Arrow(StreamWriter<W>),
}

impl<W: Write + Send> RowsWriter<W> {
    /// Begins with what stands before all rows. CSV has lists and structs as JSON.
    ///
    /// # Errors
    /// Where `into` cannot be written to, the format has no place for a type, or an object of JSON would have two values of one
    /// name.
    pub fn begin(format: Format, schema: &SchemaRef, into: W) -> Result<Self, ArrowError> {
        if let Some(field) = schema.fields().iter().find(|field| has_no_place(field.data_type(), format)) {
            let (name, kind) = (field.name(), family(field.data_type()));
            let message = format!("{} has no place for column '{name}', {kind}: CAST it to VARCHAR", format.name());
            return Err(ArrowError::InvalidArgumentError(message));
        }
        Ok(Self(match format {
            Format::Json if let Some(name) = twice(schema.fields()) => {
                let message = format!("two columns are called '{name}', and JSON has one: give the other a name, AS");
                return Err(ArrowError::InvalidArgumentError(message));
            }
            Format::Json => Inner::Json(arrow_json::WriterBuilder::new().with_explicit_nulls(true).build(into)),
            Format::Csv => {
                let mut writer = arrow_csv::Writer::new(into);
                // The line of names comes with the first batch, so that an empty result has it, too.
                writer.write(&without_nesting(&RecordBatch::new_empty(schema.clone()))?)?;
                Inner::Csv(Box::new(writer))
            }
            Format::Parquet => Inner::Parquet(Box::new(ArrowWriter::try_new(into, schema.clone(), None)?)),
            Format::Arrow => Inner::Arrow(StreamWriter::try_new(into, schema)?),
        }))
    }

    /// Adds rows.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        match &mut self.0 {
            Inner::Json(writer) => writer.write(batch)?,
            Inner::Csv(writer) => writer.write(&without_nesting(batch)?)?,
            Inner::Parquet(writer) => {
                writer.write(batch)?;
                if writer.memory_size() >= ROW_GROUP && writer.in_progress_size() >= LEAST_ROW_GROUP {
                    writer.flush()?;
                }
            }
            Inner::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Ends with what stands behind all rows.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn finish(self) -> Result<W, ArrowError> {
        Ok(match self.0 {
            Inner::Json(mut writer) => {
                writer.finish()?;
                let mut into = writer.into_inner();
                writeln!(into)?;
                into
            }
            Inner::Csv(writer) => writer.into_inner(),
            Inner::Parquet(writer) => writer.into_inner()?,
            Inner::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
        })
    }
}

/// Whether values of a type, or some in it, cannot be written in a format.
fn has_no_place(kind: &DataType, format: Format) -> bool {
    let of_field = |field: &FieldRef| has_no_place(field.data_type(), format);
    match (kind, format) {
        (_, Format::Arrow) => false,
        (DataType::Union(..), _) => true,
        (DataType::Interval(_), Format::Parquet) => true,
        (DataType::Map(entries, _), Format::Json | Format::Csv) => match entries.data_type() {
            DataType::Struct(fields) => {
                fields.first().is_none_or(|key| !key.data_type().is_string()) || fields.iter().any(of_field)
            }
            _ => true,
        },
        (DataType::Map(item, _) | DataType::List(item) | DataType::LargeList(item), _)
        | (DataType::FixedSizeList(item, _) | DataType::ListView(item) | DataType::LargeListView(item), _) => {
            of_field(item)
        }
        (DataType::Struct(fields), _) => fields.iter().any(of_field),
        _ => false,
    }
}

/// What a type without a place is called.
fn family(kind: &DataType) -> &'static str {
    match kind {
        DataType::Union(..) => "a value of JSON of any type",
        DataType::Interval(_) => "an INTERVAL",
        DataType::Map(..) => "a MAP whose keys are no texts",
        _ => "which has values of such a type in it",
    }
}

/// A name that two columns have.
pub(crate) fn twice(fields: &Fields) -> Option<&str> {
    let mut names = HashSet::new();
    fields.iter().map(|field| field.name().as_str()).find(|name| !names.insert(*name))
}

/// The batch with the JSON of its lists and structs in their place.
fn without_nesting(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let flat = |(field, values): (&Arc<Field>, &ArrayRef)| match field.data_type().is_nested() {
        true => as_json(values),
        false => Ok(Arc::clone(values)),
    };
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(flat).collect::<Result<Vec<_>, _>>()?;
    let fields = batch.schema_ref().fields().iter().zip(&columns);
    let fields = fields.map(|(field, values)| Field::new(field.name(), values.data_type().clone(), true));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns, &options)
}

/// Each value as JSON; null stays null.
pub(crate) fn as_json(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const BEFORE: &str = "{\"v\":";
    let rows = RecordBatch::try_from_iter_with_nullable([("v", Arc::clone(values), true)])?;
    let mut writer = arrow_json::WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&rows)?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let json = lines.lines().enumerate().map(|(row, line)| {
        let value = line.strip_prefix(BEFORE).and_then(|line| line.strip_suffix('}'));
        value.filter(|_| values.is_valid(row))
    });
    Ok(Arc::new(StringArray::from_iter(json)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray, StructArray};
    use arrow::datatypes::{DataType, Int64Type, IntervalUnit, UnionFields, UnionMode};

    use super::*;

    fn written(format: Format, batch: &RecordBatch) -> Result<String, ArrowError> {
        let mut writer = RowsWriter::begin(format, &batch.schema(), Vec::new())?;
        writer.write(batch)?;
        Ok(String::from_utf8(writer.finish()?).unwrap())
    }

    #[test]
    fn csv_has_lists_and_structs_as_json() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a \"b\"\nc"), None, Some("")]));
        let structs = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Utf8, true)), texts)]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef, true),
            ("l", Arc::new(lists), true),
            ("s", Arc::new(structs), true),
        ])
        .unwrap();
        let expected = "n,l,s\n1,\"[1,null]\",\"{\"\"x\"\":\"\"a \\\"\"b\\\"\"\\nc\"\"}\"\n\
                        2,,\"{\"\"x\"\":null}\"\n3,[],\"{\"\"x\"\":\"\"\"\"}\"\n";
        assert_eq!(written(Format::Csv, &batch).unwrap(), expected);
    }

    #[test]
    fn a_type_without_a_place_is_told_before_anything_is_written() {
        let map = |key: DataType| {
            let entry = [Field::new("keys", key, false), Field::new("values", DataType::Int64, true)];
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.to_vec().into()), false)), false)
        };
        let span = DataType::Interval(IntervalUnit::MonthDayNano);
        let any = DataType::Union(UnionFields::empty(), UnionMode::Sparse);
        let list = DataType::new_list(any.clone(), true);
        let [json, csv, parquet] = [Format::Json, Format::Csv, Format::Parquet];
        for (kind, refused) in [
            (any, vec![json, csv, parquet]),
            (list, vec![json, csv, parquet]),
            (span, vec![parquet]),
            (map(DataType::Int64), vec![json, csv]),
            (map(DataType::Utf8), vec![]),
            (DataType::Int64, vec![]),
        ] {
            let schema = Arc::new(Schema::new(vec![Field::new("x", kind.clone(), true)]));
            for format in Format::ALL {
                let mut written = Vec::new();
                let begun = RowsWriter::begin(format, &schema, &mut written).map(drop);
                assert_eq!(begun.is_err(), refused.contains(&format), "{kind} in {}: {begun:?}", format.name());
                if let Err(error) = begun {
                    assert!(error.to_string().contains("has no place for column 'x'"), "{error}");
                    assert!(written.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_row_group_is_bounded_by_its_bytes() {
        let mut writer = RowsWriter::begin(Format::Parquet, &long_texts(0).schema(), Vec::new()).unwrap();
        let mut most = 0;
        for from in 0..40 {
            writer.write(&long_texts(from)).unwrap();
            let Inner::Parquet(parquet) = &writer.0 else { panic!("it writes Parquet") };
            most = most.max(parquet.memory_size());
        }
        let Inner::Parquet(parquet) = &writer.0 else { panic!("it writes Parquet") };
        assert_eq!(parquet.flushed_row_groups().len(), 1);
        assert!(most < ROW_GROUP);
        assert!(writer.finish().unwrap().len() > 40 << 20);
    }

    /// 1,024 texts of a KiB, no two of them the same.
    fn long_texts(from: usize) -> RecordBatch {
        let texts = (0..1_024).map(|row| format!("{:01024}", from * 1_024 + row));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("t", texts)]).unwrap()
    }

    #[test]
    fn texts_are_written_in_fewer_rows_the_longer_they_are() {
        let columns = |many: usize| {
            let column = |number| Field::new(format!("a_rather_long_name_{number}"), DataType::Null, true);
            Schema::new((0..many).map(column).collect::<Vec<_>>())
        };
        for (many, most) in [(0, MOST_ROWS), (1, MOST_ROWS), (100, 200), (100_000, 1)] {
            let rows = Format::Json.rows_at_once(&columns(many));
            assert!((1..=most).contains(&rows), "{rows} rows of {many} columns");
            assert_eq!(rows, Format::Csv.rows_at_once(&columns(many)));
        }
        assert_eq!(Format::Arrow.rows_at_once(&columns(100)), usize::MAX);
    }

    #[test]
    fn an_object_of_json_has_no_two_values_of_one_name() {
        let column = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let fields = Schema::new(vec![Field::new("a", DataType::Int64, true); 2]);
        let batch = RecordBatch::try_new(Arc::new(fields), vec![column(), column()]).unwrap();
        assert!(written(Format::Json, &batch).unwrap_err().to_string().contains("two columns are called 'a'"));
        assert_eq!(written(Format::Csv, &batch).unwrap(), "a,a\n1,1\n");
    }
}
