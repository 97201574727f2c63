//! Joins, and what became joins: each row comes from the rows that it was made of, or was kept for.

use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder, Window, lit};

use super::rewrite::{Trace, Traced, columns, origin, partition_of};

/// A join that keeps rows of one side, or marks them, for what it finds on the other.
struct Keeping<'p> {
    kept: &'p LogicalPlan,
    /// Where rows are looked for.
    other: &'p LogicalPlan,
    /// What is equal, of the kept side and of the other.
    on: Vec<(Expr, Expr)>,
    join: &'p Join,
    /// All rows are kept, and marked.
    marks: bool,
}

impl Trace<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Traced {
        let turned = || join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
        use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
        match join.join_type {
            Inner | Left | Right | Full => {
                let (left, right) = (self.rows(&join.left, None)?, self.rows(&join.right, None)?);
                let of = vec![origin(&left), origin(&right)];
                let rows = joined(join, left, right)?;
                let together = self.origins.together_of(of).alias(self.name());
                let shown = columns(&join.schema).into_iter().chain([together]);
                Ok(LogicalPlanBuilder::from(rows).project(shown)?.build()?)
            }
            // Of what is not there, there is no event.
            LeftAnti => {
                let right = self.without_origins(&join.right)?;
                joined(join, self.rows(&join.left, None)?, right)
            }
            RightAnti => {
                let left = self.without_origins(&join.left)?;
                joined(join, left, self.rows(&join.right, None)?)
            }
            LeftSemi | LeftMark => {
                let (kept, other, on) = (&join.left, &join.right, join.on.clone());
                self.keeping(&Keeping { kept, other, on, join, marks: join.join_type == LeftMark })
            }
            RightSemi | RightMark => {
                let (kept, other, on) = (&join.right, &join.left, turned());
                self.keeping(&Keeping { kept, other, on, join, marks: join.join_type == RightMark })
            }
        }
    }

    fn without_origins(&mut self, plan: &LogicalPlan) -> Traced {
        let rows = self.rows(plan, None)?;
        Ok(LogicalPlanBuilder::from(rows).project(columns(plan.schema()))?.build()?)
    }

    /// A kept row comes from itself and from all that was found for it.
    fn keeping(&mut self, keeping: &Keeping<'_>) -> Traced {
        match keeping.join.filter.is_none() && !keeping.on.is_empty() {
            true => self.kept_by_keys(keeping),
            false => self.kept_by_condition(keeping),
        }
    }

    /// By what is equal alone: the other side is put together by its keys first, so that each row finds one at most.
    fn kept_by_keys(&mut self, keeping: &Keeping<'_>) -> Traced {
        let (kept, other) = (self.rows(keeping.kept, None)?, self.rows(keeping.other, None)?);
        let (own, theirs) = (origin(&kept), origin(&other));
        let (keys, names): (Vec<_>, Vec<_>) = keeping.on.iter().map(|(_, key)| (key.clone(), self.name())).unzip();
        let named = keys.into_iter().zip(&names).map(|(key, name)| key.alias(name)).chain([theirs.clone()]);
        let other = LogicalPlanBuilder::from(other).project(named)?;
        let gathered = self.origins.gathered(theirs, None).alias(self.name());
        let by = columns(other.schema()).into_iter().take(names.len()).collect::<Vec<_>>();
        let other = other.aggregate(by, [gathered])?;
        let (mut found, is_found) = (columns(other.schema()), self.name());
        found.push(lit(true).alias(&is_found));
        let other = other.project(found)?.build()?;
        let mut of_other = columns(other.schema());
        let (is_found, theirs) = (of_other.pop(), of_other.pop());
        let on = keeping.on.iter().map(|(key, _)| key.clone()).zip(of_other).collect();
        let kind = if keeping.marks { JoinType::Left } else { JoinType::Inner };
        let equality = keeping.join.null_equality;
        let (kept, other) = (Arc::new(kept), Arc::new(other));
        let rows = Join::try_new(kept, other, on, None, kind, JoinConstraint::On, equality, false)?;
        let of = [own].into_iter().chain(theirs).collect();
        self.shown(keeping, LogicalPlan::Join(rows), of, is_found.map(Expr::is_not_null))
    }

    /// By a condition, which may find any number of rows: those of each kept one are put together behind it.
    fn kept_by_condition(&mut self, keeping: &Keeping<'_>) -> Traced {
        let (kept, other) = (self.rows(keeping.kept, None)?, self.rows(keeping.other, None)?);
        let (own, theirs) = (origin(&kept), origin(&other));
        // Rows may be alike, in what they come from too.
        let apart = self.origins.told_apart(own.clone()).alias(self.name());
        let kept = LogicalPlanBuilder::from(kept.clone()).project(columns(kept.schema()).into_iter().chain([apart]))?;
        let by = columns(kept.schema());
        let found = lit(1_i64).alias(self.name());
        let other =
            LogicalPlanBuilder::from(other.clone()).project(columns(other.schema()).into_iter().chain([found]))?;
        let found = columns(other.schema()).pop().unwrap_or_else(|| lit(ScalarValue::Int64(None)));
        let kind = if keeping.marks { JoinType::Left } else { JoinType::Inner };
        let (on, filter) = (keeping.on.clone(), keeping.join.filter.clone());
        let (kept, other) = (Arc::new(kept.build()?), Arc::new(other.build()?));
        let equality = keeping.join.null_equality;
        let rows = Join::try_new(kept, other, on, filter, kind, JoinConstraint::On, equality, false)?;
        let gathered = self.origins.gathered(theirs, None).alias(self.name());
        let many = count(found).alias(self.name());
        let rows = LogicalPlanBuilder::from(LogicalPlan::Join(rows)).aggregate(by, [gathered, many])?.build()?;
        let mut all = columns(rows.schema());
        let (many, theirs) = (all.pop(), all.pop());
        let of = [own].into_iter().chain(theirs).collect();
        self.shown(keeping, rows, of, many.map(|many| many.gt(lit(0_i64))))
    }

    /// The columns of the kept side, the mark if there is one, and what the rows come from.
    fn shown(&mut self, keeping: &Keeping<'_>, rows: LogicalPlan, of: Vec<Expr>, mark: Option<Expr>) -> Traced {
        let mut shown = columns(keeping.kept.schema());
        if keeping.marks
            && let Some((mark, named)) = mark.zip(keeping.join.schema.columns().pop())
        {
            shown.push(mark.alias_qualified(named.relation, named.name));
        }
        shown.push(self.origins.together_of(of).alias(self.name()));
        Ok(LogicalPlanBuilder::from(rows).project(shown)?.build()?)
    }

    /// The first row of each key in the order of the log: that before which there is none of the same key. The rows that are asked about
    /// are few, mostly, and others of their keys are found without a sort of everything.
    pub(super) fn first_in_log_order(&mut self, window: &Window, offset: &Expr) -> Traced {
        let (rows, others) = (self.rows(&window.input, None)?, self.rows(&window.input, None)?);
        let own = origin(&rows);
        let keys = partition_of(window);
        let names = keys.iter().map(|_| self.name()).collect::<Vec<_>>();
        let earlier = self.name();
        let named = keys.iter().cloned().zip(&names).map(|(key, name)| key.alias(name));
        let named = named.chain([offset.clone().alias(&earlier)]).collect::<Vec<_>>();
        let others = LogicalPlanBuilder::from(others).project(named)?.build()?;
        let mut of_others = columns(others.schema());
        let filter = of_others.pop().map(|earlier| earlier.lt(offset.clone()));
        let on = keys.iter().cloned().zip(of_others).collect();
        let (kind, equality) = (JoinType::LeftAnti, NullEquality::NullEqualsNull);
        let (rows, others) = (Arc::new(rows), Arc::new(others));
        let first = Join::try_new(rows, others, on, filter, kind, JoinConstraint::On, equality, false)?;
        let number = window.window_expr.iter().map(|expr| lit(1_u64).alias(expr.schema_name().to_string()));
        let shown = columns(window.input.schema()).into_iter().chain(number).chain([own]);
        Ok(LogicalPlanBuilder::from(LogicalPlan::Join(first)).project(shown)?.build()?)
    }
}

/// The same join of other inputs.
fn joined(join: &Join, left: LogicalPlan, right: LogicalPlan) -> Traced {
    let (on, filter, kind) = (join.on.clone(), join.filter.clone(), join.join_type);
    let (constraint, equality, aware) = (join.join_constraint, join.null_equality, join.null_aware);
    let joined = Join::try_new(Arc::new(left), Arc::new(right), on, filter, kind, constraint, equality, aware)?;
    Ok(LogicalPlan::Join(joined))
}
