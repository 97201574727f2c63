//! From batches to Flight messages of a good size: small batches are put together, large ones cut.
//!
//! Sizes are those of the rows themselves. arrow-flight's encoder counts the whole buffer under a slice, and so
//! cuts a sliced batch into far too many messages.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;

/// A message is sent once this many bytes are together.
const ENOUGH: usize = 1 << 20;
/// A message is cut down to this many bytes, half of what Grafana and tonic clients take. A single row is sent
/// whole, however large it is.
const MOST: usize = 2 << 20;

/// Puts batches of one schema together until they are worth a message.
pub(crate) struct Coalescer {
    schema: SchemaRef,
    waiting: Vec<RecordBatch>,
    bytes: usize,
}

impl Coalescer {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, waiting: Vec::new(), bytes: 0 }
    }

    /// Takes a batch in; returns those that are ready, in order and without empty ones.
    ///
    /// # Errors
    /// Where the batches together are more than 32-bit offsets can address.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let bytes = batch_bytes(&batch);
        let mut ready = if self.bytes + bytes > MOST { self.flush()? } else { Vec::new() };
        self.waiting.push(batch);
        self.bytes += bytes;
        if self.bytes >= ENOUGH {
            ready.extend(self.flush()?);
        }
        Ok(ready)
    }

    /// What is left at the end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn flush(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let whole = match waiting.as_slice() {
            [] => return Ok(Vec::new()),
            [one] => one.clone(),
            many => concat_batches(&self.schema, many)?,
        };
        let mut pieces = Vec::new();
        cut(whole, &mut pieces);
        Ok(pieces)
    }
}

fn cut(batch: RecordBatch, pieces: &mut Vec<RecordBatch>) {
    let rows = batch.num_rows();
    if rows == 1 || batch_bytes(&batch) <= MOST {
        pieces.push(batch);
        return;
    }
    cut(batch.slice(0, rows / 2), pieces);
    cut(batch.slice(rows / 2, rows - rows / 2), pieces);
}

fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(array_bytes).sum()
}

/// The bytes of the rows in this slice.
fn array_bytes(array: &impl AsRef<dyn Array>) -> usize {
    let array = array.as_ref();
    let nulls = array.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
    match array.data_type() {
        // Arrow counts the values of all rows here, not those of the slice.
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            nulls + nested_bytes(list.value_offsets(), list.values().as_ref())
        }
        DataType::Map(..) => {
            let map = array.as_map();
            nulls + nested_bytes(map.value_offsets(), map.entries())
        }
        DataType::Struct(_) => nulls + array.as_struct().columns().iter().map(array_bytes).sum::<usize>(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn nested_bytes(offsets: &[i32], values: &dyn Array) -> usize {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return 0 };
    let (first, last) = (*first as usize, *last as usize);
    size_of_val(offsets) + array_bytes(&values.slice(first, last - first))
}

/// Encodes one stream: its schema first, then its batches.
pub(crate) struct Encoder {
    schema: SchemaRef,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            dictionaries: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }

    /// The first message of the stream, sent even where no rows follow.
    pub(crate) fn schema(&mut self) -> FlightData {
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &self.schema,
            &mut self.dictionaries,
            &self.options,
        );
        encoded.into()
    }

    /// The messages of one batch: the dictionaries of union children, if there are any, and the batch.
    ///
    /// # Errors
    /// Where arrow cannot write one of the types.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let (dictionaries, batch) =
            IpcDataGenerator::default().encode(batch, &mut self.dictionaries, &self.options, &mut self.context)?;
        Ok(dictionaries.into_iter().chain([batch]).map(FlightData::from).collect())
    }
}

/// Bytes of a message's content; gRPC's own few are not counted.
pub(crate) fn message_bytes(message: &FlightData) -> usize {
    message.data_header.len() + message.data_body.len()
}

/// The whole answer to a call whose rows are at hand.
///
/// # Errors
/// Where arrow cannot write one of the types.
pub(crate) fn encode_all(batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
    let mut encoder = Encoder::new(batch.schema());
    let mut messages = vec![encoder.schema()];
    if batch.num_rows() > 0 {
        messages.extend(encoder.batch(batch)?);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, ListBuilder, StringArray, StringBuilder};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn one_column(array: ArrayRef) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()
    }

    fn through(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let mut coalescer = Coalescer::new(batches[0].schema());
        let mut ready = Vec::new();
        for batch in batches {
            ready.extend(coalescer.push(batch).unwrap());
        }
        ready.extend(coalescer.flush().unwrap());
        ready
    }

    #[test]
    fn small_batches_travel_together_and_empty_ones_do_not_travel() {
        let small = one_column(Arc::new(Int32Array::from_iter_values(0..8_192)));
        let sent = through(vec![small.clone(), small.slice(0, 0), small.clone(), small]);
        assert_eq!(sent.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3 * 8_192]);
    }

    #[test]
    fn a_large_batch_is_cut_and_a_large_row_is_not() {
        let cell = "x".repeat(3 << 20);
        let sent = through(vec![one_column(Arc::new(StringArray::from(vec![cell.as_str(), "a", "b"])))]);
        assert_eq!(sent.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
        assert_eq!(sent[0].num_rows(), 1);
        let numbers = one_column(Arc::new(Int32Array::from_iter_values(0..4 << 20)));
        let sent = through(vec![numbers]);
        assert_eq!(sent.len(), 8);
        assert!(sent.iter().all(|batch| batch_bytes(batch) <= MOST));
    }

    #[test]
    fn a_slice_of_a_list_counts_its_own_values_only() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for _ in 0..1_000 {
            lists.values().append_value("x".repeat(10_000));
            lists.append(true);
        }
        let batch = one_column(Arc::new(lists.finish()));
        assert!(batch_bytes(&batch.slice(500, 10)) < 101_000);
        let sent = through(vec![batch.slice(0, 500)]);
        assert_eq!(sent.len(), 4);
    }
}
