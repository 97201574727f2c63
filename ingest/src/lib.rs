//! source → event → batch: reads events from files and streams, decodes and flattens them, and sets aside what
//! cannot be read.
//!
//! Bytes become [`RawBatch`]es (cut at places that depend on the content alone), and [`decode`] turns each of them
//! into a `lakebed_log::Batch`. This room knows nothing of queries.

mod decode;
mod decompress;
mod error;
mod event;
mod flatten;
mod frame;
mod json;
mod number;
mod raw_batch;
mod refusal;
mod settings;
mod time;
mod values;

pub use decode::{Decoded, decode};
pub use decompress::{decompress, open, stdin};
pub use error::Error;
pub use frame::RawBatches;
pub use raw_batch::RawBatch;
pub use settings::Settings;
