//! Why events could not be taken. An event that cannot be read is no error: it is in the batch's quarantine.

use std::io;
use std::path::PathBuf;

use lakebed_log::RETRY;

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
    /// Parquet where its end cannot be read first.
    #[error("{name} is Parquet, which is read from a file as it is: not from a stream, and not out of gzip or zstd")]
    Parquet {
        /// The source as it is called.
        name: String,
    },
    /// A CSV file that has no column for the id of its events.
    #[error("'{path}' has no column for an event's id, which is '{id}'; its columns are {}", named(columns))]
    NoId {
        /// The file as it was named.
        path: PathBuf,
        /// Where the project says that the id is.
        id: String,
        /// What the first line has.
        columns: Vec<String>,
    },
    /// Events of which not a single one could be read.
    #[error("nothing was accepted: all events are in quarantine, {quarantined} of them")]
    NothingAccepted {
        /// How many there are.
        quarantined: u64,
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
    /// A batch's name that is kept for what a retry brings.
    #[error("{what} has '{RETRY}' in it, as the batches have that bring quarantined events later")]
    ReservedName {
        /// What the sender names the batch with.
        what: &'static str,
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

/// Names for a sentence: the first of many.
fn named(names: &[String]) -> String {
    const MOST: usize = 20;
    let first: Vec<String> = names.iter().take(MOST).map(|name| format!("'{name}'")).collect();
    let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
    first.join(", ") + &more
}

impl Error {
    /// What it means that a source cannot be read.
    pub(crate) fn reading(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Read)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { .. } => Some("check the path and its permissions, or give '-' to read from stdin".to_owned()),
            Self::Directory { path } => Some(format!("name the files in it, for example {}/*", path.display())),
            Self::Table { .. } => {
                Some("check that the file is complete: Parquet, or CSV whose first line names the columns".to_owned())
            }
            Self::Parquet { .. } => {
                Some("write it to a file, without compression around it, and `lakebed ingest` that file".to_owned())
            }
            Self::NoId { columns, .. } if columns.len() == 1 => Some(
                "columns are parted by commas in .csv and by tabs in .tsv: write it so if they are parted otherwise, or name the id under [events] in lakebed.toml"
                    .to_owned(),
            ),
            Self::NoId { .. } => Some(
                "let the first line name the columns, and set id under [events] in lakebed.toml to that of the id, or to content-hash"
                    .to_owned(),
            ),
            Self::NothingAccepted { .. } => Some(
                "`lakebed quarantine list` has the reasons; once lakebed.toml fits the events, `lakebed quarantine retry` reads them"
                    .to_owned(),
            ),
            Self::Read(_) => Some(
                "check that the source is complete, and start again: what is in the log already is not repeated"
                    .to_owned(),
            ),
            Self::TooLarge { .. } => Some(post::several_bodies(post::MOST_OF_A_BODY)),
            Self::TooMany { .. } => {
                Some("send the events in several bodies, or set [ingest] batch_events in lakebed.toml".to_owned())
            }
            Self::BatchName { .. } | Self::ReservedName { .. } => {
                Some("give the batch a name of 1 to 255 bytes, or none: then its content names it".to_owned())
            }
            Self::Payload { .. } => None,
            Self::Project(error) => error.hint(),
            Self::Log(error) => error.hint(),
            Self::Ending | Self::Task(_) => None,
        }
    }
}
