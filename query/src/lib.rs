//! log → silver → gold → sinks: models in SQL, kept up to date by version. The only room that knows DataFusion planning.

pub mod catalog;
pub mod config;
pub mod epoch;
pub mod error;
mod exact;
mod first_wins;
mod folding;
pub mod hash;
pub mod lakehouse;
pub mod models;
mod parquet_table;
mod refresh;
mod run_files;
pub mod session;
pub mod sinks;
pub mod state_cache;
pub mod strategy;
mod verify;

pub use config::Config;
pub use error::{Error, Result};
pub use folding::{fold_runs, vacuum_runs};
pub use hash::TableHash;
pub use lakehouse::{AsOf, Lakehouse, Project, Refreshed, time_text};
pub use refresh::{ModelRefreshed, Progress};
pub use session::{ReadSession, TableInfo};
pub use verify::Verified;
