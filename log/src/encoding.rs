//! Batches → data files: the events of one day as Parquet, with the statistics that readers prune by.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, Date32Array, Int64Array, PrimitiveArray, RecordBatch,
    StringArray, new_null_array,
};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast_with_options, interleave_record_batch, max, min, nullif};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float64Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, Utc};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::batch::{Batch, Day};
use crate::claims::Claim;
use crate::entry::PartitionBy;
use crate::error::Result;
use crate::files::StagedFile;
use crate::{layout, schema};

/// A batch whose columns are claimed.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    /// The batch.
    pub batch: Arc<Batch>,
    /// The claim of each of `batch.events.columns`, in order; none for one that is in `_doc` alone.
    pub columns: Vec<Option<Claim>>,
}

/// A data file in memory, ready to be put.
#[derive(Debug)]
pub(crate) struct EncodedFile {
    /// What the log will say of it.
    pub staged: StagedFile,
    /// The Parquet file.
    pub parquet: Vec<u8>,
}

/// The events of one day of one batch.
struct Part<'a> {
    batch: &'a Batch,
    day: &'a Day,
    /// The place of the batch's first event in the unit.
    first: i64,
    /// The columns by their field id, cast to what the claims say.
    values: BTreeMap<i32, (&'a Claim, ArrayRef)>,
}

/// Encodes the events of a unit, one file a partition, one after the other.
fn encode(unit: &[Claimed], by: PartitionBy, ingested_at: DateTime<Utc>) -> Result<Vec<EncodedFile>> {
    partitions(unit, by).into_iter().map(|date| encode_partition(unit, date, ingested_at)).collect()
}

/// The days of the files that a unit becomes, or the one that is of no day.
fn partitions(unit: &[Claimed], by: PartitionBy) -> BTreeSet<Option<NaiveDate>> {
    let days = unit.iter().flat_map(|claimed| &claimed.batch.events.days);
    days.map(|day| (by == PartitionBy::EventDate).then_some(day.date)).collect()
}

/// Encodes the events of one day of a unit, or of all days.
fn encode_partition(
    unit: &[Claimed],
    event_date: Option<NaiveDate>,
    ingested_at: DateTime<Utc>,
) -> Result<EncodedFile> {
    let (mut parts, mut first) = (Vec::new(), 0);
    for Claimed { batch, columns } in unit {
        for day in batch.events.days.iter().filter(|day| event_date.is_none_or(|date| day.date == date)) {
            parts.push(Part { batch, day, first, values: one_column_a_claim(&day.values, columns)? });
        }
        first += batch.events.len() as i64;
    }
    let is_shared = unit.len() > 1;
    let used: BTreeMap<i32, &Claim> =
        parts.iter().flat_map(|part| part.values.iter().map(|(id, (claim, _))| (*id, *claim))).collect();
    let by = partition_of(event_date);
    let schema = schema::data_file(used.values().copied(), by, is_shared);
    let in_memory = in_memory(&schema);
    let rows = |part: &Part<'_>| to_record_batch(part, &used, &in_memory, (by, is_shared), ingested_at);
    let of_batch = |days: &[Part<'_>]| as_sent(&days.iter().map(rows).collect::<Result<Vec<_>>>()?);
    let batches = parts.chunk_by(|one, other| std::ptr::eq(one.batch, other.batch));
    let rows = batches.map(of_batch).collect::<Result<Vec<_>>>()?;
    let count = rows.iter().map(RecordBatch::num_rows).sum();
    let longest = rows.iter().max_by_key(|rows| rows.num_rows());
    let mut writer =
        ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), longest.map(|first| properties(count, first)))?;
    let mut span = Span::default();
    for rows in &rows {
        writer.write(rows)?;
        span.take(rows, schema::PLACE);
    }
    let parquet = writer.into_inner()?;
    let staged = span.staged(event_date, parquet.len());
    Ok(EncodedFile { staged: StagedFile { places: is_shared.then_some(span.numbers), ..staged }, parquet })
}

/// The events of the days of a batch, in the order that they were sent in.
fn as_sent(days: &[RecordBatch]) -> Result<RecordBatch> {
    if let [day] = days {
        return Ok(day.clone());
    }
    let mut places = Vec::with_capacity(days.iter().map(RecordBatch::num_rows).sum());
    for (nth, day) in days.iter().enumerate() {
        let rows = day[schema::ROW].as_primitive::<Int64Type>().values();
        places.extend(rows.iter().enumerate().map(|(at, row)| (*row, (nth, at))));
    }
    places.sort_unstable();
    let places: Vec<_> = places.into_iter().map(|(_, place)| place).collect();
    Ok(interleave_record_batch(&days.iter().collect::<Vec<_>>(), &places)?)
}

