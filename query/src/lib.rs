//! log → silver → gold → sinks: models in SQL, kept up to date by version. The only room that knows DataFusion planning.

pub mod catalog;
pub mod checks;
mod dataflow;
pub mod epoch;
pub mod error;
mod exact;
pub mod explain;
mod first_wins;
mod folding;
pub mod hash;
pub mod keys;
pub mod lakehouse;
pub mod models;
mod parquet_table;
mod refresh;
pub mod replay;
pub mod rows;
mod run_files;
mod runner;
pub mod session;
pub mod sinks;
mod slots;
pub mod state_cache;
pub mod strategy;
mod total_order;
mod verify;

pub use error::{Error, Result};
pub use explain::{Action, Explained, Planned};
pub use folding::{fold_runs, vacuum_runs};
pub use hash::TableHash;
pub use lakehouse::{AsOf, Lakehouse, Project, Publications, Refreshed, time_text};
pub use refresh::{ModelRefreshed, Progress};
pub use replay::{Replay, Replayed};
pub use session::{ReadSession, TableInfo};
pub use verify::{Difference, Differs, Verified};
