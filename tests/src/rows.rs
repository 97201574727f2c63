//! The log's rows as its Parquet files hold them, read with nothing but the Parquet reader and the log's file list.

#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use arrow::array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use lakebed_log::{DataFile, Log, Snapshot, layout, schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One event of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its position in the log.
    pub offset: u64,
    /// The id that the sender gave.
    pub event_id: String,
    /// Microseconds since 1970, UTC.
    pub event_time: i64,
    /// The original text.
    pub doc: String,
    /// The batch that brought it.
    pub batch_id: String,
    /// Its place in the batch.
    pub row: u64,
}

/// One data file, whole.
pub async fn file(log: &Log, file: &DataFile) -> RecordBatch {
    let bytes = log.store().get(&layout::in_table(&file.staged.path)).await.expect("the store answers");
    let bytes = bytes.expect("a file that the log names is there");
    assert_eq!(bytes.len() as u64, file.staged.bytes, "the log knows the size of {}", file.staged.path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("it is Parquet");
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().expect("it opens").collect::<Result<_, _>>().expect("it can be read");
    arrow::compute::concat_batches(&schema, &batches).expect("its batches have one schema")
}

/// The rows of a snapshot, in the order of their offsets.
pub async fn rows(log: &Log, snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    for data in &snapshot.files {
        let read = file(log, data).await;
        assert_eq!(read.num_rows() as u64, data.staged.rows, "the log counts the rows of {}", data.staged.path);
        rows.extend(of_file(&read, data));
    }
    rows.retain(|row| row.offset < snapshot.next_offset);
    rows.sort();
    rows
}

fn of_file(read: &RecordBatch, file: &DataFile) -> Vec<Row> {
    let (ids, docs, batches) = (texts(read, schema::EVENT_ID), texts(read, schema::DOC), texts(read, schema::BATCH_ID));
    let numbers: &Int64Array = column(read, schema::ROW);
    let times: &TimestampMicrosecondArray = column(read, schema::EVENT_TIME);
    let number = |numbers: &Int64Array, at| u64::try_from(numbers.value(at)).expect("it counts from 0");
    let (counted, base) = file.numbers();
    let row = |at: usize| {
        let row = number(numbers, at);
        Row {
            offset: base.unwrap_or(0) + number(column(read, counted), at),
            event_id: ids.value(at).to_owned(),
            event_time: times.value(at),
            doc: docs.value(at).to_owned(),
            batch_id: batches.value(at).to_owned(),
            row,
        }
    };
    (0..read.num_rows()).map(row).collect()
}

fn texts<'a>(read: &'a RecordBatch, name: &str) -> &'a StringArray {
    column(read, name)
}

/// A column of a file by name, as the array it must be.
pub fn column<'a, A: Array + 'static>(read: &'a RecordBatch, name: &str) -> &'a A {
    let column = read.column_by_name(name).expect("the file has the column");
    column.as_any().downcast_ref().expect("the column has the type of the log's schema")
}
