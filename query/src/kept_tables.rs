//! Tables in memory as Arrow, for whoever asks the same ones again and again.
//!
//! A table's runs are immutable, so what is kept of one is good for every version that has it: a refresh adds a run, and that alone
//! is read. A table is kept once it is asked for a second time, and read from its files before that; one that would take more than
//! half of the memory always is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use parquet::arrow::arrow_reader::RowSelection;

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
    /// Bytes of the runs of tables that turned out to be too large.
    too_large: HashMap<String, u64>,
}

struct KeptRun {
    all: Arc<Vec<RecordBatch>>,
    /// Those of them that were asked for last.
    some: Option<(SelectionId, Arc<Vec<RecordBatch>>)>,
    bytes: usize,
    used: u64,
}

/// What tells the selections of one run apart.
type SelectionId = blake3::Hash;

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
                parts: OnceLock::new(),
                reading: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Lets go of the runs that no table has any more.
    pub(crate) fn forget_others<'r>(&self, runs: impl Iterator<Item = &'r Run>) {
        let there: HashSet<&str> = runs.map(|run| run.path.as_str()).collect();
        let mut kept = self.locked();
        kept.runs.retain(|path, _| there.contains(path.as_str()));
        kept.bytes = kept.runs.values().map(|run| run.bytes).sum();
    }

    /// Notes that a table, with runs of so many bytes, is asked for. Whether it is to be kept: it was asked for before, and is not known
    /// to be too large.
    fn note_asked(&self, name: &str, bytes: u64) -> bool {
        let mut kept = self.locked();
        let asked = kept.asked.entry(name.to_owned()).or_default();
        *asked += 1;
        let is_again = *asked > 1;
        is_again && bytes * GROWTH <= self.limit as u64 && kept.too_large.get(name).is_none_or(|large| bytes < *large)
    }

    fn note_too_large(&self, name: &str, bytes: u64) {
        self.locked().too_large.insert(name.to_owned(), bytes);
    }

    /// The rows of a part, and where not those, all that its run has.
    fn get(&self, part: &Part) -> Found {
        let mut kept = self.locked();
        kept.uses += 1;
        let uses = kept.uses;
        let Some(found) = kept.runs.get_mut(&part.run.path) else { return Found::Nothing };
        found.used = uses;
        match (&part.selection, &found.some) {
            (None, _) => Found::Rows(Arc::clone(&found.all)),
            (Some((id, _)), Some((of, rows))) if id == of => Found::Rows(Arc::clone(rows)),
            _ => Found::All(Arc::clone(&found.all)),
        }
    }

    /// Keeps a part; runs that were not used for longest make room.
    fn put(&self, part: &Part, all: &Arc<Vec<RecordBatch>>, rows: &Arc<Vec<RecordBatch>>) {
        let some = part.selection.as_ref().map(|(id, _)| (*id, Arc::clone(rows)));
        let bytes = bytes_of(all) + some.as_ref().map_or(0, |(_, rows)| bytes_of(rows));
        let mut kept = self.locked();
        kept.uses += 1;
        let run = KeptRun { all: Arc::clone(all), some, bytes, used: kept.uses };
        let before = kept.runs.insert(part.run.path.clone(), run).map_or(0, |before| before.bytes);
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

fn bytes_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::get_array_memory_size).sum()
}

enum Found {
    Rows(Arc<Vec<RecordBatch>>),
    All(Arc<Vec<RecordBatch>>),
    Nothing,
}

/// A table at one version. It holds no rows: those are the memory's, which may let go of them.
pub(crate) struct KeptTable {
    name: String,
    columns: SchemaRef,
    rows: Rows,
    files: Arc<dyn TableProvider>,
    memory: TableMemory,
    parts: OnceLock<Vec<Part>>,
    /// Held by who reads what is missing: others wait for that instead of reading it too.
    reading: tokio::sync::Mutex<()>,
}

/// What is the table's of a run.
struct Part {
    run: Run,
    /// `None` for all of its rows.
    selection: Option<(SelectionId, RowSelection)>,
}

impl std::fmt::Debug for KeptTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl KeptTable {
    fn parts(&self) -> &[Part] {
        self.parts.get_or_init(|| {
            let part = |(run, selection): (&Run, Option<RowSelection>)| {
                let selection = selection.map(|selection| (id_of(&selection), selection));
                Part { run: run.clone(), selection }
            };
            self.rows.in_runs().map(part).collect()
        })
    }

