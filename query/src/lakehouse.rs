//! The lakehouse: a project over its lake. What the command line and the servers call.

mod as_of;
mod publishing;
mod reading;
mod refreshing;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use chrono::{DateTime, Utc};
use lakebed_log::{ColumnType, Log, Snapshot, Store, layout};
use lakebed_project::{Config, SeedTypes, SinkKind};

pub use self::as_of::{AsOf, InvalidAsOf, time_text};
pub use self::publishing::Publications;
pub(crate) use self::publishing::Publish;
use self::reading::Sessions;
pub(crate) use self::reading::plannable;
pub use self::refreshing::Refreshed;
pub(crate) use self::refreshing::TRIES;
use crate::epoch::{Chain, Manifest};
use crate::error::{Error, Result};
use crate::kept_tables::TableMemory;
use crate::models::{self, Model};
use crate::refresh::Inputs;
use crate::sinks::delta::DeltaSink;
use crate::sinks::duckdb::DuckDbSink;
use crate::sinks::postgres::PostgresSink;
use crate::state_cache::StateCache;

/// The file name of what is published, without its extension.
const PUBLISHED_NAME: &str = "lakebed";

/// A directory with a lakebed.toml and models.
#[derive(Clone, Debug)]
pub struct Project {
    /// Where it is.
    pub directory: PathBuf,
    /// Its settings.
    pub config: Config,
    /// Its models, parents before children.
    pub models: Vec<Arc<Model>>,
}

impl Project {
    /// Reads a project's models.
    ///
    /// # Errors
    /// [`Error::Model`] for the first model that is wrong, [`Error::File`] for a file that cannot be read.
    pub fn load(directory: &Path, config: Config) -> Result<Self> {
        let models = models::load(directory, &config)?.into_iter().map(Arc::new).collect();
        Ok(Self { directory: directory.to_owned(), config, models })
    }

    /// As [`Self::load`], without the models that are wrong and those that read such; and what is wrong with them.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read.
    pub fn load_right(directory: &Path, config: Config) -> Result<(Self, Vec<Error>)> {
        let (models, wrong) = models::load_right(directory, &config)?;
        let models = models.into_iter().map(Arc::new).collect();
        Ok((Self { directory: directory.to_owned(), config, models }, wrong))
    }

    /// Refuses names that are no model's.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for the first of them.
    pub(crate) fn check_names(&self, names: &[String]) -> Result<()> {
        let known = || self.models.iter().map(|model| model.name.to_string());
        match names.iter().find(|name| !known().any(|known| known == **name)) {
            Some(name) => {
                Err(Error::UnknownTable { name: name.clone(), nearest: crate::error::nearest(name, known()) })
            }
            None => Ok(()),
        }
    }
}

/// A project with its lake open. Cheap to clone.
#[derive(Clone)]
pub struct Lakehouse {
    inner: Arc<Inner>,
}

struct Inner {
    project: Project,
    log: Log,
    sink: DuckDbSink,
    postgres: Option<PostgresSink>,
    /// Opened by the first who needs it: that it cannot be is no hindrance to a query.
    delta: OnceLock<DeltaSink>,
    chain: Chain,
    pinned: Vec<(String, ColumnType)>,
    /// Earlier versions that were asked for, with the models as they are here.
    sessions: Sessions,
    /// Tables that are asked for again and again, of all versions.
    memory: TableMemory,
    /// Opened by the first refresh.
    cache: Arc<Mutex<Option<StateCache>>>,
    /// Held by one refresh at a time.
    refreshing: Arc<tokio::sync::Mutex<()>>,
}

impl Lakehouse {
    /// Opens a project's lake, or makes it.
    ///
    /// # Errors
    /// As [`Log::open_or_create`], and where the lake's URL is no directory.
    pub async fn open_or_create(project: Project, at: DateTime<Utc>) -> Result<Self> {
        let log = project.config.log_or_new(&project.directory, at).await?;
        Self::over(project, log)
    }

    /// Opens a project's lake that is there.
    ///
    /// # Errors
    /// [`lakebed_log::Error::NoLog`] where there is none, else as [`Self::open_or_create`].
    pub async fn open(project: Project) -> Result<Self> {
        let store = project.config.store(&project.directory, false)?;
        let log = Log::open(store, &project.config.owner()).await?;
        Self::over(project, log)
    }

