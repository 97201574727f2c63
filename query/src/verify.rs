//! Verification: stored = sink = replay, by reading every row back and hashing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use lakebed_log::Store;

use crate::epoch::{self, ModelState};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::lakehouse::Lakehouse;
use crate::models::Model;
use crate::refresh;
use crate::refresh::shape::shapes;
use crate::run_files::StoredRuns;
use crate::sinks::postgres::PostgresSink;
use crate::sinks::{ReadRun, TableImage};

/// What the comparison of one model found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `schema.name`.
    pub model: String,
    /// Rows that the epoch says it has.
    pub rows: u64,
    /// Whether the stored rows are those that the epoch says.
    pub stored: bool,
    /// Whether DuckDB's rows are; `None` for a model that is not kept there.
    pub duckdb: Option<bool>,
    /// Whether PostgreSQL's rows are; `None` for a model that is not kept there.
    pub postgres: Option<bool>,
    /// Whether a replay from version 0 gives them.
    pub replay: bool,
}

impl Verified {
    /// Whether every comparison held.
    pub fn holds(&self) -> bool {
        self.stored && self.duckdb != Some(false) && self.postgres != Some(false) && self.replay
    }
}

/// Rows and their hash.
pub(crate) type Content = (u64, TableHash);

/// With the rows of a batch.
fn with(content: Content, batch: &RecordBatch) -> Result<Content> {
    Ok((content.0 + batch.num_rows() as u64, content.1.add(TableHash::of_batch(batch)?)))
}

