//! What the lake says of itself, as tables of the schema `lakebed`. They are read when they are asked, as of the session's
//! version: nothing that came later is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::TableType;
use futures::TryStreamExt;
use lakebed_log::{Entry, Log, Snapshot, quarantine};

use crate::epoch::{Chain, Manifest};
use crate::error::Result;
use crate::lakehouse::{Lakehouse, plannable};
use crate::lazy_table::{LazyTable, Load};
use crate::lineage;
use crate::refresh::Inputs;
use crate::session::{TableInfo, TableKind};

/// The schema that they are in.
pub(crate) const SCHEMA: &str = "lakebed";

/// A table of the schema.
pub(crate) struct SystemTable {
    pub(crate) info: TableInfo,
    pub(crate) provider: Arc<dyn TableProvider>,
}

/// What they are called.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|about| about.name)
}

/// All of them, over a lake at a version.
pub(crate) fn all(lakehouse: &Lakehouse, snapshot: &Snapshot, manifest: Option<Manifest>) -> Vec<SystemTable> {
    // Plans go by the columns of the log alone.
    let without_files = Snapshot { claims: Arc::clone(&snapshot.claims), files: Vec::new(), ..*snapshot };
    let source = Arc::new(Source {
        log: lakehouse.log().clone(),
        chain: lakehouse.chain().clone(),
        version: snapshot.version,
        inputs: lakehouse.inputs(&without_files, None, None, lakehouse.log().store()),
        manifest,
    });
    let table = |about: &'static About| {
        let columns = Arc::new(Schema::new(about.columns.iter().map(Column::field).collect::<Vec<_>>()));
        let info = TableInfo {
            schema: SCHEMA.to_owned(),
            name: about.name.to_owned(),
            kind: TableKind::System,
            description: Some(about.description.to_owned()),
            key: Vec::new(),
            foreign_keys: Vec::new(),
            columns: Arc::clone(&columns),
        };
        let rows = SystemRows { about, columns: Arc::clone(&columns), source: Arc::clone(&source) };
        SystemTable { info, provider: Arc::new(LazyTable { columns, kind: TableType::View, rows }) }
    };
    TABLES.iter().map(table).collect()
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Number(&'static str),
    Text(&'static str),
    Time(&'static str),
}

impl Column {
    fn field(&self) -> Field {
        match self {
            Self::Number(name) => Field::new(*name, DataType::Int64, true),
            Self::Text(name) => Field::new(*name, DataType::Utf8, true),
            Self::Time(name) => Field::new(*name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        }
    }
}

/// Which rows a table has.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Versions,
    Batches,
    Quarantine,
    Runs,
    Watermarks,
    Models,
    Checks,
    Lineage,
    ColumnLineage,
}

#[derive(Debug)]
struct About {
    name: &'static str,
    kind: Kind,
    description: &'static str,
    columns: &'static [Column],
}

use Column::{Number, Text, Time};

static TABLES: [About; 9] = [
    About {
        name: "versions",
        kind: Kind::Versions,
        description: "Every version of the log, with what it brought.",
        columns: &[
            Number("version"),
            Time("time"),
            Number("events"),
            Number("quarantined"),
            Number("batches"),
            Number("next_offset"),
            Number("files"),
            Number("bytes"),
        ],
    },
    About {
        name: "batches",
        kind: Kind::Batches,
        description: "Every batch of events that was sent, with how many of them are in the log and how many in quarantine.",
        columns: &[
            Number("version"),
            Time("time"),
            Text("batch_id"),
            Text("source"),
            Number("first_offset"),
            Number("events"),
            Number("quarantined"),
        ],
    },
    About {
        name: "quarantine",
        kind: Kind::Quarantine,
        description: "Events that could not be read, nor by a retry since, as they came, each with the reason.",
        columns: &[
            Number("version"),
            Time("time"),
            Text("batch_id"),
            Text("source"),
            Number("position"),
            Text("reason"),
            Text("text"),
        ],
    },
    About {
        name: "runs",
        kind: Kind::Runs,
        description: "What each refresh did to each model whose rows it changed; of old ones the last before each epoch that stays, with its version and time.",
        columns: &[
            Number("epoch"),
            Number("version"),
            Time("time"),
            Text("model"),
            Text("strategy"),
            Number("rows"),
            Number("rows_added"),
            Number("rows_gone"),
            Number("rows_read"),
            Number("bytes_read"),
        ],
    },
    About {
        name: "watermarks",
        kind: Kind::Watermarks,
        description: "The version that each model stands at, with its rows and their content hash.",
        columns: &[
            Text("model"),
            Text("fingerprint"),
            Number("version"),
            Time("time"),
            Number("rows"),
            Text("content_hash"),
        ],
    },
    About {
        name: "models",
        kind: Kind::Models,
        description: "What each model's file says: its header, and its text.",
        columns: &[Text("model"), Text("description"), Text("key"), Text("sinks"), Text("sql")],
    },
    About {
        name: "checks",
        kind: Kind::Checks,
        description: "What the models' headers say of every row; `lakebed test` asks it of the tables.",
        columns: &[Text("model"), Text("check"), Text("severity")],
    },
    About {
        name: "lineage",
        kind: Kind::Lineage,
        description: "Which table each model reads.",
        columns: &[Text("model"), Text("reads")],
    },
    About {
        name: "column_lineage",
        kind: Kind::ColumnLineage,
        description: "Which columns each column of each model comes from, and how.",
        columns: &[Text("model"), Text("column"), Text("from_table"), Text("from_column"), Text("how")],
    },
];

/// What the tables are read from.
struct Source {
    log: Log,
    chain: Chain,
    version: u64,
    /// The models as they are here, over the log as of that version.
    inputs: Inputs,
    manifest: Option<Manifest>,
}

impl Source {
    async fn rows(&self, kind: Kind) -> Result<Vec<ArrayRef>> {
        Ok(match kind {
            Kind::Versions => versions(&self.versions().await?),
            Kind::Batches => batches(&self.versions().await?),
            Kind::Quarantine => self.quarantine().await?,
            Kind::Runs => self.runs().await?,
            Kind::Watermarks => self.watermarks(),
            Kind::Models => self.models(),
            Kind::Checks => self.checks(),
            Kind::Lineage => self.lineage(),
            Kind::ColumnLineage => self.column_lineage().await?,
        })
    }

    async fn versions(&self) -> Result<Vec<(u64, Entry)>> {
        let mut versions = self.log.versions(u64::MAX).await?;
        versions.retain(|(version, _)| *version <= self.version);
        Ok(versions)
    }

    async fn quarantine(&self) -> Result<Vec<ArrayRef>> {
        let versions = self.versions().await?;
        let left = quarantine::left(self.log.store(), &versions, |_| true).await?;
        let refused: Vec<_> =
            left.iter().flat_map(|of_one| of_one.events.iter().map(move |event| (of_one, event))).collect();
        Ok(vec![
            numbers(refused.iter().map(|(of, _)| of.version)),
            times(refused.iter().map(|(of, _)| of.time)),
            texts(refused.iter().map(|(of, _)| of.batch.id.as_str())),
            texts(refused.iter().map(|(of, _)| &of.batch.source)),
            numbers(refused.iter().map(|(.., event)| event.position)),
            texts(refused.iter().map(|(.., event)| &event.reason)),
            texts(refused.iter().map(|(.., event)| String::from_utf8_lossy(&event.bytes))),
        ])
    }

    async fn runs(&self) -> Result<Vec<ArrayRef>> {
        let upto = self.manifest.as_ref().map_or(0, |manifest| manifest.epoch);
        let mut epochs = self.chain.after(self.log.store(), 0).await?;
        let (mut changed, mut last) = (Vec::new(), BTreeMap::new());
        while let Some(mut epoch) = epochs.try_next().await?.filter(|epoch| epoch.epoch <= upto) {
            // A model's last change before an epoch is told, too, where the epoch of that change was thinned.
            for (name, mut state) in std::mem::take(&mut epoch.models) {
                if last.insert(name.clone(), state.changed) != Some(state.changed) {
                    // What is many is not shown.
                    (state.runs, state.deletions) = (Vec::new(), Vec::new());
                    changed.push((epoch.clone(), name, state));
                }
            }
        }
        Ok(vec![
            numbers(changed.iter().map(|(.., state)| state.changed)),
            numbers(changed.iter().map(|(epoch, ..)| epoch.version)),
            times(changed.iter().map(|(epoch, ..)| epoch.time)),
            texts(changed.iter().map(|(_, name, _)| name)),
            texts(changed.iter().map(|(.., state)| &state.strategy)),
            numbers(changed.iter().map(|(.., state)| state.rows)),
            numbers(changed.iter().map(|(.., state)| state.work.added)),
            numbers(changed.iter().map(|(.., state)| state.work.gone)),
            numbers(changed.iter().map(|(.., state)| state.work.read.rows)),
            numbers(changed.iter().map(|(.., state)| state.work.read.bytes)),
        ])
    }

    fn watermarks(&self) -> Vec<ArrayRef> {
        let stored: Vec<_> = self
            .manifest
            .iter()
            .flat_map(|manifest| manifest.models.iter().map(move |(name, state)| (manifest, name, state)))
            .collect();
        vec![
            texts(stored.iter().map(|(_, name, _)| name)),
            texts(stored.iter().map(|(.., state)| &state.fingerprint)),
            numbers(stored.iter().map(|(manifest, ..)| manifest.version)),
            times(stored.iter().map(|(manifest, ..)| manifest.time)),
            numbers(stored.iter().map(|(.., state)| state.rows)),
            texts(stored.iter().map(|(.., state)| state.content_hash.to_string())),
        ]
    }

    fn models(&self) -> Vec<ArrayRef> {
        let models = &self.inputs.models;
        vec![
            texts(models.iter().map(|model| model.name.to_string())),
            Arc::new(StringArray::from_iter(models.iter().map(|model| model.description.as_deref()))),
            texts(models.iter().map(|model| model.key.join(", "))),
            texts(models.iter().map(|model| model.sinks.iter().map(|sink| sink.name()).collect::<Vec<_>>().join(", "))),
            texts(models.iter().map(|model| &model.sql)),
        ]
    }

    fn checks(&self) -> Vec<ArrayRef> {
        let checks: Vec<_> =
            self.inputs.models.iter().flat_map(|model| model.checks.iter().map(move |check| (model, check))).collect();
        vec![
            texts(checks.iter().map(|(model, _)| model.name.to_string())),
            texts(checks.iter().map(|(_, check)| &check.text)),
            texts(checks.iter().map(|(_, check)| check.severity.name())),
        ]
    }

    fn lineage(&self) -> Vec<ArrayRef> {
        let reads: Vec<_> = self
            .inputs
            .models
            .iter()
            .flat_map(|model| model.references.iter().map(move |read| (model, read)))
            .collect();
        vec![
            texts(reads.iter().map(|(model, _)| model.name.to_string())),
            texts(reads.iter().map(|(_, read)| read.to_string())),
        ]
    }

    /// Without the models that do not plan, and what reads them.
    async fn column_lineage(&self) -> Result<Vec<ArrayRef>> {
        let mut inputs = self.inputs.clone();
        let (shapes, _) = plannable(&mut inputs).await?;
        Ok(lineage::table(&lineage::of(&inputs, &shapes).await?)?.columns().to_vec())
    }
}

fn versions(versions: &[(u64, Entry)]) -> Vec<ArrayRef> {
    let of = |number: fn(&Entry) -> u64| numbers(versions.iter().map(|(_, entry)| number(entry)));
    vec![
        numbers(versions.iter().map(|(version, _)| *version)),
        times(versions.iter().map(|(_, entry)| entry.time)),
        of(Entry::events),
        of(Entry::quarantined),
        of(|entry| entry.record.batches.len() as u64),
        of(|entry| entry.record.next_offset),
        of(|entry| entry.added.len() as u64),
        of(Entry::bytes),
    ]
}

fn batches(versions: &[(u64, Entry)]) -> Vec<ArrayRef> {
    let batches: Vec<_> = versions
        .iter()
        .flat_map(|(version, entry)| entry.record.batches.iter().map(move |batch| (*version, entry.time, batch)))
        .collect();
    vec![
        numbers(batches.iter().map(|(version, ..)| *version)),
        times(batches.iter().map(|(_, time, _)| *time)),
        texts(batches.iter().map(|(.., batch)| batch.id.as_str())),
        texts(batches.iter().map(|(.., batch)| &batch.source)),
        numbers(batches.iter().map(|(.., batch)| batch.base)),
        numbers(batches.iter().map(|(.., batch)| batch.rows)),
        numbers(batches.iter().map(|(.., batch)| batch.quarantined)),
    ]
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| i64::try_from(value).ok()).collect::<Int64Array>())
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn times(values: impl IntoIterator<Item = DateTime<Utc>>) -> ArrayRef {
    let micros = values.into_iter().map(|time| time.timestamp_micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

/// The rows of one of the tables.
struct SystemRows {
    about: &'static About,
    columns: SchemaRef,
    source: Arc<Source>,
}

#[async_trait]
impl Load for SystemRows {
    async fn load(&self) -> Result<Arc<dyn TableProvider>> {
        let rows = self.source.rows(self.about.kind).await?;
        let batch = RecordBatch::try_new(Arc::clone(&self.columns), rows)?;
        Ok(Arc::new(MemTable::try_new(Arc::clone(&self.columns), vec![vec![batch]])?))
    }
}
