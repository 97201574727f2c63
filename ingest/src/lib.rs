//! source → event → batch → log: reads events from files, streams and requests, decodes and flattens them, sets aside what
//! cannot be read, and appends the rest.
//!
//! Bytes become [`RawBatch`]es (cut at places that depend on the content alone), [`decode`] turns each of them into a
//! `lakebed_log::Batch`, and an [`Intake`] appends it. This room knows nothing of queries.

mod decode;
mod decompress;
mod error;
mod event;
mod fields;
mod frame;
mod gathering;
pub mod http;
mod infer;
mod intake;
mod json;
pub mod lambda;
mod number;
mod post;
mod raw_batch;
mod refusal;
mod rows;
mod settings;
mod tables;
mod time;
mod values;

pub use decode::{Decoded, decode, decode_plainly};
pub use decompress::{decompress, stdin};
pub use error::{Error, Result};
pub use fields::Given;
pub use frame::RawBatches;
pub use infer::{Inferred, Sample, infer};
pub use intake::{Intake, Outlet, Prepared, Sent, Tally, Whole};
pub use post::check_name;
pub use raw_batch::RawBatch;
pub use settings::Settings;
pub use tables::{check_source, open_any};
