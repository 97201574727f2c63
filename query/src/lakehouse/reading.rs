//! Reads: the lake as it is, and as it was at any version.
//!
//! As of a version is the SQL as it is now over the log up to there. Where a refresh stopped just there with this SQL, what it
//! stored is read. Any other table is computed for its first reader, from the nearest epoch before, into a temporary directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::TableType;
use lakebed_log::Snapshot;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{AsOf, Lakehouse};
use crate::catalog::{self, BRONZE, EVENTS};
use crate::epoch::{Manifest, ModelState};
use crate::error::{Error, Result};
use crate::lazy_table::{LazyTable, Load};
use crate::models::Model;
use crate::parquet_table::Place;
use crate::refresh::shape::{Look, Shape, shapes};
use crate::refresh::{self, Inputs};
use crate::scratch::Scratch;
use crate::session::{ForeignKey, ReadSession, TableInfo, TableKind, Versions};
use crate::system_tables;

/// How many earlier versions are kept open: a tool that compares some of them asks for each many times.
const KEPT: usize = 8;

/// For how long one is kept open: a compaction puts other files in the place of those that it names, and a vacuum deletes them.
const LONGEST_OPEN: Duration = Duration::from_secs(3_600);

/// Earlier versions that are open, each with when it was last asked for.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    asked: u64,
    sessions: HashMap<u64, KeptSession>,
}

/// A session, when it was last asked for, and since when it is open.
struct KeptSession {
    asked: u64,
    since: Instant,
    session: OpenedOnce,
}

/// Where one session is, once it is opened.
type OpenedOnce = Arc<OnceCell<Arc<ReadSession>>>;

impl Sessions {
    /// The place of a version's session; the longest unused makes room.
    fn place(&self, version: u64) -> OpenedOnce {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.asked += 1;
        let asked = kept.asked;
        kept.sessions.retain(|_, kept| kept.since.elapsed() < LONGEST_OPEN);
        if kept.sessions.len() >= KEPT && !kept.sessions.contains_key(&version) {
            let oldest = kept.sessions.iter().min_by_key(|(_, kept)| kept.asked).map(|(version, _)| *version);
            oldest.and_then(|oldest| kept.sessions.remove(&oldest));
        }
        let opened = || KeptSession { asked, since: Instant::now(), session: OpenedOnce::default() };
        let kept = kept.sessions.entry(version).or_insert_with(opened);
        kept.asked = asked;
        Arc::clone(&kept.session)
    }
}

#[async_trait]
impl Versions for Lakehouse {
    async fn as_of(&self, as_of: AsOf) -> Result<Arc<ReadSession>> {
        let version = self.version_of(as_of).await?;
        let place = self.inner.sessions.place(version);
        let session =
            place.get_or_try_init(|| async { self.read(Some(AsOf::Version(version))).await.map(Arc::new) }).await?;
        Ok(Arc::clone(session))
    }
}

impl Lakehouse {
    /// Opens the lake for reading: by default as of the newest epoch, else as of any version.
    ///
    /// # Errors
    /// [`lakebed_log::Error::NoVersion`] and [`lakebed_log::Error::BeforeTheLog`]; any failure of the
    /// store.
    pub async fn read(&self, as_of: Option<AsOf>) -> Result<ReadSession> {
        let store = self.log().store();
        let (snapshot, manifest) = self.to_read(as_of).await?;
        let context = catalog::session(store, store)?;
        let events = catalog::events(&snapshot, &self.inner.pinned, 0..snapshot.next_offset)?;
        let description = Some("Every event as it came, in the order of the log.".to_owned());
        let mut tables = vec![TableInfo {
            schema: BRONZE.to_owned(),
            name: EVENTS.to_owned(),
            kind: TableKind::Table,
            description,
            key: Vec::new(),
            foreign_keys: Vec::new(),
            columns: events.schema(),
        }];
        catalog::register(&context, BRONZE, EVENTS, events)?;
        let (version, filled) = (snapshot.version, snapshot.filled);
        let models = match as_of {
            None => self.stored_models(manifest.as_ref()).await?,
            Some(_) => self.models_at(&snapshot, manifest.as_ref()).await?,
        };
        for (name, columns, table) in models.tables {
            let Some((schema, table_name)) = name.split_once('.') else { continue };
            let model = self.project().models.iter().find(|model| model.name.to_string() == *name);
            catalog::register(&context, schema, table_name, table)?;
            tables.push(table_info(schema, table_name, columns, model));
        }
        for table in system_tables::all(self, &snapshot, manifest) {
            catalog::register(&context, system_tables::SCHEMA, &table.info.name, table.provider)?;
            tables.push(table.info);
        }
        tables.extend(catalog::information_schema(&context).await?);
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        let session = ReadSession::new(version, filled, tables, context);
        Ok(match models.earlier {
            Some(earlier) => session.with_store(earlier.place.url()?, earlier.store()),
            None => session,
        })
    }

