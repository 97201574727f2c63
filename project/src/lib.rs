//! lakebed.toml → settings: what a project says about itself, read the same by every room and every binary.

mod config;
mod document;
pub mod error;
mod tokens;

pub use config::{
    CONFIG_FILE, Config, DuckDbConfig, EventsConfig, IdField, IngestConfig, PostgresConfig, RefreshConfig, SINKS,
    Secret, ServeConfig,
};
pub use error::{Error, Result};
pub use tokens::{Token, Tokens};
