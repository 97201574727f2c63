//! What a reader sees of each table, in words.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::{Reader, Rules};
use crate::catalog::INFORMATION_SCHEMA;
use crate::error::Result;
use crate::models::TableName;
use crate::session::ReadSession;

/// A table of the lake, and what of it is a reader's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The table, with its schema.
    pub table: String,
    /// `None` where it is not there for the reader.
    pub part: Option<Part>,
    /// All rows that there are.
    pub rows: u64,
}

/// What is seen of a table that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rows that are seen.
    pub rows: u64,
    /// The condition on them, where there is one.
    pub condition: Option<String>,
    /// Columns that are seen, where not all are.
    pub columns: Option<Vec<String>>,
    /// Columns with other values than there are, each with what stands for them.
    pub masked: Vec<String>,
}

impl Rules {
    /// Reads every table of the lake in whole and as a reader sees it.
    ///
    /// # Errors
    /// [`crate::Error::Policy`] for an expression that does not plan, and whatever goes wrong with the rows.
    pub async fn summary(&self, whole: &ReadSession, reader: &Reader) -> Result<Vec<Seen>> {
        let narrowed = whole.for_reader(self, reader).await?;
        let mut tables = Vec::new();
        for info in whole.tables().iter().filter(|info| info.schema != INFORMATION_SCHEMA) {
            let name = TableName { schema: info.schema.clone(), name: info.name.clone() };
            let part = match self.access(reader, &name) {
                None => None,
                Some(access) => Some(Part {
                    rows: count(&narrowed, &name).await?,
                    condition: access.condition(),
                    columns: access.columns.map(|columns| columns.into_iter().map(str::to_owned).collect()),
                    masked: access.masks.iter().map(|(column, (using, _))| format!("{column}: {using}")).collect(),
                }),
            };
            tables.push(Seen { table: name.to_string(), part, rows: count(whole, &name).await? });
        }
        Ok(tables)
    }
}

async fn count(session: &ReadSession, name: &TableName) -> Result<u64> {
    let plan = session.plan(&format!("SELECT count(*) FROM {}", name.quoted())).await?;
    let batches: Vec<_> = session.stream(plan).await?.try_collect().await.map_err(crate::Error::Execution)?;
    let counts =
        batches.iter().flat_map(|batch| Arc::clone(batch.column(0)).as_primitive::<Int64Type>().values().to_vec());
    Ok(counts.sum::<i64>().unsigned_abs())
}
