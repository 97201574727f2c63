//! What can go wrong with the log: whose fault it is, and whether trying again can help.

use std::sync::Arc;

use object_store::path::Path;

use crate::batch::{BatchId, ContentHash};

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the log. `Display` is one sentence; [`Error::hint`] says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The same batch id was used for other content.
    #[error("batch '{id}' is in the log already with other content: {theirs} there, {ours} here")]
    BatchConflict {
        /// The id in question.
        id: BatchId,
        /// Hash of the content that the log has.
        theirs: ContentHash,
        /// Hash of the content that was offered.
        ours: ContentHash,
    },
    /// A lane's batch does not start where the lane stands.
    #[error("lane '{lane}' stands at {stands:?}, but the batch goes from {from:?} to '{to}'")]
    LaneConflict {
        /// The lane.
        lane: String,
        /// Where it stands in the log.
        stands: Option<String>,
        /// Where the batch starts.
        from: Option<String>,
        /// Where the batch ends.
        to: String,
    },
    /// There is no log at this place.
    #[error("there is no log at '{place}'")]
    NoLog {
        /// The lake's URL.
        place: String,
    },
    /// The lake was made by a later version of lakebed.
    #[error("the lake at '{place}' has format {found}; this lakebed reads formats up to {known}")]
    NewerFormat {
        /// The lake's URL.
        place: String,
        /// Its format number.
        found: u32,
        /// The newest one that this build knows.
        known: u32,
    },
    /// The lake belongs to another project.
    #[error("the lake at '{place}' belongs to the project '{theirs}', not to '{ours}'")]
    OtherProject {
        /// The lake's URL.
        place: String,
        /// The project that made it.
        theirs: String,
        /// The project that asks.
        ours: String,
    },
    /// A version that the log does not have.
    #[error("the log has no version {asked}; its versions are 0 to {head}")]
    NoVersion {
        /// The version asked for.
        asked: u64,
        /// The newest version.
        head: u64,
    },
    /// A time before the log began.
    #[error("the log begins at {begin}, after {asked}")]
    BeforeTheLog {
        /// The time asked for, RFC 3339.
        asked: String,
        /// The time of version 0, RFC 3339.
        begin: String,
    },
    /// An object of ours that cannot be understood.
    #[error("'{path}' cannot be read: {reason}")]
    Corrupt {
        /// The object.
        path: Path,
        /// What is wrong with it.
        reason: String,
    },
    /// The store refused for want of permission.
    #[error("no permission to use '{path}' of the lake at '{place}'")]
    Permission {
        /// The object.
        path: Path,
        /// The lake's URL.
        place: String,
    },
    /// The store is full.
    #[error("no space left for '{path}' of the lake at '{place}'")]
    Full {
        /// The object.
        path: Path,
        /// The lake's URL.
        place: String,
    },
    /// Any other failure of the store.
    #[error("the store failed on '{path}' of the lake at '{place}': {}", one_line(source))]
    Store {
        /// The object.
        path: Path,
        /// The lake's URL.
        place: String,
        /// The store's own words.
        source: object_store::Error,
    },
    /// A place that no store can be opened for.
    #[error("'{place}' is no place for a lake or its tables: {reason}")]
    Place {
        /// As it was given.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A lake whose directory went while it was open, or is another one.
    #[error("the directory that was opened at '{place}' is not there any more")]
    Gone {
        /// The lake.
        place: String,
    },
    /// Parquet could not be written or read.
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow refused a conversion.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// What failed for several batches at once.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
    /// A task of this process ended before its time.
    #[error("a writer task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A store's own words on one line, without the XML that a server may have sent with them.
fn one_line(source: &object_store::Error) -> String {
    let text = source.to_string();
    let words = text.split('<').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    words.join(" ").trim_end_matches([':', ' ']).to_owned()
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Shared(error) => return error.hint(),
            Self::BatchConflict { .. } => "send changed content under a batch id of its own".to_owned(),
            Self::LaneConflict { .. } => "read the lane's position again and send what follows it".to_owned(),
            Self::NoLog { .. } => "append the first events with `lakebed ingest FILE`, or name another lake with --lake".to_owned(),
            Self::NewerFormat { .. } => "install a newer lakebed; this one has changed nothing".to_owned(),
            Self::OtherProject { .. } => "give this project a lake of its own: [lake] url in lakebed.toml, or --lake".to_owned(),
            Self::NoVersion { .. } | Self::BeforeTheLog { .. } => "`lakebed log show` lists the versions and their times".to_owned(),
            Self::Permission { .. } => "grant this user read and write access to the lake's directory or bucket".to_owned(),
            Self::Full { .. } => {
                "free some space and run the same command again: what is in the log is whole, and nothing is added twice".to_owned()
            }
            Self::Gone { .. } => "mount it or move it back; where another lake is in its place, start again".to_owned(),
            Self::Place { place, .. } if place.starts_with("s3://") => {
                "AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say how to get there, or [s3] in lakebed.toml"
                    .to_owned()
            }
            Self::Place { .. } => "a lake is a local directory such as ./lake, or a bucket such as s3://bucket/prefix".to_owned(),
            Self::Corrupt { .. } | Self::Store { .. } | Self::Parquet(_) | Self::Arrow(_) | Self::Task(_) => return None,
        })
    }

    /// Whether the same call may succeed later, with nothing changed by the caller.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Shared(error) => error.may_pass(),
            error => matches!(error, Self::Store { .. } | Self::Full { .. } | Self::Gone { .. }),
        }
    }
}
