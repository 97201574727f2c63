//! Plans that carry along what their rows come from: the rows and columns of a query, and a last column of their origins.
//!
//! Each part of a query is rewritten by itself, over its rewritten inputs, with as many rows as it had. What is not understood is
//! refused: a part that was left out would be a wrong answer.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DataFusionError, Result as PlanResult, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Filter, Limit, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, Sort,
    SubqueryAlias, TableScan, Union, Unnest, Window, cast, lit,
};
use datafusion::optimizer::Optimizer;
use lakebed_log::schema;

use super::origins::Origins;
use crate::catalog::{BRONZE, EVENTS};
use crate::dataflow::cut::subqueries_to_joins;
use crate::dataflow::ranked::ranked;
use crate::refresh::shape::Shape;
use crate::slots::slot_name;
use crate::strategy::{has_subquery, name_of, numbers_in_log_order, rows_of_the_log, window_function};

/// Why a query's rows cannot be traced.
#[derive(Debug)]
pub(super) enum Untraced {
    /// A part of it, in the words of SQL.
    Part(&'static str),
    /// DataFusion refused a part of what it had accepted whole.
    Failed(DataFusionError),
}

impl From<DataFusionError> for Untraced {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

pub(super) type Traced = Result<LogicalPlan, Untraced>;

/// A model and what it reads, down to the log.
pub(super) struct Trace<'a> {
    pub(super) state: &'a SessionState,
    /// By their names.
    pub(super) models: BTreeMap<String, &'a Shape>,
    /// The log's events.
    pub(super) events: LogicalPlan,
    pub(super) origins: Origins,
    /// How many columns have been named.
    pub(super) named: usize,
}

impl<'a> Trace<'a> {
    /// A model's rows, each with what it comes from.
    ///
    /// # Errors
    /// [`Untraced`].
    pub(super) fn model(&mut self, shape: &Shape) -> Traced {
        if let Some(seed) = &shape.model.seed {
            let rows = seed.table().map_err(|_| Untraced::Part("a seed without rows"))?;
            let rows = LogicalPlanBuilder::scan(
                TableReference::bare(shape.model.name.name.as_str()),
                provider_as_source(rows),
                None,
            )?;
            return self.of_no_event(&rows.build()?);
        }
        let joined = with_joins(self.state, shape.plan.clone())?;
        self.rows(&joined, None)
    }

    /// A name that no column has.
    pub(super) fn name(&mut self) -> String {
        self.named += 1;
        format!("_lakebed_origin_{}", self.named)
    }

