//! Data files: a batch's events of one day as Parquet, with the statistics that readers prune by.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast_with_options, max, min, nullif};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, Utc};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::batch::{Batch, Day};
use crate::claims::Claim;
use crate::error::Result;
use crate::{layout, schema};

/// A data file as it is staged, before it has offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Relative to the table's root.
    pub path: String,
    /// The partition.
    pub event_date: NaiveDate,
    /// Size of the object.
    pub bytes: u64,
    /// Events in it.
    pub rows: u64,
    /// Smallest and largest `_row`.
    pub row_range: (u64, u64),
    /// Smallest and largest `event_time`, µs since the epoch.
    pub time_range: (i64, i64),
}

/// Where the rows of a data file stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// Row `r` of the file's batch has the offset `base + r`: a file as it was staged.
    Base(u64),
    /// Each row has its offset in the column `_offset`, from the first to the last of these: a file that was compacted.
    Stored(u64, u64),
}

/// A data file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Where its rows stand.
    pub offsets: Offsets,
    /// The file.
    pub staged: StagedFile,
}

impl DataFile {
    /// Smallest and largest offset in the file.
    pub fn offset_range(&self) -> (u64, u64) {
        match self.offsets {
            Offsets::Base(base) => (base + self.staged.row_range.0, base + self.staged.row_range.1),
            Offsets::Stored(first, last) => (first, last),
        }
    }

    /// Delta's per-file statistics. Delta keeps times in whole milliseconds: the smallest is cut, the largest raised.
    pub fn delta_stats(&self) -> Value {
        let staged = &self.staged;
        let millis = |micros: i64| {
            DateTime::<Utc>::from_timestamp_millis(micros).map(|time| time.format("%FT%T%.3fZ").to_string())
        };
        let mut stats = json!({
            "numRecords": staged.rows,
            "minValues": {schema::EVENT_TIME: millis(staged.time_range.0.div_euclid(1000)), schema::ROW: staged.row_range.0},
            "maxValues": {schema::EVENT_TIME: millis(-(-staged.time_range.1).div_euclid(1000)), schema::ROW: staged.row_range.1},
            "nullCount": {schema::EVENT_TIME: 0, schema::ROW: 0},
        });
        if let Offsets::Stored(first, last) = self.offsets {
            stats["minValues"][schema::OFFSET] = json!(first);
            stats["maxValues"][schema::OFFSET] = json!(last);
            stats["nullCount"][schema::OFFSET] = json!(0);
        }
        stats
    }
}

impl StagedFile {
    /// The file behind an Add; what its statistics say to the millisecond is widened to them.
    pub(crate) fn from_delta(path: String, event_date: NaiveDate, bytes: u64, stats: &str) -> serde_json::Result<Self> {
        let stats: Value = serde_json::from_str(stats)?;
        let row = |bound: &str| stats[bound][schema::ROW].as_u64().unwrap_or_default();
        let time = |bound: &str, unknown: i64| {
            let text = stats[bound][schema::EVENT_TIME].as_str().unwrap_or_default();
            DateTime::parse_from_rfc3339(text).map_or(unknown, |time| time.timestamp_micros())
        };
        Ok(Self {
            path,
            event_date,
            bytes,
            rows: stats["numRecords"].as_u64().unwrap_or_default(),
            row_range: (row("minValues"), row("maxValues")),
            time_range: (time("minValues", i64::MIN), time("maxValues", i64::MAX)),
        })
    }
}

/// A data file in memory, ready to be put.
#[derive(Debug)]
pub struct EncodedFile {
    /// What the log will say of it.
    pub staged: StagedFile,
    /// The Parquet file.
    pub parquet: Vec<u8>,
}

