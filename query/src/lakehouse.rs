//! The lakehouse: a project over its lake. What the command line and the servers call.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use lakebed_log::{ColumnType, Log, Snapshot, Store, layout};

use crate::catalog::{self, BRONZE, EVENTS};
use crate::config::Config;
use crate::epoch::{self, Manifest};
use crate::error::{Error, Result};
use crate::models::{self, Model};
use crate::refresh::{self, Computed, Inputs, ModelRefreshed, Progress};
use crate::run_files::StoredRuns;
use crate::session::{ReadSession, TableInfo};
use crate::sinks::duckdb::{DuckDbSink, Published};
use crate::sinks::{Image, TableImage};
use crate::state_cache::StateCache;

/// The file name of what is published, without its extension.
const PUBLISHED_NAME: &str = "lakebed";

/// How often a refresh starts again because another was first.
const TRIES: usize = 5;

/// A directory with a lakebed.toml and models.
#[derive(Clone, Debug)]
pub struct Project {
    /// Where it is.
    pub directory: PathBuf,
    /// Its settings.
    pub config: Config,
    /// Its models, parents before children.
    pub models: Vec<Model>,
}

impl Project {
    /// Reads a project's models.
    ///
    /// # Errors
    /// [`Error::Model`] for the first model that is wrong, [`Error::File`] for a file that cannot be read.
    pub fn load(directory: &Path, config: Config) -> Result<Self> {
        Ok(Self { directory: directory.to_owned(), config, models: models::load(directory)? })
    }
}

/// The version that a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// A version of the log.
    Version(u64),
    /// The newest version at or before a time.
    Time(DateTime<Utc>),
}

/// A text that is neither a version nor a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a version nor a time; write 42, 2026-11-23 or 2026-11-23T18:30:00Z")]
pub struct InvalidAsOf(String);

impl FromStr for AsOf {
    type Err = InvalidAsOf;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        let midnight = || text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0));
        let local =
            || ["%F %T%.f", "%FT%T%.f"].iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
        let time = zoned.or_else(|| local().or_else(midnight).map(|time| time.and_utc()));
        time.map(Self::Time).ok_or_else(|| InvalidAsOf(text.to_owned()))
    }
}

/// What a refresh came to.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The log version that every model stands at.
    pub version: u64,
    /// The epoch that says so; 0 before the first.
    pub epoch: u64,
    /// Everything was up to date already.
    pub unchanged: bool,
    /// What was done to each model.
    pub models: Vec<ModelRefreshed>,
    /// The DuckDB publication, where a model has that sink.
    pub duckdb: Option<Published>,
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
    pinned: Vec<(String, ColumnType)>,
    /// Held by one refresh at a time; opened by the first.
    cache: Mutex<Option<Arc<StateCache>>>,
    refreshing: tokio::sync::Mutex<()>,
}

impl Lakehouse {
    /// Opens a project's lake, or makes it.
    ///
    /// # Errors
    /// As [`Log::open_or_create`], and where the lake's URL is no directory.
    pub async fn open_or_create(project: Project, at: DateTime<Utc>) -> Result<Self> {
        let store = project.config.store(&project.directory, true)?;
        let log = Log::open_or_create(store, &project.config.project, at).await?;
        Self::over(project, log)
    }

    /// Opens a project's lake that is there.
    ///
    /// # Errors
    /// [`lakebed_log::Error::NoLog`] where there is none, else as [`Self::open_or_create`].
    pub async fn open(project: Project) -> Result<Self> {
        let store = project.config.store(&project.directory, false)?;
        let log = Log::open(store, &project.config.project).await?;
        Self::over(project, log)
    }