    /// The rows of a part. `keeps_first_of` is a window of which what is above keeps the first row of each key and no other.
    pub(super) fn rows(&mut self, plan: &LogicalPlan, keeps_first_of: Option<&Window>) -> Traced {
        if plan.expressions().iter().any(has_subquery) {
            return Err(Untraced::Part("a subquery in an expression"));
        }
        if !reads_a_table(plan)? {
            return self.of_no_event(plan);
        }
        Ok(match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan)?,
            LogicalPlan::Projection(projection) => {
                let input = self.rows(&projection.input, keeps_first_of)?;
                let exprs = projection.expr.iter().cloned().chain([origin(&input)]).collect();
                LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.rows(&alias.input, keeps_first_of)?;
                LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?)
            }
            LogicalPlan::Filter(filter) => {
                let first = ranked(plan).filter(|ranked| ranked.most <= 1).and_then(|ranked| ranked.window);
                let input = self.rows(&filter.input, first)?;
                LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)
            }
            LogicalPlan::Sort(sort) => {
                let input = Arc::new(self.rows(&sort.input, None)?);
                LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input, fetch: sort.fetch })
            }
            LogicalPlan::Limit(limit) => self.limit(limit)?,
            LogicalPlan::Unnest(unnest) => {
                let input = Arc::new(self.rows(&unnest.input, None)?);
                let (columns, options) = (unnest.exec_columns.clone(), unnest.options.clone());
                LogicalPlan::Unnest(Unnest::try_new(input, columns, options)?)
            }
            LogicalPlan::Union(union) => self.union(union)?,
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let groups = columns(input.schema());
                self.groups(input, groups, &[])?
            }
            LogicalPlan::Distinct(Distinct::On(on)) => self.distinct_on(on)?,
            LogicalPlan::Aggregate(aggregate) => {
                self.groups(&aggregate.input, aggregate.group_expr.clone(), &aggregate.aggr_expr)?
            }
            LogicalPlan::Window(window) => match keeps_first_of {
                Some(first) if ptr::eq(first, window) => self.numbered(window)?,
                _ => self.windows(window)?,
            },
            LogicalPlan::Join(join) => self.join(join)?,
            other => return Err(Untraced::Part(name_of(other))),
        })
    }

    /// Rows that the query makes by itself.
    fn of_no_event(&mut self, plan: &LogicalPlan) -> Traced {
        let none = lit(ScalarValue::Int64(None)).alias(self.name());
        Ok(LogicalPlanBuilder::from(plan.clone()).project(columns(plan.schema()).into_iter().chain([none]))?.build()?)
    }

    /// The events, or the rows of a model, which are computed from them.
    fn scan(&mut self, scan: &TableScan) -> Traced {
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return Err(Untraced::Part("a filtered table"));
        }
        let (name, table) = (slot_name(&scan.table_name), scan.table_name.clone());
        let rows = match self.models.get(&name) {
            _ if scan.table_name.schema() == Some(BRONZE) && scan.table_name.table() == EVENTS => {
                let events = LogicalPlanBuilder::from(self.events.clone()).alias(table)?;
                let mut exprs = columns(events.schema());
                let offset = exprs.iter().find(|expr| expr.qualified_name().1 == schema::OFFSET).cloned();
                let offset = offset.ok_or(Untraced::Part("events without their offset"))?;
                exprs.push(offset.alias(self.name()));
                events.project(exprs)?.build()?
            }
            Some(shape) => {
                let shape = *shape;
                let rows = self.model(shape)?;
                let named = as_stored(&rows, shape)?;
                LogicalPlanBuilder::from(rows).project(named)?.alias(table)?.build()?
            }
            None => return Err(Untraced::Part("a table that is no model")),
        };
        let Some(projection) = &scan.projection else { return Ok(rows) };
        let all = rows.schema().columns();
        let kept = projection.iter().filter_map(|at| all.get(*at)).chain(all.last()).cloned().map(Expr::Column);
        Ok(LogicalPlanBuilder::from(rows).project(kept.collect::<Vec<_>>())?.build()?)
    }

    fn union(&mut self, union: &Union) -> Traced {
        let name = self.name();
        let mut inputs = Vec::new();
        for input in &union.inputs {
            let rows = self.rows(input, None)?;
            // DataFusion goes by the names of the first.
            let named = columns(input.schema()).into_iter().chain([origin(&rows).alias(&name)]);
            inputs.push(Arc::new(LogicalPlanBuilder::from(rows).project(named)?.build()?));
        }
        let origins = (None, Arc::new(Field::new(name, DataType::Int64, true)));
        let fields = union.schema.iter().map(|(table, field)| (table.cloned(), Arc::clone(field)));
        let fields = fields.chain([origins]).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, union.schema.metadata().clone())?);
        Ok(LogicalPlan::Union(Union { inputs, schema }))
    }

    /// Rows up to a number are those that they were; which those behind others are hangs on all of them.
    fn limit(&mut self, limit: &Limit) -> Traced {
        let input = self.rows(&limit.input, None)?;
        let limited = Limit { skip: limit.skip.clone(), fetch: limit.fetch.clone(), input: Arc::new(input.clone()) };
        let limited = LogicalPlan::Limit(limited);
        if matches!(limit.get_skip_type()?, SkipType::Literal(0)) {
            return Ok(limited);
        }
        let (all, shown) = (self.name(), columns(limit.input.schema()));
        let gathered = self.origins.gathered_of(origin(&input), None).alias(&all);
        let gathered = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), [gathered])?.build()?;
        let both = LogicalPlanBuilder::from(limited).cross_join(gathered)?;
        let all = columns(both.schema()).pop();
        Ok(both.project(shown.into_iter().chain(all))?.build()?)
    }

    fn distinct_on(&mut self, on: &DistinctOn) -> Traced {
        let input = self.rows(&on.input, None)?;
        let shown = on.select_expr.iter().cloned().chain([origin(&input)]).collect();
        let (by, order) = (on.on_expr.clone(), on.sort_expr.clone());
        Ok(LogicalPlan::Distinct(Distinct::On(DistinctOn::try_new(by, shown, order, Arc::new(input))?)))
    }

    /// Groups, each with its rows; without those that a FILTER keeps out of every aggregate.
    fn groups(&mut self, input: &LogicalPlan, by: Vec<Expr>, aggregates: &[Expr]) -> Traced {
        let input = self.rows(input, None)?;
        let counts = counted(aggregates);
        let gathered = match by.is_empty() {
            true => self.origins.gathered_of(origin(&input), counts),
            false => self.origins.gathered(origin(&input), counts),
        };
        let aggregates = aggregates.iter().cloned().chain([gathered.alias(self.name())]).collect();
        Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), by, aggregates)?))
    }

    /// A window whose functions go by all rows of a partition.
    fn windows(&mut self, window: &Window) -> Traced {
        let input = self.rows(&window.input, None)?;
        let own = origin(&input);
        let mut partitions: Vec<&Vec<Expr>> = Vec::new();
        for function in window.window_expr.iter().filter_map(window_function) {
            if !partitions.contains(&&function.params.partition_by) {
                partitions.push(&function.params.partition_by);
            }
        }
        let mut rows = LogicalPlan::Window(Window::try_new(window.window_expr.clone(), Arc::new(input))?);
        let mut of = Vec::new();
        for keys in partitions {
            let gathered = self.origins.gathered_over(own.clone(), keys.clone()).alias(self.name());
            rows = LogicalPlan::Window(Window::try_new(vec![gathered], Arc::new(rows))?);
            of.extend(columns(rows.schema()).pop());
        }
        let together = self.origins.together_of(of).alias(self.name());
        let shown = columns(&window.schema).into_iter().chain([together]);
        Ok(LogicalPlanBuilder::from(rows).project(shown)?.build()?)
    }

    /// A window that numbers rows of which the first of each key is kept: that one comes from nothing else.
    fn numbered(&mut self, window: &Window) -> Traced {
        let first = numbers_in_log_order(window).filter(|offset| rows_of_the_log(&window.input, offset));
        if let Some(offset) = first {
            return self.first_in_log_order(window, &Expr::Column(offset.clone()));
        }
        let input = self.rows(&window.input, None)?;
        let own = origin(&input);
        let rows = LogicalPlan::Window(Window::try_new(window.window_expr.clone(), Arc::new(input))?);
        Ok(LogicalPlanBuilder::from(rows).project(columns(&window.schema).into_iter().chain([own]))?.build()?)
    }
}

