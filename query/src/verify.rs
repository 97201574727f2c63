//! Verification: stored = sinks = replay, by reading every row back and hashing it; and by which keys, where they are not.

mod difference;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use lakebed_project::SinkKind;

pub use self::difference::{Difference, Differs};
use self::scan::{AsKept, Content, Events, InDelta, InDuckDb, InPostgres, Scan, Stored, content};
use crate::epoch::{self, ModelState};
use crate::error::{Error, Result};
use crate::lakehouse::Lakehouse;
use crate::models::Model;
use crate::refresh;
use crate::refresh::shape::{Look, shapes};
use crate::scratch::Scratch;
use crate::sinks::TableImage;
use crate::sinks::delta::DeltaSink;
use crate::sinks::postgres::PostgresSink;

/// The log's table in PostgreSQL.
const LOG: &str = "bronze.events";

/// So often it looks, while the lake is published beside it.
const MOST_LOOKS: usize = 4;

/// How often it looks how far a publication has come.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// A sink that is behind and has not moved for so long is brought up by nobody.
const STANDS: Duration = Duration::from_secs(10);

/// What the comparison of one model found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `schema.name`.
    pub model: String,
    /// Rows that the epoch says it has.
    pub rows: u64,
    /// Whether the stored rows are those that the epoch says.
    pub stored: bool,
    /// Whether those of each sink are that keeps the model.
    pub sinks: BTreeMap<SinkKind, bool>,
    /// Whether a replay from version 0 gives them.
    pub replay: bool,
    /// Where something differs: what.
    pub differences: Vec<Difference>,
}

impl Verified {
    /// Whether every comparison held.
    pub fn holds(&self) -> bool {
        self.stored && self.sinks.values().all(|holds| *holds) && self.replay
    }
}

impl Lakehouse {
    /// Reads back every row of the models (all, where none is named) and replays them from version 0. Where the log is
    /// kept in PostgreSQL too, `bronze.events` is one of them, and held against the log.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a model that is not in the newest epoch, [`Error::Stale`] where the SQL has changed since
    /// or nothing was stored yet; any failure on the way. A difference is no error but an answer.
    pub async fn verify(&self, only: &[String]) -> Result<Vec<Verified>> {
        for _ in 1..MOST_LOOKS {
            let before = (self.epoch().await?, self.sinks_stand().await);
            let verified = self.look(only).await?;
            // Where nothing has moved meanwhile, what differs is no matter of time.
            if verified.iter().all(Verified::holds) || before == (self.epoch().await?, self.sinks_stand().await) {
                return Ok(verified);
            }
        }
        self.look(only).await
    }

    /// The versions that DuckDB and PostgreSQL have, as far as they can be asked.
    async fn sinks_stand(&self) -> [Option<u64>; 2] {
        let is_kept_in = |sink| self.project().models.iter().any(|model| model.is_kept_in(sink));
        let in_duckdb = match is_kept_in(SinkKind::DuckDb) {
            true => self.published_at().await.unwrap_or(None),
            false => None,
        };
        let has_log = self.project().config.postgres.events;
        let in_postgres = match self.postgres().filter(|_| has_log || is_kept_in(SinkKind::Postgres)) {
            Some(sink) => sink.watermarks().await.unwrap_or_default().iter().map(|watermark| watermark.version).max(),
            None => None,
        };
        [in_duckdb, in_postgres]
    }

