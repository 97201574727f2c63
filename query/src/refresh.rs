//! A refresh: every model from the epoch before to a version of the log, into runs, listed in one new manifest.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use datafusion::common::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use datafusion::prelude::SessionContext;
use lakebed_log::{ColumnType, Snapshot, Store};

use crate::catalog::{self, BRONZE};
use crate::epoch::{Manifest, ModelState, columns_of};
use crate::error::{Error, Result};
use crate::first_wins::{self, FirstRows};
use crate::folding;
use crate::models::{Model, TableName};
use crate::run_files::{self, Written, stored_schema};
use crate::sinks::Run;
use crate::state_cache::StateCache;
use crate::strategy::{self, Refused, Strategy};

/// Part of every fingerprint: raised when the same SQL over the same log would give other rows than before.
const ENGINE: &str = "2";

/// Is told how far a refresh has come.
pub trait Progress: Send + Sync {
    /// The `done + 1`-th of `of` models begins.
    fn model(&self, _name: &str, _done: usize, _of: usize) {}
}

impl Progress for () {}

/// What a refresh did to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRefreshed {
    /// `schema.name`.
    pub name: String,
    /// The strategy's word.
    pub strategy: &'static str,
    /// Rows that were written.
    pub rows_written: u64,
    /// Rows of the table.
    pub rows: u64,
}

/// Everything that a refresh reads.
pub(crate) struct Inputs<'a> {
    pub(crate) models: &'a [Model],
    pub(crate) pinned: &'a [(String, ColumnType)],
    pub(crate) snapshot: &'a Snapshot,
    /// The epoch to start from; without one everything is computed from version 0.
    pub(crate) before: Option<&'a Manifest>,
    /// Which keys were seen before; without it they are read from the log.
    pub(crate) cache: Option<&'a StateCache>,
    /// Holds the log.
    pub(crate) lake: &'a Store,
    /// Takes the runs: the lake's store, or a replay's own.
    pub(crate) runs: &'a Store,
}

/// A refresh that is computed and not yet there for anybody.
pub(crate) struct Computed {
    pub(crate) manifest: Manifest,
    pub(crate) models: Vec<ModelRefreshed>,
    pub(crate) keys: Vec<NewKeys>,
    /// Runs that this refresh wrote.
    pub(crate) written: Vec<Run>,
}

/// Keys to be remembered once the manifest is there.
pub(crate) struct NewKeys {
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    pub(crate) keys: Vec<u128>,
    /// The model was computed from nothing: what the cache holds of it goes.
    pub(crate) anew: bool,
}

/// Computes every model as of the snapshot.
///
/// # Errors
/// [`Error::Model`] for a query that does not plan or is no function of the log; whatever goes wrong while it runs.
pub(crate) async fn compute(inputs: &Inputs<'_>, progress: &dyn Progress) -> Result<Computed> {
    let snapshot = inputs.snapshot;
    let epoch = inputs.before.map_or(0, |before| before.epoch) + 1;
    let (version, time, next_offset) = (snapshot.version, snapshot.time, snapshot.next_offset);
    let manifest = Manifest { epoch, version, time, next_offset, models: BTreeMap::new() };
    let mut computed = Computed { manifest, models: Vec::new(), keys: Vec::new(), written: Vec::new() };
    let mut strategies = BTreeMap::new();
    for (done, model) in inputs.models.iter().enumerate() {
        progress.model(&model.name.to_string(), done, inputs.models.len());
        let refresh = ModelRefresh::plan(inputs, model, &computed.manifest, &strategies).await?;
        strategies.insert(model.name.clone(), refresh.strategy.clone());
        refresh.run(inputs, &mut computed).await?;
    }
    // Only now: what reads a table has taken up its new runs by their place in the list.
    for model in inputs.models {
        let state = computed.manifest.models.get_mut(&model.name.to_string());
        if let Some(state) = state.filter(|state| state.changed == epoch)
            && let Some(run) = folding::fold_if_many(inputs.runs, &model.name, state).await?
        {
            // What this refresh wrote and folded at once is in no epoch.
            let is_folded = |written: &Run| run.folded.iter().any(|part| part.path == written.path);
            for gone in computed.written.extract_if(.., |written| is_folded(written)) {
                inputs.runs.delete(&gone.path.into()).await?;
            }
            computed.written.push(run);
        }
    }
    Ok(computed)
}

