//! The first row of each key, kept up to date at the cost of the new rows: a keyed first-wins pass instead of a window.
//!
//! Two passes over the new rows. The first reads only the key and the offset, and finds the rows that are later copies:
//! of a row before them among the new ones, or of a key that was seen in an earlier epoch. The second runs the query
//! without its window over what is left, streaming.

use std::collections::HashSet;
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
use crate::keys::row_keys;
use crate::state_cache::{Entries, SEEN};
use crate::strategy::{numbers_in_log_order, window_function};

/// Offsets of rows that are later copies.
pub(crate) type LaterCopies = Arc<HashSet<i64>>;

/// The first row of each key among some new rows.
#[derive(Debug, Default)]
pub(crate) struct FirstRows {
    /// Ascending, each once.
    keys: Vec<u128>,
    /// The least of each key's.
    offsets: Vec<i64>,
    later: HashSet<i64>,
}

/// Rows are sorted in so many parts, by the beginnings of their keys, which spread evenly: side by side, and each part in
/// reach of a processor's caches.
const PARTS: usize = 64;

/// A row: the halves of its key, and its offset. So it takes 24 bytes, and a key in one piece would have it take 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row(u64, u64, i64);

impl Row {
    fn new(key: u128, offset: i64) -> Self {
        Self((key >> 64) as u64, key as u64, offset)
    }

    fn key(self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }

    fn part(self) -> usize {
        (self.0 >> (u64::BITS - PARTS.ilog2())) as usize
    }
}

impl FirstRows {
    /// Of the rows of a [`keys_and_offsets`] plan, in any order; its streams are read side by side.
    ///
    /// # Errors
    /// What the streams say.
    pub(crate) async fn read(streams: Vec<SendableRecordBatchStream>) -> Result<Self> {
        let mut reading: JoinSet<_> = streams.into_iter().map(rows_in_parts).collect();
        let mut parts = vec![Vec::new(); PARTS];
        while let Some(read) = reading.join_next().await {
            parts.iter_mut().zip(read??).for_each(|(part, rows)| part.push(rows));
        }
        let numbered = parts.into_iter().enumerate();
        let mut sorting: JoinSet<_> = numbered.map(|(at, rows)| async move { (at, Self::of(rows)) }).collect();
        let mut parts: Vec<(usize, Self)> = Vec::with_capacity(PARTS);
        while let Some(part) = sorting.join_next().await {
            parts.push(part?);
        }
        parts.sort_unstable_by_key(|(at, _)| *at);
        let mut all = Self::default();
        for (_, part) in parts {
            all.keys.extend(part.keys);
            all.offsets.extend(part.offsets);
            all.later.extend(part.later);
        }
        Ok(all)
    }

    fn of(pieces: Vec<Vec<Row>>) -> Self {
        let mut rows = pieces.concat();
        drop(pieces);
        rows.sort_unstable();
        let mut first = Self::default();
        for row in rows {
            match first.keys.last() {
                Some(last) if *last == row.key() => drop(first.later.insert(row.2)),
                _ => {
                    first.keys.push(row.key());
                    first.offsets.push(row.2);
                }
            }
        }
        first
    }

    /// The keys, ascending.
    pub(crate) fn keys(&self) -> &[u128] {
        &self.keys
    }

    /// Closes the pass: `seen` says of each key whether it was seen in earlier epochs. Gives the later copies and the keys that
    /// are new.
    pub(crate) fn finish(mut self, seen: &[bool]) -> (LaterCopies, Vec<u128>) {
        self.later.extend(self.offsets.into_iter().zip(seen).filter(|(_, seen)| **seen).map(|(offset, _)| offset));
        let mut seen = seen.iter();
        self.keys.retain(|_| seen.next().is_none_or(|seen| !seen));
        (Arc::new(self.later), self.keys)
    }
}

/// A stream's rows, by the parts that they are of.
async fn rows_in_parts(mut stream: SendableRecordBatchStream) -> Result<Vec<Vec<Row>>> {
    let mut parts = vec![Vec::new(); PARTS];
    while let Some(batch) = stream.try_next().await.map_err(Error::Execution)? {
        let Some((offsets, keys)) = batch.columns().split_last() else { continue };
        let offsets = offsets.as_primitive::<Int64Type>().values();
        for (key, offset) in row_keys(keys)?.into_iter().zip(offsets) {
            let row = Row::new(key, *offset);
            parts[row.part()].push(row);
        }
    }
    Ok(parts)
}

/// That keys were seen.
pub(crate) fn seen(keys: impl IntoIterator<Item = u128>) -> Entries {
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