    /// The table's rows, if they are to be in memory.
    async fn in_memory(&self, state: &dyn Session) -> Result<Option<Vec<RecordBatch>>> {
        let bytes = self.parts().iter().map(|part| part.run.bytes).sum();
        if !self.memory.note_asked(&self.name, bytes) {
            return Ok(None);
        }
        if let Some(rows) = self.at_hand() {
            return Ok(Some(rows));
        }
        let _reading = self.reading.lock().await;
        let (mut rows, mut held) = (Vec::new(), 0);
        for part in self.parts() {
            let of_part = match self.memory.get(part) {
                Found::Rows(rows) => rows,
                found => {
                    let all = match found {
                        Found::All(all) => all,
                        _ => Arc::new(self.read_run(&part.run, state).await?),
                    };
                    let some = match &part.selection {
                        None => Arc::clone(&all),
                        Some((_, selection)) => Arc::new(selected(&all, selection)?),
                    };
                    // Without a selection they are the same.
                    held += part.selection.as_ref().map_or(0, |_| bytes_of(&all));
                    // Others are not to make room for what is read from its files after all.
                    if held <= self.memory.limit / 2 {
                        self.memory.put(part, &all, &some);
                    }
                    some
                }
            };
            held += bytes_of(&of_part);
            if held > self.memory.limit / 2 {
                self.memory.note_too_large(&self.name, bytes);
                return Ok(None);
            }
            rows.extend(of_part.iter().cloned());
        }
        Ok(Some(rows))
    }

    /// The table's rows, if all of them are in memory.
    fn at_hand(&self) -> Option<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        for part in self.parts() {
            let Found::Rows(of_part) = self.memory.get(part) else { return None };
            rows.extend(of_part.iter().cloned());
        }
        Some(rows)
    }

    /// Its rows and their bytes, if all of them are in memory and not more than so many bytes.
    pub(crate) fn size_at_hand(&self, most: usize) -> Option<(usize, usize)> {
        let (mut rows, mut bytes) = (0, 0);
        for part in self.parts() {
            let Found::Rows(of_part) = self.memory.get(part) else { return None };
            for batch in of_part.iter() {
                rows += batch.num_rows();
                bytes += batch.get_array_memory_size();
                if bytes > most {
                    return None;
                }
            }
        }
        Some((rows, bytes))
    }

    /// All rows of a run, those that are gone among them.
    async fn read_run(&self, run: &Run, state: &dyn Session) -> Result<Vec<RecordBatch>> {
        let rows = Rows { addresses: run.addresses(), runs: vec![run.clone()], ..Rows::default() };
        let files = catalog::rows_at(Place::Runs, Arc::clone(&self.columns), &rows);
        let plan = files.scan(state, None, &[], None).await?;
        let named = |batch: RecordBatch| Ok(RecordBatch::try_new(Arc::clone(&self.columns), batch.columns().to_vec())?);
        let read = collect(plan, state.task_ctx()).await?;
        put_together(&self.columns, read.into_iter().map(named).collect::<Result<_>>()?)
    }
}

/// Bytes of a batch that is kept: as many as a client is sent at once, so that it can be sent as it is.
const ENOUGH: usize = 2 << 20;

/// And its rows. Operators work on 8,192 at a time, and count for each of these slices the memory of the whole batch.
const MOST_ROWS: usize = 3 * 8_192;

/// Makes few batches of many: cutting one costs a plan nothing, and putting them together a copy.
fn put_together(columns: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let (mut whole, mut waiting, mut bytes, mut rows) = (Vec::new(), Vec::new(), 0, 0);
    for batch in batches {
        let (more_bytes, more_rows) = (batch.get_array_memory_size(), batch.num_rows());
        if (bytes + more_bytes > ENOUGH || rows + more_rows > MOST_ROWS) && !waiting.is_empty() {
            whole.push(concat_batches(columns, &std::mem::take(&mut waiting))?);
            (bytes, rows) = (0, 0);
        }
        (bytes, rows) = (bytes + more_bytes, rows + more_rows);
        waiting.push(batch);
    }
    if !waiting.is_empty() {
        whole.push(concat_batches(columns, &waiting)?);
    }
    Ok(whole)
}

/// Whether a plan does nothing but hand on what is in memory: then it need not cut it into the batches that operators work on.
pub(crate) fn hands_on(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<CoalescePartitionsExec>() {
        return plan.children().into_iter().all(hands_on);
    }
    is_in_memory(plan)
}

/// Whether a plan is rows in memory.
pub(crate) fn is_in_memory(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    source.is_some_and(|source| source.downcast_ref::<MemorySourceConfig>().is_some())
}

fn id_of(selection: &RowSelection) -> SelectionId {
    let mut hasher = blake3::Hasher::new();
    for selector in selection.iter() {
        hasher.update(&[u8::from(selector.skip)]).update(&selector.row_count.to_le_bytes());
    }
    hasher.finalize()
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
        let Some(batches) = self.in_memory(state).await? else {
            return self.files.scan(state, projection, filters, limit).await;
        };
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let threads = (rows / WORTH_A_THREAD).clamp(1, state.config().target_partitions());
        let parts: Vec<Vec<RecordBatch>> = match batches.len() {
            0 => vec![Vec::new()],
            count => batches.chunks(count.div_ceil(threads)).map(<[RecordBatch]>::to_vec).collect(),
        };
        let source = MemorySourceConfig::try_new(&parts, Arc::clone(&self.columns), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}