/// One model's refresh, planned.
struct ModelRefresh<'a> {
    model: &'a Model,
    strategy: Strategy,
    fingerprint: String,
    /// The query over everything.
    plan: LogicalPlan,
    /// Its rows hang on the time of the version.
    shows_time: bool,
    schema: arrow::datatypes::SchemaRef,
    state: SessionState,
    /// The model's stored form in the epoch before, if it still stands for the same query.
    before: Option<&'a ModelState>,
}

/// Which rows of its inputs a query runs over.
#[derive(Clone, Copy)]
enum Over {
    Everything,
    /// What came after the epoch before.
    New,
    /// What the epoch before had.
    Old,
}

impl<'a> ModelRefresh<'a> {
    async fn plan(
        inputs: &Inputs<'a>,
        model: &'a Model,
        now: &Manifest,
        strategies: &BTreeMap<TableName, Strategy>,
    ) -> Result<Self> {
        let (state, plan) = plan_over(inputs, model, now, Over::Everything).await?;
        let strategy = strategy::derive(&plan, strategies).map_err(|refused| in_model(model, refused))?;
        let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| ());
        let analyzed = analyzed.map_err(|error| unplannable(model, error))?;
        let schema = stored_schema(analyzed.schema().as_arrow());
        let mut fingerprint = blake3::Hasher::new();
        fingerprint.update(ENGINE.as_bytes()).update(model.normalized.as_bytes());
        for column in columns_of(&schema) {
            fingerprint.update(format!("\0{} {}", column.name, column.kind).as_bytes());
        }
        for parent in model.references.iter().filter_map(|parent| now.models.get(&parent.to_string())) {
            fingerprint.update(parent.fingerprint.as_bytes());
        }
        let fingerprint = fingerprint.finalize().to_hex()[..32].to_owned();
        let before = inputs.before.and_then(|before| before.models.get(&model.name.to_string()));
        let before = before.filter(|before| before.fingerprint == fingerprint && before.strategy == strategy.name());
        let shows_time = strategy::shows_time(&plan);
        Ok(Self { model, strategy, fingerprint, plan, shows_time, schema, state, before })
    }

    async fn run(self, inputs: &Inputs<'a>, computed: &mut Computed) -> Result<()> {
        let name = self.model.name.to_string();
        let growth = match Growth::of(inputs, self.model, &computed.manifest) {
            // Its rows are what they were, and the time is another.
            Growth::None if self.shows_time && events_came(inputs, &computed.manifest) => Growth::Rewritten,
            growth => growth,
        };
        let (state, rows_written) = match self.before {
            Some(before) if growth == Growth::None => (before.clone(), 0),
            Some(before) if growth == Growth::Added && self.strategy.only_adds() => {
                let (_, plan) = plan_over(inputs, self.model, &computed.manifest, Over::New).await?;
                let added = self.write(inputs, plan, false, computed).await?;
                let rows = added.rows;
                (self.grown(before, added, computed.manifest.epoch), rows)
            }
            before => {
                let written = self.write(inputs, self.plan.clone(), true, computed).await?;
                let rows = written.rows;
                (self.replaced(inputs, before, written, computed).await?, rows)
            }
        };
        let (strategy, rows) = (self.strategy.name(), state.rows);
        computed.models.push(ModelRefreshed { name: name.clone(), strategy, rows_written, rows });
        computed.manifest.models.insert(name, state);
        Ok(())
    }

    /// Runs the query and writes its rows as runs.
    async fn write(
        &self,
        inputs: &Inputs<'_>,
        plan: LogicalPlan,
        anew: bool,
        computed: &mut Computed,
    ) -> Result<Written> {
        let plan = match self.strategy {
            Strategy::Append { first_wins: true } => self.first_rows_only(inputs, plan, anew, computed).await?,
            _ => plan,
        };
        let rows = self.stream(&plan).await?;
        let written = run_files::write(inputs.runs, &self.model.name, &self.fingerprint, &self.schema, rows).await?;
        computed.written.extend(written.runs.iter().cloned());
        Ok(written)
    }

    /// The plan with the rows left out whose key came before, among the new rows or in an earlier epoch.
    async fn first_rows_only(
        &self,
        inputs: &Inputs<'_>,
        plan: LogicalPlan,
        anew: bool,
        computed: &mut Computed,
    ) -> Result<LogicalPlan> {
        let mut first = FirstRows::default();
        first.read(self.stream(&first_wins::keys_and_offsets(&plan)?).await?).await?;
        let keys = first.keys();
        let seen = match self.before {
            Some(before) if !anew => self.seen(inputs, before, &keys, &computed.manifest).await?,
            _ => vec![false; keys.len()],
        };
        let (later, keys) = first.finish(keys, &seen);
        let (model, fingerprint) = (self.model.name.to_string(), self.fingerprint.clone());
        computed.keys.push(NewKeys { model, fingerprint, keys, anew });
        first_wins::without_window(plan, &later)
    }

    /// Which keys were seen by the epoch before: from the cache, or where it is not there or not up to date, from the log.
    async fn seen(&self, inputs: &Inputs<'_>, before: &ModelState, keys: &[u128], now: &Manifest) -> Result<Vec<bool>> {
        let name = self.model.name.to_string();
        let cached = inputs.cache.map(|cache| cache.keys(&name, &self.fingerprint)).transpose()?;
        if let Some(cached) = &cached
            && cached.epoch()? == Some(before.changed)
        {
            return cached.seen(keys);
        }
        let (_, old) = plan_over(inputs, self.model, now, Over::Old).await?;
        let mut first = FirstRows::default();
        first.read(self.stream(&first_wins::keys_and_offsets(&old)?).await?).await?;
        let old = first.keys();
        let known: HashSet<u128> = old.iter().copied().collect();
        if let Some(cached) = cached {
            cached.clear()?;
            cached.add(old, before.changed)?;
        }
        Ok(keys.iter().map(|key| known.contains(key)).collect())
    }

    fn grown(&self, before: &ModelState, added: Written, epoch: u64) -> ModelState {
        let mut state = before.clone();
        state.changed = epoch;
        state.rows += added.rows;
        state.content_hash = state.content_hash.add(added.hash);
        state.runs.extend(added.runs);
        state
    }

    /// The state after a computation from nothing. If it gave the rows that were there, they stay what they are, and
    /// nothing that reads them is computed again.
    async fn replaced(
        &self,
        inputs: &Inputs<'_>,
        before: Option<&ModelState>,
        written: Written,
        computed: &mut Computed,
    ) -> Result<ModelState> {
        let epoch = computed.manifest.epoch;
        if let Some(before) = before.filter(|before| before.rows == written.rows && before.content_hash == written.hash)
        {
            for run in &written.runs {
                inputs.runs.delete(&run.path.as_str().into()).await?;
            }
            computed.written.retain(|run| !written.runs.contains(run));
            return Ok(ModelState { changed: epoch, ..before.clone() });
        }
        Ok(ModelState {
            fingerprint: self.fingerprint.clone(),
            strategy: self.strategy.name().to_owned(),
            changed: epoch,
            columns: columns_of(&self.schema),
            runs: written.runs,
            rows: written.rows,
            content_hash: written.hash,
        })
    }

    async fn stream(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.state.create_physical_plan(plan).await.map_err(|error| unplannable(self.model, error))?;
        Ok(execute_stream(physical, self.state.task_ctx())?)
    }
}

