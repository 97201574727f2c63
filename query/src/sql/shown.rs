//! What statements of tests answer.

use arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::prelude::{SessionConfig, SessionContext};

/// A session of one partition with what makes it differ from DataFusion's.
pub(crate) fn context_with(change: impl FnOnce(&mut SessionState)) -> SessionContext {
    let mut state = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1)).state();
    change(&mut state);
    SessionContext::new_with_state(state)
}

/// The rows of a statement with a blank between them, the values of each with a bar.
pub(crate) async fn shown(context: &SessionContext, sql: &str) -> Result<String> {
    let batches = context.sql(sql).await?.collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let values = |row: &str| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    Ok(rows.map(values).collect::<Vec<_>>().join(" "))
}
