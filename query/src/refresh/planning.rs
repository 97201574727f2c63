//! What a model's query reads at a refresh: which rows of its inputs, and whether those have changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::prelude::SessionContext;

use super::Inputs;
use crate::catalog::{self, BRONZE};
use crate::dataflow::run::TableChanges;
use crate::epoch::{Manifest, ModelState};
use crate::error::{Error, Result};
use crate::formats::twice;
use crate::models::{Model, TableName, row_checks};
use crate::seeds::{SEEDS, slot_of_all};
use crate::slots::{Filling, Slot};
use crate::sql::total_order::TotalOrder;

/// The rows of each model that went in a refresh.
pub(super) type Gone = BTreeMap<String, Vec<RecordBatch>>;

/// How a model's inputs have changed since the epoch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    None,
    /// Rows came or went.
    Changed,
    /// There is no epoch before, or another table had the name then.
    Another,
}

impl Growth {
    pub(super) fn of(inputs: &Inputs, model: &Model, now: &Manifest) -> Self {
        let Some(before) = &inputs.before else { return Self::Another };
        let of_reference = |reference: &TableName| {
            if reference.schema == BRONZE {
                return if events_came(inputs, now) { Self::Changed } else { Self::None };
            }
            let name = reference.to_string();
            match (before.models.get(&name), now.models.get(&name)) {
                (Some(old), Some(new)) if old.identity == new.identity && old.start == new.start => {
                    let same = (old.rows, old.content_hash, old.end()) == (new.rows, new.content_hash, new.end())
                        && old.deletions == new.deletions;
                    if same { Self::None } else { Self::Changed }
                }
                _ => Self::Another,
            }
        };
        let growths: Vec<_> = model.references.iter().map(of_reference).collect();
        [Self::Another, Self::Changed].into_iter().find(|growth| growths.contains(growth)).unwrap_or(Self::None)
    }
}

pub(super) fn events_came(inputs: &Inputs, now: &Manifest) -> bool {
    inputs.before.as_ref().is_none_or(|before| before.next_offset != now.next_offset)
}

/// A session for the models of one refresh, over slots, whose clock stands at the last version that brought rows.
pub(super) struct Planner {
    context: SessionContext,
    state: SessionState,
}

impl Planner {
    pub(super) fn new(inputs: &Inputs) -> Result<Self> {
        let context = catalog::session(&inputs.lake, &inputs.runs)?;
        let state = catalog::at(&context, inputs.snapshot.filled);
        Ok(Self { context, state })
    }

    pub(super) fn state(&self) -> &SessionState {
        &self.state
    }

    /// The analyzed query of a model, over slots for the tables that it reads.
    ///
    /// # Errors
    /// [`Error::Model`] for a query that does not plan.
    pub(super) async fn plan(&self, inputs: &Inputs, model: &Model, now: &Manifest) -> Result<LogicalPlan> {
        self.analyzed_by(self.state.analyzer(), inputs, model, now).await
    }

    /// The same without what is appended to orders that tie.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(super) async fn as_written(&self, inputs: &Inputs, model: &Model, now: &Manifest) -> Result<LogicalPlan> {
        let mut analyzer = self.state.analyzer().clone();
        analyzer.rules.retain(|rule| rule.name() != TotalOrder.name());
        self.analyzed_by(&analyzer, inputs, model, now).await
    }

    async fn analyzed_by(
        &self,
        analyzer: &Analyzer,
        inputs: &Inputs,
        model: &Model,
        now: &Manifest,
    ) -> Result<LogicalPlan> {
        for name in &model.references {
            let columns = match name.schema.as_str() {
                BRONZE => catalog::events_schema(&inputs.snapshot, &inputs.pinned),
                _ => match now.models.get(&name.to_string()) {
                    Some(parent) => parent.schema()?,
                    None => continue,
                },
            };
            catalog::register(&self.context, &name.schema, &name.name, Arc::new(Slot(columns)))?;
        }
        if let Some(seed) = &model.seed {
            return seed.query(&model.name.name);
        }
        let plan = self.state.create_logical_plan(&model.query).await.map_err(|error| unplannable(model, error))?;
        if let Some(wrong) = row_checks::wrong_in(model, &self.state, plan.schema()) {
            return Err(wrong);
        }
        let analyzed = analyzer.execute_and_check(plan, self.state.config_options(), |_, _| ());
        let analyzed = analyzed.map_err(|error| unplannable(model, error))?;
        match unfit_column(&analyzed) {
            Some((name, message, hint)) => Err(Error::Model {
                path: model.path.clone(),
                line: model.line_of(&name).unwrap_or(1),
                message,
                hint: Some(hint.to_owned()),
            }),
            None => Ok(analyzed),
        }
    }
}

/// A column that no table can have: its name, what is wrong with it, and what to write.
fn unfit_column(plan: &LogicalPlan) -> Option<(String, String, &'static str)> {
    let fields = plan.schema().fields();
    let unfit = fields.iter().find_map(|field| match field.data_type() {
        DataType::Interval(_) => Some((
            field.name().clone(),
            format!("column '{}' is an INTERVAL, which no table here can keep", field.name()),
            "CAST it to VARCHAR, or give its length as a number",
        )),
        DataType::Union(..) => Some((
            field.name().clone(),
            format!("column '{}' has values of JSON of any type, which no table here can keep", field.name()),
            "take them as text, -> or ->>, or by type, such as json_get_int",
        )),
        _ if field.name().is_empty() => {
            Some((String::new(), "a column has an empty name".to_owned(), "give it one: AS name"))
        }
        _ => None,
    });
    unfit.or_else(|| {
        let name = twice(fields)?;
        let hint = "give one of them another name: AS; or list the columns, where * takes them of two tables";
        Some((name.to_owned(), format!("two columns are called '{name}'"), hint))
    })
}

