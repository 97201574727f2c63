//! batch → log: appends event batches to one Delta table on an object store, and reads them back by version.

pub mod append;
pub mod batch;
pub mod checkpoint;
pub mod claims;
pub mod columns;
pub mod commit;
pub mod committing;
pub mod compaction;
pub mod encoding;
pub mod entry;
pub mod error;
pub mod files;
pub mod head;
pub mod history;
pub mod inbox;
pub mod layout;
pub mod log;
pub mod maintenance;
pub mod quarantine;
pub mod schema;
pub mod store;
mod unit;

pub use append::{Ack, Appended, Begun, Staged};
pub use batch::{Batch, BatchId, BatchKey, Column, ContentHash, Day, Events, LaneStep, Quarantined, RETRY};
pub use claims::{Claim, Claims};
pub use columns::{ColumnType, JsonKind, column_name};
pub use committing::Drained;
pub use compaction::{Compacted, Compaction};
pub use encoding::{compression, plain_properties};
pub use entry::{CommitRecord, CommittedBatch, Entry};
pub use error::{Error, Result};
pub use files::{DataFile, Offsets, StagedFile};
pub use history::{Bound, Snapshot};
pub use log::{LAKE_FORMAT, LakeIdentity, Log};
pub use maintenance::{Kind, Maintained, Thresholds, Vacuumed};
pub use store::{Put, S3Settings, Store};
