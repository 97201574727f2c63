//! What came to a model, went from it or changed in it between two versions of the log, under the SQL as it is now.
//!
//! Both tables are read once to find which shares of the keys differ; the rows of those shares alone are read again, and sorted by
//! their keys, so that what belongs together stands together. Rows are one row where the content hash sees none but one.

mod merging;
mod shares;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, SortExpr, ident, lit};
use futures::{Stream, TryStreamExt};

use self::merging::Merge;
use self::shares::{Differing, Shares};
use crate::epoch::Manifest;
use crate::error::{Error, Result};
use crate::lakehouse::{AsOf, Lakehouse};
use crate::models::TableName;
use crate::refresh::shape::{Look, shapes};
use crate::session::{BoundPlan, ReadSession, Versions};
use crate::statement::Statement;

/// What is to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffOf {
    /// `schema.name`.
    pub model: String,
    /// The earlier version; without it, that of the epoch before the one in which the model last changed.
    pub from: Option<AsOf>,
    /// The later version; without it, the newest that was refreshed.
    pub to: Option<AsOf>,
}

/// What differs, on its way.
pub struct Diff {
    /// The earlier version.
    pub from: u64,
    /// The later version.
    pub to: u64,
    /// The columns by which rows are told apart; where none are known, rows are compared whole.
    pub key: Vec<String>,
    /// The rows.
    pub rows: DiffRows,
}

/// How many rows differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Rows that came.
    pub added: u64,
    /// Rows that went.
    pub removed: u64,
    /// Keys whose row is another one.
    pub changed: u64,
}

/// Rows that differ, ordered by their keys: a column `change` (`added`, `removed`, `before`, `after`), then the model's. Where the model
/// has a column of that name, it is `_change`.
pub struct DiffRows {
    sorted: SendableRecordBatchStream,
    merge: Merge,
    is_over: bool,
}

impl DiffRows {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.merge.schema()
    }

    /// How many rows there were so far.
    pub fn counts(&self) -> DiffCounts {
        self.merge.counts()
    }
}

impl Stream for DiffRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.is_over {
            let told = match ready!(self.sorted.as_mut().poll_next(context)) {
                Some(Ok(batch)) => self.merge.take(batch),
                Some(Err(error)) => Err(error.into()),
                None => {
                    self.is_over = true;
                    self.merge.end()
                }
            };
            self.is_over |= told.is_err();
            if !matches!(&told, Ok(batch) if batch.num_rows() == 0) {
                return Poll::Ready(Some(told));
            }
        }
        Poll::Ready(None)
    }
}

impl Lakehouse {
    /// Compares a model's tables as of two versions.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a name that is no model's, and for a model that no refresh knows where no version is given to
    /// compare with; [`Error::Backwards`]; [`lakebed_log::Error::NoVersion`] and [`lakebed_log::Error::BeforeTheLog`];
    /// [`Error::Model`] for SQL that does not plan; whatever goes wrong while a table is computed that is not stored.
    pub async fn diff(&self, of: &DiffOf) -> Result<Diff> {
        self.check_names(std::slice::from_ref(&of.model))?;
        let (from, to) = self.versions_to_compare(of).await?;
        if from > to {
            return Err(Error::Backwards(from, to));
        }
        let (name, key) = self.name_and_key(&of.model, to).await?;
        let select = |version: u64| format!("SELECT * FROM {} VERSION AS OF {version}", name.quoted());
        let both = Statement::parse(&format!("{} UNION ALL {}", select(from), select(to)))?;
        let session = self.as_of(AsOf::Version(to)).await?.for_statement(&both, self).await?;
        let before = session.plan(&select(from)).await?;
        let after = session.plan(&select(to)).await?;
        let memory = self.project().config.serve.query_memory;
        let rows = compare(&session, [before, after], &key, memory).await?;
        Ok(Diff { from, to, key, rows })
    }

    async fn versions_to_compare(&self, of: &DiffOf) -> Result<(u64, u64)> {
        let store = self.log().store();
        let (to, newest) = match of.to {
            Some(to) => (self.log().snapshot_at(self.version_of(to).await?).await?, None),
            None => {
                let newest = self.chain().newest(store).await?;
                let Some(newest) = newest.filter(|newest| of.from.is_some() || newest.models.contains_key(&of.model))
                else {
                    return Err(Error::UnknownTable { name: of.model.clone(), nearest: None });
                };
                (self.log().snapshot_at(newest.version).await?, Some(newest))
            }
        };
        let from = match (of.from, newest) {
            (Some(from), _) => self.log().snapshot_at(self.version_of(from).await?).await?.version,
            (None, Some(newest)) => self.version_before_the_last_change(&of.model, Some(&newest)).await?,
            (None, None) => {
                let epoch = self.chain().before(store, to.next_offset).await?;
                self.version_before_the_last_change(&of.model, epoch.as_ref()).await?
            }
        };
        Ok((from, to.version))
    }