    fn over(project: Project, log: Log) -> Result<Self> {
        // What is attached is a file: a lake in a bucket publishes beside the project's lakebed.toml.
        let beside = log.store().directory().unwrap_or(&project.directory).join(layout::PUBLISHED);
        let duckdb = &project.config.duckdb;
        let directory = duckdb.directory.as_ref().map_or(beside, |at| project.directory.join(at));
        let sink = DuckDbSink::new(directory, PUBLISHED_NAME, duckdb.keep);
        let pinned = project.config.columns.iter().map(|(name, kind)| (name.clone(), *kind)).collect();
        let (cache, refreshing) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { inner: Arc::new(Inner { project, log, sink, pinned, cache, refreshing }) })
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
        epoch::newest_number(self.log().store()).await
    }

    /// The version that the published DuckDB file holds, if there is one that can be read.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the process ends meanwhile.
    pub async fn published_version(&self) -> Result<Option<u64>> {
        let sink = self.inner.sink.clone();
        let watermarks = tokio::task::spawn_blocking(move || sink.watermarks()).await?;
        Ok(watermarks.ok().and_then(|watermarks| watermarks.iter().map(|watermark| watermark.version).max()))
    }

    /// The DuckDB file that people attach.
    pub fn duckdb_path(&self) -> PathBuf {
        self.inner.sink.path()
    }

    pub(crate) fn sink(&self) -> &DuckDbSink {
        &self.inner.sink
    }

    /// Brings every model to the newest version of the log, all in one epoch, and the sinks with them.
    ///
    /// `only` names models that have to exist; the whole DAG is refreshed all the same, because an epoch is there for
    /// every table or for none.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a name in `only`; whatever goes wrong in a model, the store or a sink. The epoch before
    /// is then what it was.
    pub async fn refresh(&self, only: &[String], progress: &dyn Progress) -> Result<Refreshed> {
        self.check_names(only)?;
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let store = self.log().store();
        let cache = self.cache().await?;
        for _ in 0..TRIES {
            let snapshot = self.log().snapshot().await?;
            let before = epoch::newest(store).await?;
            let inputs = self.inputs(&snapshot, before.as_ref(), cache.as_deref(), store);
            let computed = refresh::compute(&inputs, progress).await?;
            if let Some(before) = before.filter(|before| same_state(before, &computed.manifest)) {
                let duckdb = self.publish(&before).await?;
                let (version, epoch) = (before.version, before.epoch);
                return Ok(Refreshed { version, epoch, unchanged: true, models: computed.models, duckdb });
            }
            if epoch::put(store, &computed.manifest).await? {
                self.remember(cache.as_deref(), &computed)?;
                let duckdb = self.publish(&computed.manifest).await?;
                let Manifest { version, epoch, .. } = computed.manifest;
                return Ok(Refreshed { version, epoch, unchanged: false, models: computed.models, duckdb });
            }
            // Another refresh was first: what it did counts, and ours starts from there.
            refresh::discard(store, &computed).await?;
        }
        Err(Error::Overtaken { tries: TRIES })
    }

    fn check_names(&self, names: &[String]) -> Result<()> {
        let known = || self.project().models.iter().map(|model| model.name.to_string());
        match names.iter().find(|name| !known().any(|known| known == **name)) {
            Some(name) => {
                Err(Error::UnknownTable { name: name.clone(), nearest: crate::error::nearest(name, known()) })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn inputs<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        before: Option<&'a Manifest>,
        cache: Option<&'a StateCache>,
        runs: &'a Store,
    ) -> Inputs<'a> {
        let (models, pinned, lake) = (&self.project().models[..], &self.inner.pinned[..], self.log().store());
        Inputs { models, pinned, snapshot, before, cache, lake, runs }
    }

    /// The state cache of this lake, if no other process has it. Its directory carries the table's id: a lake that was made
    /// anew, or another lake of the same project, has epochs of its own under the same numbers.
    async fn cache(&self) -> Result<Option<Arc<StateCache>>> {
        let table = self.log().table_id().await.simple().to_string();
        let mut cache = self.inner.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.is_none() {
            let directory = self.project().directory.join(".lakebed").join("state-cache").join(table);
            // It is not the truth: without it the log is asked.
            *cache = StateCache::open(&directory).map(|cache| cache.map(Arc::new)).unwrap_or_else(|error| {
                tracing::warn!("goes on without {error}");
                None
            });
        }
        Ok(cache.clone())
    }

    fn remember(&self, cache: Option<&StateCache>, computed: &Computed) -> Result<()> {
        let Some(cache) = cache else { return Ok(()) };
        for new in &computed.keys {
            let keys = cache.keys(&new.model, &new.fingerprint)?;
            if new.anew {
                keys.clear()?;
            }
            keys.add(new.keys.clone(), computed.manifest.epoch)?;
        }
        Ok(())
    }

    async fn publish(&self, manifest: &Manifest) -> Result<Option<Published>> {
        let mut tables = Vec::new();
        for model in self.project().models.iter().filter(|model| model.sinks.iter().any(|sink| sink == "duckdb")) {
            let Some(state) = manifest.models.get(&model.name.to_string()) else { continue };
            tables.push(TableImage {
                schema: model.name.schema.clone(),
                name: model.name.name.clone(),
                description: model.description.clone(),
                columns: state.schema()?,
                fingerprint: state.fingerprint.clone(),
                runs: state.runs.clone(),
                rows: state.rows,
                content_hash: state.content_hash,
            });
        }
        if tables.is_empty() {
            return Ok(None);
        }
        let image = Image { version: manifest.version, as_of: manifest.time, tables };
        self.inner.sink.publish(&image, &StoredRuns(self.log().store().clone())).await.map(Some)
    }

    /// Opens the lake for reading: `bronze.events` as of any version, the models as of the newest epoch, or with `as_of`
    /// as of an epoch that stopped at just that version.
    ///
    /// # Errors
    /// [`lakebed_log::Error::NoVersion`] and [`lakebed_log::Error::BeforeTheLog`]; any failure of the store.
    pub async fn read(&self, as_of: Option<AsOf>) -> Result<ReadSession> {
        let (log, store) = (self.log(), self.log().store());
        let version = match as_of {
            Some(AsOf::Version(version)) => Some(version),
            Some(AsOf::Time(time)) => Some(log.version_at(time).await?),
            None => None,
        };
        let (snapshot, manifest) = match version {
            Some(version) => {
                let snapshot = log.snapshot_at(version).await?;
                let manifest = epoch::at(store, snapshot.next_offset).await?;
                (snapshot, manifest)
            }
            // Gold and bronze of one answer are of one version: that of the newest epoch.
            None => match epoch::newest(store).await? {
                Some(manifest) => (log.snapshot_at(manifest.version).await?, Some(manifest)),
                None => (log.snapshot().await?, None),
            },
        };
        let context = catalog::session(store, store)?;
        let events = catalog::events(&snapshot, &self.inner.pinned, 0..snapshot.next_offset)?;
        let (schema, name) = (BRONZE.to_owned(), EVENTS.to_owned());
        let description = Some("Every event as it came, in the order of the log.".to_owned());
        let mut tables = vec![TableInfo { schema, name, description, key: Vec::new(), columns: events.schema() }];
        catalog::register(&context, BRONZE, EVENTS, events)?;
        for (name, state) in manifest.iter().flat_map(|manifest| &manifest.models) {
            let Some((schema, table)) = name.split_once('.') else { continue };
            let model = self.project().models.iter().find(|model| model.name.to_string() == *name);
            catalog::register(&context, schema, table, catalog::runs(state.schema()?, &state.runs))?;
            tables.push(TableInfo {
                schema: schema.to_owned(),
                name: table.to_owned(),
                description: model.and_then(|model| model.description.clone()),
                key: model.map(|model| model.key.clone()).unwrap_or_default(),
                columns: state.schema()?,
            });
        }
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(ReadSession::new(snapshot.version, snapshot.filled, tables, context))
    }
}

/// Whether a new manifest says nothing that the one before does not say.
fn same_state(before: &Manifest, now: &Manifest) -> bool {
    let rows = |manifest: &Manifest| -> Vec<_> {
        let models = manifest.models.iter();
        models.map(|(name, state)| (name.clone(), state.fingerprint.clone(), state.runs.clone())).collect()
    };
    before.version == now.version && rows(before) == rows(now)
}

/// A time as people read and write it here.
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_or_a_time() {
        assert_eq!("42".parse(), Ok(AsOf::Version(42)));
        let noon = AsOf::Time("2026-11-23T12:00:00Z".parse().unwrap());
        for text in ["2026-11-23T12:00:00Z", "2026-11-23 12:00:00", "2026-11-23T13:00:00+01:00"] {
            assert_eq!(text.parse(), Ok(noon), "{text}");
        }
        assert_eq!("2026-11-23".parse(), Ok(AsOf::Time("2026-11-23T00:00:00Z".parse().unwrap())));
        assert!("yesterday".parse::<AsOf>().is_err());
    }
}