    /// The models of which the newest epoch has a table of other SQL than here, or none, and those that it has alone. Of
    /// these an earlier version is of other SQL than the newest one. None, before the first epoch.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn unlike_the_tables(&self) -> Result<Vec<String>> {
        let newest = self.chain().newest(self.log().store()).await?;
        Ok(newest.map_or_else(Vec::new, |manifest| unlike(&self.project().models, &manifest)))
    }

    /// The log as of a version, or without one as of the newest epoch's: that of the tables as people read them.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn snapshot_to_read(&self, as_of: Option<AsOf>) -> Result<Snapshot> {
        Ok(self.to_read(as_of).await?.0)
    }

    /// The log as of the version that is read, and the last epoch up to there.
    async fn to_read(&self, as_of: Option<AsOf>) -> Result<(Snapshot, Option<Manifest>)> {
        let (log, store) = (self.log(), self.log().store());
        if let Some(as_of) = as_of {
            let snapshot = log.snapshot_at(self.version_of(as_of).await?).await?;
            let manifest = self.chain().before(store, snapshot.next_offset).await?;
            return Ok((snapshot, manifest));
        }
        // Gold and bronze of one answer are of one version: that of the newest epoch.
        Ok(match self.chain().newest(store).await? {
            Some(manifest) => (log.snapshot_at(manifest.version).await?, Some(manifest)),
            None => (log.snapshot().await?, None),
        })
    }

    pub(crate) async fn version_of(&self, as_of: AsOf) -> Result<u64> {
        match as_of {
            AsOf::Version(version) => Ok(version),
            AsOf::Time(time) => Ok(self.log().version_at(time).await?),
        }
    }

    /// The models' tables as an epoch has them.
    async fn stored_models(&self, manifest: Option<&Manifest>) -> Result<Models> {
        let mut models = Models::default();
        for (name, state) in manifest.iter().flat_map(|manifest| &manifest.models) {
            let (columns, rows) = (state.schema()?, state.stored(self.log().store()).await?);
            let table = self.inner.memory.table(name, Arc::clone(&columns), rows);
            models.tables.push((name.clone(), columns, table));
        }
        let runs = manifest.iter().flat_map(|manifest| manifest.models.values()).flat_map(|state| &state.runs);
        self.inner.memory.forget_others(runs);
        Ok(models)
    }

    async fn stored_rows(&self, state: &ModelState) -> Result<Arc<dyn TableProvider>> {
        Ok(catalog::rows(state.schema()?, &state.stored(self.log().store()).await?))
    }

    /// The models' tables over a snapshot: those of the epoch before, as far as they are what the SQL gives there.
    async fn models_at(&self, snapshot: &Snapshot, manifest: Option<&Manifest>) -> Result<Models> {
        let mut inputs = self.inputs(snapshot, manifest, None, self.log().store());
        let (shapes, unplannable) = plannable(&mut inputs).await?;
        let mut earlier = None;
        let mut models = Models::default();
        let here = manifest.filter(|manifest| manifest.next_offset == snapshot.next_offset);
        // Of a model that does not plan now, what was stored is all there is.
        for name in unplannable {
            if let Some(stored) = here.and_then(|manifest| manifest.models.get(&name)) {
                models.tables.push((name, stored.schema()?, self.stored_rows(stored).await?));
            }
        }
        for shape in shapes {
            let name = shape.model.name.to_string();
            let stored = here.and_then(|manifest| manifest.models.get(&name));
            let columns = shape.state.schema()?;
            let table = match stored.filter(|stored| stored.fingerprint == shape.state.fingerprint) {
                Some(stored) => self.stored_rows(stored).await?,
                None => {
                    let of = match &earlier {
                        Some(earlier) => Arc::clone(earlier),
                        None => Arc::clone(earlier.insert(Arc::new(Earlier::new(inputs.clone())?))),
                    };
                    let models = self.with_ancestors(std::slice::from_ref(&name));
                    let rows = ComputedRows { name: name.clone(), models, of, rows: OnceCell::new() };
                    Arc::new(LazyTable { columns: Arc::clone(&columns), kind: TableType::Base, rows })
                }
            };
            models.tables.push((name, columns, table));
        }
        models.earlier = earlier;
        Ok(models)
    }
}

/// The models that an epoch has not as they are here.
fn unlike(models: &[Arc<Model>], manifest: &Manifest) -> Vec<String> {
    let here: BTreeMap<String, String> =
        models.iter().map(|model| (model.name.to_string(), model.statement_hash())).collect();
    let names: BTreeSet<&String> = here.keys().chain(manifest.models.keys()).collect();
    let is_unlike = |name: &&String| match (here.get(*name), manifest.models.get(*name)) {
        // An old epoch does not say of which SQL its tables are.
        (Some(here), Some(there)) => !there.query.is_empty() && there.query != *here,
        _ => true,
    };
    names.into_iter().filter(is_unlike).cloned().collect()
}

