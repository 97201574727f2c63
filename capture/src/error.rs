//! Why changes could not be captured, and what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

use pgwire_replication::{Lsn, PgWireError};

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of this room. `Display` is one sentence, [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capture without a database.
    #[error("[capture.{capture}] has no url")]
    NoUrl {
        /// The capture.
        capture: String,
    },
    /// A URL that is none of a database. It may have a password in it, and is not shown.
    #[error("the url of [capture.{capture}] cannot be read")]
    Url {
        /// The capture.
        capture: String,
    },
    /// A parameter of the URL that is not known.
    #[error("the url of [capture.{capture}] has the parameter '{parameter}', which is not known")]
    Parameter {
        /// The capture.
        capture: String,
        /// Its name alone: its value may be a secret.
        parameter: String,
    },
    /// The file of the password.
    #[error("'{path}': {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server did not answer a question, or not rightly.
    #[error("postgres at {server}: {}", in_one_line(source))]
    Postgres {
        /// The server and the database, without secrets.
        server: Arc<str>,
        /// What went wrong.
        source: Box<sqlx::Error>,
    },
    /// The replication connection failed.
    #[error("postgres at {server}: {}", words(source))]
    Replication {
        /// The server and the database, without secrets.
        server: Arc<str>,
        /// What went wrong.
        source: PgWireError,
    },
    /// The server sent what cannot be read.
    #[error("the server's changes cannot be read: {reason}")]
    Stream {
        /// What is wrong.
        reason: String,
    },
    /// A server that is too old.
    #[error("postgres at {server} is of version {version}, and has to be of 14 or a later one")]
    Version {
        /// The server and the database.
        server: Arc<str>,
        /// Its major version.
        version: u32,
    },
    /// A server that writes no more into its log than it needs itself.
    #[error("postgres at {server} has wal_level {level}, and has to have logical")]
    WalLevel {
        /// The server and the database.
        server: Arc<str>,
        /// The setting.
        level: String,
    },
    /// The publication is not there.
    #[error("postgres at {server} has no publication '{publication}'")]
    NoPublication {
        /// The server and the database.
        server: Arc<str>,
        /// Its name.
        publication: String,
    },
    /// A publication of nothing.
    #[error("the publication '{publication}' has no table")]
    NoTables {
        /// Its name.
        publication: String,
    },
    /// A table that is not published.
    #[error("the publication '{publication}' has no table '{table}'")]
    NoTable {
        /// The publication.
        publication: String,
        /// With its schema.
        table: String,
    },
    /// Somebody else reads the slot.
    #[error("the slot '{slot}' is in use by another")]
    SlotInUse {
        /// Its name.
        slot: String,
    },
    /// A slot of another database, or for another plugin.
    #[error("the slot '{slot}' is {what}")]
    OtherSlot {
        /// Its name.
        slot: String,
        /// What it is.
        what: String,
    },
    /// The slot is not there any more.
    #[error("the slot '{slot}' is gone, and with it the changes after {stands}, up to which they are in the log")]
    SlotGone {
        /// Its name.
        slot: String,
        /// Where the log stands.
        stands: Lsn,
    },
    /// Somebody moved the slot, or it is another of the same name.
    #[error(
        "the slot '{slot}' is at {confirmed}, and the changes after {stands}, up to which they are in the log, are lost"
    )]
    SlotAhead {
        /// Its name.
        slot: String,
        /// Where the log stands.
        stands: Lsn,
        /// Where the slot is.
        confirmed: Lsn,
    },
    /// The server threw away what the slot needs.
    #[error("the server has not kept what the slot '{slot}' needs: changes after {stands} are lost")]
    SlotLost {
        /// Its name.
        slot: String,
        /// Where the log stands.
        stands: Lsn,
    },
    /// What the log has for the lane is no position.
    #[error("{0}")]
    Position(String),
    /// The log did not take the events.
    #[error(transparent)]
    Ingest(#[from] lakebed_ingest::Error),
}

impl From<lakebed_log::Error> for Error {
    fn from(error: lakebed_log::Error) -> Self {
        Self::Ingest(error.into())
    }
}

/// Classes of what passes: connections, resources, an operator's hand, conflicts, locks.
const PASSING: [&str; 5] = ["08", "53", "57", "40", "55"];

impl Error {
    /// The SQLSTATE (PostgreSQL's documentation, appendix A), where the server gave one.
    pub(crate) fn code(&self) -> Option<String> {
        match self {
            Self::Postgres { source, .. } => source.as_database_error()?.code().map(|code| code.into_owned()),
            Self::Replication { source: PgWireError::Server(said), .. } => {
                let (_, code) = said.rsplit_once("(SQLSTATE ")?;
                Some(code.trim_end_matches(')').to_owned())
            }
            _ => None,
        }
    }