/// Encodes a batch's events, one file a day. `claims` names the column of each of `batch.events.columns`, in order.
///
/// # Errors
/// Where Arrow or Parquet refuse.
pub fn encode(batch: &Batch, claims: &[Claim], ingested_at: DateTime<Utc>) -> Result<Vec<EncodedFile>> {
    let encoded = |day: &Day| {
        let (schema, rows) = to_record_batch(batch, day, claims, ingested_at)?;
        encode_day(&schema, &rows, day.date)
    };
    batch.events.days.iter().map(encoded).collect()
}

/// The schema of a data file and its columns, with the day's values cast to what the claims say.
fn to_record_batch(
    batch: &Batch,
    day: &Day,
    claims: &[Claim],
    ingested_at: DateTime<Utc>,
) -> Result<(SchemaRef, RecordBatch)> {
    let count = day.len();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(day.event_id.clone()),
        Arc::new(day.event_type.clone()),
        Arc::new(day.event_time.clone()),
        Arc::new(day.source.clone()),
    ];
    let (used, values) = one_column_a_claim(&day.values, claims)?;
    columns.extend(values);
    columns.push(Arc::new(day.doc.clone()));
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(batch.id.as_str(), count))));
    columns.push(Arc::new(day.rows.clone()));
    let stamp: PrimitiveArray<TimestampMicrosecondType> =
        std::iter::repeat_n(Some(ingested_at.timestamp_micros()), count).collect();
    columns.push(Arc::new(stamp.with_timezone("UTC")));
    let schema = schema::data_file(used.iter().copied());
    let rows = RecordBatch::try_new(in_memory(&schema), columns)?;
    Ok((schema, rows))
}

/// A file's schema as its columns are before they are written: the documents are views of the text that was sent.
fn in_memory(file: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| match field.name() == schema::DOC {
        true => Arc::new(Field::clone(field).with_data_type(DataType::Utf8View)),
        false => Arc::clone(field),
    };
    Arc::new(Schema::new(file.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Casts each column to its claim's type; two columns that share a claim (two declared types of one family) are merged,
/// the first value that is there wins.
fn one_column_a_claim<'a>(values: &[ArrayRef], claims: &'a [Claim]) -> Result<(Vec<&'a Claim>, Vec<ArrayRef>)> {
    let mut by_id: BTreeMap<i32, (&Claim, ArrayRef)> = BTreeMap::new();
    for (values, claim) in values.iter().zip(claims) {
        let values = cast_or_null(values, &claim.kind.arrow())?;
        let values = match by_id.remove(&claim.id) {
            Some((_, first)) => {
                let has_first = arrow::compute::is_not_null(&first)?;
                arrow::compute::kernels::zip::zip(&has_first, &first, &values)?
            }
            None => values,
        };
        by_id.insert(claim.id, (claim, values));
    }
    Ok(by_id.into_values().unzip())
}

/// The values in another type; one that does not fit, a fraction among whole numbers for example, is null.
fn cast_or_null(values: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    let null_on_failure = CastOptions { safe: true, ..CastOptions::default() };
    let fitted = cast_with_options(values, kind, &null_on_failure)?;
    if values.data_type().is_floating() && kind.is_integer() {
        let back = cast_with_options(&fitted, values.data_type(), &null_on_failure)?;
        return Ok(nullif(&fitted, &neq(&back, values)?)?);
    }
    Ok(fitted)
}

fn encode_day(schema: &SchemaRef, rows: &RecordBatch, event_date: NaiveDate) -> Result<EncodedFile> {
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties(rows.num_rows(), rows)))?;
    writer.write(rows)?;
    let parquet = writer.into_inner()?;
    let staged = StagedFile {
        path: layout::data_file(&event_date.to_string(), Uuid::now_v7()),
        event_date,
        bytes: parquet.len() as u64,
        rows: rows.num_rows() as u64,
        row_range: range_of::<Int64Type>(rows, schema::ROW).map_or((0, 0), unsigned),
        time_range: range_of::<TimestampMicrosecondType>(rows, schema::EVENT_TIME).unwrap_or((i64::MIN, i64::MAX)),
    };
    Ok(EncodedFile { staged, parquet })
}

