//! Why events could not be taken. An event that cannot be read is no error: it is in the batch's quarantine.

use std::io;
use std::path::PathBuf;

use crate::post;

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A source that could not be read, or a log that did not take what was read. `Display` is one sentence, [`Error::hint`] says
/// what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or may not be read.
    #[error("cannot open '{path}': {reason}")]
    Open {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A directory where a file is needed.
    #[error("'{path}' is a directory, not a file of events")]
    Directory {
        /// The directory as it was named.
        path: PathBuf,
    },
    /// A Parquet or CSV file that is none.
    #[error("'{path}' cannot be read as a table: {reason}")]
    Table {
        /// The file as it was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or decompressing failed; the message names the source. Batches that came before it are good.
    #[error("cannot read on: {0}")]
    Read(io::Error),
    /// More than is taken at once.
    #[error("the body has more than {most} bytes without its compression")]
    TooLarge {
        /// How many there may be.
        most: usize,
    },
    /// More events than a batch has.
    #[error("the body has more than {most} events")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// A batch's name that is none, or too long.
    #[error("{what} has {bytes} bytes")]
    BatchName {
        /// What the sender names the batch with.
        what: &'static str,
        /// How long the name is.
        bytes: usize,
    },
    /// What a function was invoked with, by a service whose payloads look otherwise.
    #[error("this payload of {service} cannot be read: {reason}")]
    Payload {
        /// Who invoked it.
        service: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The lake's settings do not lead to one.
    #[error(transparent)]
    Project(Box<lakebed_project::Error>),
    /// The log did not take the events.
    #[error(transparent)]
    Log(#[from] lakebed_log::Error),
    /// The process ends while a batch waits. It may be in the log or not.
    #[error("the server is ending")]
    Ending,
    /// A task of this process ended before its time.
    #[error("a task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<lakebed_project::Error> for Error {
    fn from(error: lakebed_project::Error) -> Self {
        Self::Project(Box::new(error))
    }
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { .. } => Some("check the path and its permissions, or give '-' to read from stdin".to_owned()),
            Self::Directory { path } => Some(format!("name the files in it, for example {}/*", path.display())),
            Self::Table { .. } => {
                Some("check that the file is complete: Parquet, or CSV whose first line names the columns".to_owned())
            }
            Self::Read(_) => Some(
                "check that the source is complete, and start again: what is in the log already is not repeated"
                    .to_owned(),
            ),
            Self::TooLarge { .. } => Some(post::several_bodies(post::MOST_OF_A_BODY)),
            Self::TooMany { .. } => {
                Some("send the events in several bodies, or set [ingest] batch_events in lakebed.toml".to_owned())
            }
            Self::BatchName { .. } => {
                Some("give the batch a name of 1 to 255 bytes, or none: then its content names it".to_owned())
            }
            Self::Payload { .. } => None,
            Self::Project(error) => error.hint(),
            Self::Log(error) => error.hint(),
            Self::Ending | Self::Task(_) => None,
        }
    }
}
