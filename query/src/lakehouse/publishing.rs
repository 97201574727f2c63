//! Publications: the tables of an epoch, brought to what people read them from.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use lakebed_log::{ColumnType, Snapshot, Store};
use lakebed_project::SinkKind;

use super::Lakehouse;
use crate::catalog;
use crate::epoch::{Manifest, ModelState};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::run_files::StoredRuns;
use crate::sinks::{EventsImage, Image, ReadEvents, TableImage, delta, duckdb, postgres};

/// What an epoch was published to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publications {
    /// The DuckDB file, where a model has that sink.
    pub duckdb: Option<duckdb::Published>,
    /// The PostgreSQL database, where a model has that sink.
    pub postgres: Option<postgres::Published>,
    /// The Delta tables, where a model has that sink.
    pub delta: Option<delta::Published>,
}

/// The tables of an epoch that each sink keeps, if it keeps any.
struct Images {
    duckdb: Option<Image>,
    postgres: Option<Image>,
    delta: Option<Image>,
}

/// Which tables of an epoch are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Publish<'a> {
    /// None: it is a step on the way, or somebody else publishes.
    Nothing,
    /// Those that their headers say.
    Models,
    /// These.
    Named(&'a [String]),
}

impl Lakehouse {
    /// Brings the sinks to the newest epoch, whatever lies between it and theirs. Nothing, before the first.
    ///
    /// # Errors
    /// Whatever goes wrong in the store or a sink. The other sinks are brought up all the same.
    pub async fn publish_newest(&self) -> Result<Publications> {
        match self.chain().newest(self.log().store()).await? {
            Some(newest) => self.publish(&newest, Publish::Models).await,
            None => Ok(Publications::default()),
        }
    }

