//! Every row of a table, wherever it is kept.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt;
use lakebed_log::Store;
use tokio::sync::mpsc;

use crate::epoch::ModelState;
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::models::TableName;
use crate::run_files::StoredRuns;
use crate::sinks::delta::DeltaSink;
use crate::sinks::duckdb::DuckDbSink;
use crate::sinks::postgres::PostgresSink;
use crate::sinks::{EventsImage, ReadRun, TableImage};

/// Rows and their hash.
pub(crate) type Content = (u64, TableHash);

/// Takes the rows of a scan.
pub(super) type Each<'e> = dyn FnMut(RecordBatch) -> Result<()> + Send + 'e;

/// A place where the rows of a table are.
#[async_trait]
pub(super) trait Scan: Send + Sync {
    /// Gives every row to `each`, in batches of the table's columns.
    async fn scan(&self, each: &mut Each<'_>) -> Result<()>;
}

/// How many rows there are, and their hash.
pub(super) async fn content(scan: &dyn Scan) -> Result<Content> {
    let mut content = (0, TableHash::EMPTY);
    let mut each = |batch: RecordBatch| {
        content = (content.0 + batch.num_rows() as u64, content.1.add(TableHash::of_batch(&batch)?));
        Ok(())
    };
    scan.scan(&mut each).await?;
    Ok(content)
}

/// The runs of a model.
pub(super) struct Stored<'s> {
    pub(super) store: &'s Store,
    pub(super) state: &'s ModelState,
}

#[async_trait]
impl Scan for Stored<'_> {
    async fn scan(&self, each: &mut Each<'_>) -> Result<()> {
        let runs = StoredRuns(self.store.clone());
        for (run, rows) in self.state.stored(self.store).await?.in_runs() {
            let mut batches = runs.read(run, rows);
            while let Some(batch) = batches.try_next().await? {
                each(batch)?;
            }
        }
        Ok(())
    }
}

/// The runs of a model, as a sink has them that cannot keep every value as it is.
pub(super) struct AsKept<'s> {
    pub(super) stored: Stored<'s>,
    pub(super) table: &'s TableImage,
    pub(super) kept: fn(&RecordBatch, &TableImage) -> Result<RecordBatch>,
}

#[async_trait]
impl Scan for AsKept<'_> {
    async fn scan(&self, each: &mut Each<'_>) -> Result<()> {
        self.stored.scan(&mut |batch| each((self.kept)(&batch, self.table)?)).await
    }
}

/// A table of the published file.
pub(super) struct InDuckDb<'s>(pub(super) &'s DuckDbSink, pub(super) &'s TableName);

#[async_trait]
impl Scan for InDuckDb<'_> {
    async fn scan(&self, each: &mut Each<'_>) -> Result<()> {
        let (sink, name) = (self.0.clone(), self.1.clone());
        let (batches, mut read) = mpsc::channel(2);
        let reading = tokio::task::spawn_blocking(move || {
            // Who does not listen any more has failed, and says so.
            let mut send = |batch| batches.blocking_send(batch).map_err(|_| Error::Interrupted);
            sink.read_table(&name.schema, &name.name, &mut send)
        });
        while let Some(batch) = read.recv().await {
            each(batch)?;
        }
        reading.await?
    }
}

/// A table of the database.
pub(super) struct InPostgres<'s>(pub(super) &'s PostgresSink, pub(super) &'s TableImage);

#[async_trait]
impl Scan for InPostgres<'_> {
    async fn scan(&self, each: &mut Each<'_>) -> Result<()> {
        match self.0.read_table(self.1, each).await {
            Err(error) if error.is_missing_table() => Err(Error::UnknownTable { name: self.1.model(), nearest: None }),
            read => read,
        }
    }
}

/// A Delta table.
pub(super) struct InDelta<'s>(pub(super) &'s DeltaSink, pub(super) &'s TableImage);

#[async_trait]
impl Scan for InDelta<'_> {
    async fn scan(&self, each: &mut Each<'_>) -> Result<()> {
        self.0.read_table(self.1, each).await
    }
}

/// The events of the log as a table has them, without their documents: jsonb does not keep those byte for byte.
pub(super) struct Events<'s>(pub(super) &'s EventsImage);

#[async_trait]
impl Scan for Events<'_> {
    async fn scan(&self, each: &mut Each<'_>) -> Result<()> {
        let mut batches = self.0.source.read(0..self.0.next_offset);
        while let Some(batch) = batches.try_next().await? {
            each(PostgresSink::without_documents(&batch)?)?;
        }
        Ok(())
    }
}
