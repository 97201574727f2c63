//! The Delta sink: each model as a plain Delta table, which Spark, Trino, DuckDB and polars read with no help from us.
//!
//! A publication writes the files that a table lacks and commits them, with the removal of those that it no longer has, as
//! one version of the table. What a table has is told by the table alone: each file is tagged with the addresses of its rows
//! and their hash, so that a publisher that was killed, or away for many epochs, is made good by the next, and what others
//! wrote into a table is undone by it. A table is brought from one epoch to the next in one step; several tables are not.

mod blocks;
mod commit;
mod table;
mod types;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use futures::{FutureExt, StreamExt};
use lakebed_log::Store;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use self::blocks::Plan;
use self::commit::Commit;
use self::table::{Open, Seen};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::sinks::{Image, ReadRun, TableImage};

/// How often a publication starts again because another was first.
const TRIES: usize = 10;

/// So many tables are brought up at once.
const AT_ONCE: usize = 4;

/// Publishes tables as Delta tables, `SCHEMA/NAME` each. Cheap to clone.
#[derive(Clone)]
pub struct DeltaSink {
    store: Store,
    /// Within the store.
    root: object_store::path::Path,
    /// As they were last seen: the next look reads what came since.
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

/// What a publication came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where the tables are.
    pub place: String,
    /// Rows that were written.
    pub rows_written: u64,
    /// Tables that were written from nothing.
    pub tables_rebuilt: usize,
    /// Tables of which some files were written.
    pub tables_changed: usize,
    /// The tables were up to date already.
    pub unchanged: bool,
}

/// So many bytes a file has at most, by what the rows take in the runs.
const MOST_BYTES: u64 = 32 << 20;

/// How many rows a file of a table has at most.
fn most_rows(table: &TableImage) -> u64 {
    let runs = &table.rows.runs;
    let (bytes, rows) = runs.iter().fold((0, 0), |(bytes, rows), run| (bytes + run.bytes, rows + run.rows));
    // A power of two, so that it is another one only where the rows are of another size.
    let fit = (MOST_BYTES / (bytes / rows.max(1)).max(1)).max(1);
    blocks::MOST_ROWS.min(1 << fit.ilog2())
}

/// What became of one table.
enum Outcome {
    Unchanged,
    Changed(u64),
    Rebuilt(u64),
}

impl DeltaSink {
    /// A sink below `root` in a store. Nothing is read or made yet.
    pub fn new(store: Store, root: &str) -> Self {
        Self { store, root: root.into(), seen: Arc::default() }
    }

    /// Where the tables are, as a URL or a directory.
    pub fn place(&self) -> String {
        match self.root.as_ref() {
            "" => self.store.place().to_owned(),
            root => format!("{}/{root}", self.store.place()),
        }
    }

    /// Brings the tables up to the image, each in one commit. One that stands at a later version is left alone.
    ///
    /// # Errors
    /// [`Error::TableTaken`] for somebody else's table under a model's name, [`Error::DeltaTaken`] for one of another lake;
    /// [`Error::UnsupportedColumn`] and [`Error::Column`] for rows that cannot be kept; [`Error::Delta`] for what the table's
    /// log says; [`Error::Overtaken`] where other publishers were first each time; any failure of the store. A table that
    /// failed is what it was.
    pub async fn publish(&self, image: &Image, runs: &dyn ReadRun) -> Result<Published> {
        let mut outcomes = Vec::new();
        for table in &image.tables {
            outcomes.push(self.bring_up(image, table, runs).boxed());
        }
        // One that cannot be brought up keeps no other from it.
        let outcomes: Vec<Result<Outcome>> = futures::stream::iter(outcomes).buffer_unordered(AT_ONCE).collect().await;
        let (mut rows_written, mut tables_rebuilt, mut tables_changed) = (0, 0, 0);
        for outcome in outcomes {
            match outcome? {
                Outcome::Unchanged => {}
                Outcome::Changed(rows) => (rows_written, tables_changed) = (rows_written + rows, tables_changed + 1),
                Outcome::Rebuilt(rows) => (rows_written, tables_rebuilt) = (rows_written + rows, tables_rebuilt + 1),
            }
        }
        let unchanged = tables_rebuilt + tables_changed == 0;
        Ok(Published { place: self.place(), rows_written, tables_rebuilt, tables_changed, unchanged })
    }