    /// Makes sure that every sink can be named that a model is to be kept in.
    pub(super) fn check_sinks(&self, models: &[Arc<Model>]) -> Result<()> {
        let in_postgres = models.iter().find(|model| model.is_kept_in(SinkKind::Postgres));
        if let Some(model) = in_postgres.filter(|_| self.postgres().is_none()) {
            return Err(Error::NoPostgres { model: model.name.to_string() });
        }
        // The directories of Delta tables are URLs to their readers, who spell other letters each in their own way.
        let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte));
        if let Some(odd) =
            models.iter().find(|model| model.is_kept_in(SinkKind::Delta) && !is_plain(&model.name.to_string()))
        {
            let message = format!("a Delta table cannot be called '{}'", odd.name.name);
            let hint =
                "give the file a name of ASCII letters, digits and _, or leave delta out of its sinks".to_owned();
            return Err(Error::Model { path: odd.path.clone(), line: 1, message, hint: Some(hint) });
        }
        self.delta().map(drop)
    }

    /// Brings the sinks up to an epoch, side by side. One that fails keeps the others from nothing.
    pub(super) async fn publish(&self, manifest: &Manifest, publish: Publish<'_>) -> Result<Publications> {
        let mut published = self.publish_epoch(manifest, publish).await?;
        let mut epoch = manifest.epoch;
        // A sink goes by the log's version. Whoever published a later epoch of this one meanwhile, an edit's, say, may have been
        // before us there: then it has our rows now.
        while matches!(publish, Publish::Models)
            && let Some(newest) = self.chain().newest(self.log().store()).await?
            && newest.version == manifest.version
            && newest.epoch > epoch
        {
            published = self.publish_epoch(&newest, publish).await?;
            epoch = newest.epoch;
        }
        Ok(published)
    }

    /// Brings the sinks to an epoch.
    async fn publish_epoch(&self, manifest: &Manifest, publish: Publish<'_>) -> Result<Publications> {
        let runs = StoredRuns(self.log().store().clone());
        let Images { duckdb, postgres, delta } = self.images(manifest, publish).await?;
        let events = match &postgres {
            Some(_) if self.project().config.postgres.events => Some(self.events_image(manifest.version).await?),
            _ => None,
        };
        let duckdb = async {
            match duckdb {
                Some(image) => self.inner.sink.publish(&image, &runs).await.map(Some),
                None => Ok(None),
            }
        };
        let postgres = async {
            match (postgres, self.postgres()) {
                (Some(image), Some(sink)) => sink.publish(&image, events.as_ref(), &runs).await.map(Some),
                _ => Ok(None),
            }
        };
        let delta = async {
            match (delta, self.delta()?) {
                (Some(image), Some(sink)) => sink.publish(&image, &runs).await.map(Some),
                _ => Ok(None),
            }
        };
        let (duckdb, postgres, delta) = futures::join!(duckdb, postgres, delta);
        Ok(Publications { duckdb: duckdb?, postgres: postgres?, delta: delta? })
    }

    /// The tables of an epoch that each sink keeps.
    async fn images(&self, manifest: &Manifest, publish: Publish<'_>) -> Result<Images> {
        let (mut duckdb, mut postgres, mut delta) = (Vec::new(), Vec::new(), Vec::new());
        for model in &self.project().models {
            let name = model.name.to_string();
            let kept_in = |sink| match publish {
                Publish::Nothing => false,
                Publish::Models => model.is_kept_in(sink),
                // A replay beside the tables is a file beside theirs.
                Publish::Named(names) => sink == SinkKind::DuckDb && names.contains(&name),
            };
            if !SinkKind::ALL.into_iter().any(kept_in) {
                continue;
            }
            let Some(state) = manifest.models.get(&name) else { continue };
            let table = self.table_image(model, state).await?;
            postgres.extend(kept_in(SinkKind::Postgres).then(|| table.clone()));
            delta.extend(kept_in(SinkKind::Delta).then(|| table.clone()));
            duckdb.extend(kept_in(SinkKind::DuckDb).then_some(table));
        }
        let lake = self.log().table_id().await.simple().to_string();
        let image = |tables: Vec<TableImage>| {
            let (lake, owner) = (lake.clone(), self.project().config.owner());
            let (version, as_of) = (manifest.version, manifest.time);
            (!tables.is_empty()).then_some(Image { lake, owner, version, as_of, tables })
        };
        Ok(Images { duckdb: image(duckdb), postgres: image(postgres), delta: image(delta) })
    }

    /// The log as a sink is given it.
    pub(crate) async fn events_image(&self, version: u64) -> Result<EventsImage> {
        let snapshot = self.log().snapshot_at(version).await?;
        let pinned = self.inner.pinned.clone();
        Ok(EventsImage {
            table_id: self.log().table_id().await.simple().to_string(),
            columns: catalog::events_schema(&snapshot, &pinned),
            next_offset: snapshot.next_offset,
            source: Arc::new(LogEvents { snapshot, pinned, store: self.log().store().clone() }),
        })
    }

    /// A model's table as a sink is given it.
    pub(crate) async fn table_image(&self, model: &Model, state: &ModelState) -> Result<TableImage> {
        Ok(TableImage {
            schema: model.name.schema.clone(),
            name: model.name.name.clone(),
            description: model.description.clone(),
            columns: state.schema()?,
            fingerprint: state.identity.clone(),
            key: state.unique.clone(),
            rows: state.stored(self.log().store()).await?,
            content_hash: state.content_hash,
        })
    }
}

/// The events of a snapshot.
struct LogEvents {
    snapshot: Snapshot,
    pinned: Vec<(String, ColumnType)>,
    store: Store,
}

impl ReadEvents for LogEvents {
    fn read(&self, offsets: Range<u64>) -> BoxStream<'static, Result<RecordBatch>> {
        let open = || -> Result<_> {
            let context = catalog::session(&self.store, &self.store)?;
            Ok((context.read_table(catalog::events(&self.snapshot, &self.pinned, offsets)?)?, context))
        };
        let opened = open();
        let stream = async move {
            let (events, _context) = opened?;
            Ok(events.execute_stream().await?.map_err(Error::Execution))
        };
        stream.try_flatten_stream().boxed()
    }
}
