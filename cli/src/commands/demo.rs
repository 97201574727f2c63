//! `lakebed demo`: the whole way from events to tables in one command, in a project that is left to look at.

mod feed;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use lakebed_query::Lakehouse;
use lakebed_query::config::CONFIG_FILE;

use crate::arguments::DemoArguments;
use crate::commands::init;
use crate::commands::run::refresh;
use crate::error::Result;
use crate::invocation::Invocation;

/// Where the demo works, in the working directory: an ordinary project.
const DIRECTORY: &str = "lakebed-demo";

/// Feeds the next stretch of events, or what is left of one that was killed, refreshes, and shows what came of it.
pub(crate) async fn demo(invocation: &Invocation, arguments: &DemoArguments) -> Result<()> {
    let directory = PathBuf::from(DIRECTORY);
    if !directory.join(CONFIG_FILE).exists() {
        init::make(&directory)?;
    }
    let invocation = invocation.in_project(directory);
    let lakehouse = invocation.lakehouse_or_new().await?;

    let before = lakehouse.log().snapshot().await?;
    let fed = feed::fed(&lakehouse.log().versions(u64::MAX).await?, arguments.seed);
    let target = feed::target(fed, arguments.events, is_behind(&lakehouse, before.version).await);
    let began = Instant::now();
    let tally = feed::feed(&invocation, &lakehouse, arguments.seed, fed..target).await?;
    let appended = began.elapsed();

    let began = Instant::now();
    let refreshed = refresh(&invocation, &lakehouse, &[]).await?;
    let run = report::Run { tally, appended, refreshed: began.elapsed(), before: before.version };
    report::report(&invocation, &lakehouse, &run, &refreshed).await
}

/// Whether the tables are of an earlier version than the log: then a run was killed before its end.
async fn is_behind(lakehouse: &Lakehouse, head: u64) -> bool {
    match lakehouse.read(None).await {
        // Before the first epoch a session is of the log's own version, and has the log alone.
        Ok(session) => session.version() < head || session.tables().iter().all(|table| table.schema == "bronze"),
        // Something is broken, which the refresh will tell.
        Err(_) => true,
    }
}
