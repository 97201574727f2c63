//! Which operator stands for which part of a query, and what is in the way of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::SortField;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, DataFusionError, JoinType, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Aggregate as Grouping, Distinct, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, SortExpr, Window, lit,
};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerRule};

use super::arrangement::Arrangement;
use super::constant::{Side, changing_side, over_all, with_constants};
use super::grouped::Grouped;
use super::grouping::{aggregate_of, aggregates, feed, mergeable};
use super::keyed::{Arranged, Keyed};
use super::named::{numbered, numbered_columns, standing_for};
use super::ranked::{Ranked, ranked, with_input};
use super::states::subtracts;
use super::{By, Dataflow, Kind, Operator, Said, Segment, slot_of_input, slot_of_operator};
use crate::catalog::BRONZE;
use crate::seeds::{ALL_OF_SEEDS, SEEDS};
use crate::slots::{scanned, slot_name};
use crate::sql::integers::as_operators;
use crate::sql::one_zero::as_float;
use crate::sql::total_order::ForgetDependencies;
use crate::state_cache::{OPERATORS, Shelf};
use crate::strategy::{Reason, has_subquery, in_log_order, name_of, rows_of_the_log, stands_for_now, window_function};

/// Why there is no dataflow.
#[derive(Debug)]
pub(crate) enum Uncut {
    /// The query needs all its rows.
    Because(Reason),
    /// DataFusion refused a part of what it had accepted whole.
    Failed(DataFusionError),
}

impl From<DataFusionError> for Uncut {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

impl From<Reason> for Uncut {
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

impl From<arrow::error::ArrowError> for Uncut {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Failed(error.into())
    }
}

/// Takes a query of [`joined`] apart; `only_adds` says of a table whether its rows never go.
///
/// # Errors
/// [`Uncut`].
pub(crate) fn cut(plan: &LogicalPlan, only_adds: &dyn Fn(&str) -> bool) -> Result<Dataflow, Uncut> {
    let mut cut = Cut { only_adds, operators: Vec::new(), shelf: OPERATORS };
    let top = cut.piece(plan)?;
    Ok(Dataflow { operators: cut.operators, top: Segment::new(top.plan)?, only_adds: top.only_adds })
}

/// An analyzed query with joins for its subqueries, equalities as the keys of joins, and no column that nobody reads.
///
/// # Errors
/// What DataFusion refuses of it.
pub(crate) fn joined(state: &SessionState, plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let mut rules = subqueries_to_joins();
    rules.push(Arc::new(EliminateCrossJoin::new()));
    rules.push(Arc::new(ForgetDependencies));
    rules.push(Arc::new(OptimizeProjections::new()));
    Optimizer::with_rules(rules).optimize(plan, state, |_, _| ())
}

/// The rules that make joins of subqueries, and keys of joins of equalities.
pub(crate) fn subqueries_to_joins() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
    ]
}

