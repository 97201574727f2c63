//! A refresh: every model from the epoch before to a version of the log, into runs, listed in one new manifest.

mod addresses;
mod anew;
mod appending;
mod comparing;
mod computed;
mod flowing;
mod planning;
pub(crate) mod shape;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::available_parallelism;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use lakebed_log::{Store, layout};
use tokio::task::JoinSet;

pub(crate) use self::addresses::put_addresses;
pub(crate) use self::computed::{Alone, Computed, Inputs, Remembered, Said, not_kept};
use self::planning::{Growth, Planner, events_came, unplannable};
use crate::dataflow::Dataflow;
use crate::epoch::{LAYOUT, Manifest, ModelState, columns_of, new_mark};
use crate::error::Result;
use crate::folding;
use crate::models::{Model, TableName};
use crate::run_files::{NewRuns, Written, stored_schema};
use crate::runner::Runner;
use crate::slots::Filling;
use crate::sql::total_order::unique_columns;
use crate::state_cache::{Entries, ModelCache, StateCache};
use crate::strategy::{self, NotDerived, Strategy};

/// Part of every fingerprint: raised when the same SQL over the same log would give other rows than before.
const ENGINE: &str = "7";

/// So many models are refreshed, or learn their history, side by side at most: each holds what changed of it.
const AT_ONCE: usize = 4;

/// Is told how far a refresh has come.
pub trait Progress: Send + Sync {
    /// The `done + 1`-th of `of` models begins.
    fn model(&self, _name: &str, _done: usize, _of: usize) {}

    /// An epoch of this number is stored, and can be read; the sinks are still to be brought up to it.
    fn stored(&self, _epoch: u64) {}

    /// A replay has taken up so many events of those that it takes up in all.
    fn replayed(&self, _events: u64, _of: u64) {}
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
    /// Rows that are there no more.
    pub rows_gone: u64,
    /// Rows of the table.
    pub rows: u64,
}

/// How many models are worked on side by side.
fn at_once() -> usize {
    available_parallelism().map_or(1, usize::from).min(AT_ONCE)
}

/// Computes every model as of the snapshot.
///
/// # Errors
/// [`crate::Error::Model`] for a query that does not plan or is no function of the log; whatever goes wrong while it runs.
pub(crate) async fn compute(inputs: &Arc<Inputs>, progress: &dyn Progress) -> Result<Computed> {
    let snapshot = &inputs.snapshot;
    let epoch = inputs.before.as_ref().map_or(0, |before| before.epoch) + 1;
    let (version, time, next_offset) = (snapshot.version, snapshot.time, snapshot.next_offset);
    let manifest = Manifest { layout: LAYOUT, epoch, version, time, next_offset, models: BTreeMap::new() };
    let mut computed = Computed::new(manifest);
    let planner = Planner::new(inputs)?;
    let mut strategies = BTreeMap::new();
    let (mut waiting, mut running) = (VecDeque::from(inputs.models.clone()), JoinSet::new());
    loop {
        while running.len() < at_once()
            && let Some(next) = waiting.iter().position(|model| computed.has_parents_of(model, inputs))
            && let Some(model) = waiting.remove(next)
        {
            let begun = inputs.models.len() - waiting.len() - 1;
            progress.model(&model.name.to_string(), begun, inputs.models.len());
            let refresh = ModelRefresh::plan(&planner, inputs, &model, &computed.manifest, &strategies).await?;
            strategies.insert(model.name.clone(), refresh.strategy.clone());
            let (inputs, mut part) = (Arc::clone(inputs), computed.parents_of(&model));
            running.spawn(async move {
                let done = refresh.run(&inputs, &mut part).await;
                done.map(|()| part).map_err(|error| error.of_model(&model))
            });
        }
        match running.join_next().await {
            Some(done) => {
                computed.take(done??);
                computed.put_rests(inputs);
            }
            None => break,
        }
    }
    computed.models.sort_by_key(|done| inputs.models.iter().position(|model| model.name.to_string() == done.name));
    let mark = new_mark();
    for model in &inputs.models {
        let state = computed.manifest.models.get_mut(&model.name.to_string());
        if let Some(state) = state.filter(|state| state.changed == epoch) {
            state.mark = Some(mark);
            let folded = folding::fold_if_many(&inputs.runs, &model.name, state).await?;
            computed.written.extend(folded.written);
        }
    }
    // What this refresh wrote and folded at once is in no epoch.
    let listed: HashSet<&str> = computed.manifest.models.values().flat_map(ModelState::objects).collect();
    let (kept, gone) = computed.written.drain(..).partition(|path| listed.contains(path.as_str()));
    computed.written = kept;
    let gone: Vec<String> = gone;
    for path in gone {
        inputs.runs.delete(&layout::stored(&path)).await?;
    }
    Ok(computed)
}