/// How a model's inputs have changed since the epoch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    None,
    /// Rows came, none changed or went.
    Added,
    Rewritten,
}

impl Growth {
    fn of(inputs: &Inputs<'_>, model: &Model, now: &Manifest) -> Self {
        let Some(before) = inputs.before else { return Self::Rewritten };
        let of_reference = |reference: &TableName| {
            if reference.schema == BRONZE {
                return if events_came(inputs, now) { Self::Added } else { Self::None };
            }
            match (runs_of(before, reference), runs_of(now, reference)) {
                (old, new) if old == new => Self::None,
                (old, new) if new.starts_with(old) => Self::Added,
                _ => Self::Rewritten,
            }
        };
        let growths: Vec<_> = model.references.iter().map(of_reference).collect();
        [Self::Rewritten, Self::Added].into_iter().find(|growth| growths.contains(growth)).unwrap_or(Self::None)
    }
}

fn events_came(inputs: &Inputs<'_>, now: &Manifest) -> bool {
    inputs.before.is_none_or(|before| before.next_offset != now.next_offset)
}

fn runs_of<'m>(manifest: &'m Manifest, name: &TableName) -> &'m [Run] {
    manifest.models.get(&name.to_string()).map_or(&[], |state| &state.runs)
}

/// Plans a model's query in a session of its own, whose clock stands at the time of the last version that brought rows.
async fn plan_over(
    inputs: &Inputs<'_>,
    model: &Model,
    now: &Manifest,
    over: Over,
) -> Result<(SessionState, LogicalPlan)> {
    let context = catalog::session(inputs.lake, inputs.runs)?;
    for reference in &model.references {
        register(&context, inputs, reference, now, over)?;
    }
    let state = catalog::at(&context, inputs.snapshot.filled);
    let plan = state.create_logical_plan(&model.sql).await.map_err(|error| unplannable(model, error))?;
    Ok((state, plan))
}