/// The columns of the log that a query goes by, each with its type, by name; of [`joined`], those that it needs.
///
/// # Errors
/// None: what looks at the plan refuses nothing.
pub(crate) fn columns_of_the_log(plan: &LogicalPlan) -> PlanResult<BTreeMap<String, DataType>> {
    let mut columns = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && scan.table_name.schema() == Some(BRONZE)
        {
            let fields = scan.projected_schema.fields().iter();
            columns.extend(fields.map(|field| (field.name().clone(), field.data_type().clone())));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

struct Cut<'a> {
    only_adds: &'a dyn Fn(&str) -> bool,
    operators: Vec<Operator>,
    shelf: Shelf,
}

/// A part of the query that goes row by row, over slots.
struct Piece {
    plan: LogicalPlan,
    only_adds: bool,
}

impl Segment {
    fn new(plan: LogicalPlan) -> PlanResult<Self> {
        let mut reads = scanned(&plan)?;
        reads.retain(|slot| !slot.starts_with(ALL_OF_SEEDS));
        Ok(Self { reads, plan })
    }
}

impl Cut<'_> {
    fn piece(&mut self, plan: &LogicalPlan) -> Result<Piece, Uncut> {
        if plan.expressions().iter().any(stands_for_now) {
            return Err(Reason::time().into());
        }
        if plan.expressions().iter().any(has_subquery) {
            return match plan {
                LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
                    let node = with_constants(plan)?.ok_or_else(Reason::subquery)?;
                    self.row_by_row(&node)
                }
                _ => Err(Reason::subquery().into()),
            };
        }
        if let Some(ranking) = ranked(plan) {
            return self.ranking(plan, ranking);
        }
        match plan {
            LogicalPlan::TableScan(scan) => match scan.table_name.schema() {
                Some("bronze" | "silver" | "gold" | SEEDS) => {
                    Ok(Piece { plan: plan.clone(), only_adds: (self.only_adds)(&slot_name(&scan.table_name)) })
                }
                _ => Err(Reason::of_node(plan).into()),
            },
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Union(_) => self.row_by_row(plan),
            // The order of a table's rows is nobody's business.
            LogicalPlan::Sort(sort) => self.piece(&sort.input),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
                self.grouping(plan, &Grouping::try_new(Arc::clone(input), columns, Vec::new())?)
            }
            LogicalPlan::Aggregate(grouping) => self.grouping(plan, grouping),
            LogicalPlan::Window(window) => self.window(plan, window),
            LogicalPlan::Join(join) => self.join(plan, join),
            other => Err(Reason::of_node(other).into()),
        }
    }

    fn row_by_row(&mut self, plan: &LogicalPlan) -> Result<Piece, Uncut> {
        let pieces = plan.inputs().into_iter().map(|input| self.piece(input)).collect::<Result<Vec<_>, _>>()?;
        let only_adds = pieces.iter().all(|piece| piece.only_adds);
        let mut inputs = pieces.into_iter().map(|piece| piece.plan);
        Ok(Piece { plan: with_inputs(plan, &mut inputs)?, only_adds })
    }

    fn next_shelf(&mut self) -> Result<Shelf, Uncut> {
        let shelf = self.shelf;
        self.shelf = shelf.checked_add(1).ok_or_else(|| Uncut::from(Reason::too_many()))?;
        Ok(shelf)
    }

    /// Adds an operator; gives what stands for it.
    fn add(
        &mut self,
        kind: Kind,
        feeds: Vec<LogicalPlan>,
        schema: &DFSchemaRef,
        said: Said,
    ) -> Result<LogicalPlan, Uncut> {
        let feeds = feeds.into_iter().map(Segment::new).collect::<PlanResult<_>>()?;
        let stand_in = standing_for(&slot_of_operator(self.operators.len()), schema)?;
        self.operators.push(Operator { kind, feeds, schema: Arc::clone(schema), said });
        Ok(stand_in)
    }

    fn grouping(&mut self, plan: &LogicalPlan, grouping: &Grouping) -> Result<Piece, Uncut> {
        let input = self.piece(&grouping.input)?;
        let merges = mergeable(grouping);
        let keyed_by = grouping.group_expr.len();
        if merges.is_ok() {
            let feed = feed(grouping, input.plan.clone())?;
            let fed = numbered(feed.schema());
            let (aggregates, output) = (aggregates(grouping, &fed)?, numbered(&grouping.schema));
            let retracts = !input.only_adds;
            if !retracts || aggregates.iter().all(subtracts) {
                let said = said_of_grouping(grouping);
                let (states, seen) = (self.next_shelf()?, self.next_shelf()?);
                let grouped = Arc::new(Grouped { keyed_by, aggregates, retracts, states, seen, output });
                let plan = self.add(Kind::Grouped { grouped, fed }, vec![feed], plan.schema(), said)?;
                return Ok(Piece { plan, only_adds: false });
            }
        }
        let sets = grouping.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
        if keyed_by == 0 || sets {
            let node = merges.err().unwrap_or_else(|| "an aggregate over rows that change".to_owned());
            return Err(Reason::whole_aggregate(&node).into());
        }
        let keys = grouping.group_expr.clone();
        self.recompute(plan, vec![(input, keys, false)], plan.schema())
    }

    fn window(&mut self, plan: &LogicalPlan, window: &Window) -> Result<Piece, Uncut> {
        let mut keys: Option<Vec<Expr>> = None;
        for function in window.window_expr.iter().filter_map(window_function) {
            let by = &function.params.partition_by;
            keys = Some(match keys {
                None => by.clone(),
                Some(keys) => keys.into_iter().filter(|key| by.contains(key)).collect(),
            });
        }
        let keys = keys.filter(|keys| !keys.is_empty()).ok_or_else(|| Uncut::from(Reason::whole_window()))?;
        let input = self.piece(&window.input)?;
        self.recompute(plan, vec![(input, keys, false)], plan.schema())
    }

    fn join(&mut self, plan: &LogicalPlan, join: &Join) -> Result<Piece, Uncut> {
        if let Some(side) = changing_side(join)? {
            return self.join_with_constant(plan, join, side);
        }
        if join.on.is_empty() {
            return Err(Reason::join_without_equality().into());
        }
        if join.null_aware {
            return Err(Reason::not_in().into());
        }
        let (left, right) = (self.piece(&join.left)?, self.piece(&join.right)?);
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
        let of_left = matches!(join.join_type, Inner | Left | LeftSemi | LeftAnti | LeftMark);
        let of_right = matches!(join.join_type, Inner | Right | RightSemi | RightAnti | RightMark);
        self.recompute(plan, vec![(left, left_keys, of_left), (right, right_keys, of_right)], plan.schema())
    }

    /// A join that goes row by row over one of its sides.
    fn join_with_constant(&mut self, plan: &LogicalPlan, join: &Join, changing: Side) -> Result<Piece, Uncut> {
        let (side, constant) = match changing {
            Side::Left => (&join.left, &join.right),
            Side::Right => (&join.right, &join.left),
        };
        let (Piece { plan: side, only_adds }, constant) = (self.piece(side)?, over_all(constant)?);
        let inputs = match changing {
            Side::Left => [side, constant],
            Side::Right => [constant, side],
        };
        Ok(Piece { plan: with_inputs(plan, &mut inputs.into_iter())?, only_adds })
    }

    /// A part whose answer for a key depends on that key's rows alone.
    fn recompute(
        &mut self,
        plan: &LogicalPlan,
        inputs: Vec<(Piece, Vec<Expr>, bool)>,
        schema: &DFSchemaRef,
    ) -> Result<Piece, Uncut> {
        let said = Said {
            by: By::Recomputing,
            node: name_of(plan).to_owned(),
            keys: inputs.first().map(|(_, keys, _)| keys.iter().map(as_written).collect()).unwrap_or_default(),
            aggregates: Vec::new(),
        };
        let (mut arranged, mut feeds, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (piece, keys, linear)) in inputs.into_iter().enumerate() {
            let schema = Arc::clone(piece.plan.schema());
            let (columns, count) = (schema.fields().len(), keys.len());
            let feed = numbered_columns(&piece.plan, keys)?;
            let rows =
                Arrangement::new(self.next_shelf()?, &numbered(feed.schema()), (columns, count), Vec::new(), None)?;
            arranged.push(Arranged { rows, linear, only_adds: piece.only_adds });
            slots.push(standing_for(&slot_of_input(at), &schema)?);
            feeds.push(feed);
        }
        let asked = with_inputs(plan, &mut slots.into_iter())?;
        let keyed = Keyed { plan: asked, inputs: arranged, output: numbered(schema) };
        Ok(Piece { plan: self.add(Kind::Keyed(keyed), feeds, schema, said)?, only_adds: false })
    }

    fn ranking(&mut self, plan: &LogicalPlan, ranking: Ranked<'_>) -> Result<Piece, Uncut> {
        let input = self.piece(ranking.input)?;
        let schema = Arc::clone(input.plan.schema());
        let said = |by| Said {
            by,
            node: if ranking.window.is_some() { "row_number()" } else { name_of(plan) }.to_owned(),
            keys: ranking.keys.iter().map(as_written).collect(),
            aggregates: Vec::new(),
        };
        let (columns, keys) = (schema.fields().len(), ranking.keys.len());
        if let (Some(window), [order, ..], 1) = (ranking.window, ranking.order.as_slice(), ranking.most)
            && input.only_adds
            && keys > 0
            && let Some(offset) = in_log_order(order)
            && rows_of_the_log(ranking.input, offset)
        {
            let more = ranking.keys.iter().cloned().chain([Expr::Column(offset.clone())]);
            let feed = numbered_columns(&input.plan, more)?;
            let kind = Kind::First { columns, keys, shelf: self.next_shelf()? };
            let firsts = self.add(kind, vec![feed], &schema, said(By::First))?;
            let number = window.window_expr.iter().map(|expr| lit(1_u64).alias(expr.schema_name().to_string()));
            let columns = schema.columns().into_iter().map(Expr::Column).chain(number).collect::<Vec<_>>();
            let numbered = LogicalPlanBuilder::from(firsts).project(columns)?.build()?;
            return Ok(Piece { plan: with_input(plan.clone(), ranking.depth - 1, &numbered)?, only_adds: true });
        }
        let order = ranking.order.iter().map(|order| order.expr.clone());
        let feed = numbered_columns(&input.plan, ranking.keys.iter().cloned().chain(order))?;
        let sorts = ranking.order.iter().map(|order| sort_field(order, &schema)).collect::<PlanResult<_>>()?;
        let fields = numbered(feed.schema());
        let rows = Arrangement::new(self.next_shelf()?, &fields, (columns, keys), sorts, Some(ranking.most))?;
        let arranged = Arranged { rows, linear: false, only_adds: input.only_adds };
        let slot = standing_for(&slot_of_input(0), &schema)?;
        let asked = with_input(plan.clone(), ranking.depth, &slot)?;
        let keyed = Keyed { plan: asked, inputs: vec![arranged], output: numbered(plan.schema()) };
        let by = By::Ranking { one: ranking.most == 1 && keys > 0 };
        Ok(Piece { plan: self.add(Kind::Keyed(keyed), vec![feed], plan.schema(), said(by))?, only_adds: false })
    }
}

