//! The lakehouse: a project over its lake. What the command line and the servers call.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use lakebed_log::{ColumnType, Log, Snapshot, Store, layout};

use crate::catalog::{self, BRONZE, EVENTS};
use crate::config::Config;
use crate::epoch::{Chain, Manifest, ModelState};
use crate::error::{Error, Result};
use crate::folding;
use crate::models::{self, Model};
use crate::refresh::{self, Computed, Inputs, ModelRefreshed, Progress};
use crate::run_files::StoredRuns;
use crate::session::{ReadSession, TableInfo};
use crate::sinks::duckdb::{DuckDbSink, Published};
use crate::sinks::{Image, TableImage};
use crate::state_cache::{ADDRESSES, StateCache};

/// The file name of what is published, without its extension.
const PUBLISHED_NAME: &str = "lakebed";

/// What changed is held in memory: who is more events behind than this goes in several epochs.
const AT_ONCE: u64 = 1_000_000;

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

/// Which tables of an epoch are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Publish<'a> {
    /// None: it is a step on the way.
    Nothing,
    /// Those that their headers say.
    Models,
    /// These.
    Named(&'a [String]),
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
    chain: Chain,
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
        let chain = Chain::default();
        Ok(Self { inner: Arc::new(Inner { project, log, sink, pinned, chain, cache, refreshing }) })
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
        let (cache, refreshing) = (Mutex::default(), tokio::sync::Mutex::default());
        let (sink, chain) = (sink.named(replay), Chain::of_replay(replay));
        Self { inner: Arc::new(Inner { project, log, sink, pinned, chain, cache, refreshing }) }
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
        let models: Vec<&Model> = self.project().models.iter().collect();
        let (stored, head) = (self.chain().newest(self.log().store()).await?, self.log().snapshot().await?);
        if let Some(stored) = stored.filter(|stored| stored.next_offset + AT_ONCE < head.next_offset) {
            for (version, _) in self.steps(stored.next_offset, head.version, AT_ONCE).await? {
                self.refresh_to(Some(version), &models, Publish::Nothing, progress).await?;
            }
        }
        self.refresh_to(None, &models, Publish::Models, progress).await
    }

    /// Brings every model to a version of the log that is not behind where they stand.
    ///
    /// # Errors
    /// [`Error::ReplayBack`] for a version before that of the tables, and as [`Self::refresh`].
    pub async fn run_to(&self, version: u64, only: &[String], progress: &dyn Progress) -> Result<Refreshed> {
        self.check_names(only)?;
        let stored = self.chain().newest(self.log().store()).await?;
        if let Some(stored) = stored.filter(|stored| stored.version > version) {
            return Err(Error::ReplayBack { version, stands_at: stored.version });
        }
        let models: Vec<&Model> = self.project().models.iter().collect();
        self.refresh_to(Some(version), &models, Publish::Models, progress).await
    }

    /// Brings some models, which read no others than these, to a version of the log, by default the newest.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub(crate) async fn refresh_to(
        &self,
        version: Option<u64>,
        models: &[&Model],
        publish: Publish<'_>,
        progress: &dyn Progress,
    ) -> Result<Refreshed> {
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let store = self.log().store();
        let cache = self.cache().await?;
        for _ in 0..TRIES {
            let snapshot = match version {
                Some(version) => self.log().snapshot_at(version).await?,
                None => self.log().snapshot().await?,
            };
            let before = self.chain().newest(store).await?;
            let inputs =
                Inputs { models: models.to_vec(), ..self.inputs(&snapshot, before.as_ref(), cache.as_deref(), store) };
            let computed = refresh::compute(&inputs, progress).await?;
            if let Some(before) = before.filter(|before| same_state(before, &computed.manifest)) {
                let duckdb = self.publish(&before, publish).await?;
                let (version, epoch) = (before.version, before.epoch);
                return Ok(Refreshed { version, epoch, unchanged: true, models: computed.models, duckdb });
            }
            if self.chain().put(store, &computed.manifest).await? {
                self.remember(cache.as_deref(), &computed)?;
                // Operators that have their history still to learn do so while the sinks are brought up.
                let learnt = self.prepare(cache.as_deref(), &snapshot, models);
                let (duckdb, ()) = futures::join!(self.publish(&computed.manifest, publish), learnt);
                let duckdb = duckdb?;
                let epoch = self.renew(cache.as_deref(), &computed.manifest).await?;
                let version = computed.manifest.version;
                return Ok(Refreshed { version, epoch, unchanged: false, models: computed.models, duckdb });
            }
            // Another refresh was first: what it did counts, and ours starts from there.
            refresh::discard(store, &computed).await?;
        }
        Err(Error::Overtaken { tries: TRIES })
    }

    pub(crate) fn check_names(&self, names: &[String]) -> Result<()> {
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
        let models = self.project().models.iter().collect();
        let (pinned, lake) = (&self.inner.pinned[..], self.log().store());
        Inputs { models, pinned, snapshot, before, cache, lake, runs }
    }

    /// The state cache of this lake, if no other process has it. Its directory carries the table's id: a lake that was made
    /// anew, or another lake of the same project, has epochs of its own under the same numbers.
    async fn cache(&self) -> Result<Option<Arc<StateCache>>> {
        let table = self.log().table_id().await.simple().to_string();
        let mut cache = self.inner.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.is_none() {
            let table = match self.chain().replay() {
                Some(replay) => format!("{table}-{replay}"),
                None => table,
            };
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
        for new in &computed.remembered {
            let model = refresh::model_cache(cache, &new.model, &new.fingerprint)?;
            if new.anew {
                model.clear()?;
            }
            model.put(new.entries.clone(), Some(computed.manifest.epoch))?;
        }
        Ok(())
    }

    /// Has operators learn their history that do not know it. What goes wrong with that is no failure of the refresh, which is
    /// over; the next one meets it again.
    async fn prepare(&self, cache: Option<&StateCache>, snapshot: &Snapshot, models: &[&Model]) {
        let store = self.log().store();
        let prepared = async {
            let manifest = self.chain().newest(store).await?;
            refresh::prepare(&Inputs {
                models: models.to_vec(),
                ..self.inputs(snapshot, manifest.as_ref(), cache, store)
            })
            .await
        };
        if let Err(error) = prepared.await {
            tracing::warn!("the next refresh has to learn the models' history first: {error}");
        }
    }

    /// Writes tables anew that are mostly deleted rows; gives the epoch that is the newest then.
    async fn renew(&self, cache: Option<&StateCache>, before: &Manifest) -> Result<u64> {
        let store = self.log().store();
        let Some((manifest, renewed)) = folding::renew(store, self.chain(), before).await? else {
            return Ok(before.epoch);
        };
        for name in renewed {
            let (Some(cache), Some(old), Some(new)) = (cache, before.models.get(&name), manifest.models.get(&name))
            else {
                continue;
            };
            let cache = refresh::model_cache(cache, &name, &new.fingerprint)?;
            // What is not up to date is built from nothing when it is needed.
            if cache.epoch()? == Some(old.changed) {
                cache.empty(ADDRESSES)?;
                refresh::put_addresses(store, new, &cache, Some(new.changed)).await?;
            }
        }
        Ok(manifest.epoch)
    }

    async fn publish(&self, manifest: &Manifest, publish: Publish<'_>) -> Result<Option<Published>> {
        let mut tables = Vec::new();
        let wanted = |model: &&Model| match publish {
            Publish::Nothing => false,
            Publish::Models => model.sinks.iter().any(|sink| sink == "duckdb"),
            Publish::Named(names) => names.contains(&model.name.to_string()),
        };
        for model in self.project().models.iter().filter(wanted) {
            let Some(state) = manifest.models.get(&model.name.to_string()) else { continue };
            tables.push(TableImage {
                schema: model.name.schema.clone(),
                name: model.name.name.clone(),
                description: model.description.clone(),
                columns: state.schema()?,
                fingerprint: state.identity.clone(),
                key: state.unique.clone(),
                rows: state.stored(self.log().store()).await?,
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
                let manifest = self.chain().at(store, snapshot.next_offset).await?;
                (snapshot, manifest)
            }
            // Gold and bronze of one answer are of one version: that of the newest epoch.
            None => match self.chain().newest(store).await? {
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
            let rows = state.stored(store).await?;
            catalog::register(&context, schema, table, catalog::rows(state.schema()?, &rows))?;
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
    let same = |(left, right): ((&String, &ModelState), (&String, &ModelState))| {
        let rows =
            |state: &ModelState| (state.fingerprint.clone(), state.objects().map(str::to_owned).collect::<Vec<_>>());
        left.0 == right.0 && rows(left.1) == rows(right.1)
    };
    let models = (before.models.iter(), now.models.iter());
    before.version == now.version && before.models.len() == now.models.len() && models.0.zip(models.1).all(same)
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
