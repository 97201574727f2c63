//! What the demo shows: the gold tables, what it took, and what to type next.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use lakebed_ingest::Tally;
use lakebed_query::{Lakehouse, ReadSession, Refreshed, TableInfo};

use crate::error::Result;
use crate::invocation::Invocation;

/// Rows shown of each table.
const ROWS: usize = 3;
/// Columns wider than a terminal help nobody; what is cut is said.
const COLUMNS: usize = 8;

/// What a run did.
pub(super) struct Run {
    /// The events.
    pub(super) tally: Tally,
    /// How long they took into the log.
    pub(super) appended: Duration,
    /// How long the tables took after that.
    pub(super) refreshed: Duration,
    /// The log's version before.
    pub(super) before: u64,
}

/// Writes all of it to stdout.
pub(super) async fn report(
    invocation: &Invocation,
    lakehouse: &Lakehouse,
    run: &Run,
    refreshed: &Refreshed,
) -> Result<()> {
    let session = lakehouse.read(None).await?;
    let mut text = String::new();
    for table in session.tables().iter().filter(|table| table.schema == "gold") {
        text.push_str(&gold_table(&session, table).await?);
    }
    let versions = lakehouse.log().versions(u64::MAX).await?;
    let new = versions.iter().filter(|(version, _)| *version > run.before);
    let stored: u64 = new.flat_map(|(_, entry)| &entry.added).map(|file| file.staged.bytes).sum();
    text.push_str(&figures(run, stored, session.version(), refreshed));
    // The version after the first batch of all: the earliest that has something to show.
    let earlier =
        versions.iter().find(|(_, entry)| !entry.record.batches.is_empty()).map_or(0, |(version, _)| *version);
    text.push_str(&next(invocation, lakehouse, earlier));
    invocation.output.text(&text)
}

async fn gold_table(session: &ReadSession, table: &TableInfo) -> Result<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    let columns: Vec<String> = table.columns.fields().iter().take(COLUMNS).map(|field| quoted(field.name())).collect();
    let order: Vec<String> = table.key.iter().map(|column| quoted(column)).collect();
    let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
    let sql = format!("SELECT {} FROM {name}{order} LIMIT {ROWS}", columns.join(", "));
    let rows = collect(session, &sql).await?;
    let count = collect(session, &format!("SELECT count(*) AS rows FROM {name}")).await?;
    let count =
        count.first().map(|batch| arrow::util::display::array_value_to_string(batch.column(0), 0)).transpose()?;
    let more = match table.columns.fields().len().saturating_sub(COLUMNS) {
        0 => String::new(),
        1 => ", 1 more column".to_owned(),
        more => format!(", {more} more columns"),
    };
    let shown = pretty_format_batches(&rows)?;
    Ok(format!("gold.{}: {} rows{more}\n{shown}\n\n", table.name, count.unwrap_or_default()))
}

async fn collect(session: &ReadSession, sql: &str) -> Result<Vec<RecordBatch>> {
    let stream = session.stream(session.plan(sql).await?).await?;
    Ok(stream.try_collect().await.map_err(lakebed_query::Error::from)?)
}

fn figures(run: &Run, stored: u64, version: u64, refreshed: &Refreshed) -> String {
    let Tally { accepted, quarantined, bytes, batches, .. } = run.tally;
    let seconds = run.appended.as_secs_f64().max(1e-9);
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let mut lines = Vec::new();
    if batches > 0 {
        let rate = run.tally.sent() as f64 / seconds;
        lines.push(format!(
            "appended    {accepted} events in {seconds:.1} s: {rate:.0} events/s ({quarantined} quarantined)"
        ));
        let ratio = bytes as f64 / stored.max(1) as f64;
        lines.push(format!(
            "bytes       {} of JSON in, {} of Parquet out: {ratio:.1} to 1",
            megabytes(bytes),
            megabytes(stored)
        ));
    } else {
        lines.push("appended    nothing: the last run's events were all there, its tables were not".to_owned());
    }
    let models = refreshed.models.len();
    lines.push(format!("refreshed   {models} models in {:.1} s", run.refreshed.as_secs_f64()));
    if let Some(bytes) = peak_memory() {
        lines.push(format!("memory      {} at most", megabytes(bytes)));
    }
    lines.push(format!("log         version {version}"));
    lines.join("\n") + "\n"
}

/// The most memory this process has had resident, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn next(invocation: &Invocation, lakehouse: &Lakehouse, earlier: u64) -> String {
    let project = invocation.directory.display();
    let published = lakehouse.duckdb_path();
    let published = std::path::absolute(&published).unwrap_or(published);
    let published = published.display().to_string().replace('\'', "''");
    let serve = &lakehouse.project().config.serve;
    let flight = serve.flight.map(|address| format!("Flight SQL at grpc://{address}"));
    let console = serve.http.map(|address| format!("a console at http://{address}/"));
    let addresses = flight.into_iter().chain(console).collect::<Vec<_>>();
    let addresses = if addresses.is_empty() { String::new() } else { format!("   # {}", addresses.join(", ")) };
    format!(
        "\nnext\n\
         in DuckDB       ATTACH '{published}' AS lake (READ_ONLY); FROM lake.gold.daily_activity;\n\
         served          lakebed --project {project} serve --watch{addresses}\n\
         here            lakebed --project {project} query 'SELECT * FROM gold.revenue LIMIT 10'\n\
         as it was       lakebed --project {project} query --as-of {earlier} 'SELECT count(*) FROM bronze.events'\n\
         more events     lakebed demo\n"
    )
}
