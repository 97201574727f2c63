//! Where the columns of a plan come from: the plan is followed from its tables up, with columns of tables in the place of values.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType, Result};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, RecursiveQuery, SortExpr, Subquery, TableScan, Unnest,
};

use super::How;
use crate::seeds::ALL_OF_SEEDS;
use crate::slots::slot_name;

/// Columns of tables, by the table's name and their own, each with how it is read.
pub(super) type Sources = BTreeMap<(String, String), How>;

/// What is known of the rows that a node gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traced {
    /// Where each of its columns comes from.
    pub(super) columns: Vec<Sources>,
    /// By what all of its rows are chosen.
    pub(super) rows: Sources,
    /// By what they are ordered: a LIMIT above chooses by it.
    order: Sources,
}

/// Follows an analyzed query.
///
/// # Errors
/// None for a plan that DataFusion has analyzed.
pub(super) fn trace(plan: &LogicalPlan) -> Result<Traced> {
    Tracer::default().node(plan)
}

/// The columns that an expression may name: those of each input of its node.
type Scope = [(DFSchemaRef, Traced)];

#[derive(Default)]
struct Tracer {
    /// What subqueries may name of the queries that they are in, the innermost last.
    outer: Vec<Vec<(DFSchemaRef, Traced)>>,
    /// What recursive queries give, as far as it is known.
    recursive: BTreeMap<String, Traced>,
}

impl Tracer {
    fn node(&mut self, plan: &LogicalPlan) -> Result<Traced> {
        match plan {
            LogicalPlan::TableScan(scan) => Ok(self.scan(scan)),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Subquery(subquery) => self.node(&subquery.subquery),
            LogicalPlan::Repartition(repartition) => self.node(&repartition.input),
            LogicalPlan::Projection(projection) => {
                let input = self.input(&projection.input)?;
                let columns = self.each(&projection.expr, &input)?;
                let [(_, Traced { rows, order, .. })] = input;
                Ok(Traced { columns, rows, order })
            }
            LogicalPlan::Filter(filter) => {
                let input = self.input(&filter.input)?;
                let chosen = self.expr(&filter.predicate, &input)?;
                let [(_, traced)] = input;
                Ok(traced.chosen_by(chosen))
            }
            LogicalPlan::Window(window) => {
                let input = self.input(&window.input)?;
                let added = self.each(&window.window_expr, &input)?;
                let [(_, mut traced)] = input;
                traced.columns.extend(added);
                Ok(traced)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Sort(sort) => {
                let input = self.input(&sort.input)?;
                let order = self.sorts(&sort.expr, &input)?;
                let [(_, traced)] = input;
                match sort.fetch {
                    Some(_) => Ok(traced.chosen_by(order)),
                    None => Ok(Traced { order, ..traced }),
                }
            }
            LogicalPlan::Limit(limit) => {
                let traced = self.node(&limit.input)?;
                let order = traced.order.clone();
                Ok(traced.chosen_by(order))
            }
            LogicalPlan::Distinct(Distinct::All(input)) => Ok(self.node(input)?.distinct()),
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = self.input(&on.input)?;
                let columns = self.each(&on.select_expr, &input)?;
                let mut chosen = merged(self.each(&on.on_expr, &input)?);
                add(&mut chosen, self.sorts(on.sort_expr.as_deref().unwrap_or_default(), &input)?);
                let [(_, traced)] = input;
                Ok(Traced { columns, ..traced }.chosen_by(chosen))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let mut inputs = union.inputs.iter();
                let first = inputs.next().map_or_else(|| Ok(Traced::default()), |first| self.node(first))?;
                inputs.try_fold(first, |traced, input| Ok(traced.united(self.node(input)?)))
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => self.recursive(query),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Traced::of_nothing(plan)),
            other => self.all_columns_below(other),
        }
    }

    fn input(&mut self, plan: &LogicalPlan) -> Result<[(DFSchemaRef, Traced); 1]> {
        Ok([(Arc::clone(plan.schema()), self.node(plan)?)])
    }

    /// Of a node that is not understood every column may come from each of its inputs' columns.
    fn all_columns_below(&mut self, plan: &LogicalPlan) -> Result<Traced> {
        let mut below = Traced::default();
        for input in plan.inputs() {
            let traced = self.node(input)?;
            add(&mut below.rows, traced.rows);
            below.columns.extend(traced.columns);
        }
        let all = computed(merged(below.columns));
        let columns = vec![all.clone(); plan.schema().fields().len()];
        Ok(Traced { columns, rows: below.rows, order: Sources::new() }.chosen_by(all))
    }