    async fn bring_up(&self, image: &Image, table: &TableImage, runs: &dyn ReadRun) -> Result<Outcome> {
        // With files that were of other rows, or damaged, everything is written again.
        let mut anew = false;
        for _ in 0..TRIES {
            let open = self.open(table).await?;
            open.check_owner(image, table)?;
            let same = open.fingerprint() == Some(&table.fingerprint);
            // Tables of a lake never go back: what is there is of a later epoch, of whatever SQL.
            if open.version_of_log() > Some(image.version) {
                return Ok(Outcome::Unchanged);
            }
            let keeps = same && !anew;
            let blocks = if keeps { open.blocks.as_slice() } else { &[] };
            let plan = Plan::of(blocks, &table.rows, most_rows(table));
            if keeps && plan.write.is_empty() && plan.keep.len() == blocks.len() && open.foreign.is_empty() {
                let hash = blocks.iter().fold(TableHash::EMPTY, |sum, block| sum.add(block.hash));
                if hash == table.content_hash {
                    return Ok(Outcome::Unchanged);
                }
            }
            let schema = types::schema(table)?;
            let mut commit = Commit::new(&open, image, table, &schema, keeps.then_some(plan.keep.as_slice()))?;
            let mut hash = plan.keep.iter().fold(TableHash::EMPTY, |sum, block| sum.add(blocks[*block].hash));
            for addresses in plan.write {
                match commit.write(&table.rows.between(addresses), runs).await {
                    Ok(of_block) => hash = hash.add(of_block),
                    Err(error) => {
                        commit.discard().await;
                        return Err(error);
                    }
                }
            }
            if hash != table.content_hash {
                commit.discard().await;
                if !keeps {
                    return Err(Error::NotAsRecorded { table: table.model() });
                }
                anew = true;
                continue;
            }
            let rows = commit.rows();
            if commit.put().await? {
                return Ok(if keeps { Outcome::Changed(rows) } else { Outcome::Rebuilt(rows) });
            }
        }
        Err(Error::Overtaken { tries: TRIES })
    }

    /// Gives every row of a table to `each`, in batches of the table's columns.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a table that is not there whole or has other columns, what `each` says, [`Error::Delta`] and
    /// any failure of the store.
    pub async fn read_table(
        &self,
        table: &TableImage,
        each: &mut (dyn FnMut(RecordBatch) -> Result<()> + Send),
    ) -> Result<()> {
        let open = self.open(table).await?;
        let unknown = || Error::UnknownTable { name: table.model(), nearest: None };
        let stored = types::schema(table)?;
        if open.names() != Some(stored.fields().iter().map(|field| field.name().clone()).collect()) {
            return Err(unknown());
        }
        for path in open.paths() {
            let bytes = self.store.get(&path).await?.ok_or_else(unknown)?;
            let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|reader| reader.build());
            for batch in batches.map_err(|_| unknown())? {
                let batch = batch.map_err(|_| unknown())?;
                if batch.num_columns() != stored.fields().len() {
                    return Err(unknown());
                }
                each(types::cast(&batch, &table.columns, &table.model())?)?;
            }
        }
        Ok(())
    }

    /// The rows as a table has them that keeps them: instants in whole microseconds.
    ///
    /// # Errors
    /// [`Error::UnsupportedColumn`] and [`Error::Column`] for what cannot be kept.
    pub(crate) fn as_kept(batch: &RecordBatch, table: &TableImage) -> Result<RecordBatch> {
        let kept = types::cast(batch, &types::schema(table)?, &table.model())?;
        types::cast(&kept, &table.columns, &table.model())
    }

    async fn open(&self, table: &TableImage) -> Result<Open> {
        let seen = self.seen().get(&table.model()).cloned();
        let at = self.root.clone().join(table.schema.as_str()).join(table.name.as_str());
        let open = Open::at(&self.store, at, seen).await?;
        if let Some(seen) = open.seen() {
            self.seen().insert(table.model(), seen);
        }
        Ok(open)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
