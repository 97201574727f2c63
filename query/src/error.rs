//! What can go wrong between the log and the gold tables, and whose fault it is.

mod blame;
mod functions;
mod hints;
mod words;

use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use deltalake::errors::DeltaTableError;

pub use self::blame::{fault_of_a_query, is_of_a_query};
use self::blame::{in_short, is_of_a_store};
pub(crate) use self::words::{did_you_mean, nearest, type_name};
use self::words::{in_words, plural, were};
use crate::session::TableInfo;
use crate::sinks::postgres::failure;

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
    /// A statement with something that is refused before it is planned, or a question about a row that has no answer.
    #[error("{message}")]
    Unanswered {
        /// What it is, one sentence.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// A column that is not there.
    #[error("there is no column '{name}'")]
    UnknownColumn {
        /// As it was written.
        name: String,
        /// The nearest name that is there.
        nearest: Option<String>,
    },
    /// A statement that is run with another number of parameters than it has.
    #[error("the statement has {needed} parameter{}, and {given} {} given", plural(*needed), were(*given))]
    Parameters {
        /// How many it has.
        needed: usize,
        /// How many came.
        given: usize,
    },
    /// A parameter that is not of its type.
    #[error("parameter {number} is {needed}, and what is given for it is not: {reason}")]
    Parameter {
        /// Its number, from 1.
        number: usize,
        /// The type that it is to have.
        needed: String,
        /// What did not fit.
        reason: String,
    },
    /// The project's settings are wrong.
    #[error(transparent)]
    Project(#[from] lakebed_project::Error),
    /// A statement that would write.
    #[error("only queries are answered here; this statement would write")]
    ReadOnly,
    /// Others refreshed the lake each time that this refresh was done.
    #[error("other refreshes of this lake were first {tries} times in a row")]
    Overtaken {
        /// How often it was tried.
        tries: usize,
    },
    /// Models whose tables are not there, or are those of other SQL than the project's.
    #[error("what is stored is not of the SQL as it is now, for: {}", models.join(", "))]
    Stale {
        /// The models, `schema.name`.
        models: Vec<String>,
    },
    /// A model's file is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, one sentence.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A file of policies is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, one sentence.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A unit test of a model that cannot hold, or says nothing.
    #[error("{}:{line}: {message}", path.display())]
    UnitTest {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, one sentence.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// An epoch manifest that cannot be understood.
    #[error("'{path}' of the lake cannot be read: {reason}")]
    Manifest {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Parquet could not be written or read.
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The state cache is not that of the tables as they are. It is not the truth, and made anew.
    #[error("the state cache is not that of the tables as they are")]
    CacheBroken,
    /// A replay under a name that it cannot have.
    #[error("a replay cannot be called '{name}'")]
    ReplayName {
        /// As it was written.
        name: String,
    },
    /// Tables that a replay would take back to an earlier version.
    #[error("the tables stand at version {stands_at}, beyond version {version}")]
    ReplayBack {
        /// The version that was asked for.
        version: u64,
        /// Where they are.
        stands_at: u64,
    },
    /// Two versions to compare, of which the first is the later one.
    #[error("version {0} is after version {1}")]
    Backwards(u64, u64),
    /// Arrow refused a conversion.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A task of this process ended before its time.
    #[error("a task died: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] lakebed_log::Error),
    /// DataFusion failed while it ran a statement.
    #[error("{}", in_short(.0))]
    Execution(#[from] DataFusionError),
    /// DuckDB refused something.
    #[error("duckdb, at '{path}': {source}")]
    DuckDb {
        /// The database file.
        path: PathBuf,
        /// DuckDB's own words.
        source: duckdb::Error,
    },
    /// PostgreSQL refused something, or cannot be reached.
    #[error("postgres at {server}: {}", failure::in_one_line(source))]
    Postgres {
        /// The server and the database, without secrets.
        server: String,
        /// What it said.
        source: Box<sqlx::Error>,
    },
    /// The URL of a PostgreSQL database that cannot be read. It is not shown, for it may hold a password.
    #[error("[postgres] url is no URL of a PostgreSQL database")]
    PostgresUrl,
    /// A parameter of such a URL that nobody reads.
    #[error("[postgres] url has a parameter '{name}', which is not read")]
    PostgresParameter {
        /// The parameter.
        name: String,
    },
    /// A model that is kept in PostgreSQL, in a project that knows of no such database.
    #[error("{model} is to be kept in postgres, and no database is named")]
    NoPostgres {
        /// The model.
        model: String,
    },
    /// A row on its way to or from PostgreSQL that cannot be written or read.
    #[error("a row of {table} and postgres: {reason}")]
    PostgresRow {
        /// The model.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A database in which nothing can be published.
    #[error("postgres at {server}: {reason}")]
    PostgresUnfit {
        /// The server and the database, without secrets.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a table where a sink publishes, and it is someone else's.
    #[error("there is a table or view {table} that lakebed did not make, where it is to be published")]
    TableTaken {
        /// The model.
        table: String,
    },
    /// The tables of a database are kept by another lake.
    #[error("the tables of the database at {server} are those of another lake")]
    DatabaseTaken {
        /// The server and the database, without secrets.
        server: String,
    },
    /// The log of a Delta table that is published could not be read or written.
    #[error("the delta table '{table}': {source}")]
    Delta {
        /// Where it is.
        table: String,
        /// What went wrong.
        source: Box<DeltaTableError>,
    },
    /// Rows whose hash is another one than their epoch says.
    #[error("the rows of {table} are not those that its epoch says")]
    NotAsRecorded {
        /// The model.
        table: String,
    },
    /// A Delta table that is kept by another lake.
    #[error("the delta table '{table}' is of another lake")]
    DeltaTaken {
        /// Where it is.
        table: String,
    },
    /// A key that is too long for an index of PostgreSQL's. It is tried again with an index of hashes.
    #[error("a key of {table} is too long for an index")]
    LongKey {
        /// The model.
        table: String,
    },
    /// The file of a sink is in use in a way that keeps others out.
    #[error("'{path}' is open in another process")]
    Held {
        /// The database file.
        path: PathBuf,
    },
    /// There is a file where a sink publishes, and it is no database.
    #[error("'{path}' is not a DuckDB database")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// There is a database where a sink publishes, and it is someone else's.
    #[error("'{path}' is a DuckDB database that lakebed did not publish")]
    NotPublished {
        /// The database file.
        path: PathBuf,
    },
    /// There is a file where a sink publishes, and another project, another target of this one, or another lake published it.
    #[error("'{path}' is published by {owner}")]
    FileTaken {
        /// The database file.
        path: PathBuf,
        /// Who published it, in words.
        owner: String,
    },
    /// A role that a policy names, and that PostgreSQL has not.
    #[error("there is no role '{role}' at {server}, which a policy names, and its user may not make it")]
    PostgresRole {
        /// The server and the database.
        server: String,
        /// The role.
        role: String,
    },
    /// A column that a sink has no type for.
    #[error("column '{column}' of {table} is of type {data_type}, which this sink cannot keep")]
    UnsupportedColumn {
        /// The model.
        table: String,
        /// The column.
        column: String,
        /// Its type as DataFusion names it.
        data_type: String,
    },
    /// A value that does not fit the type that its column has in a sink.
    #[error("column '{column}' of {table}: {source}")]
    Column {
        /// The model.
        table: String,
        /// The column.
        column: String,
        /// What did not fit.
        source: ArrowError,
    },
    /// A run has not the rows that its epoch says.
    #[error("run '{run}' has {read} rows where its epoch says {expected}")]
    RunRows {
        /// Path of the run below the lake's root.
        run: String,
        /// Rows by the epoch's manifest.
        expected: u64,
        /// Rows that were read.
        read: u64,
    },
    /// The state cache failed. It is not the truth: the work can go on without it.
    #[error("the state cache at '{path}': {reason}")]
    Cache {
        /// The cache's directory.
        path: PathBuf,
        /// What the store said.
        reason: String,
    },
    /// The work was given up before its end, because nobody waits for it any more.
    #[error("the work was interrupted")]
    Interrupted,
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
    pub fn planning(error: DataFusionError, tables: &[TableInfo]) -> Self {
        if let DataFusionError::SchemaError(schema, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
        {
            let known = valid_fields.iter().map(|column| column.name.clone());
            return Self::UnknownColumn { name: field.name.clone(), nearest: nearest(&field.name, known) };
        }
        if let DataFusionError::SQL(syntax, _) = error.find_root() {
            return Self::Sql { message: in_words(syntax) };
        }
        // Servers answer this one with a code of its own.
        if let DataFusionError::NotImplemented(_) = error.find_root() {
            return Self::Execution(error);
        }
        let message = error.strip_backtrace();
        // DataFusion has no error of its own for this; its words are `table 'lakebed.gold.x' not found`.
        let quoted =
            message.strip_prefix("Error during planning: table '").and_then(|rest| rest.strip_suffix("' not found"));
        if let Some(name) = quoted.map(|name| name.strip_prefix("lakebed.").unwrap_or(name)) {
            return Self::unknown_table(name, tables);
        }
        functions::unknown(&message).unwrap_or(Self::Sql { message })
    }

    /// Whether the same call may succeed later, with nothing changed by the caller: a store or a server that is away,
    /// others who were first.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Log(error) => error.may_pass(),
            Self::Postgres { source, .. } => failure::may_pass(source),
            Self::Delta { source, .. } => matches!(source.as_ref(), DeltaTableError::ObjectStore { .. }),
            Self::Execution(error) => is_of_a_store(error),
            Self::Parquet(error) => is_of_a_store(error),
            Self::Overtaken { .. } => true,
            _ => false,
        }
    }

    /// Whether PostgreSQL says that a table, or a column of it, is not there.
    pub(crate) fn is_missing_table(&self) -> bool {
        matches!(self, Self::Postgres { source, .. } if failure::is_missing_table(source))
    }
}
