//! The first row of each key, kept up to date at the cost of the new rows: a keyed first-wins pass instead of a window.
//!
//! Two passes over the new rows. The first reads only the key and the offset, and finds the rows that are later copies:
//! of a row before them among the new ones, or of a key that was seen in an earlier epoch. The second runs the query
//! without its window over what is left, streaming.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as PlanResult, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, col, lit,
};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt;
use lakebed_log::schema;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::keys::{KeyMap, row_keys};
use crate::state_cache::{Entries, SEEN};
use crate::strategy::{numbers_in_log_order, window_function};

/// Offsets of rows that are later copies.
pub(crate) type LaterCopies = Arc<HashSet<i64>>;

/// The first row of each key among some new rows.
#[derive(Debug, Default)]
pub(crate) struct FirstRows {
    first: KeyMap<i64>,
    later: HashSet<i64>,
}

impl FirstRows {
    /// Takes up the rows of a [`keys_and_offsets`] plan, in any order; its streams side by side.
    ///
    /// # Errors
    /// What the streams say.
    pub(crate) async fn read(&mut self, streams: Vec<SendableRecordBatchStream>) -> Result<()> {
        let mut reading = JoinSet::new();
        for rows in streams {
            reading.spawn(async move {
                let mut part = Self::default();
                part.take(rows).await.map(|()| part)
            });
        }
        while let Some(part) = reading.join_next().await {
            let part = part??;
            if self.first.is_empty() && self.later.is_empty() {
                *self = part;
                continue;
            }
            self.later.extend(part.later);
            part.first.into_iter().for_each(|(key, offset)| self.note(key, offset));
        }
        Ok(())
    }

    async fn take(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.try_next().await.map_err(Error::Execution)? {
            let Some((offsets, keys)) = batch.columns().split_last() else { continue };
            let offsets = offsets.as_primitive::<Int64Type>();
            row_keys(keys)?.into_iter().zip(offsets.values()).for_each(|(key, offset)| self.note(key, *offset));
        }
        Ok(())
    }

    fn note(&mut self, key: u128, offset: i64) {
        match self.first.entry(key) {
            Entry::Vacant(vacant) => drop(vacant.insert(offset)),
            Entry::Occupied(mut first) => {
                self.later.insert((*first.get()).max(offset));
                let earlier = (*first.get()).min(offset);
                first.insert(earlier);
            }
        }
    }

    /// The keys, ascending.
    pub(crate) fn keys(&self) -> Vec<u128> {
        let mut keys: Vec<u128> = self.first.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Closes the pass: `keys` as given by [`Self::keys`], and which of them were seen in earlier epochs. Gives the later
    /// copies and the keys that are new.
    pub(crate) fn finish(mut self, keys: Vec<u128>, seen: &[bool]) -> (LaterCopies, Vec<u128>) {
        for (key, _) in keys.iter().zip(seen).filter(|(_, seen)| **seen) {
            self.later.extend(self.first.get(key));
        }
        let new = keys.into_iter().zip(seen).filter(|(_, seen)| !**seen).map(|(key, _)| key);
        (Arc::new(self.later), new.collect())
    }
}

/// That keys were seen.
pub(crate) fn seen(keys: Vec<u128>) -> Entries {
    let mut entries = Entries::default();
    let seen = entries.on(SEEN);
    keys.into_iter().for_each(|key| seen.keep(key, &[], &[]));
    entries
}

/// The plan of the first pass: the key's expressions, then the offset, over what the plan's window reads.
///
/// # Errors
/// Where the plan has no such window.
pub(crate) fn keys_and_offsets(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::Window(window) = node
            && numbers_in_log_order(window).is_some()
        {
            let keys = window
                .window_expr
                .first()
                .and_then(window_function)
                .map(|function| function.params.partition_by.clone());
            found = keys.map(|keys| (Arc::clone(&window.input), keys));
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    let Some((input, keys)) = found else {
        return Err(Error::Sql { message: "the plan keeps no first row per key".to_owned() });
    };
    let keys = keys.into_iter().enumerate().map(|(at, key)| key.alias(format!("key_{at}")));
    let columns = keys.chain([col(schema::OFFSET)]).collect::<Vec<Expr>>();
    Ok(LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build()?)
}

/// The plan of the second pass: the window gone, the later copies left out, and 1 as every row's number.
///
/// # Errors
/// Where DataFusion refuses the rewritten plan, which it does not for a plan that it accepted before.
pub(crate) fn without_window(plan: LogicalPlan, later: &LaterCopies) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::Window(window) = &node else { return Ok(Transformed::no(node)) };
        if numbers_in_log_order(window).is_none() {
            return Ok(Transformed::no(node));
        }
        let number = window.window_expr.iter().map(|expr| lit(1_u64).alias(expr.schema_name().to_string()));
        let columns = window.input.schema().columns().into_iter().map(Expr::Column).chain(number).collect::<Vec<_>>();
        let mut input = LogicalPlanBuilder::from(window.input.as_ref().clone());
        if !later.is_empty() {
            let is_later = ScalarUDF::from(IsLaterCopy::new(Arc::clone(later)));
            input = input.filter(!is_later.call(vec![col(schema::OFFSET)]))?;
        }
        Ok(Transformed::yes(input.project(columns)?.build()?))
    })?;
    // The filter on the row's number still names the window's column; every schema above is made anew.
    Ok(rewritten.data.transform_up(|node| node.recompute_schema().map(Transformed::yes))?.data)
}

/// `is_later_copy(_offset)`: whether a row is in a set of offsets, however large.
#[derive(Debug)]
struct IsLaterCopy {
    later: LaterCopies,
    signature: Signature,
}

impl IsLaterCopy {
    fn new(later: LaterCopies) -> Self {
        Self { later, signature: Signature::exact(vec![DataType::Int64], Volatility::Immutable) }
    }
}

/// Two are the same if they share their set: each refresh has one.
impl PartialEq for IsLaterCopy {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.later, &other.later)
    }
}

impl Eq for IsLaterCopy {}

impl Hash for IsLaterCopy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.later).hash(state);
    }
}

impl ScalarUDFImpl for IsLaterCopy {
    fn name(&self) -> &str {
        "is_later_copy"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [offsets] = arrays.as_slice() else { return exec_err!("is_later_copy takes one offset") };
        let later = offsets
            .as_primitive::<Int64Type>()
            .iter()
            .map(|offset| offset.is_some_and(|offset| self.later.contains(&offset)));
        Ok(ColumnarValue::Array(Arc::new(later.map(Some).collect::<BooleanArray>())))
    }
}