impl Lakehouse {
    /// Reads back every row of the models (all, where none is named) and replays them from version 0.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a model that is not in the newest epoch, [`Error::Stale`] where the SQL has changed since
    /// or nothing was stored yet; any failure on the way. A difference is no error but an answer.
    pub async fn verify(&self, only: &[String]) -> Result<Vec<Verified>> {
        let store = self.log().store();
        let Some(manifest) = epoch::newest(store).await? else {
            let models = self.project().models.iter().map(|model| model.name.to_string()).collect();
            return Err(Error::Stale { models });
        };
        if let Some(name) = only.iter().find(|name| !manifest.models.contains_key(*name)) {
            let nearest = crate::error::nearest(name, manifest.models.keys().cloned());
            return Err(Error::UnknownTable { name: name.clone(), nearest });
        }
        let snapshot = self.log().snapshot_at(manifest.version).await?;
        let scratch = Scratch::new()?;
        let inputs = Arc::new(self.inputs(&snapshot, None, None, &scratch.store));
        let replayed = refresh::compute(&inputs, &()).await?.manifest;
        let here = self.inputs(&snapshot, Some(&manifest), None, store);
        let shapes = shapes(&here).await?;
        let now: BTreeMap<String, &str> =
            shapes.iter().map(|shape| (shape.model.name.to_string(), shape.state.fingerprint.as_str())).collect();
        let then = |name: &String| manifest.models.get(name).map(|state| state.fingerprint.as_str());
        let names: BTreeSet<_> = manifest.models.keys().chain(now.keys()).collect();
        let stale = names.into_iter().filter(|name| then(name) != now.get(*name).copied());
        let models: Vec<_> = stale.filter(|name| only.is_empty() || only.contains(name)).cloned().collect();
        if !models.is_empty() {
            return Err(Error::Stale { models });
        }
        let mut verified = Vec::new();
        for (name, state) in manifest.models.iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
            let expected = (state.rows, state.content_hash);
            let replay = replayed.models.get(name);
            let model = self.project().models.iter().find(|model| model.name.to_string() == *name);
            verified.push(Verified {
                model: name.clone(),
                rows: state.rows,
                stored: self.stored(state).await? == expected,
                duckdb: match model.filter(|model| model.is_kept_in("duckdb")) {
                    Some(model) => Some(self.in_duckdb(model).await? == expected),
                    None => None,
                },
                postgres: match model.filter(|model| model.is_kept_in("postgres")) {
                    Some(model) => Some(self.postgres_has(model, state, expected).await?),
                    None => None,
                },
                replay: replay.is_some_and(|replay| (replay.rows, replay.content_hash) == expected),
            });
        }
        let named = only.is_empty();
        if named
            && self.project().config.postgres.events
            && let Some(sink) = self.postgres()
        {
            verified.push(self.verify_events(sink, manifest.version).await?);
        }
        Ok(verified)
    }

    /// The log in PostgreSQL, compared with the log; documents are not, for jsonb does not keep their bytes.
    async fn verify_events(&self, sink: &PostgresSink, version: u64) -> Result<Verified> {
        let events = self.events_image(version).await?;
        let mut hash = TableHash::EMPTY;
        let mut batches = events.source.read(0..events.next_offset);
        while let Some(batch) = batches.try_next().await? {
            hash = hash.add(PostgresSink::hash_of_events(&batch)?);
        }
        let there = in_postgres(sink, &PostgresSink::events_table(&events)).await?;
        Ok(Verified {
            model: "bronze.events".to_owned(),
            rows: events.next_offset,
            stored: true,
            duckdb: None,
            postgres: Some(there == (events.next_offset, hash)),
            replay: true,
        })
    }

    /// The rows that are really there.
    pub(crate) async fn stored(&self, state: &ModelState) -> Result<Content> {
        self.hashed(state, &Ok).await
    }

    /// The rows that are really there, as a sink has them.
    async fn hashed(
        &self,
        state: &ModelState,
        kept: &(dyn Fn(RecordBatch) -> Result<RecordBatch> + Sync),
    ) -> Result<Content> {
        let runs = StoredRuns(self.log().store().clone());
        let mut content = (0, TableHash::EMPTY);
        for (run, rows) in state.stored(&runs.0).await?.in_runs() {
            let mut batches = runs.read(run, rows);
            while let Some(batch) = batches.try_next().await? {
                content = with(content, &kept(batch)?)?;
            }
        }
        Ok(content)
    }

    /// The rows that the published file has of a model.
    pub(crate) async fn in_duckdb(&self, model: &Model) -> Result<Content> {
        let (sink, name) = (self.sink().clone(), model.name.clone());
        tokio::task::spawn_blocking(move || {
            let mut content = (0, TableHash::EMPTY);
            sink.read_table(&name.schema, &name.name, &mut |batch| {
                content = with(content, &batch)?;
                Ok(())
            })?;
            Ok(content)
        })
        .await?
    }

    /// Whether PostgreSQL has the rows of a model, as it can keep them.
    pub(crate) async fn postgres_has(&self, model: &Model, state: &ModelState, expected: Content) -> Result<bool> {
        let Some(sink) = self.postgres() else { return Err(Error::NoPostgres { model: model.name.to_string() }) };
        let table = self.table_image(model, state).await?;
        let there = match in_postgres(sink, &table).await {
            Err(error) if error.is_missing_table() => return Ok(false),
            there => there?,
        };
        if there == expected {
            return Ok(true);
        }
        let kept = self.hashed(state, &|batch| PostgresSink::as_kept(&batch, &table)).await?;
        Ok(there == kept)
    }
}

/// The rows that PostgreSQL has of a table.
async fn in_postgres(sink: &PostgresSink, table: &TableImage) -> Result<Content> {
    let mut content = (0, TableHash::EMPTY);
    let mut each = |batch: RecordBatch| {
        content = with(content, &batch)?;
        Ok(())
    };
    sink.read_table(table, &mut each).await?;
    Ok(content)
}

/// A directory for a replay's runs, where nobody else looks; gone when it is dropped.
struct Scratch {
    directory: std::path::PathBuf,
    store: Store,
}

impl Scratch {
    fn new() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("lakebed-replay-{}", uuid::Uuid::now_v7().simple()));
        Ok(Self { store: Store::local(&directory)?, directory })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is a temporary directory of the system's.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
