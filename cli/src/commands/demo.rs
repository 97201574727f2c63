//! `lakebed demo`: the whole way from events to tables in one command, in a project that is left to look at.

mod feed;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use lakebed_project::CONFIG_FILE;
use lakebed_query::Lakehouse;

use crate::arguments::DemoArguments;
use crate::commands::init;
use crate::commands::run::refresh;
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Where the demo works, in the working directory: an ordinary project.
const DIRECTORY: &str = "lakebed-demo";

/// Feeds the next stretch of events, or what is left of one that was killed, refreshes, and shows what came of it.
pub(crate) async fn demo(invocation: &Invocation, arguments: &DemoArguments) -> Result<()> {
    invocation.is_anywhere().then_some(()).ok_or_else(|| Error::Usage {
        message: format!("the demo works in ./{DIRECTORY}, with a lake of its own"),
        hint: "leave --project, LAKEBED_PROJECT and --lake out".to_owned(),
    })?;
    let directory = PathBuf::from(DIRECTORY);
    if !directory.join(CONFIG_FILE).exists() {
        init::make(&directory)?;
    }
    let invocation = invocation.in_project(directory);
    let lakehouse = invocation.lakehouse_or_new().await?;

    let before = lakehouse.log().snapshot().await?;
    let (fed, last) = feed::fed(&lakehouse.log().versions(u64::MAX).await?, arguments.seed);
    let target = feed::target(fed, arguments.events, is_behind(&lakehouse, last).await);
    let began = Instant::now();
    let tally = feed::feed(&invocation, &lakehouse, arguments.seed, fed..target).await?;
    let appended = began.elapsed();

    let began = Instant::now();
    let refreshed = refresh(&invocation, &lakehouse, &[]).await?;
    let run = report::Run { tally, appended, refreshed: began.elapsed(), before: before.version };
    report::report(&invocation, &lakehouse, &run, &refreshed).await
}

/// Whether the tables, stored or published, are of an earlier version than the feed's last: then a run was killed before its
/// end. Something that is broken the refresh will tell.
async fn is_behind(lakehouse: &Lakehouse, last: u64) -> bool {
    let (epoch, published) = (lakehouse.epoch().await, lakehouse.published_at().await);
    let (Ok(Some(_)), Ok(Some(published)), Ok(session)) = (epoch, published, lakehouse.read(None).await) else {
        return true;
    };
    session.version() < last || published < last
}
