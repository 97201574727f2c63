//! One DuckDB file, attached to an instance that lives as long as the work on it, or on the next.
//!
//! What is written reaches the file at a checkpoint and not before (no write-ahead log): a kill leaves the file as it was.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use duckdb::{Appender, Config, Connection};

use super::arrow_bridge;
use crate::error::{Error, Result};
use crate::quoting::literal;

/// What the file is called inside DuckDB.
pub(super) const CATALOG: &str = "published";

/// The oldest storage version that DuckDB writes; every release since 1.0 opens it. DuckDB 2.0's own cannot be opened by
/// 1.x, and so neither by DBeaver nor by most drivers.
const STORAGE_VERSION: &str = "v1.0.0";

/// DuckDB without a file. To start it takes as long as much of what is done with a file.
pub(super) struct Instance(Connection);

impl Instance {
    /// # Errors
    /// [`Error::DuckDb`].
    pub(super) fn start(spill: &Path) -> Result<Self> {
        let temporary = text(spill)?;
        // Nothing is fetched over the network at run time: every type here is of DuckDB's core. Rows come from one thread, and of two
        // of DuckDB's one turns round and round until the other is done: where little is scanned, it takes as long and costs twice.
        let started = Config::default()
            .enable_autoload_extension(false)
            .and_then(|config| config.threads(1))
            .and_then(|config| config.with("temp_directory", temporary))
            .and_then(Connection::open_in_memory_with_flags);
        // What it was started for is not known here; the directory is what can be wrong.
        started.map(Self).map_err(|source| failure(spill.to_owned(), source))
    }

    /// Attaches a file to change it, see [`Database::open`].
    pub(super) fn open(self, path: PathBuf) -> Result<Database> {
        let options = format!("STORAGE_VERSION '{STORAGE_VERSION}', RECOVERY_MODE 'NO_WAL_WRITES'");
        self.attach(path, &options)
    }

    fn attach(self, path: PathBuf, options: &str) -> Result<Database> {
        let attach = format!("ATTACH {} AS {CATALOG} ({options})", literal(text(&path)?));
        match self.0.execute_batch(&attach) {
            Ok(()) => Ok(Database { connection: self.0, path }),
            Err(source) => Err(failure(path, source)),
        }
    }
}

/// An attached file.
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the file to change it, and makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::Held`] if another process has it open, [`Error::NotADatabase`] if it is another kind of file.
    pub(super) fn open(path: PathBuf, spill: &Path) -> Result<Self> {
        Instance::start(spill)?.open(path)
    }

    /// Opens the file to read it.
    ///
    /// # Errors
    /// As [`Self::open`], where only a process that opened it for writing is in the way.
    pub(super) fn open_for_reading(path: PathBuf, spill: &Path) -> Result<Self> {
        Instance::start(spill)?.attach(path, "READ_ONLY")
    }

    /// Lets go of the file; gives the instance for the next one.
    pub(super) fn detach(self) -> Result<Instance> {
        self.execute(&format!("DETACH {CATALOG}"))?;
        Ok(Instance(self.connection))
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs statements that answer with nothing.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        self.connection.execute_batch(sql).map_err(|source| self.failure(source))
    }

    /// Runs a statement that deletes rows; gives their number.
    pub(super) fn delete(&self, sql: &str) -> Result<u64> {
        let mut deleted = 0;
        self.query_whole(sql, &mut |count| {
            deleted += count.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>().unsigned_abs();
            Ok(())
        })?;
        Ok(deleted)
    }

    /// Runs what goes through much of a large table, with a thread for each core.
    pub(super) fn on_all_cores<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let cores = available_parallelism().map_or(1, usize::from);
        self.execute(&format!("SET threads = {cores}"))?;
        let worked = work();
        // Where that failed this does too, and says less.
        let reset = self.execute("SET threads = 1");
        worked.and_then(|worked| reset.map(|()| worked))
    }

    /// Runs a query and gives each batch of its answer to `each`, as it is computed.
    pub(super) fn query(&self, sql: &str, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let mut statement = self.connection.prepare(sql).map_err(|source| self.failure(source))?;
        let batches = statement.stream_arrow([]).map_err(|source| self.failure(source))?;
        for batch in batches {
            let batch = batch.map_err(|source| self.failure(source))?;
            each(arrow_bridge::from_duckdb(batch).map_err(crossing)?)?;
        }
        Ok(())
    }

    /// Runs a query with a small answer. This thread works on it with DuckDB's own, where with [`Self::query`] it turns round and
    /// round until one of them has some of the answer.
    pub(super) fn query_whole(&self, sql: &str, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let mut statement = self.connection.prepare(sql).map_err(|source| self.failure(source))?;
        statement.execute([]).map_err(|source| self.failure(source))?;
        while let Some(batch) = statement.step().map_err(|source| self.failure(source))? {
            each(arrow_bridge::from_duckdb((&batch).into()).map_err(crossing)?)?;
        }
        Ok(())
    }

    /// A bulk writer into one table.
    pub(super) fn append(&self, catalog: &str, schema: &str, table: &str) -> Result<Appending<'_>> {
        let appender = self.connection.appender_to_catalog_and_db(table, catalog, schema);
        Ok(Appending { appender: appender.map_err(|source| self.failure(source))?, database: self })
    }

    /// Writes everything into the file and closes it.
    pub(super) fn checkpoint_and_close(self) -> Result<()> {
        self.execute(&format!("CHECKPOINT {CATALOG}; DETACH {CATALOG}"))?;
        self.connection.close().map_err(|(_, source)| failure(self.path, source))
    }

    fn failure(&self, source: duckdb::Error) -> Error {
        failure(self.path.clone(), source)
    }
}

/// Appends batches whose columns are those of the table, in order.
pub(super) struct Appending<'db> {
    appender: Appender<'db>,
    database: &'db Database,
}

impl Appending<'_> {
    /// Appends a batch; an error may show only in [`Self::finish`].
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = arrow_bridge::to_duckdb(batch).map_err(crossing)?;
        self.appender.append_record_batch(batch).map_err(|source| self.database.failure(source))
    }

    /// Hands over what is still buffered.
    pub(super) fn finish(mut self) -> Result<()> {
        self.appender.flush().map_err(|source| self.database.failure(source))
    }
}

fn crossing(error: ArrowError) -> Error {
    Error::Execution(DataFusionError::from(error))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::File {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "DuckDB takes only paths that are UTF-8"),
    })
}

/// DuckDB says which failure it is in its words alone.
fn failure(path: PathBuf, source: duckdb::Error) -> Error {
    let words = source.to_string();
    if words.contains("Could not set lock on file") {
        Error::Held { path }
    } else if words.contains("not a valid DuckDB database file") {
        Error::NotADatabase { path }
    } else {
        Error::DuckDb { path, source }
    }
}