    /// The version of the epoch before the one in which a model's rows last changed, or of the newest before that which is there;
    /// 0 where there was none.
    async fn version_before_the_last_change(&self, model: &str, epoch: Option<&Manifest>) -> Result<u64> {
        let changed = epoch.and_then(|epoch| epoch.models.get(model)).map_or(0, |state| state.changed);
        match changed {
            // They are counted from 1.
            0 | 1 => Ok(0),
            changed => {
                let before = self.chain().up_to(self.log().store(), changed - 1).await?;
                Ok(before.map_or(0, |before| before.version))
            }
        }
    }

    /// A model's name, and the columns by which its rows are told apart: those of its header, or those that its query makes so.
    async fn name_and_key(&self, model: &str, version: u64) -> Result<(TableName, Vec<String>)> {
        let snapshot = self.log().snapshot_at(version).await?;
        let mut inputs = self.inputs(&snapshot, None, None, self.log().store());
        inputs.models = self.with_ancestors(&[model.to_owned()]);
        let shape = shapes(&inputs, Look::Plan).await?.pop();
        let shape = shape.ok_or_else(|| Error::UnknownTable { name: model.to_owned(), nearest: None })?;
        let columns = shape.state.schema()?;
        let is_there = |key: &&Vec<String>| !key.is_empty() && key.iter().all(|name| columns.index_of(name).is_ok());
        let key = [&shape.model.key, &shape.state.unique].into_iter().find(is_there);
        Ok((shape.model.name.clone(), key.cloned().unwrap_or_default()))
    }
}

/// Compares the rows of two plans with the same columns, with so many bytes of memory.
///
/// # Errors
/// What goes wrong in either, and columns that differ.
async fn compare(
    session: &ReadSession,
    [before, after]: [LogicalPlan; 2],
    key: &[String],
    memory: usize,
) -> Result<DiffRows> {
    let columns = Arc::clone(before.schema().inner());
    let places = match key {
        [] => (0..columns.fields().len()).collect(),
        key => key.iter().map(|name| columns.index_of(name)).collect::<Result<Vec<_>, _>>()?,
    };
    let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(memory));
    let session = &session.for_sorting_within(memory);
    let run =
        async |plan: LogicalPlan| session.stream_within(&BoundPlan::new(plan), Arc::clone(&pool), Arc::default()).await;
    let mut shares = Shares::new(places.clone());
    for (plan, is_after) in [(&before, false), (&after, true)] {
        let mut rows = run(plan.clone()).await?;
        while let Some(batch) = rows.try_next().await? {
            shares.take(&batch, is_after)?;
        }
    }
    let differing = Arc::new(shares.differing());
    let merge = Merge::of(&columns);
    let sorted =
        by_key(before, &places, &differing, false)?.union(by_key(after, &places, &differing, true)?.build()?)?;
    let sorted = sorted.sort(order(&columns, &places))?.build()?;
    Ok(DiffRows { sorted: run(session.analyzed(sorted)?).await?, merge, is_over: false })
}

/// What a row is told apart by, and which side it is of, behind the columns of the table.
const HIDDEN: [&str; 3] = ["the hash of the key", "the hash of the row", "whether it is of the later version"];

/// The rows of one side that are in shares which differ.
fn by_key(
    plan: LogicalPlan,
    key: &[usize],
    differing: &Arc<Differing>,
    is_after: bool,
) -> datafusion::common::Result<LogicalPlanBuilder> {
    let columns: Vec<_> = plan.schema().columns().into_iter().map(datafusion::logical_expr::Expr::Column).collect();
    let of_key: Vec<_> = key.iter().map(|place| columns[*place].clone()).collect();
    let [key_hash, row_hash, side] = HIDDEN;
    let hidden = [
        shares::key_hash().call(of_key.clone()).alias(key_hash),
        shares::row_hash().call(columns.clone()).alias(row_hash),
        lit(is_after).alias(side),
    ];
    let differs = shares::differs(differing).call(of_key);
    LogicalPlanBuilder::from(plan).filter(differs)?.project(columns.into_iter().chain(hidden))
}

/// By the values of the key, as far as they are of types that are equal where their hashes are; then by the hashes, which bring
/// together what belongs together whatever its types.
fn order(columns: &SchemaRef, key: &[usize]) -> Vec<SortExpr> {
    let fields = key.iter().map(|place| columns.field(*place)).filter(|field| is_plain(field.data_type()));
    let names = fields.map(|field| field.name().as_str()).chain(HIDDEN);
    names.map(|name| ident(name).sort(true, false)).collect()
}

fn is_plain(kind: &DataType) -> bool {
    !kind.is_nested() && !matches!(kind, DataType::Dictionary(..) | DataType::RunEndEncoded(..) | DataType::Interval(_))
}

#[cfg(test)]
mod tests;