    fn scan(&self, scan: &TableScan) -> Traced {
        let name = slot_name(&scan.table_name);
        let recursive = self.recursive.get(&name).filter(|_| scan.table_name.schema().is_none());
        let column = |at: usize, column: &str| match recursive {
            Some(query) => query.columns.get(at).cloned().unwrap_or_default(),
            // What is in no schema is a table that the query makes by itself, and a seed comes from a file.
            None if scan.table_name.schema().is_none_or(|schema| schema == ALL_OF_SEEDS) => Sources::new(),
            None => Sources::from([((name.clone(), column.to_owned()), How::Taken)]),
        };
        let fields = scan.projected_schema.fields().iter().enumerate();
        let place = |at: usize| scan.projection.as_ref().and_then(|places| places.get(at).copied()).unwrap_or(at);
        let columns = fields.map(|(at, field)| column(place(at), field.name())).collect();
        Traced { columns, rows: recursive.map(|query| query.rows.clone()).unwrap_or_default(), order: Sources::new() }
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Traced> {
        let input = self.input(&aggregate.input)?;
        let keys = grouping_set_to_exprlist(&aggregate.group_expr)?;
        let mut columns = keys.into_iter().map(|key| self.expr(key, &input)).collect::<Result<Vec<_>>>()?;
        let chosen = merged(columns.clone());
        // Grouping sets have a column more, which says of which set a row is.
        let of_sets = aggregate.schema.fields().len().saturating_sub(columns.len() + aggregate.aggr_expr.len());
        columns.extend(vec![computed(chosen.clone()); of_sets]);
        columns.extend(self.each(&aggregate.aggr_expr, &input)?);
        let [(_, Traced { rows, .. })] = input;
        Ok(Traced { columns, rows, order: Sources::new() }.chosen_by(chosen))
    }

    fn join(&mut self, join: &Join) -> Result<Traced> {
        let [left] = self.input(&join.left)?;
        let [right] = match is_lateral(&join.right) {
            true => self.within(vec![left.clone()], |tracer| tracer.input(&join.right))?,
            false => self.input(&join.right)?,
        };
        let both = [left, right];
        let mut chosen = Sources::new();
        for expr in join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter) {
            add(&mut chosen, self.expr(expr, &both)?);
        }
        let [(_, left), (_, right)] = both;
        let columns = match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                [left.columns, right.columns].concat()
            }
            JoinType::LeftSemi | JoinType::LeftAnti => left.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => [left.columns, vec![computed(chosen.clone())]].concat(),
            JoinType::RightMark => [right.columns, vec![computed(chosen.clone())]].concat(),
        };
        Ok(Traced { columns, rows: left.rows, order: Sources::new() }.chosen_by(right.rows).chosen_by(chosen))
    }

    fn unnest(&mut self, unnest: &Unnest) -> Result<Traced> {
        let traced = self.node(&unnest.input)?;
        let is_list = |at: &usize| unnest.list_type_columns.iter().any(|(list, _)| list == at);
        let column = |at: &usize| {
            let column = traced.columns.get(*at).cloned().unwrap_or_default();
            if is_list(at) || unnest.struct_type_columns.contains(at) { computed(column) } else { column }
        };
        let columns = unnest.dependency_indices.iter().map(column).collect();
        // A list without elements leaves no row.
        let lists = unnest.dependency_indices.iter().filter(|at| is_list(at));
        let chosen = merged(lists.filter_map(|at| traced.columns.get(*at).cloned()));
        Ok(Traced { columns, ..traced }.chosen_by(chosen))
    }

    /// Followed round by round, until a round brings no column that was not known.
    fn recursive(&mut self, query: &RecursiveQuery) -> Result<Traced> {
        let mut known = self.node(&query.static_term)?;
        let of_another = self.recursive.insert(query.name.clone(), known.clone());
        loop {
            let next = known.clone().united(self.node(&query.recursive_term)?);
            let next = if query.is_distinct { next.distinct() } else { next };
            if next == known {
                break;
            }
            known = next;
            self.recursive.insert(query.name.clone(), known.clone());
        }
        match of_another {
            Some(query_of_the_name) => self.recursive.insert(query.name.clone(), query_of_the_name),
            None => self.recursive.remove(&query.name),
        };
        Ok(known)
    }

    fn each(&mut self, exprs: &[Expr], scope: &Scope) -> Result<Vec<Sources>> {
        exprs.iter().map(|expr| self.expr(expr, scope)).collect()
    }

    fn sorts(&mut self, sorts: &[SortExpr], scope: &Scope) -> Result<Sources> {
        let sorts = sorts.iter().map(|sort| self.expr(&sort.expr, scope));
        Ok(merged(sorts.collect::<Result<Vec<_>>>()?))
    }

    fn expr(&mut self, expr: &Expr, scope: &Scope) -> Result<Sources> {
        match expr {
            Expr::Column(column) => Ok(named(column, scope).unwrap_or_else(|| all_of(scope))),
            Expr::OuterReferenceColumn(_, column) => {
                let found = self.outer.iter().rev().find_map(|scope| named(column, scope));
                Ok(found.unwrap_or_else(|| merged(self.outer.iter().map(|scope| all_of(scope)))))
            }
            Expr::Alias(alias) => self.expr(&alias.expr, scope),
            Expr::AggregateFunction(function) => {
                let AggregateFunctionParams { args, filter, order_by, .. } = &function.params;
                self.call(args, &[], order_by, filter.as_deref(), scope)
            }
            Expr::WindowFunction(function) => {
                let WindowFunctionParams { args, partition_by, order_by, filter, .. } = &function.params;
                self.call(args, partition_by, order_by, filter.as_deref(), scope)
            }
            Expr::ScalarSubquery(subquery) => self.subquery(subquery, scope),
            // Only whether it has rows.
            Expr::Exists(exists) => Ok(chosen(self.traced(&exists.subquery, scope)?.rows)),
            Expr::InSubquery(compared) => self.compared(&compared.expr, &compared.subquery, scope),
            Expr::SetComparison(compared) => self.compared(&compared.expr, &compared.subquery, scope),
            other => {
                let mut sources = Sources::new();
                other.apply_children(|child| {
                    add(&mut sources, self.expr(child, scope)?);
                    Ok(TreeNodeRecursion::Continue)
                })?;
                Ok(computed(sources))
            }
        }
    }

    /// A call over rows: computed from its arguments, over rows that are chosen by what else it says.
    fn call(
        &mut self,
        arguments: &[Expr],
        parts: &[Expr],
        order: &[SortExpr],
        filter: Option<&Expr>,
        scope: &Scope,
    ) -> Result<Sources> {
        let mut sources = computed(merged(self.each(arguments, scope)?));
        for expr in parts.iter().chain(filter) {
            add(&mut sources, chosen(self.expr(expr, scope)?));
        }
        add(&mut sources, chosen(self.sorts(order, scope)?));
        Ok(sources)
    }

    fn compared(&mut self, expr: &Expr, subquery: &Subquery, scope: &Scope) -> Result<Sources> {
        let mut sources = self.expr(expr, scope)?;
        add(&mut sources, self.subquery(subquery, scope)?);
        Ok(computed(sources))
    }

    /// What a subquery in an expression gives: its column, of the rows that it chooses.
    fn subquery(&mut self, subquery: &Subquery, scope: &Scope) -> Result<Sources> {
        let traced = self.traced(subquery, scope)?;
        let mut sources = merged(traced.columns);
        add(&mut sources, chosen(traced.rows));
        Ok(sources)
    }

    fn traced(&mut self, subquery: &Subquery, scope: &Scope) -> Result<Traced> {
        self.within(scope.to_vec(), |tracer| tracer.node(&subquery.subquery))
    }

    /// Follows what may name the columns of a query that it is in.
    fn within<T>(&mut self, scope: Vec<(DFSchemaRef, Traced)>, follow: impl FnOnce(&mut Self) -> T) -> T {
        self.outer.push(scope);
        let followed = follow(self);
        self.outer.pop();
        followed
    }
}

