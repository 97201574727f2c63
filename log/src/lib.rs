//! batch → log: appends event batches to one Delta table on an object store, and reads them back by version.

pub mod append;
pub mod batch;
pub mod claims;
pub mod columns;
pub mod commit;
pub mod entry;
pub mod error;
pub mod files;
pub mod head;
pub mod history;
pub mod inbox;
pub mod layout;
pub mod log;
pub mod quarantine;
pub mod schema;
pub mod store;

pub use append::{Ack, Appended, Drained};
pub use batch::{Batch, BatchId, BatchKey, Column, ContentHash, Events, LaneStep, Quarantined};
pub use claims::{Claim, Claims};
pub use columns::{ColumnType, JsonKind, column_name};
pub use entry::{CommitRecord, CommittedBatch, Entry};
pub use error::{Error, Result};
pub use files::{DataFile, StagedFile};
pub use history::{Bound, Snapshot};
pub use log::{LAKE_FORMAT, LakeIdentity, Log};
pub use store::{Put, Store};
