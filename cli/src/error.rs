//! What can make a command fail: mostly what the rooms below say, with their hints.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The result of this room's functions.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of a command. `Display` is one sentence, [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Query(Box<lakebed_query::Error>),
    #[error(transparent)]
    Project(Box<lakebed_project::Error>),
    #[error(transparent)]
    Log(#[from] lakebed_log::Error),
    #[error(transparent)]
    Ingest(#[from] lakebed_ingest::Error),
    #[error(transparent)]
    Capture(#[from] lakebed_capture::Error),
    #[error(transparent)]
    Generator(#[from] lakebed_generator::Error),
    #[error(transparent)]
    Flight(#[from] lakebed_flight_server::Error),
    /// A table of our own that Arrow refused, or a column that the output format cannot hold.
    #[error("cannot write the rows: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("cannot write the rows: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    #[error("cannot read stdin: {0}")]
    Stdin(io::Error),
    #[error("'{path}': {source}")]
    File { path: PathBuf, source: io::Error },
    /// Whoever events were sent to did not take them.
    #[error("the events were not taken by {to}: {message}")]
    Send { to: String, message: String },
    /// The arguments do not go together.
    #[error("{message}")]
    Usage { message: String, hint: String },
    #[error("'{directory}' is a lakebed project already")]
    ProjectExists { directory: PathBuf },
    #[error("'{path}' is there already, and a new project would write it")]
    InTheWay { path: PathBuf },
    #[error("'{directory}' gives a project no name")]
    NoName { directory: PathBuf },
    #[error("no batch '{batch}' has events in quarantine")]
    NoSuchBatch { batch: String },
    /// `--strict`.
    #[error("{quarantined} of {sent} events went to quarantine")]
    Quarantined { quarantined: u64, sent: u64 },
    /// `verify`; `sinks` where it is these alone that have other rows.
    #[error("{} not what a replay of the log gives: {}", what_differs(models, sinks), models.join(", "))]
    DoesNotHold { models: Vec<String>, sinks: Vec<&'static str> },
    /// `test`.
    #[error("{} not hold", what_fails(*tests, *checks))]
    TestsFailed { tests: usize, checks: usize },
    #[error("there are no policies: sql/policies has no statement")]
    NoPolicies,
    #[error("'{path}' has no event to learn from")]
    NoSample { path: PathBuf },
    /// `doctor`.
    #[error("{wrong} of the things above {} not work", if *wrong == 1 { "does" } else { "do" })]
    NotWell { wrong: usize },
    #[error("the store at {place} writes an object that is there already, where it was told not to")]
    NoPutIfAbsent { place: String },
    #[error("version {version} of the log is of {time}, and it is {now} here")]
    AheadOfTime { version: u64, time: String, now: String },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("interrupted")]
    Interrupted,
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("a task of this process died: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl From<lakebed_project::Error> for Error {
    fn from(error: lakebed_project::Error) -> Self {
        Self::Project(Box::new(error))
    }
}

impl From<lakebed_query::Error> for Error {
    fn from(error: lakebed_query::Error) -> Self {
        Self::Query(Box::new(error))
    }
}

impl Error {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Query(error) => error.hint(),
            Self::Project(error) => error.hint(),
            Self::Log(error) => error.hint(),
            Self::Ingest(error) => error.hint(),
            Self::Capture(error) => error.hint(),
            Self::Flight(error) => error.hint(),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Send { message, .. } if message.contains("error sending request") => {
                Some("start `lakebed serve` there, or check the URL; what was taken before is in the log".to_owned())
            }
            Self::Send { message, .. } if message.starts_with("401") => {
                Some("set LAKEBED_TOKEN to a token of that lake: `lakebed token add`".to_owned())
            }
            Self::Send { .. } => Some(
                "what was taken before is in the log; the same command again sends all of it, and nothing is taken twice"
                    .to_owned(),
            ),
            Self::ProjectExists { .. } => Some("work in it with --project, or name another directory".to_owned()),
            Self::InTheWay { .. } => Some("move it away, or name another directory".to_owned()),
            Self::NoName { .. } => Some("name a directory, such as `lakebed init shop`".to_owned()),
            Self::NoSuchBatch { .. } => Some("`lakebed quarantine list` names those that have".to_owned()),
            Self::TestsFailed { tests: 1.., .. } => {
                Some("what is missing and what is too many is told above: put the model right, or its test".to_owned())
            }
            Self::TestsFailed { .. } => Some("ask the table for the rows: `lakebed query`, WHERE NOT (the check)".to_owned()),
            Self::NoPolicies => Some(
                "write one, such as GRANT SELECT ON ALL TABLES IN SCHEMA gold TO analysts; until then everybody reads everything"
                    .to_owned(),
            ),
            Self::NoSample { .. } => Some("name a file of JSON events, Parquet or CSV".to_owned()),
            Self::NotWell { .. } => Some("the hints beside them say what to do".to_owned()),
            Self::NoPutIfAbsent { .. } => {
                Some("use a store with conditional writes (If-None-Match), as S3, MinIO and R2 have them".to_owned())
            }
            Self::AheadOfTime { .. } => Some(
                "set this machine's clock, or those of all that append: versions are later than one another, and their times go on from there"
                    .to_owned(),
            ),
            Self::Listen { address, .. } => Some(format!(
                "another server may have port {}: stop it, or set another address under [serve]",
                address.port()
            )),
            Self::Quarantined { .. } => {
                Some("`lakebed quarantine list` has the reasons; the other events are in the log".to_owned())
            }
            Self::DoesNotHold { models, .. } if models.iter().any(|model| model == "bronze.events") => Some(
                "DROP TABLE bronze.events in PostgreSQL, and the next `lakebed run` writes it anew; `lakebed replay` puts the models right"
                    .to_owned(),
            ),
            Self::DoesNotHold { sinks, .. } if !sinks.is_empty() => Some(
                "what is stored is right: `lakebed run` brings up a sink that is behind, `lakebed replay` puts right what was changed there"
                    .to_owned(),
            ),
            Self::DoesNotHold { .. } => Some(
                "the log is the truth: `lakebed replay` computes the models again and puts right what differs"
                    .to_owned(),
            ),
            Self::Interrupted => {
                Some("run the same command again to go on; what was done is kept and not done twice".to_owned())
            }
            Self::File { source, .. } | Self::Stdout(source) => Some(lakebed_project::error::hint_for_file(source)),
            Self::Arrow(_) | Self::Parquet(_) => Some("try another format with -o, or a CAST in the query".to_owned()),
            _ => None,
        }
    }

    /// Whether the same may succeed later: what it needs is away for a while.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            // Others are served while a sink waits for somebody to put it right.
            Self::Query(error) => error.may_pass() || error.is_of_a_sink(),
            Self::Log(error) => error.may_pass(),
            _ => false,
        }
    }

    /// Whether nothing that goes on for long can go on with it: the lake is gone, or is none of its own any more. What a
    /// model, a task or the state cache fails by leaves the log and the tables as they are.
    pub(crate) fn ends_all(&self) -> bool {
        let of_the_log = match self {
            Self::Query(error) => match error.as_ref() {
                lakebed_query::Error::Log(error) => error,
                _ => return false,
            },
            Self::Log(error) => error,
            Self::Task(_) => return false,
            _ => return true,
        };
        matches!(
            of_the_log,
            lakebed_log::Error::NoLog { .. }
                | lakebed_log::Error::NewerFormat { .. }
                | lakebed_log::Error::OtherProject { .. }
        )
    }

    /// Whether the command line was wrong, rather than the work.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage { .. })
    }
}

/// What does not hold, with its verb.
fn what_fails(tests: usize, checks: usize) -> String {
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let what = [counted(tests, "unit test"), counted(checks, "check")].into_iter().flatten().collect::<Vec<_>>();
    format!("{} {}", what.join(" and "), if tests + checks == 1 { "does" } else { "do" })
}

/// Whose rows differ, with their verb.
fn what_differs(models: &[String], sinks: &[&str]) -> String {
    match (sinks, models) {
        ([], [_]) => "one model is".to_owned(),
        ([], _) => "models are".to_owned(),
        _ => format!("what is published in {} is", sinks.join(" and ")),
    }
}