fn sort_field(order: &SortExpr, schema: &DFSchemaRef) -> PlanResult<SortField> {
    let options = SortOptions { descending: !order.asc, nulls_first: order.nulls_first };
    Ok(SortField::new_with_options(order.expr.get_type(schema)?, options))
}

/// A node with other inputs of the same columns.
fn with_inputs(plan: &LogicalPlan, inputs: &mut dyn Iterator<Item = LogicalPlan>) -> PlanResult<LogicalPlan> {
    let changed = plan.clone().map_children(|child| match inputs.next() {
        Some(input) => Ok(Transformed::yes(input)),
        None => Ok(Transformed::no(child)),
    })?;
    Ok(changed.data)
}

fn said_of_grouping(grouping: &Grouping) -> Said {
    let kept = |expr: &Expr| {
        let name = expr.schema_name().to_string();
        let kept = match aggregate_of(expr) {
            Some(function) if function.params.distinct => "the arguments of each group, by their hash",
            Some(function) => match function.func.name() {
                "approx_distinct" => "a HyperLogLog sketch",
                "sum" | "avg" => "an exact sum and a count",
                "count" => "a count",
                _ => "the value so far",
            },
            None => "nothing",
        };
        (name, kept.to_owned())
    };
    Said {
        by: By::Merging,
        node: if grouping.aggr_expr.is_empty() { "DISTINCT" } else { "GROUP BY" }.to_owned(),
        keys: grouping.group_expr.iter().map(as_written).collect(),
        aggregates: grouping.aggr_expr.iter().map(kept).collect(),
    }
}

/// An expression in the words of who wrote it.
fn as_written(expr: &Expr) -> String {
    let unwrapped = expr.clone().transform_up(|expr| match as_float(&expr).or_else(|| as_operators(&expr)) {
        Some(unwrapped) => Ok(Transformed::yes(unwrapped)),
        None => Ok(Transformed::no(expr)),
    });
    unwrapped.map_or_else(|_| expr.to_string(), |written| written.data.to_string())
}