    /// Whether the same may succeed later, with nothing changed.
    pub(crate) fn may_pass(&self) -> bool {
        match (self, self.code()) {
            (Self::Postgres { .. } | Self::Replication { .. }, Some(code)) => {
                PASSING.iter().any(|class| code.starts_with(class))
            }
            (Self::Postgres { source, .. }, None) => {
                matches!(source.as_ref(), sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_))
            }
            (Self::Replication { source, .. }, None) => {
                source.is_transient() || matches!(source, PgWireError::Internal(_))
            }
            (Self::Ingest(lakebed_ingest::Error::Log(error)), _) => {
                error.may_pass() || matches!(error, lakebed_log::Error::LaneConflict { .. })
            }
            _ => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoUrl { capture } => format!(
                "set it there, or in LAKEBED_CAPTURE_{}_URL: postgres://user@host:5432/database",
                capture.to_ascii_uppercase()
            ),
            Self::Url { .. } => "write it as postgres://user@host:5432/database, with %40 for @ in a name".to_owned(),
            Self::Parameter { .. } => "sslmode, sslrootcert, sslcert, sslkey, host and port are known".to_owned(),
            Self::File { source, .. } => lakebed_project::error::hint_for_file(source),
            Self::Postgres { .. } | Self::Replication { .. } => return self.hint_of_server(),
            Self::Version { .. } => "upgrade the server".to_owned(),
            Self::WalLevel { .. } => "ALTER SYSTEM SET wal_level = logical, and start the server again".to_owned(),
            Self::NoPublication { publication, .. } => format!(
                "make it there: CREATE PUBLICATION {publication} FOR TABLE orders, customers; or name another under [capture.NAME] publication"
            ),
            Self::NoTables { publication } => format!("ALTER PUBLICATION {publication} ADD TABLE …"),
            Self::NoTable { publication, table } => {
                format!("ALTER PUBLICATION {publication} ADD TABLE {table}, or leave it out of [capture.NAME] tables")
            }
            Self::SlotInUse { slot } => format!(
                "end the other `lakebed capture`, or whoever it is: SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'"
            ),
            Self::OtherSlot { .. } => "name another slot under [capture.NAME] slot: it is made".to_owned(),
            Self::SlotGone { .. } => ANEW.to_owned(),
            Self::SlotAhead { slot, .. } | Self::SlotLost { slot, .. } => {
                format!("SELECT pg_drop_replication_slot('{slot}') there, and {ANEW}")
            }
            Self::Ingest(error) => return error.hint(),
            Self::Stream { .. } | Self::Position(_) => return None,
        })
    }

    fn hint_of_server(&self) -> Option<String> {
        let hint = match self.code().as_deref() {
            Some("28P01" | "28000") => {
                "set the password in LAKEBED_CAPTURE_NAME_PASSWORD, PGPASSWORD, ~/.pgpass or the file of [capture.NAME] password_file"
            }
            Some("3D000") => "name a database that is there in [capture.NAME] url",
            Some("42501") => {
                "the user needs the right to replicate, ALTER ROLE … REPLICATION, and to read the tables, GRANT SELECT ON … TO …"
            }
            Some("53400") => "all slots are taken: raise max_replication_slots, or drop one that nobody reads",
            Some(_) => return None,
            None => match self {
                Self::Replication { source: PgWireError::Auth(_), .. } => {
                    "let the server ask for the password by scram-sha-256: password_encryption, and pg_hba.conf"
                }
                Self::Replication { source: PgWireError::Tls(_), .. } => {
                    "[capture.NAME] url may say how: ?sslmode=verify-full&sslrootcert=FILE"
                }
                _ => {
                    "check that the server runs and [capture.NAME] url leads to it; what is in the log stays, and the rest comes then"
                }
            },
        };
        Some(hint.to_owned())
    }
}

/// What to do where changes are lost.
const ANEW: &str = "name a new slot under [capture.NAME] slot: the tables are read anew, each after a truncate";

/// An error of a question, with what lies behind it, on one line.
fn in_one_line(error: &sqlx::Error) -> String {
    let said = match error {
        sqlx::Error::Database(said) => said.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error of the replication connection, without the words of its library.
fn words(error: &PgWireError) -> String {
    match error {
        PgWireError::Server(said) => said.rsplit_once(" (SQLSTATE").map_or(said.as_str(), |(said, _)| said).to_owned(),
        PgWireError::Io(error) => error.to_string(),
        PgWireError::Auth(said) | PgWireError::Tls(said) => said.clone(),
        other => other.to_string(),
    }
}
