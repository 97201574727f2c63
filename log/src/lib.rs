//! batch → log: appends event batches to one Delta table on an object store, and reads them back by version.

pub mod batch;
pub mod columns;

pub use batch::{Batch, BatchId, BatchKey, Column, ContentHash, Events, LaneStep, Quarantined};
pub use columns::{ColumnType, JsonKind, column_name};