/// Has the operators of models learn what they have to know of the epoch `inputs.before`, so that the next refresh costs no
/// more than what changes. It may be left out: then that refresh does it. Models in `known` are left alone: what they have to
/// know is written by another.
///
/// # Errors
/// Whatever goes wrong in a query, the store or the cache.
pub(crate) async fn prepare(inputs: &Arc<Inputs>, known: &BTreeSet<String>) -> Result<()> {
    let (Some(manifest), Some(cache)) = (&inputs.before, &inputs.cache) else { return Ok(()) };
    let planner = Planner::new(inputs)?;
    let (mut strategies, mut waiting) = (BTreeMap::new(), VecDeque::new());
    for model in &inputs.models {
        let refresh = ModelRefresh::plan(&planner, inputs, model, manifest, &strategies).await?;
        strategies.insert(model.name.clone(), refresh.strategy.clone());
        let cache = refresh.cache(cache);
        let unlearnt = refresh.kept_up_to_date().is_some_and(|(_, state)| cache.stand() != Some(state.stand()));
        if unlearnt && !known.contains(&model.name.to_string()) {
            waiting.push_back((refresh, cache));
        }
    }
    // Whoever takes longest is not to be the last one, and alone.
    let rows = |refresh: &ModelRefresh| planning::rows_of_everything(&refresh.model, manifest);
    waiting.make_contiguous().sort_by_key(|(refresh, _)| Reverse(rows(refresh)));
    let mut learning = JoinSet::new();
    loop {
        while learning.len() < at_once()
            && let Some((refresh, cache)) = waiting.pop_front()
        {
            let inputs = Arc::clone(inputs);
            learning.spawn(async move {
                match refresh.kept_up_to_date() {
                    Some((flow, state)) => refresh.learn(&inputs, flow, state, &cache).await,
                    None => Ok(()),
                }
            });
        }
        match learning.join_next().await {
            Some(learnt) => learnt??,
            None => return Ok(()),
        }
    }
}

/// One model's refresh, planned.
struct ModelRefresh {
    model: Arc<Model>,
    strategy: Strategy,
    /// The operators that keep it up to date, if any do.
    flow: Option<Dataflow>,
    /// What gives the rows that come, where it is not the query as it is.
    appending: Option<LogicalPlan>,
    fingerprint: String,
    /// The hash of the statement alone.
    query: String,
    /// The query, analyzed, over slots.
    plan: LogicalPlan,
    /// Columns that no two rows share.
    unique: Vec<String>,
    /// Its rows hang on the time of the version.
    shows_time: bool,
    schema: SchemaRef,
    runner: Runner,
    /// The model's stored form in the epoch before, if it still stands for the same query.
    before: Option<ModelState>,
}

impl ModelRefresh {
    async fn plan(
        planner: &Planner,
        inputs: &Inputs,
        model: &Arc<Model>,
        now: &Manifest,
        strategies: &BTreeMap<TableName, Strategy>,
    ) -> Result<Self> {
        let plan = planner.plan(inputs, model, now).await?;
        let only_adds = |table: &str| {
            let parents = strategies.iter().find(|(name, _)| name.to_string() == table);
            parents.is_none_or(|(_, strategy)| strategy.only_adds())
        };
        let derived = strategy::derive(planner.state(), &plan, &only_adds).map_err(|error| match error {
            NotDerived::Refused(refused) => model.refused(refused),
            NotDerived::Failed(error) => unplannable(model, error),
        })?;
        let schema = stored_schema(plan.schema().as_arrow());
        let strategy = if model.seed.is_some() { Strategy::Seed } else { derived.strategy };
        let mut fingerprint = blake3::Hasher::new();
        fingerprint.update(ENGINE.as_bytes()).update(strategy.name().as_bytes()).update(model.query.as_bytes());
        for column in columns_of(&schema) {
            fingerprint.update(format!("\0{} {}", column.name, column.kind).as_bytes());
        }
        // Rows were computed of these, and `*`, NATURAL JOIN or a pin may make them others.
        for (name, kind) in &derived.log_columns {
            fingerprint.update(format!("\0\0{name} {kind}").as_bytes());
        }
        for parent in model.references.iter().map(ToString::to_string) {
            if let Some(stored) = now.models.get(&parent) {
                // What the state cache holds goes by whether rows go.
                fingerprint.update(stored.identity.as_bytes()).update(&[only_adds(&parent).into()]);
            }
        }
        let fingerprint = fingerprint.finalize().to_hex()[..32].to_owned();
        let before = inputs.before.as_ref().and_then(|before| before.models.get(&model.name.to_string()));
        let before = before.filter(|before| before.fingerprint == fingerprint).cloned();
        Ok(Self {
            model: Arc::clone(model),
            strategy,
            flow: derived.flow,
            appending: derived.appending,
            fingerprint,
            query: model.statement_hash(),
            unique: unique_columns(&plan),
            shows_time: strategy::shows_time(&plan),
            plan,
            schema,
            runner: Runner::new(planner.state().clone()),
            before,
        })
    }

