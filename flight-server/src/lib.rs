//! gold → clients: the lake at one version, over Arrow Flight SQL, with statements, a console, health and metrics over HTTP.
//!
//! Every answer names the log version it was read at: `FlightInfo.app_metadata` and the header
//! `lakebed-version` hold it as decimal text. A refresh swaps the session that new requests are planned on;
//! a stream that is under way keeps its own.

mod actions;
mod admission;
mod bounded;
mod calls;
mod connections;
mod console;
mod error;
mod gate;
mod handles;
mod handshake;
mod http;
mod line;
mod messages;
mod metadata;
mod metrics;
mod parameters;
mod plans;
mod readers;
mod readings;
mod runtime;
mod server;
mod service;
mod session_options;
mod sql;
mod sql_info;
mod statements;
mod status;
mod stream;
mod terms;
mod type_info;
mod wire;

#[cfg(test)]
mod tests;

pub use admission::Limits;
pub use error::{Error, Result};
pub use handles::Key;
pub use metrics::Metrics;
pub use server::{Addresses, Options, Served, Server, Tls, check_flight};