/// A part's columns as they are written; what it lacks of the file's is null.
fn to_record_batch(
    part: &Part<'_>,
    used: &BTreeMap<i32, &Claim>,
    schema: &SchemaRef,
    (by, is_shared): (PartitionBy, bool),
    ingested_at: DateTime<Utc>,
) -> Result<RecordBatch> {
    let Part { batch, day, first, values } = part;
    let count = day.len();
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(day.event_id.clone()), Arc::new(day.event_type.clone()), Arc::new(day.event_time.clone())];
    if by == PartitionBy::Nothing {
        let date = Date32Type::from_naive_date(day.date);
        columns.push(Arc::new(Date32Array::from_iter_values(std::iter::repeat_n(date, count))));
    }
    columns.push(Arc::new(day.source.clone()));
    columns.extend(used.iter().map(|(id, claim)| match values.get(id) {
        Some((_, values)) => Arc::clone(values),
        None => new_null_array(&claim.kind.arrow(), count),
    }));
    columns.push(Arc::new(day.doc.clone()));
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(batch.id.as_str(), count))));
    columns.push(Arc::new(day.rows.clone()));
    let stamp: PrimitiveArray<TimestampMicrosecondType> =
        std::iter::repeat_n(Some(ingested_at.timestamp_micros()), count).collect();
    columns.push(Arc::new(stamp.with_timezone("UTC")));
    if is_shared {
        columns.push(Arc::new(moved(&day.rows, *first)?));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// What a file is partitioned by that is of this day, or of none.
pub(crate) fn partition_of(event_date: Option<NaiveDate>) -> PartitionBy {
    if event_date.is_some() { PartitionBy::EventDate } else { PartitionBy::Nothing }
}

/// What is known of the rows of a file that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    rows: u64,
    row_range: (u64, u64),
    time_range: (i64, i64),
    /// Smallest and largest offset, or place in the unit.
    pub(crate) numbers: (u64, u64),
}

impl Default for Span {
    fn default() -> Self {
        Self { rows: 0, row_range: (u64::MAX, 0), time_range: (i64::MAX, i64::MIN), numbers: (u64::MAX, 0) }
    }
}

impl Span {
    /// Takes in rows that were written; `numbers` is the column of [`Span::numbers`], where they have it.
    pub(crate) fn take(&mut self, rows: &RecordBatch, numbers: &str) {
        fn widen<N: Ord + Copy>(range: &mut (N, N), by: Option<(N, N)>) {
            if let Some((least, most)) = by {
                *range = (range.0.min(least), range.1.max(most));
            }
        }
        self.rows += rows.num_rows() as u64;
        widen(&mut self.row_range, range_of::<Int64Type>(rows, schema::ROW).map(unsigned));
        widen(&mut self.time_range, range_of::<TimestampMicrosecondType>(rows, schema::EVENT_TIME));
        widen(&mut self.numbers, range_of::<Int64Type>(rows, numbers).map(unsigned));
    }

    /// What the log will say of the file.
    pub(crate) fn staged(&self, event_date: Option<NaiveDate>, bytes: usize) -> StagedFile {
        StagedFile {
            path: layout::data_file(event_date, Uuid::now_v7()),
            event_date,
            bytes: bytes as u64,
            rows: self.rows,
            row_range: self.row_range,
            places: None,
            time_range: self.time_range,
        }
    }
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
fn one_column_a_claim<'a>(
    values: &[ArrayRef],
    claims: &'a [Option<Claim>],
) -> Result<BTreeMap<i32, (&'a Claim, ArrayRef)>> {
    let mut by_id: BTreeMap<i32, (&Claim, ArrayRef)> = BTreeMap::new();
    let claimed = values.iter().zip(claims).filter_map(|(values, claim)| Some((values, claim.as_ref()?)));
    for (values, claim) in claimed {
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
    Ok(by_id)
}

/// The values in another type; one that does not fit, a fraction among whole numbers or with more places for example, is null.
fn cast_or_null(values: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    let null_on_failure = CastOptions { safe: true, ..CastOptions::default() };
    let fitted = cast_with_options(values, kind, &null_on_failure)?;
    if values.data_type() != kind && values.data_type().is_numeric() && (kind.is_integer() || kind.is_decimal()) {
        let back = cast_with_options(&fitted, values.data_type(), &null_on_failure)?;
        return Ok(nullif(&fitted, &neq(&back, values)?)?);
    }
    Ok(fitted)
}

/// The smallest and largest value of a column; `None` where it has none.
fn range_of<T: ArrowPrimitiveType>(rows: &RecordBatch, column: &str) -> Option<(T::Native, T::Native)> {
    let values = rows.column_by_name(column)?.as_primitive_opt::<T>()?;
    Some((min(values)?, max(values)?))
}

/// The numbers, each greater by `by`. Arrow's `add` would do, and brings the arithmetic of every other type into the function's binary.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) where one is beyond 64 bits.
pub(crate) fn moved(numbers: &Int64Array, by: i64) -> Result<Int64Array> {
    Ok(numbers.try_unary(|number| number.add_checked(by))?)
}

/// A range of numbers that are never negative.
fn unsigned((first, last): (i64, i64)) -> (u64, u64) {
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
    let unlike = [schema::EVENT_ID, schema::DOC, schema::ROW, schema::PLACE, schema::OFFSET];
    let pruned = [schema::EVENT_TIME, schema::EVENT_DATE, schema::ROW, schema::EVENT_ID, schema::OFFSET];
    let mut properties = WriterProperties::builder()
        .set_compression(compression(rows))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by(concat!("lakebed ", env!("CARGO_PKG_VERSION")).to_owned());
    if rows < FEW_ROWS {
        properties = properties.set_dictionary_enabled(false);
    } else {
        properties = without_dictionaries(properties, unlike.into_iter().chain(varied(first)));
    }
    for column in pruned {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Chunk);
    }
    properties.build()
}