/// Plans the models, but for those that do not plan and what reads them, whose names it gives: one model that is wrong is in nobody
/// else's way.
pub(crate) async fn plannable(inputs: &mut Inputs) -> Result<(Vec<Shape>, Vec<String>)> {
    let mut without = Vec::new();
    loop {
        let wrong = match shapes(inputs, Look::Plan).await {
            Ok(shapes) => return Ok((shapes, without)),
            Err(error @ Error::Model { .. }) => error,
            Err(error) => return Err(error),
        };
        let Error::Model { path, .. } = &wrong else { return Err(wrong) };
        let Some(at) = inputs.models.iter().position(|model| model.path == *path) else { return Err(wrong) };
        let mut gone = vec![inputs.models.remove(at)];
        // Parents are before children, so that one pass finds all that read it.
        inputs.models.retain(|model| {
            let reads = gone.iter().any(|gone| model.references.contains(&gone.name));
            if reads {
                gone.push(Arc::clone(model));
            }
            !reads
        });
        without.extend(gone.iter().map(|model| model.name.to_string()));
    }
}

fn table_info(schema: &str, name: &str, columns: SchemaRef, model: Option<&Arc<Model>>) -> TableInfo {
    let foreign_keys = model.into_iter().flat_map(|model| &model.checks).filter_map(|check| {
        let (column, to) = check.relationship()?;
        let (table, to_column) = to.rsplit_once('.')?;
        let (to_schema, to_table) = table.split_once('.')?;
        Some(ForeignKey {
            column: column.to_owned(),
            to_schema: to_schema.to_owned(),
            to_table: to_table.to_owned(),
            to_column: to_column.to_owned(),
        })
    });
    TableInfo {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: TableKind::Table,
        description: model.and_then(|model| model.description.clone()),
        key: model.map(|model| model.key.clone()).unwrap_or_default(),
        foreign_keys: foreign_keys.collect(),
        columns,
    }
}

/// The models' tables at a version, by name and with their columns.
#[derive(Default)]
struct Models {
    tables: Vec<(String, SchemaRef, Arc<dyn TableProvider>)>,
    /// What those of them share that are computed when they are read.
    earlier: Option<Arc<Earlier>>,
}

/// A version that no refresh stopped at, or stopped at with other SQL.
struct Earlier {
    inputs: Inputs,
    place: Place,
    scratch: Scratch,
    /// One table is computed at a time, with what it reads; what was computed on the way is there for others.
    states: tokio::sync::Mutex<BTreeMap<String, ModelState>>,
}

impl Earlier {
    fn new(inputs: Inputs) -> Result<Self> {
        let scratch = Scratch::new()?;
        let inputs = Inputs { runs: scratch.over(&inputs.lake), ..inputs };
        Ok(Self { inputs, place: Place::Earlier(Uuid::now_v7()), scratch, states: tokio::sync::Mutex::default() })
    }

    /// The runs of the lake and those that were computed here.
    fn store(&self) -> lakebed_log::Store {
        self.scratch.over(&self.inputs.lake)
    }

    /// A model's table, where `models` are that one and what it reads.
    async fn table(&self, name: &str, models: &[Arc<Model>]) -> Result<Arc<dyn TableProvider>> {
        let mut states = self.states.lock().await;
        if !states.contains_key(name) {
            let inputs = Arc::new(Inputs { models: models.to_vec(), ..self.inputs.clone() });
            let computed = refresh::compute(&inputs, &()).await.map_err(Error::for_readers)?.manifest.models;
            for (name, state) in computed {
                states.entry(name).or_insert(state);
            }
        }
        let state = states.get(name).ok_or_else(|| Error::UnknownTable { name: name.to_owned(), nearest: None })?;
        Ok(catalog::rows_at(self.place, state.schema()?, &state.stored(&self.inputs.runs).await?))
    }
}

/// A model's rows, computed for their first reader.
struct ComputedRows {
    name: String,
    /// The model and what it reads, parents before children.
    models: Vec<Arc<Model>>,
    of: Arc<Earlier>,
    rows: OnceCell<Arc<dyn TableProvider>>,
}

#[async_trait]
impl Load for ComputedRows {
    async fn load(&self) -> Result<Arc<dyn TableProvider>> {
        let computed = async || {
            let (of, name, models) = (Arc::clone(&self.of), self.name.clone(), self.models.clone());
            // Whoever asked may run out of time: what was begun goes on, and is there for who asks next.
            tokio::spawn(async move { of.table(&name, &models).await }).await?
        };
        self.rows.get_or_try_init(computed).await.cloned()
    }
}
