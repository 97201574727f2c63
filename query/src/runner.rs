//! Runs plans, and counts what they read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream, execute_stream_partitioned};
use futures::TryStreamExt;

use crate::error::{Error, Result};

/// What was read of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reading {
    /// Rows that were decoded.
    pub rows: u64,
    /// Bytes that were asked of the store.
    pub bytes: u64,
}

/// Runs plans in one session.
pub(crate) struct Runner {
    pub(crate) state: SessionState,
    rows: AtomicU64,
    bytes: AtomicU64,
    /// What is still running, or has been given up.
    streaming: Mutex<Vec<Arc<dyn ExecutionPlan>>>,
}

impl Runner {
    pub(crate) fn new(state: SessionState) -> Self {
        Self { state, rows: AtomicU64::new(0), bytes: AtomicU64::new(0), streaming: Mutex::default() }
    }

    /// A plan that is going to run, whose reading counts.
    ///
    /// # Errors
    /// Where it cannot be optimized.
    pub(crate) async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let physical = self.state.create_physical_plan(plan).await?;
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&physical));
        Ok(physical)
    }

    /// Starts a plan.
    ///
    /// # Errors
    /// Where it cannot be optimized or started.
    pub(crate) async fn stream(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        Ok(execute_stream(self.physical(plan).await?, self.state.task_ctx())?)
    }

    /// Starts a plan whose partitions are taken side by side.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub(crate) async fn streams(&self, plan: &LogicalPlan) -> Result<Vec<SendableRecordBatchStream>> {
        Ok(execute_stream_partitioned(self.physical(plan).await?, self.state.task_ctx())?)
    }

    /// All rows of a plan, in columns of these names and its own types.
    ///
    /// # Errors
    /// What goes wrong while it runs.
    pub(crate) async fn collected(&self, plan: &LogicalPlan, columns: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let physical = self.state.create_physical_plan(plan).await?;
        let mut rows = execute_stream(Arc::clone(&physical), self.state.task_ctx())?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await.map_err(Error::Execution)? {
            if batch.num_rows() > 0 {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let (_, arrays, _) = batch.into_parts();
                batches.push(RecordBatch::try_new_with_options(Arc::clone(columns), arrays, &options)?);
            }
        }
        self.count(physical.as_ref());
        Ok(batches)
    }

    fn count(&self, plan: &dyn ExecutionPlan) {
        let read = reading(plan);
        self.rows.fetch_add(read.rows, Ordering::Relaxed);
        self.bytes.fetch_add(read.bytes, Ordering::Relaxed);
    }

    /// What was read so far.
    pub(crate) fn reading(&self) -> Reading {
        for plan in std::mem::take(&mut *self.streaming.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.count(plan.as_ref());
        }
        Reading { rows: self.rows.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What the scans below a plan have read of files.
fn reading(plan: &dyn ExecutionPlan) -> Reading {
    let mut read = Reading::default();
    for child in plan.children() {
        let below = reading(child.as_ref());
        read.rows += below.rows;
        read.bytes += below.bytes;
    }
    if plan.children().is_empty()
        && let Some(metrics) = plan.metrics()
        && let Some(bytes) = metrics.sum_by_name("bytes_scanned")
    {
        read.bytes += bytes.as_usize() as u64;
        read.rows += metrics.output_rows().unwrap_or_default() as u64;
    }
    read
}