    /// A project over a log that is open.
    ///
    /// # Errors
    /// Where `[postgres] url` cannot be read.
    pub(crate) fn over(project: Project, log: Log) -> Result<Self> {
        // What is attached is a file: a lake in a bucket publishes beside the project's lakebed.toml.
        let beside = log.store().directory().unwrap_or(&project.directory).join(layout::PUBLISHED);
        let duckdb = &project.config.duckdb;
        let directory = duckdb.directory.as_ref().map_or(beside, |at| project.directory.join(at));
        let sink = DuckDbSink::new(directory, PUBLISHED_NAME, duckdb.keep);
        let postgres = PostgresSink::new(&project.config.postgres, &project.directory)?;
        let pinned = project.config.columns.iter().map(|(name, kind)| (name.clone(), *kind)).collect();
        let (delta, cache, refreshing) = (OnceLock::new(), Arc::default(), Arc::default());
        let (chain, sessions) = (Chain::default(), Sessions::default());
        let memory = TableMemory::of(project.config.serve.tables_memory);
        let inner = Inner { project, log, sink, postgres, delta, chain, pinned, sessions, memory, cache, refreshing };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The project.
    pub fn project(&self) -> &Project {
        &self.inner.project
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// The newest epoch's number, or `None` before the first.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn epoch(&self) -> Result<Option<u64>> {
        self.chain().newest_number(self.log().store()).await
    }

    /// The line of epochs that it reads and writes.
    pub(crate) fn chain(&self) -> &Chain {
        &self.inner.chain
    }

    /// The same project and lake with the tables of a replay: epochs, a state cache and a published file of their own.
    pub(crate) fn beside(&self, replay: &str) -> Self {
        let Inner { project, log, sink, pinned, .. } = self.inner.as_ref();
        let (project, log, pinned) = (project.clone(), log.clone(), pinned.clone());
        let (cache, refreshing) = (Arc::default(), Arc::default());
        let (sink, chain) = (sink.named(replay), Chain::of_replay(replay));
        let (postgres, delta, sessions) = (None, OnceLock::new(), Sessions::default());
        let memory = TableMemory::of(0);
        let inner = Inner { project, log, sink, postgres, delta, chain, pinned, sessions, memory, cache, refreshing };
        Self { inner: Arc::new(inner) }
    }

    /// The same lake with the models as their files are now, and seeds whose columns are pinned to these types.
    ///
    /// # Errors
    /// As [`Project::load`].
    pub fn reloaded(&self, seeds: SeedTypes) -> Result<Self> {
        let Inner { project, log, sink, postgres, delta, chain, pinned, memory, cache, refreshing, .. } =
            self.inner.as_ref();
        let project = Project::load(&project.directory, Config { seeds, ..project.config.clone() })?;
        // A sink that is in use knows its tables.
        let delta = delta.clone();
        let (log, sink, postgres, chain, pinned) =
            (log.clone(), sink.clone(), postgres.clone(), chain.clone(), pinned.clone());
        let (cache, refreshing, sessions) = (Arc::clone(cache), Arc::clone(refreshing), Sessions::default());
        let memory = memory.clone();
        let inner = Inner { project, log, sink, postgres, delta, chain, pinned, sessions, memory, cache, refreshing };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The version that the published DuckDB file holds; `None` before the first publication.
    ///
    /// # Errors
    /// Where there is a file that cannot be read, or is not ours.
    pub async fn published_at(&self) -> Result<Option<u64>> {
        let sink = self.inner.sink.clone();
        let watermarks = tokio::task::spawn_blocking(move || sink.watermarks()).await??;
        Ok(watermarks.iter().map(|watermark| watermark.version).max())
    }

    /// The DuckDB file that people attach.
    pub fn duckdb_path(&self) -> PathBuf {
        self.inner.sink.path()
    }

    pub(crate) fn sink(&self) -> &DuckDbSink {
        &self.inner.sink
    }

    /// The database that models are kept in, if the project names one.
    pub fn postgres(&self) -> Option<&PostgresSink> {
        self.inner.postgres.as_ref()
    }

    /// The Delta tables that models are kept in, if any are.
    ///
    /// # Errors
    /// Where `[delta] url` is no place for them.
    pub fn delta(&self) -> Result<Option<&DeltaSink>> {
        // What is replayed beside the tables stays in the lake.
        if self.inner.delta.get().is_none()
            && self.chain().replay().is_none()
            && let Some(sink) = delta_sink(self.project(), self.log())?
        {
            let _ = self.inner.delta.set(sink);
        }
        Ok(self.inner.delta.get())
    }

    pub(crate) fn check_names(&self, names: &[String]) -> Result<()> {
        self.project().check_names(names)
    }

    pub(crate) fn inputs(
        &self,
        snapshot: &Snapshot,
        before: Option<&Manifest>,
        cache: Option<&StateCache>,
        runs: &Store,
    ) -> Inputs {
        Inputs {
            models: self.project().models.clone(),
            pinned: self.inner.pinned.clone(),
            snapshot: snapshot.clone(),
            before: before.cloned(),
            cache: cache.cloned(),
            lake: self.log().store().clone(),
            runs: runs.clone(),
            _alone: None,
        }
    }

    /// The state cache of this lake, if no other process has it. Its directory carries the table's id: a lake that was made
    /// anew, or another lake of the same project, has epochs of its own under the same numbers.
    async fn cache(&self) -> Result<Option<StateCache>> {
        let table = self.log().table_id().await.simple().to_string();
        let mut cache = self.inner.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.is_none() {
            let table = match self.chain().replay() {
                Some(replay) => format!("{table}-{replay}"),
                None => table,
            };
            let directory = self.project().directory.join(".lakebed").join("state-cache").join(table);
            // It is not the truth: without it the log is asked.
            *cache = StateCache::open(&directory).unwrap_or_else(|error| {
                tracing::warn!("goes on without {error}");
                None
            });
        }
        Ok(cache.clone())
    }
}

/// The Delta sink of a project that keeps a model there: in the lake, or where the project says.
fn delta_sink(project: &Project, log: &Log) -> Result<Option<DeltaSink>> {
    if !project.models.iter().any(|model| model.is_kept_in(SinkKind::Delta)) {
        return Ok(None);
    }
    Ok(Some(match project.config.delta_store(&project.directory, true)? {
        Some(store) => DeltaSink::new(store, ""),
        None => DeltaSink::new(log.store().clone(), layout::DELTA),
    }))
}
