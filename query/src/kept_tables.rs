//! Tables in memory as Arrow, for whoever asks the same ones again and again.
//!
//! A table's runs are immutable, so what is kept of one is good for every version that has it: a refresh adds a run, and that alone
//! is read. A table is kept once it is asked for a second time, and read from its files before that; one that would take more than
//! half of the memory always is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, collect};
use parquet::arrow::arrow_reader::RowSelection;
use tokio::sync::OnceCell;

use crate::catalog;
use crate::parquet_table::Place;
use crate::rows::{Rows, Run};

/// Bytes of Arrow that a byte of a run may become; more is found out by reading it.
const GROWTH: u64 = 3;

/// Rows that are worth a thread of their own.
const WORTH_A_THREAD: usize = 65_536;

/// What is kept of one lake, within a limit. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TableMemory {
    limit: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    uses: u64,
    runs: HashMap<String, KeptRun>,
    /// Tables that were asked for.
    asked: HashMap<String, u64>,
}

struct KeptRun {
    batches: Arc<Vec<RecordBatch>>,
    bytes: usize,
    used: u64,
}

impl TableMemory {
    /// One of so many bytes; with 0, nothing is kept.
    pub(crate) fn of(limit: usize) -> Self {
        Self { limit, kept: Arc::default() }
    }

    /// A table that is kept if it is asked for again.
    pub(crate) fn table(&self, name: &str, columns: SchemaRef, rows: Rows) -> Arc<dyn TableProvider> {
        let files = catalog::rows(Arc::clone(&columns), &rows);
        match self.limit {
            0 => files,
            _ => Arc::new(KeptTable {
                name: name.to_owned(),
                columns,
                rows,
                files,
                memory: self.clone(),
                view: OnceCell::new(),
            }),
        }
    }

    /// Lets go of the runs that no table has any more.
    pub(crate) fn forget_others<'r>(&self, runs: impl Iterator<Item = &'r Run>) {
        let there: std::collections::HashSet<&str> = runs.map(|run| run.path.as_str()).collect();
        let mut kept = self.locked();
        kept.runs.retain(|path, _| there.contains(path.as_str()));
        kept.bytes = kept.runs.values().map(|run| run.bytes).sum();
    }

    /// Whether a table is asked for again.
    fn is_asked_again(&self, name: &str) -> bool {
        let mut kept = self.locked();
        let asked = kept.asked.entry(name.to_owned()).or_default();
        *asked += 1;
        *asked > 1
    }

    fn get(&self, run: &Run) -> Option<Arc<Vec<RecordBatch>>> {
        let mut kept = self.locked();
        kept.uses += 1;
        let uses = kept.uses;
        let found = kept.runs.get_mut(&run.path)?;
        found.used = uses;
        Some(Arc::clone(&found.batches))
    }

    /// Keeps a run; those that were not used for longest make room.
    fn put(&self, run: &Run, batches: &Arc<Vec<RecordBatch>>) {
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let mut kept = self.locked();
        kept.uses += 1;
        let kept_run = KeptRun { batches: Arc::clone(batches), bytes, used: kept.uses };
        let before = kept.runs.insert(run.path.clone(), kept_run).map_or(0, |before| before.bytes);
        kept.bytes = kept.bytes + bytes - before;
        while kept.bytes > self.limit {
            let oldest = kept.runs.iter().min_by_key(|(_, run)| run.used).map(|(path, _)| path.clone());
            let Some(gone) = oldest.and_then(|oldest| kept.runs.remove(&oldest)) else { break };
            kept.bytes -= gone.bytes;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table at one version.
struct KeptTable {
    name: String,
    columns: SchemaRef,
    rows: Rows,
    files: Arc<dyn TableProvider>,
    memory: TableMemory,
    /// Its rows, once they were read; `None` where they are too large.
    view: OnceCell<Option<Vec<RecordBatch>>>,
}

impl std::fmt::Debug for KeptTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl KeptTable {
    /// The table's rows, if they are to be in memory.
    async fn view(&self, state: &dyn Session) -> Result<Option<&[RecordBatch]>> {
        let bytes: u64 = self.rows.runs.iter().map(|run| run.bytes).sum();
        if bytes * GROWTH > self.memory.limit as u64 || !self.memory.is_asked_again(&self.name) {
            return Ok(None);
        }
        Ok(self.view.get_or_try_init(|| self.read(state)).await?.as_deref())
    }

    async fn read(&self, state: &dyn Session) -> Result<Option<Vec<RecordBatch>>> {
        let (mut view, mut bytes) = (Vec::new(), 0);
        for (run, selection) in self.rows.in_runs() {
            let batches = match self.memory.get(run) {
                Some(batches) => batches,
                None => Arc::new(self.read_run(run, state).await?),
            };
            bytes += batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
            if bytes > self.memory.limit / 2 {
                return Ok(None);
            }
            self.memory.put(run, &batches);
            match selection {
                None => view.extend(batches.iter().cloned()),
                Some(selection) => view.extend(selected(&batches, &selection)?),
            }
        }
        Ok(Some(view))
    }

    /// All rows of a run, those that are gone among them.
    async fn read_run(&self, run: &Run, state: &dyn Session) -> Result<Vec<RecordBatch>> {
        let rows = Rows { addresses: run.addresses(), runs: vec![run.clone()], ..Rows::default() };
        let files = catalog::rows_at(Place::Runs, Arc::clone(&self.columns), &rows);
        let plan = files.scan(state, None, &[], None).await?;
        let named = |batch: RecordBatch| Ok(RecordBatch::try_new(Arc::clone(&self.columns), batch.columns().to_vec())?);
        collect(plan, state.task_ctx()).await?.into_iter().map(named).collect()
    }
}

/// Some rows of a run.
fn selected(batches: &[RecordBatch], selection: &RowSelection) -> Result<Vec<RecordBatch>> {
    let mask = selection.iter().flat_map(|selector| std::iter::repeat_n(!selector.skip, selector.row_count));
    let mask = BooleanArray::from_iter(mask.map(Some));
    let (mut rows, mut first) = (Vec::new(), 0);
    for batch in batches {
        // What a selection leaves out at its end is not in it.
        let here = batch.num_rows().min(mask.len().saturating_sub(first));
        let of_batch = mask.slice(first, here);
        first += here;
        match of_batch.true_count() {
            0 => {}
            all if all == batch.num_rows() => rows.push(batch.clone()),
            _ => rows.push(filter_record_batch(&batch.slice(0, here), &of_batch)?),
        }
    }
    Ok(rows)
}

#[async_trait]
impl TableProvider for KeptTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        self.files.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.files.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(view) = self.view(state).await? else {
            return self.files.scan(state, projection, filters, limit).await;
        };
        let rows: usize = view.iter().map(RecordBatch::num_rows).sum();
        let threads = (rows / WORTH_A_THREAD).clamp(1, state.config().target_partitions());
        let parts: Vec<Vec<RecordBatch>> = match view.len() {
            0 => vec![Vec::new()],
            count => view.chunks(count.div_ceil(threads)).map(<[RecordBatch]>::to_vec).collect(),
        };
        let source = MemorySourceConfig::try_new(&parts, Arc::clone(&self.columns), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}
