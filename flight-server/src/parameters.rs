//! Values of parameters on their way, as an Arrow IPC stream of one batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use tonic::Status;

use crate::status;

/// Values of parameters as handles carry them.
///
/// # Errors
/// Where arrow cannot write one of the types.
pub(crate) fn write_parameters(values: &RecordBatch) -> Result<Bytes, Status> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), values.schema_ref())?;
        writer.write(values)?;
        writer.into_inner()
    };
    write().map(Bytes::from).map_err(|error| status::of_arrow(&error))
}

/// Reads what [`write_parameters`] wrote; nothing gives no column.
///
/// # Errors
/// INVALID_ARGUMENT for what is no such stream.
pub(crate) fn read_parameters(parameters: &Bytes) -> Result<RecordBatch, Status> {
    if parameters.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    }
    let mut batches = StreamReader::try_new(parameters.as_ref(), None).map_err(|error| status::of_arrow(&error))?;
    let batch = batches.next().ok_or_else(|| status::of_body("batch of parameters"))?;
    batch.map_err(|error| status::of_arrow(&error))
}