/// The smallest and largest value of a column; `None` where it has none.
pub(crate) fn range_of<T: ArrowPrimitiveType>(rows: &RecordBatch, column: &str) -> Option<(T::Native, T::Native)> {
    let values = rows.column_by_name(column)?.as_primitive_opt::<T>()?;
    Some((min(values)?, max(values)?))
}

/// A range of numbers that are never negative.
pub(crate) fn unsigned((first, last): (i64, i64)) -> (u64, u64) {
    (first.max(0).unsigned_abs(), last.max(0).unsigned_abs())
}

/// Files of fewer rows are compressed by Snappy, and without dictionaries: zstd makes a context anew for each column of a file, a dictionary
/// a table, and for a file of an event that is a hundred times the work of its compression. What is small is put together into files
/// that are not.
const FEW_ROWS: usize = 1_000;

/// How files of so many rows are compressed: by zstd at its fastest level, unless they are few.
pub fn compression(rows: usize) -> Compression {
    match rows < FEW_ROWS {
        true => Compression::SNAPPY,
        false => Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()),
    }
}

/// How data files of so many rows are written: no dictionary for what is different in every row, as far as these first ones tell;
/// statistics per row group only where queries prune by them.
pub(crate) fn properties(rows: usize, first: &RecordBatch) -> WriterProperties {
    let unlike = [schema::EVENT_ID, schema::DOC, schema::ROW, schema::OFFSET];
    let pruned = [schema::EVENT_TIME, schema::ROW, schema::EVENT_ID, schema::OFFSET];
    let mut properties = WriterProperties::builder()
        .set_compression(compression(rows))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by(concat!("lakebed ", env!("CARGO_PKG_VERSION")).to_owned());
    if rows < FEW_ROWS {
        properties = properties.set_dictionary_enabled(false);
    } else {
        let schema = first.schema();
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let varied = names.zip(first.columns()).filter(|(_, values)| is_varied(values)).map(|(name, _)| name);
        for column in unlike.into_iter().chain(varied) {
            // Not from a text: a name with a dot in it is one column's.
            let column = ColumnPath::new(vec![column.to_owned()]);
            properties = properties.set_column_dictionary_enabled(column, false);
        }
    }
    for column in pruned {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Chunk);
    }
    properties.build()
}

/// So many values tell whether a column's values are nearly all different.
const SAMPLE: usize = 256;

/// Whether most of a column's first values come once: then a dictionary of them is as long as they are.
fn is_varied(values: &ArrayRef) -> bool {
    fn most_come_once<V: Hash + Eq>(values: impl Iterator<Item = V>) -> bool {
        let (mut seen, mut all) = (HashSet::with_capacity(SAMPLE), 0);
        for value in values.take(SAMPLE) {
            seen.insert(value);
            all += 1;
        }
        all > SAMPLE / 8 && seen.len() > all / 2
    }
    match values.data_type() {
        DataType::Utf8 => most_come_once(values.as_string::<i32>().iter().flatten()),
        DataType::Float64 => most_come_once(values.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits)),
        DataType::Int64 => most_come_once(values.as_primitive::<Int64Type>().iter().flatten()),
        DataType::Timestamp(..) => {
            most_come_once(values.as_primitive_opt::<TimestampMicrosecondType>().into_iter().flatten().flatten())
        }
        _ => false,
    }
}

/// [`encode`] on a thread for blocking work: a batch is some hundred milliseconds of compression.
///
/// # Errors
/// As [`encode`], and where the thread dies.
pub async fn encode_off_thread(
    batch: Arc<Batch>,
    claims: Vec<Claim>,
    ingested_at: DateTime<Utc>,
) -> Result<Vec<EncodedFile>> {
    tokio::task::spawn_blocking(move || encode(&batch, &claims, ingested_at)).await?
}
