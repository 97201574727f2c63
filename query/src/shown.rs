//! What statements of tests answer.

use arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::prelude::SessionContext;

/// The rows of a statement, with a blank between them and none in them.
pub(crate) async fn shown(context: &SessionContext, sql: &str) -> Result<String> {
    let batches = context.sql(sql).await?.collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    Ok(rows.map(|row| row.replace(['|', ' '], "")).collect::<Vec<_>>().join(" "))
}
