//! Which events the rows of a table come from: every table is a function of the log, and its query is run once more with what each row
//! comes from beside it.

mod functions;
mod joins;
mod origins;
mod rewrite;
mod values;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::TryStreamExt;
use lakebed_log::{Snapshot, schema};
use roaring::RoaringTreemap;

use self::functions::{is_among, version_of};
use self::origins::Origins;
use self::rewrite::{Trace, Untraced, columns, origin};
pub use self::values::{ColumnValue, InvalidColumnValue};
use crate::catalog::{self, BRONZE, EVENTS};
use crate::error::{Error, Result, fault_of_a_query, nearest};
use crate::lakehouse::{AsOf, Lakehouse};
use crate::refresh::Inputs;
use crate::refresh::shape::{Look, Shape, shapes};

/// The rows that are asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// `schema.name` of a model.
    pub model: String,
    /// The values that they have.
    pub values: Vec<ColumnValue>,
    /// The version that they are of; by default that of the newest epoch.
    pub as_of: Option<AsOf>,
}

/// The events that some rows come from.
pub struct Why {
    /// The version of the log that the rows are of.
    pub version: u64,
    /// How many rows they are, at least one.
    pub rows: u64,
    offsets: RoaringTreemap,
    lakehouse: Lakehouse,
    snapshot: Snapshot,
}

/// The columns of an event that is answered, but for the version and the document.
const SHOWN: [&str; 5] = [schema::OFFSET, schema::EVENT_ID, schema::EVENT_TYPE, schema::EVENT_TIME, schema::SOURCE];

impl Lakehouse {
    /// Finds the rows of a model that have some values, by its SQL as it is now, and the events that they come from.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] and [`Error::UnknownColumn`] with the nearest name; [`Error::Unanswered`] for a value that is not
    /// of its column's type, where no row has these values, and for a query of which it cannot be told; [`Error::Model`] for one that does
    /// not plan; any failure of the store.
    pub async fn why(&self, question: &Question) -> Result<Why> {
        if question.model == format!("{BRONZE}.{EVENTS}") {
            let message = format!("{} is the log itself: its rows are the events", question.model);
            let hint = "ask for them with `lakebed query`, or name a model".to_owned();
            return Err(Error::Unanswered { message, hint });
        }
        if let Some(seed) = self.project().models.iter().find(|model| model.name.to_string() == question.model)
            && seed.seed.is_some()
        {
            let message = format!("{} is a seed: its rows are those of {}", question.model, seed.path.display());
            let hint =
                "ask about a model that reads it: its rows come from the events that they were joined with".to_owned();
            return Err(Error::Unanswered { message, hint });
        }
        let traced = self.traced(&question.model, question.as_of).await?;
        let (rows, found) = traced.found(&question.values).await?;
        let Traced { shape, origins, snapshot, .. } = traced;
        if rows == 0 {
            return Err(no_row(question, snapshot.version, &shape.model.key));
        }
        Ok(Why { version: snapshot.version, rows, offsets: origins.offsets(found), lakehouse: self.clone(), snapshot })
    }

    async fn traced(&self, model: &str, as_of: Option<AsOf>) -> Result<Traced> {
        let only = [model.to_owned()];
        self.check_names(&only)?;
        let snapshot = self.snapshot_to_read(as_of).await?;
        let inputs = self.inputs(&snapshot, None, None, self.log().store());
        let inputs = Inputs { models: self.with_ancestors(&only), ..inputs };
        let mut shapes = shapes(&inputs, Look::Plan).await?;
        let session = Session::new(&inputs)?;
        let (events, origins) =
            (all_of(catalog::events(&snapshot, &inputs.pinned, 0..snapshot.next_offset)?)?, Origins::default());
        // Parents come before children, and nothing reads the model itself.
        let shape = shapes.pop().ok_or_else(|| Error::UnknownTable { name: model.to_owned(), nearest: None })?;
        let models = shapes.iter().map(|shape| (shape.model.name.to_string(), shape)).collect();
        let state = &session.joining;
        let mut trace = Trace { state, models, events, origins: origins.clone(), named: 0 };
        let plan = trace.model(&shape).map_err(|untraced| untraced.of(&shape))?;
        Ok(Traced { shape, plan, origins, session, snapshot })
    }
}

/// The plan of a table that is a view.
fn all_of(table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let plan = table.get_logical_plan().map(Cow::into_owned);
    Ok(plan.map_or_else(|| LogicalPlanBuilder::empty(false).build(), Ok)?)
}

/// That no row has the values of a question.
fn no_row(question: &Question, version: u64, key: &[String]) -> Error {
    let (model, values) = (&question.model, question.values.iter().map(ToString::to_string).collect::<Vec<_>>());
    let message = format!("{model} has no row where {}, as of version {version}", values.join(" AND "));
    let key = key.join(", ");
    let hint = match key.is_empty() {
        true => format!("look at its rows: `lakebed query 'SELECT * FROM {model} LIMIT 10'`"),
        false => format!("its key is {key}: `lakebed query 'SELECT {key} FROM {model}'` has the values that are there"),
    };
    Error::Unanswered { message, hint }
}

impl Untraced {
    fn of(self, shape: &Shape) -> Error {
        match self {
            Self::Part(part) => {
                let name = &shape.model.name;
                let message = format!("which events the rows of {name} come from cannot be told: it has {part}");
                let hint = "ask about a model that it reads, or write that part with joins, groups and windows";
                Error::Unanswered { message, hint: hint.to_owned() }
            }
            Self::Failed(error) => Error::from(error).of_model(&shape.model),
        }
    }
}

