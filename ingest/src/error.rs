//! Why a source could not be read. An event that cannot be read is no error: it is in the batch's quarantine.

use std::io;
use std::path::PathBuf;

/// A source that could not be opened, or that broke while it was read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or may not be read.
    #[error("cannot open '{path}': {reason}\nhint: check the path and its permissions, or give '-' to read from stdin")]
    Open {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A directory where a file is needed.
    #[error("'{path}' is a directory, not a file of events\nhint: name the files in it, for example {path}/*")]
    Directory {
        /// The directory as it was named.
        path: PathBuf,
    },
    /// Reading or decompressing failed; the message names the source. Batches that came before it are good.
    #[error(
        "cannot read on: {0}\nhint: check that the source is complete, and start again: what is in the log already is not repeated"
    )]
    Read(io::Error),
}
