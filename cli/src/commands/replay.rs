//! `lakebed replay`: the tables once more, from the log's first version.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use lakebed_query::{AsOf, Lakehouse, Replay};

use crate::arguments::ReplayArguments;
use crate::columns::{numbers, texts};
use crate::error::Result;
use crate::invocation::Invocation;
use crate::progress::ModelBar;
use crate::system;

/// Replays, and says which tables were not what the log gives.
pub(crate) async fn replay(invocation: &Invocation, arguments: &ReplayArguments) -> Result<()> {
    system::keep_freed_memory(64 << 20);
    let lakehouse = invocation.lakehouse().await?;
    let replay = Replay {
        models: arguments.models.clone(),
        to: arguments.to.map(AsOf::Version).or(arguments.as_of),
        into: arguments.into.clone(),
    };
    report(invocation, &lakehouse, &replay).await
}

/// The same for a replay that another command asks for.
pub(crate) async fn report(invocation: &Invocation, lakehouse: &Lakehouse, replay: &Replay) -> Result<()> {
    let bar = ModelBar::new(&invocation.output);
    let replayed = lakehouse.replay(replay, &bar).await?;
    for name in &replayed.differed {
        invocation.output.say(&format!("{name} was not what the log gives, and has been put right"));
    }
    let (models, version) = (&replayed.models, replayed.version);
    invocation.output.say(&match (&replayed.published, replayed.differed.len()) {
        (Some(path), _) => format!("{} models as of version {version}, in {}", models.len(), path.display()),
        (None, 0) => format!("{} models at version {version} are what the log gives", models.len()),
        (None, count) => format!("{count} of {} models at version {version} were put right", models.len()),
    });
    let differed: BooleanArray = models.iter().map(|model| Some(replayed.differed.contains(&model.name))).collect();
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("model", texts(models.iter().map(|model| model.name.as_str()))),
        ("strategy", texts(models.iter().map(|model| model.strategy))),
        ("rows", numbers(models.iter().map(|model| model.rows))),
        ("version", numbers(vec![version; models.len()])),
        ("put_right", Arc::new(differed) as ArrayRef),
    ])?)
}