    /// Refuses a query that DataFusion analyzes and has no operators for, unless it has run before.
    async fn refuse_what_cannot_run(&self) -> Result<()> {
        if self.before.is_none() && self.model.seed.is_none() {
            let without_rows = Filling::default().bind_or_empty(&self.plan)?;
            let planned = self.runner.state.create_physical_plan(&without_rows).await;
            planned.map_err(|error| unplannable(&self.model, error))?;
        }
        Ok(())
    }

    async fn run(self, inputs: &Inputs, computed: &mut Computed) -> Result<()> {
        let name = self.model.name.to_string();
        let growth = match Growth::of(inputs, &self.model, &computed.manifest) {
            // Its rows are what they were, and the time is another.
            Growth::None if self.shows_time && events_came(inputs, &computed.manifest) => Growth::Changed,
            growth => growth,
        };
        let cache = inputs.cache.as_ref().map(|cache| self.cache(cache));
        let mut state = match (&self.before, &self.flow, cache) {
            (Some(before), ..) if growth == Growth::None => before.clone(),
            (Some(before), None, _) if self.strategy.only_adds() => self.appended(inputs, before, computed).await?,
            (Some(before), Some(flow), Some(cache)) => self.flowed(inputs, flow, before, &cache, computed).await?,
            (Some(before), flow, _) => {
                computed.unlearnt |= flow.is_some();
                self.compared(inputs, before, computed).await?
            }
            (None, ..) => self.anew(inputs, computed).await?,
        };
        let touched = state.changed == computed.manifest.epoch;
        if touched {
            state.work.read = self.runner.reading();
        }
        let (strategy, rows) = (self.strategy.name(), state.rows);
        let (rows_written, rows_gone) = if touched { (state.work.added, state.work.gone) } else { (0, 0) };
        computed.models.push(ModelRefreshed { name: name.clone(), strategy, rows_written, rows_gone, rows });
        computed.manifest.models.insert(name, state);
        Ok(())
    }

    fn cache(&self, cache: &StateCache) -> ModelCache {
        model_cache(cache, &self.model.name.to_string(), &self.fingerprint)
    }

    /// Its operators and the state that they are to know the history of, if it has both.
    fn kept_up_to_date(&self) -> Option<(&Dataflow, &ModelState)> {
        self.flow.as_ref().zip(self.before.as_ref())
    }

    fn warn_of_broken_cache(&self) {
        tracing::warn!(model = %self.model.name, "its state cache is made anew");
    }

    /// Writes rows behind all that were ever written under this fingerprint; the hashes of at most so many are handed on.
    async fn write_rows(
        &self,
        inputs: &Inputs,
        rows: SendableRecordBatchStream,
        hashes: usize,
        computed: &mut Computed,
    ) -> Result<Written> {
        let first = self.before.as_ref().map_or(0, ModelState::end);
        let written = self.new_runs(inputs, hashes).write(first, rows).await?;
        computed.written.extend(written.runs.iter().map(|run| run.path.clone()));
        Ok(written)
    }

    fn new_runs(&self, inputs: &Inputs, hashes: usize) -> NewRuns {
        let (store, name) = (inputs.runs.clone(), self.model.name.clone());
        NewRuns { store, name, fingerprint: self.fingerprint.clone(), schema: Arc::clone(&self.schema), hashes }
    }

    fn remember(&self, entries: Entries, said: Said, computed: &mut Computed) {
        let model = self.model.name.to_string();
        computed.remembered.push(Remembered { model, fingerprint: self.fingerprint.clone(), entries, said });
    }

    async fn stream(&self, plan: &LogicalPlan, tables: &Filling) -> Result<SendableRecordBatchStream> {
        self.runner.stream(&tables.bind_or_empty(plan)?).await
    }
}

/// What the cache holds of a model. Another release may take the same query apart in another way.
pub(crate) fn model_cache(cache: &StateCache, model: &str, fingerprint: &str) -> ModelCache {
    let release = format!("{fingerprint}/{}/{}", env!("CARGO_PKG_VERSION"), datafusion::DATAFUSION_VERSION);
    cache.model(model, &release)
}

/// Deletes the runs of a refresh that nobody will ever list.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn discard(store: &Store, computed: &Computed) -> Result<()> {
    for path in &computed.written {
        store.delete(&layout::stored(path)).await?;
    }
    Ok(())
}