/// Where queries are run whose clock is that of a version.
struct Session {
    state: SessionState,
    /// The same, of which no subquery is left by itself.
    joining: SessionState,
}

impl Session {
    fn new(inputs: &Inputs) -> Result<Self> {
        let context = catalog::session(&inputs.lake, &inputs.runs)?;
        let state = catalog::at(&context, inputs.snapshot.filled);
        let mut joining = state.clone();
        joining.config_mut().options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        Ok(Self { state, joining })
    }

    async fn stream(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.state.create_physical_plan(plan).await?;
        Ok(execute_stream(physical, self.state.task_ctx())?)
    }
}

/// A model's rows, with what they come from.
struct Traced {
    shape: Shape,
    /// The model's columns, and the origins.
    plan: LogicalPlan,
    origins: Origins,
    session: Session,
    snapshot: Snapshot,
}

impl Traced {
    /// How many rows have some values, and what they come from.
    async fn found(&self, values: &[ColumnValue]) -> Result<(u64, Vec<i64>)> {
        let failed = |error: Error| error.of_model(&self.shape.model);
        match self.counted(&self.asked(values)?).await {
            // A condition that comes below a join may meet a value that the join keeps from it: then it is asked of whole rows.
            Err(Error::Execution(error)) if fault_of_a_query(&error).is_some() => {
                let marked = [self.condition(values)?.alias("asked"), origin(&self.plan)];
                let all = LogicalPlanBuilder::from(self.plan.clone()).project(marked)?.build()?;
                self.counted(&all).await.map_err(failed)
            }
            counted => counted.map_err(failed),
        }
    }

    /// The rows that have some values: that they are asked about, and what they come from.
    fn asked(&self, values: &[ColumnValue]) -> Result<LogicalPlan> {
        let rows = LogicalPlanBuilder::from(self.plan.clone()).filter(self.condition(values)?)?;
        Ok(rows.project([lit(true).alias("asked"), origin(&self.plan)])?.build()?)
    }

    /// That a row has these values, as it is stored.
    fn condition(&self, values: &[ColumnValue]) -> Result<Expr> {
        let (stored, all) = (self.shape.state.schema()?, columns(self.plan.schema()));
        let mut conditions = Vec::new();
        for asked in values {
            let Ok(at) = stored.index_of(&asked.column) else {
                let known = stored.fields().iter().map(|field| field.name().clone());
                return Err(Error::UnknownColumn {
                    name: asked.column.clone(),
                    nearest: nearest(&asked.column, known),
                });
            };
            let (field, kind) = (stored.field(at), self.plan.schema().field(at).data_type());
            let column = match kind == field.data_type() {
                true => all[at].clone(),
                false => cast(all[at].clone(), field.data_type().clone()),
            };
            conditions.push(values::condition(asked, field, column)?);
        }
        Ok(conjunction(conditions).unwrap_or_else(|| lit(true)))
    }

    /// Of rows that say whether they are asked about, and what they come from.
    async fn counted(&self, plan: &LogicalPlan) -> Result<(u64, Vec<i64>)> {
        let mut stream = self.session.stream(plan).await?;
        let (mut rows, mut found) = (0, Vec::new());
        while let Some(batch) = stream.try_next().await.map_err(Error::Execution)? {
            let (asked, origins) = (batch.column(0).as_boolean(), batch.column(1).as_primitive::<Int64Type>());
            for row in (0..batch.num_rows()).filter(|row| asked.is_valid(*row) && asked.value(*row)) {
                rows += 1;
                found.extend(origins.is_valid(row).then(|| origins.value(row)));
            }
        }
        Ok((rows, found))
    }
}

impl Why {
    /// How many events they are.
    pub fn events(&self) -> u64 {
        self.offsets.len()
    }

    /// The events in the order of the log, the first `most` of them or all: offset, id, type, time, source, the version that brought it,
    /// and with `documents` its text.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn read(&self, most: Option<u64>, documents: bool) -> Result<SendableRecordBatchStream> {
        let offsets = match most {
            Some(most) if most < self.offsets.len() => self.offsets.iter().take(most as usize).collect(),
            _ => self.offsets.clone(),
        };
        let bounds = self.lakehouse.log().brought(&offsets.iter().collect::<Vec<_>>()).await?;
        let (offsets, bounds): (Arc<RoaringTreemap>, _) = (Arc::new(offsets), Arc::new(bounds));
        let inputs = self.lakehouse.inputs(&self.snapshot, None, None, self.lakehouse.log().store());
        let range = offsets.min().unwrap_or(0)..offsets.max().map_or(0, |last| last + 1);
        let has_some = |first: u64, last: u64| offsets.range_cardinality(first..=last) > 0;
        let events = all_of(catalog::events_in_files(&self.snapshot, &inputs.pinned, range, &has_some)?)?;
        let shown = SHOWN.map(ident).into_iter();
        let version = version_of(bounds, ident(schema::OFFSET)).alias("version");
        let shown = shown.chain([version]).chain(documents.then(|| ident(schema::DOC)));
        let rows = LogicalPlanBuilder::from(events).filter(is_among(offsets, ident(schema::OFFSET)))?;
        let rows = rows.project(shown)?.sort([ident(schema::OFFSET).sort(true, false)])?.build()?;
        Session::new(&inputs)?.stream(&rows).await
    }
}

#[cfg(test)]
mod tests;