impl Traced {
    /// Columns that no table has.
    fn of_nothing(plan: &LogicalPlan) -> Self {
        Self { columns: vec![Sources::new(); plan.schema().fields().len()], ..Self::default() }
    }

    /// The same rows, where which of them there are hangs on these columns, too.
    fn chosen_by(mut self, sources: Sources) -> Self {
        add(&mut self.rows, chosen(sources));
        self
    }

    /// One of rows that are equal: any column may make them two.
    fn distinct(self) -> Self {
        let all = merged(self.columns.clone());
        Self { order: Sources::new(), ..self }.chosen_by(all)
    }

    /// The rows of two inputs, column by column.
    fn united(mut self, other: Self) -> Self {
        self.columns.resize(self.columns.len().max(other.columns.len()), Sources::new());
        for (mine, theirs) in self.columns.iter_mut().zip(other.columns) {
            add(mine, theirs);
        }
        Self { order: Sources::new(), ..self }.chosen_by(other.rows)
    }
}

/// Whether the right side of a join may name columns of the left one.
fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        _ => false,
    }
}

fn named(column: &Column, scope: &Scope) -> Option<Sources> {
    let place = |schema: &DFSchema| schema.maybe_index_of_column(column);
    scope.iter().find_map(|(schema, traced)| traced.columns.get(place(schema)?).cloned())
}

/// What a name may stand for that is not found, if there is any.
fn all_of(scope: &Scope) -> Sources {
    computed(merged(scope.iter().flat_map(|(_, traced)| traced.columns.iter().cloned())))
}

/// Of two ways in which a column is read, the one that says more of the value counts.
fn add(sources: &mut Sources, others: Sources) {
    for (column, how) in others {
        let known = sources.entry(column).or_insert(how);
        *known = how.max(*known);
    }
}

fn merged(all: impl IntoIterator<Item = Sources>) -> Sources {
    let mut sources = Sources::new();
    all.into_iter().for_each(|some| add(&mut sources, some));
    sources
}

/// What is made of values that come from these columns.
fn computed(mut sources: Sources) -> Sources {
    sources.values_mut().filter(|how| **how == How::Taken).for_each(|how| *how = How::Computed);
    sources
}

/// What such values choose.
fn chosen(mut sources: Sources) -> Sources {
    sources.values_mut().for_each(|how| *how = How::Chosen);
    sources
}
