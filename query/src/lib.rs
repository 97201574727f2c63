//! log → silver → gold → sinks: models in SQL, kept up to date by version. The only room that knows DataFusion planning.

pub mod config;
pub mod error;
pub mod hash;
pub mod session;
pub mod sinks;
pub mod state_cache;

pub use config::Config;
pub use error::{Error, Result};
pub use hash::TableHash;
pub use session::{ReadSession, TableInfo};