/// How files are written that begin with these rows, with the writer's own settings for everything but compression, and dictionaries only
/// where values come again.
pub fn plain_properties(first: &RecordBatch) -> WriterProperties {
    let properties = WriterProperties::builder().set_compression(compression(first.num_rows()));
    without_dictionaries(properties, varied(first)).build()
}

fn without_dictionaries<'a>(
    properties: WriterPropertiesBuilder,
    columns: impl Iterator<Item = &'a str>,
) -> WriterPropertiesBuilder {
    columns.fold(properties, |properties, column| {
        // Not from a text: a name with a dot in it is one column's.
        properties.set_column_dictionary_enabled(ColumnPath::new(vec![column.to_owned()]), false)
    })
}

/// The columns of which most of the first values come once.
fn varied(first: &RecordBatch) -> impl Iterator<Item = &str> {
    let names = first.schema_ref().fields().iter().map(|field| field.name().as_str());
    names.zip(first.columns()).filter(|(_, values)| is_varied(values)).map(|(name, _)| name)
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

/// Encodes the events of a unit, of a batch or of several that share their files, one file a partition; on threads for blocking work,
/// for that is some hundred milliseconds of compression. The partitions of a batch alone follow each
/// other on one thread, for who has many batches stages several beside each other; those of a unit of several go on beside each other.
///
/// # Errors
/// Where Arrow or Parquet refuse, and where a thread dies.
pub(crate) async fn encode_off_thread(
    unit: Vec<Claimed>,
    by: PartitionBy,
    ingested_at: DateTime<Utc>,
) -> Result<Vec<EncodedFile>> {
    if unit.len() == 1 {
        return spawn_blocking(move || encode(&unit, by, ingested_at)).await?;
    }
    let (partitions, unit) = (partitions(&unit, by), Arc::new(unit));
    let encoding = async |date| {
        let unit = Arc::clone(&unit);
        spawn_blocking(move || encode_partition(&unit, date, ingested_at)).await?
    };
    let encoding = partitions.into_iter().map(encoding).collect::<Vec<_>>();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    futures::stream::iter(encoding).buffered(cores).try_collect().await
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Decimal128Array, Float64Array};
    use arrow::datatypes::{Decimal128Type, Int32Type};

    use super::*;

    #[test]
    fn a_number_that_does_not_fit_its_column_is_null_and_not_another() {
        let decimals = |values: Vec<i128>, precision, scale| -> ArrayRef {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
        };
        let cents = DataType::Decimal128(12, 2);
        for (values, expected) in [
            (decimals(vec![2_345_000, 2_340_000, 100_000_000_000_000_000], 20, 6), [None, Some(234), None]),
            (Arc::new(Float64Array::from(vec![2.345, 2.5, 1e300])), [None, Some(250), None]),
        ] {
            let fitted = cast_or_null(&values, &cents).unwrap();
            assert_eq!(fitted.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), expected);
        }
        for values in [decimals(vec![7_999, 7_000], 10, 3), Arc::new(Float64Array::from(vec![7.999, 7.0]))] {
            let fitted = cast_or_null(&values, &DataType::Int32).unwrap();
            assert_eq!(fitted.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [None, Some(7)]);
        }
        // A double holds what a double holds.
        assert_eq!(cast_or_null(&decimals(vec![1], 3, 1), &DataType::Float64).unwrap().null_count(), 0);
    }
}
