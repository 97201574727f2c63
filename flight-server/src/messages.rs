//! From batches to Flight messages of a good size: small batches are put together, large ones cut. And from the messages of an upload
//! to its one batch.
//!
//! Sizes are those of the rows themselves. arrow-flight's encoder counts the whole buffer under a slice, and so
//! cuts a sliced batch into far too many messages.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::Status;

use crate::status;

/// A message is sent once this many bytes are together.
const ENOUGH: usize = 1 << 20;
/// A message is cut down to this many bytes, half of what Grafana and tonic clients take. A single row is sent
/// whole, however large it is.
const MOST: usize = 2 << 20;
/// Rows of a message. A column of nulls has no bytes, so that those of a result without an end would never be enough.
const MOST_ROWS: usize = 1 << 20;

/// Puts batches of one schema together until they are worth a message.
pub(crate) struct Coalescer {
    schema: SchemaRef,
    waiting: Vec<RecordBatch>,
    bytes: usize,
    rows: usize,
}

impl Coalescer {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, waiting: Vec::new(), bytes: 0, rows: 0 }
    }

    /// Takes a batch in; returns those that are ready, in order and without empty ones.
    ///
    /// # Errors
    /// Where the batches together are more than 32-bit offsets can address.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let (bytes, rows) = (batch_bytes(&batch), batch.num_rows());
        let is_too_much = self.bytes + bytes > MOST || self.rows + rows > MOST_ROWS;
        let mut ready = if is_too_much { self.flush()? } else { Vec::new() };
        self.waiting.push(batch);
        self.bytes += bytes;
        self.rows += rows;
        if self.bytes >= ENOUGH || self.rows >= MOST_ROWS {
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
        (self.bytes, self.rows) = (0, 0);
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
    if rows == 1 || (rows <= MOST_ROWS && batch_bytes(&batch) <= MOST) {
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

/// Pieces of a body that are put together, so that a column of a few values is no frame of its own.
const SMALL: usize = 16 << 10;

/// One message of a stream. Its body is in the pieces that the batch has it in: nothing of it is copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) header: Bytes,
    pub(crate) body: Vec<Bytes>,
}

impl Message {
    /// Bytes of its content; gRPC's own few are not counted.
    pub(crate) fn bytes(&self) -> usize {
        self.header.len() + self.body_bytes()
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

impl From<Message> for FlightData {
    fn from(Message { header, body }: Message) -> Self {
        Self { data_header: header, data_body: body.concat().into(), ..Self::default() }
    }
}

/// Encodes one stream: its schema first, then its batches.
pub(crate) struct Encoder {
    schema: SchemaRef,
    stream: StreamEncoder,
    /// The stream's own schema was passed over.
    begun: bool,
}

impl Encoder {
    /// # Errors
    /// Where arrow cannot write one of the types.
    pub(crate) fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let stream = StreamEncoder::try_new(&schema)?;
        Ok(Self { schema, stream, begun: false })
    }

    /// The first message of the stream, sent even where no rows follow.
    pub(crate) fn schema(&self) -> Message {
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &self.schema,
            &mut DictionaryTracker::new(false),
            &IpcWriteOptions::default(),
        );
        Message { header: encoded.ipc_message.into(), body: Vec::new() }
    }

    /// The messages of one batch: the dictionaries that it needs, if there are any, and the batch.
    ///
    /// # Errors
    /// Where arrow cannot write one of the types.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Message>, ArrowError> {
        let mut messages = taken_apart(self.stream.encode(batch)?)?;
        // With the first batch it gives the schema as well, which went before.
        if !std::mem::replace(&mut self.begun, true) {
            messages.remove(0);
        }
        Ok(messages)
    }
}

