//! Rows in the formats that people ask for them in, batch by batch.

use std::io::Write;
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow_json::writer::{JsonArray, Writer as JsonWriter};
use parquet::arrow::ArrowWriter;

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
    /// Begins with what stands before all rows.
    ///
    /// # Errors
    /// Where `into` cannot be written to, or the format has no place for a type.
    pub fn begin(format: Format, schema: &SchemaRef, into: W) -> Result<Self, ArrowError> {
        Ok(Self(match format {
            Format::Json => Inner::Json(arrow_json::WriterBuilder::new().with_explicit_nulls(true).build(into)),
            Format::Csv => {
                let mut writer = arrow_csv::Writer::new(into);
                // The line of names comes with the first batch, so that an empty result has it, too.
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
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
            Inner::Csv(writer) => writer.write(batch)?,
            Inner::Parquet(writer) => writer.write(batch)?,
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