    /// Waits until the sinks have a version, or stand still: a server stores an epoch first, and publishes it beside the next ones.
    async fn wait_for_sinks(&self, version: u64) {
        let (mut stand, mut since) = (self.sinks_stand().await, Instant::now());
        while stand.iter().flatten().any(|at| *at < version) && since.elapsed() < STANDS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let now = self.sinks_stand().await;
            if now != stand {
                (stand, since) = (now, Instant::now());
            }
        }
    }

    async fn look(&self, only: &[String]) -> Result<Vec<Verified>> {
        let store = self.log().store();
        let Some(manifest) = epoch::newest(store).await? else {
            let models = self.project().models.iter().map(|model| model.name.to_string()).collect();
            return Err(Error::Stale { models });
        };
        let log = self.postgres().filter(|_| self.project().config.postgres.events);
        let is_log = |name: &String| log.is_some() && name == LOG;
        if let Some(sink) = log
            && !only.is_empty()
            && only.iter().all(is_log)
        {
            // Of it there is nothing to replay.
            self.wait_for_sinks(manifest.version).await;
            return Ok(vec![self.verify_events(sink, manifest.version).await?]);
        }
        if let Some(name) = only.iter().find(|name| !manifest.models.contains_key(*name) && !is_log(name)) {
            let nearest = crate::error::nearest(name, manifest.models.keys().cloned());
            return Err(Error::UnknownTable { name: name.clone(), nearest });
        }
        let snapshot = self.log().snapshot_at(manifest.version).await?;
        let scratch = Scratch::new()?;
        let inputs = Arc::new(self.inputs(&snapshot, None, None, scratch.store()));
        let replayed = refresh::compute(&inputs, &()).await?.manifest;
        let here = self.inputs(&snapshot, Some(&manifest), None, store);
        let shapes = shapes(&here, Look::Plan).await?;
        let now: BTreeMap<String, &str> =
            shapes.iter().map(|shape| (shape.model.name.to_string(), shape.state.fingerprint.as_str())).collect();
        let then = |name: &String| manifest.models.get(name).map(|state| state.fingerprint.as_str());
        let names: BTreeSet<_> = manifest.models.keys().chain(now.keys()).collect();
        let stale = names.into_iter().filter(|name| then(name) != now.get(*name).copied());
        let models: Vec<_> = stale.filter(|name| only.is_empty() || only.contains(name)).cloned().collect();
        if !models.is_empty() {
            return Err(Error::Stale { models });
        }
        // What is compared from here on is of this epoch, or of a later one, which is told by its manifest.
        self.wait_for_sinks(manifest.version).await;
        let mut verified = Vec::new();
        for (name, state) in manifest.models.iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
            let Some(replay) = replayed.models.get(name) else { continue };
            let Some(model) = self.project().models.iter().find(|model| model.name.to_string() == *name) else {
                continue;
            };
            let replay = Stored { store: scratch.store(), state: replay };
            verified.push(self.verify_model(model, (state, manifest.epoch), &replay).await?);
        }
        if let Some(sink) = log
            && (only.is_empty() || only.iter().any(is_log))
        {
            verified.push(self.verify_events(sink, manifest.version).await?);
        }
        Ok(verified)
    }

    async fn verify_model(
        &self,
        model: &Model,
        (state, epoch): (&ModelState, u64),
        replay: &Stored<'_>,
    ) -> Result<Verified> {
        let stored = Stored { store: self.log().store(), state };
        let expected = (state.rows, state.content_hash);
        let is_stored = content(&stored).await? == expected;
        let is_replayed = (replay.state.rows, replay.state.content_hash) == expected;
        let mut differences = Vec::new();
        if !is_stored || !is_replayed {
            // The replay is the truth: what is stored is held against it.
            differences.push(difference::difference("stored", replay, &stored, &key_of(state)?).await?);
        }
        let mut sinks = BTreeMap::new();
        let table = self.table_image(model, state).await?;
        for sink in SinkKind::ALL.into_iter().filter(|sink| model.is_kept_in(*sink)) {
            let found = match self.differs_in(sink, model, state, (&table, expected)).await? {
                Some(_) if self.is_later_in(sink, model, &table, epoch).await? => None,
                found => found,
            };
            sinks.insert(sink, found.is_none());
            differences.extend(found);
        }
        Ok(Verified {
            model: model.name.to_string(),
            rows: state.rows,
            stored: is_stored,
            sinks,
            replay: is_replayed,
            differences,
        })
    }

    /// The log in PostgreSQL, compared with the log; documents are not, for jsonb does not keep their bytes.
    async fn verify_events(&self, sink: &PostgresSink, version: u64) -> Result<Verified> {
        let events = self.events_image(version).await?;
        let table = PostgresSink::events_table(&events);
        let offset = table.columns.index_of(lakebed_log::schema::OFFSET)?;
        let found = match in_postgres((sink, &table), &Events(&events), None, &[offset]).await? {
            Some(_) if self.are_later_events_in(sink, version).await? => None,
            found => found,
        };
        Ok(Verified {
            model: LOG.to_owned(),
            rows: events.next_offset,
            stored: true,
            sinks: BTreeMap::from([(SinkKind::Postgres, found.is_none())]),
            replay: true,
            differences: found.into_iter().collect(),
        })
    }

    /// Whether a sink has the model's table as of a later epoch than this one: somebody has published since.
    async fn is_later_in(&self, sink: SinkKind, model: &Model, table: &TableImage, epoch: u64) -> Result<bool> {
        if self.epoch().await? == Some(epoch) {
            return Ok(false);
        }
        let there = match sink {
            SinkKind::DuckDb => content(&InDuckDb(self.sink(), &model.name)).await,
            SinkKind::Postgres => {
                let sink = self.postgres_for(model)?;
                if !sink.altered(table).await?.is_empty() {
                    // It cannot even be read.
                    return Ok(false);
                }
                content(&InPostgres(sink, table)).await
            }
            SinkKind::Delta => match self.delta()? {
                Some(sink) => content(&InDelta(sink, table)).await,
                None => return Ok(false),
            },
        };
        let there = match there {
            Err(Error::UnknownTable { .. }) => return Ok(false),
            there => there?,
        };
        // Listed after the sink was read: an epoch is stored before it is published.
        let later = self.chain().after(self.log().store(), epoch).await?;
        let name = model.name.to_string();
        let states = later.try_filter_map(async |mut manifest| Ok(manifest.models.remove(&name)));
        let states: Vec<_> = states.try_collect().await?;
        if states.iter().any(|state| (state.rows, state.content_hash) == there) {
            return Ok(true);
        }
        let kept = match sink {
            SinkKind::DuckDb => return Ok(false),
            SinkKind::Postgres => PostgresSink::as_kept,
            SinkKind::Delta => DeltaSink::as_kept,
        };
        for state in states.iter().filter(|state| state.rows == there.0) {
            let stored = Stored { store: self.log().store(), state };
            let table = &self.table_image(model, state).await?;
            if content(&AsKept { stored, table, kept }).await? == there {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same of the log's table.
    async fn are_later_events_in(&self, sink: &PostgresSink, version: u64) -> Result<bool> {
        let stands_at = sink.watermarks().await?.into_iter().find(|watermark| watermark.model == LOG);
        match stands_at.filter(|watermark| watermark.version > version) {
            Some(later) => {
                let events = self.events_image(later.version).await?;
                let table = PostgresSink::events_table(&events);
                let can_be_read = sink.altered(&table).await?.is_empty();
                Ok(can_be_read && content(&InPostgres(sink, &table)).await? == content(&Events(&events)).await?)
            }
            None => Ok(false),
        }
    }

    /// The database that a model is kept in.
    fn postgres_for(&self, model: &Model) -> Result<&PostgresSink> {
        self.postgres().ok_or_else(|| Error::NoPostgres { model: model.name.to_string() })
    }

    /// The rows that are really there.
    pub(crate) async fn stored(&self, state: &ModelState) -> Result<Content> {
        content(&Stored { store: self.log().store(), state }).await
    }

    /// What a sink has otherwise than the model's table, which is to be what is `expected`.
    ///
    /// # Errors
    /// [`Error::NoPostgres`] where the project knows of no database; any failure on the way.
    pub(crate) async fn differs_in(
        &self,
        sink: SinkKind,
        model: &Model,
        state: &ModelState,
        (table, expected): (&TableImage, Content),
    ) -> Result<Option<Difference>> {
        let stored = || Stored { store: self.log().store(), state };
        let (key, expected) = (key_of(state)?, Some(expected));
        let as_kept =
            |kept: fn(&RecordBatch, &TableImage) -> Result<RecordBatch>| AsKept { stored: stored(), table, kept };
        match sink {
            // Nothing is lost on the way there.
            SinkKind::DuckDb => {
                let there = InDuckDb(self.sink(), &model.name);
                match content(&there).await {
                    Ok(found) if Some(found) == expected => Ok(None),
                    Ok(_) => difference::difference(sink.name(), &stored(), &there, &key).await.map(Some),
                    Err(Error::UnknownTable { .. }) => Ok(Some(Difference::absent(sink.name()))),
                    Err(error) => Err(error),
                }
            }
            SinkKind::Postgres => {
                let there = (self.postgres_for(model)?, table);
                in_postgres(there, &as_kept(PostgresSink::as_kept), expected, &key).await
            }
            SinkKind::Delta => match self.delta()? {
                Some(there) => {
                    let there = InDelta(there, table);
                    compared(sink.name(), &as_kept(DeltaSink::as_kept), &there, expected, &key).await
                }
                None => Ok(None),
            },
        }
    }
}

/// What a table of PostgreSQL's has otherwise: other columns, or other rows than `kept`.
async fn in_postgres(
    (sink, table): (&PostgresSink, &TableImage),
    kept: &dyn Scan,
    expected: Option<Content>,
    key: &[usize],
) -> Result<Option<Difference>> {
    let altered = sink.altered(table).await?;
    if !altered.is_empty() {
        return Ok(Some(Difference::altered(SinkKind::Postgres.name(), altered)));
    }
    compared(SinkKind::Postgres.name(), kept, &InPostgres(sink, table), expected, key).await
}

/// What is `there` otherwise than in `kept`: the rows as they can be kept there, which are those that are `expected` unless something
/// is lost on the way.
async fn compared(
    place: &'static str,
    kept: &dyn Scan,
    there: &dyn Scan,
    expected: Option<Content>,
    key: &[usize],
) -> Result<Option<Difference>> {
    let found = match content(there).await {
        Err(Error::UnknownTable { .. }) => return Ok(Some(Difference::absent(place))),
        found => found?,
    };
    if Some(found) == expected || found == content(kept).await? {
        return Ok(None);
    }
    difference::difference(place, kept, there, key).await.map(Some)
}

/// The places of a table's key columns.
fn key_of(state: &ModelState) -> Result<Vec<usize>> {
    let schema = state.schema()?;
    Ok(state.unique.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?)
}