/// The messages of a stretch of an IPC stream.
fn taken_apart(stretch: Vec<Buffer>) -> Result<Vec<Message>, ArrowError> {
    let mut stretch = Stretch { buffers: stretch.into_iter(), current: Bytes::new() };
    let mut messages = Vec::new();
    while let Some(length) = stretch.header_length()? {
        let header = Bytes::from(stretch.take(length)?.concat());
        let message = root_as_message(&header).map_err(|error| ArrowError::IpcError(error.to_string()))?;
        let body = stretch.take(usize::try_from(message.bodyLength()).unwrap_or(0))?;
        messages.push(Message { header, body });
    }
    Ok(messages)
}

struct Stretch {
    buffers: std::vec::IntoIter<Buffer>,
    current: Bytes,
}

/// What lets bytes be those of a batch.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl Stretch {
    /// The length that comes before a message's header, behind four bytes that mark it; `None` at the end.
    fn header_length(&mut self) -> Result<Option<usize>, ArrowError> {
        if !self.has_more() {
            return Ok(None);
        }
        let prefix = self.take(8)?.concat();
        let length: [u8; 4] = prefix[4..].try_into().map_err(|_| cut_short())?;
        Ok(Some(u32::from_le_bytes(length) as usize))
    }

    fn has_more(&mut self) -> bool {
        while self.current.is_empty() {
            let Some(next) = self.buffers.next() else { return false };
            self.current = Bytes::from_owner(Shared(next));
        }
        true
    }

    /// The next bytes, in pieces; small ones are put together.
    fn take(&mut self, bytes: usize) -> Result<Vec<Bytes>, ArrowError> {
        let (mut pieces, mut small, mut left) = (Vec::new(), BytesMut::new(), bytes);
        while left > 0 {
            if !self.has_more() {
                return Err(cut_short());
            }
            let piece = self.current.split_to(left.min(self.current.len()));
            left -= piece.len();
            if piece.len() < SMALL {
                small.extend_from_slice(&piece);
                continue;
            }
            pieces.extend(Some(small.split().freeze()).filter(|small| !small.is_empty()));
            pieces.push(piece);
        }
        pieces.extend(Some(small.freeze()).filter(|small| !small.is_empty()));
        Ok(pieces)
    }
}

fn cut_short() -> ArrowError {
    ArrowError::IpcError("a message is cut short".to_owned())
}

/// The whole answer to a call whose rows are at hand.
///
/// # Errors
/// Where arrow cannot write one of the types.
pub(crate) fn encode_all(batch: &RecordBatch) -> Result<Vec<Message>, ArrowError> {
    let mut encoder = Encoder::new(batch.schema())?;
    let mut messages = vec![encoder.schema()];
    if batch.num_rows() > 0 {
        messages.extend(encoder.batch(batch)?);
    }
    Ok(messages)
}

/// The most bytes of parameters of one statement.
const MOST_UPLOADED: usize = 16 << 20;
/// And the most rows of them: those of a column of nulls have no bytes, and may be as many as 64 bits can say.
const MOST_ROWS_UPLOADED: usize = 1 << 16;

/// All rows of an upload. What is too much, or is not taken, is refused before arrow makes anything of it.
///
/// # Errors
/// INVALID_ARGUMENT for more than [`MOST_UPLOADED`] and [`MOST_ROWS_UPLOADED`], and for what is compressed; what is wrong with
/// messages that cannot be read.
pub(crate) async fn uploaded(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<RecordBatch, Status> {
    let mut bytes = 0;
    let messages = messages.map(move |message: Result<FlightData, Status>| -> Result<FlightData, Status> {
        let message = message?;
        bytes += message.data_body.len();
        if bytes > MOST_UPLOADED {
            return Err(too_much(format!("{MOST_UPLOADED} bytes")));
        }
        uncompressed(message)
    });
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from));
    let (mut uploaded, mut rows) = (Vec::new(), 0_usize);
    while let Some(batch) = batches.try_next().await.map_err(Status::from)? {
        rows = rows.saturating_add(batch.num_rows());
        if rows > MOST_ROWS_UPLOADED {
            return Err(too_much(format!("{MOST_ROWS_UPLOADED} rows")));
        }
        uploaded.extend(Some(batch).filter(|batch| batch.num_rows() > 0));
    }
    let schema = batches.schema().cloned().ok_or_else(|| status::of_body("batch of parameters"))?;
    concat_batches(&schema, &uploaded).map_err(|error| status::of_arrow(&error))
}