/// All rows of the seeds that a model reads, or is. They are what they are as long as its fingerprint is, so that a query over what
/// came or went elsewhere has them all.
async fn seeds(inputs: &Inputs, model: &Model, now: &Manifest) -> Result<Filling> {
    let mut filling = Filling::default();
    if let Some(seed) = &model.seed {
        filling.put(slot_of_all(&model.name.name), seed.table()?);
    }
    for name in model.references.iter().filter(|name| name.schema == SEEDS) {
        let seed = inputs.models.iter().find(|model| model.name == *name).and_then(|model| model.seed.as_ref());
        let rows = match (seed, now.models.get(&name.to_string())) {
            (Some(seed), _) => seed.table()?,
            // A test may give rows in a seed's place.
            (None, Some(parent)) => catalog::rows(parent.schema()?, &parent.stored(&inputs.runs).await?),
            (None, None) => continue,
        };
        filling.put(slot_of_all(&name.name), rows);
    }
    Ok(filling)
}

/// That nothing came and nothing went.
pub(super) async fn no_changes(inputs: &Inputs, model: &Model, now: &Manifest) -> Result<TableChanges> {
    let seeds = seeds(inputs, model, now).await?;
    Ok(TableChanges { added: seeds.clone(), gone: seeds })
}

/// All rows of the tables that a model reads.
pub(super) async fn everything(inputs: &Inputs, model: &Model, now: &Manifest) -> Result<Filling> {
    let mut filling = seeds(inputs, model, now).await?;
    for name in &model.references {
        if name.schema == BRONZE {
            filling.put(name.to_string(), catalog::events(&inputs.snapshot, &inputs.pinned, 0..now.next_offset)?);
        } else if let Some(parent) = now.models.get(&name.to_string()) {
            let rows = parent.stored(&inputs.runs).await?;
            filling.put(name.to_string(), catalog::rows(parent.schema()?, &rows));
        }
    }
    Ok(filling)
}

/// How many rows these tables have, about: the log's offsets count for events.
pub(super) fn rows_of_everything(model: &Model, now: &Manifest) -> u64 {
    let rows = model.references.iter().map(|name| match now.models.get(&name.to_string()) {
        Some(parent) => parent.rows,
        None => now.next_offset,
    });
    rows.sum()
}

/// The rows that the epoch before had of the tables that a model reads.
pub(super) async fn before(inputs: &Inputs, model: &Model) -> Result<Filling> {
    match &inputs.before {
        Some(before) => everything(inputs, model, before).await,
        None => Ok(Filling::default()),
    }
}

/// What has come to the tables that a model reads since the epoch before, and what has gone.
pub(super) async fn changes(inputs: &Inputs, model: &Model, now: &Manifest, gone: &Gone) -> Result<TableChanges> {
    let mut tables = no_changes(inputs, model, now).await?;
    let Some(before) = &inputs.before else { return Ok(tables) };
    for name in &model.references {
        let table = name.to_string();
        if name.schema == BRONZE {
            if events_came(inputs, now) {
                let offsets = before.next_offset..now.next_offset;
                tables.added.put(table, catalog::events(&inputs.snapshot, &inputs.pinned, offsets)?);
            }
            continue;
        }
        let Some(parent) = now.models.get(&table) else { continue };
        let end = before.models.get(&table).map_or(0, ModelState::end);
        if end < parent.end() {
            let rows = parent.stored(&inputs.runs).await?.since(end);
            tables.added.put(table.clone(), catalog::rows(parent.schema()?, &rows));
        }
        if let Some(gone) = gone.get(&table).filter(|gone| gone.iter().any(|batch| batch.num_rows() > 0)) {
            let gone: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(parent.schema()?, vec![gone.clone()])?);
            tables.gone.put(table, gone);
        }
    }
    Ok(tables)
}

/// The rows that an epoch has of the tables that a model reads, as changes one after the other of at most so many rows.
pub(super) async fn history(
    inputs: &Inputs,
    model: &Model,
    epoch: &Manifest,
    at_once: usize,
) -> Result<Vec<TableChanges>> {
    let (mut pieces, nothing) = (Vec::new(), no_changes(inputs, model, epoch).await?);
    let mut add = |name: &TableName, table: Arc<dyn TableProvider>| {
        let mut piece = nothing.clone();
        piece.added.put(name.to_string(), table);
        pieces.push(piece);
    };
    for name in &model.references {
        if name.schema == BRONZE {
            for from in (0..epoch.next_offset).step_by(at_once) {
                let offsets = from..epoch.next_offset.min(from + at_once as u64);
                add(name, catalog::events(&inputs.snapshot, &inputs.pinned, offsets)?);
            }
        } else if let Some(parent) = epoch.models.get(&name.to_string()) {
            let rows = parent.stored(&inputs.runs).await?;
            for from in (rows.addresses.start..rows.addresses.end).step_by(at_once) {
                let some = rows.between(from..rows.addresses.end.min(from + at_once as u64));
                if some.count() > 0 {
                    add(name, catalog::rows(parent.schema()?, &some));
                }
            }
        }
    }
    Ok(pieces)
}

/// A model's planning error, at the line that has the name in question.
pub(super) fn unplannable(model: &Model, error: DataFusionError) -> Error {
    let error = Error::planning(error, &[]);
    let message = error.to_string();
    // What a message is about it puts in quotes, here a name with its table or without.
    let quoted = message.split('\'').skip(1).step_by(2);
    let words = quoted.map(|name| name.rsplit('.').next().unwrap_or_default());
    let line = words.filter_map(|word| model.line_of(word)).next().unwrap_or(1);
    Error::Model { path: model.path.clone(), line, message, hint: error.hint() }
}
