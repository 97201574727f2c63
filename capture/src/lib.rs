//! PostgreSQL's changes → events: follows a replication slot, and appends each change of a row as an event, once.
//!
//! A slot is a lane of the log: how far its changes are there is in the same commit as they are, and the server is told of it
//! afterwards. A capture that begins reads the tables first, as they are where the slot begins.

mod capture;
mod catalog;
mod changes;
mod error;
mod event;
mod lane;
mod passwords;
mod pgoutput;
mod position;
mod snapshot;
mod source;
mod values;

pub use capture::{Capture, Step};
pub use error::{Error, Result};