fn register(context: &SessionContext, inputs: &Inputs<'_>, name: &TableName, now: &Manifest, over: Over) -> Result<()> {
    let bound = inputs.before.map_or(0, |before| before.next_offset);
    let table = if name.schema == BRONZE {
        let offsets: Range<u64> = match over {
            Over::Everything => 0..now.next_offset,
            Over::New => bound..now.next_offset,
            Over::Old => 0..bound,
        };
        catalog::events(inputs.snapshot, inputs.pinned, offsets)?
    } else {
        let Some(parent) = now.models.get(&name.to_string()) else { return Ok(()) };
        let old = inputs.before.map_or(&[][..], |before| runs_of(before, name));
        let runs = match over {
            Over::Everything => &parent.runs[..],
            Over::New => parent.runs.get(old.len()..).unwrap_or_default(),
            Over::Old => old,
        };
        catalog::runs(parent.schema()?, runs)
    };
    catalog::register(context, &name.schema, &name.name, table)
}

/// A model's planning error, at the line that has the name in question.
fn unplannable(model: &Model, error: DataFusionError) -> Error {
    let error = Error::planning(error, &[]);
    let message = error.to_string();
    // What a message is about it puts in quotes, here a name with its table or without.
    let quoted = message.split('\'').skip(1).step_by(2);
    let words = quoted.map(|name| name.rsplit('.').next().unwrap_or_default());
    let line = words.filter_map(|word| model.line_of(word)).next().unwrap_or(1);
    Error::Model { path: model.path.clone(), line, message, hint: error.hint() }
}

fn in_model(model: &Model, refused: Refused) -> Error {
    let hint = Some("say which rows, by ORDER BY or by values that are in the events".to_owned());
    let line = model.line_of(&refused.word).unwrap_or(1);
    Error::Model { path: model.path.clone(), line, message: refused.message, hint }
}

/// Deletes the runs of a refresh that nobody will ever list.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn discard(store: &Store, computed: &Computed) -> Result<()> {
    for run in &computed.written {
        store.delete(&run.path.as_str().into()).await?;
    }
    Ok(())
}
