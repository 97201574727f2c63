//! What can go wrong between the log and the gold tables, and whose fault it is.

use std::path::PathBuf;

use datafusion::error::DataFusionError;

use crate::session::TableInfo;

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of this room; `Display` is one sentence, [`Error::hint`] says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement does not parse or plan.
    #[error("{message}")]
    Sql {
        /// One sentence.
        message: String,
    },
    /// A table that is not there.
    #[error("there is no table '{name}'")]
    UnknownTable {
        /// As it was written.
        name: String,
        /// The nearest name that is there.
        nearest: Option<String>,
    },
    /// A column that is not there.
    #[error("there is no column '{name}'")]
    UnknownColumn {
        /// As it was written.
        name: String,
        /// The nearest name that is there.
        nearest: Option<String>,
    },
    /// A statement that would write.
    #[error("only queries are answered here; this statement would write")]
    ReadOnly,
    /// DataFusion failed while it ran a statement.
    #[error("{0}")]
    Execution(#[from] DataFusionError),
    /// DuckDB refused something.
    #[error("duckdb, at '{path}': {source}")]
    DuckDb {
        /// The database file.
        path: PathBuf,
        /// DuckDB's own words.
        source: duckdb::Error,
    },
    /// A file of the project or of a sink could not be read or written.
    #[error("'{path}': {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// A planning error in the user's words, with the nearest name where a name was not found.
    pub fn planning(error: DataFusionError, _tables: &[TableInfo]) -> Self {
        Self::Execution(error)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTable { nearest: Some(name), .. } | Self::UnknownColumn { nearest: Some(name), .. } => {
                Some(format!("did you mean '{name}'?"))
            }
            _ => None,
        }
    }
}
