//! lakebed.toml → settings: what a project says about itself, read the same by every room and every binary; and the texts of its unit
//! tests.

mod config;
mod document;
pub mod error;
mod keys;
mod nearby;
mod places;
mod reading;
mod settings;
mod sinks;
mod tokens;
mod unit_tests;
mod users;

pub use config::{CONFIG_FILE, Config, Flags, SeedTypes};
pub use error::{Error, Result};
pub use nearby::{Stranger, stranger};
pub use places::{Path, Place, Places, split};
pub use settings::{
    AlertsConfig, CaptureConfig, DeltaConfig, DuckDbConfig, EventsConfig, IngestConfig, PostgresConfig, RefreshConfig,
    Secret, ServeConfig,
};
pub use sinks::SinkKind;
pub use tokens::{Token, Tokens};
pub use unit_tests::{GivenTable, UnitTest, Written, unit_tests};
pub use users::{LoggedIn, USERS_FILE, User, Users};