fn too_much(most: String) -> Status {
    Status::invalid_argument(format!("parameters of more than {most} are not taken"))
}

/// A message that has its buffers as they are. Of one that is compressed it is the client who says how long its buffers will be, and
/// arrow reserves that much before it reads them: more than there is ends the process.
fn uncompressed(message: FlightData) -> Result<FlightData, Status> {
    // What has no header that can be read is the decoder's to tell.
    let is_compressed = root_as_message(&message.data_header).is_ok_and(|header| {
        let dictionary = || header.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        header.header_as_record_batch().or_else(dictionary).is_some_and(|batch| batch.compression().is_some())
    });
    match is_compressed {
        true => Err(Status::invalid_argument(
            "parameters are taken without compression\nhint: write their IPC messages without a codec",
        )),
        false => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, ListBuilder, NullArray, StringArray, StringBuilder};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use futures::FutureExt;

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

    /// Each message says the same as the one that arrow-flight's own encoder makes, over slices, nulls, dictionaries and texts.
    #[test]
    fn messages_are_those_of_the_format() {
        let many = 20_000;
        let numbers = Int32Array::from_iter((0..many).map(|n| (n % 3 > 0).then_some(n)));
        let texts = StringArray::from_iter((0..many).map(|n| (n % 5 > 0).then(|| "x".repeat(n as usize % 40))));
        let words: DictionaryArray<Int32Type> = (0..many).map(|n| Some(["a", "b", "c"][n as usize % 3])).collect();
        let columns: [(&str, ArrayRef); 3] = [("n", Arc::new(numbers)), ("t", Arc::new(texts)), ("w", Arc::new(words))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let batches = [batch.slice(0, 7), batch.slice(7, 10_000), batch.slice(10_007, 9_993), batch];
        let mut encoder = Encoder::new(batches[0].schema()).unwrap();
        let mut sent = vec![FlightData::from(encoder.schema())];
        for batch in &batches {
            sent.extend(encoder.batch(batch).unwrap().into_iter().map(FlightData::from));
        }
        let mut decoder =
            FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(sent.into_iter().map(Ok)));
        for batch in &batches {
            let read = decoder.next().now_or_never().unwrap().unwrap().unwrap();
            assert_eq!(read.columns(), batch.columns());
        }
        assert!(decoder.next().now_or_never().unwrap().is_none());
    }

    /// What is large is the batch's own memory.
    #[test]
    fn a_large_column_is_not_copied() {
        let numbers = Int32Array::from_iter_values(0..100_000);
        let values = numbers.values().inner().as_ptr();
        let batch = one_column(Arc::new(numbers));
        let mut encoder = Encoder::new(batch.schema()).unwrap();
        let messages = encoder.batch(&batch).unwrap();
        assert!(messages[0].body.iter().any(|piece| piece.as_ptr() == values));
        assert_eq!(messages[0].bytes() - messages[0].header.len(), messages[0].body_bytes());
        let slice = encoder.batch(&batch.slice(40_000, 30_000)).unwrap();
        assert!(slice[0].body.iter().any(|piece| piece.as_ptr() == values.wrapping_add(160_000)));
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
    fn rows_without_bytes_are_counted() {
        let nulls = |rows| one_column(Arc::new(NullArray::new(rows)));
        let mut coalescer = Coalescer::new(nulls(0).schema());
        let ready: usize = (0..5).map(|_| coalescer.push(nulls(MOST_ROWS / 4)).unwrap().len()).sum();
        assert_eq!((ready, coalescer.rows), (1, MOST_ROWS / 4));
        let sent = through(vec![nulls(3 * MOST_ROWS)]);
        assert!(sent.iter().all(|batch| batch.num_rows() <= MOST_ROWS));
        assert_eq!(sent.iter().map(RecordBatch::num_rows).sum::<usize>(), 3 * MOST_ROWS);
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