/// An analyzed query with joins for its subqueries, and equalities as the keys of joins.
fn with_joins(state: &SessionState, plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    Optimizer::with_rules(subqueries_to_joins()).optimize(plan, state, |_, _| ())
}

/// Whether there is a table of the lake below a part of a query.
fn reads_a_table(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut reads = false;
    plan.apply_with_subqueries(|node| {
        reads |= matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.schema().is_some());
        Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(reads)
}

/// The columns that whoever reads a model sees, as they are stored, and the origins of its rows.
fn as_stored(rows: &LogicalPlan, shape: &Shape) -> Result<Vec<Expr>, Untraced> {
    let stored = shape.state.schema().map_err(|_| Untraced::Part("a table of unknown columns"))?;
    let mut named = columns(rows.schema());
    // The origins are behind what is stored.
    for ((column, field), stored) in named.iter_mut().zip(rows.schema().fields()).zip(stored.fields()) {
        let plain = match field.data_type() == stored.data_type() {
            true => column.clone(),
            false => cast(column.clone(), stored.data_type().clone()),
        };
        *column = plain.alias(stored.name());
    }
    Ok(named)
}

/// The columns of a schema, as expressions over it.
pub(super) fn columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

/// What the rows of a rewritten part come from: its last column.
pub(super) fn origin(plan: &LogicalPlan) -> Expr {
    columns(plan.schema()).pop().unwrap_or_else(|| lit(ScalarValue::Int64(None)))
}

/// Which rows count where every aggregate has a FILTER; `None` where all do.
fn counted(aggregates: &[Expr]) -> Option<Expr> {
    let filters = aggregates.iter().map(|aggregate| function_of(aggregate)?.params.filter.as_deref().cloned());
    disjunction(filters.collect::<Option<Vec<_>>>()?)
}

/// By what a window of one function takes its rows apart.
pub(super) fn partition_of(window: &Window) -> Vec<Expr> {
    let function = window.window_expr.first().and_then(window_function);
    function.map(|function| function.params.partition_by.clone()).unwrap_or_default()
}

fn function_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) => Some(function),
        Expr::Alias(alias) => function_of(&alias.expr),
        _ => None,
    }
}
