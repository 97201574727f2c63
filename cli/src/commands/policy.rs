//! `lakebed policy`: what people read, and what they do not.

use arrow::array::RecordBatch;
use lakebed_query::Policies;

use crate::arguments::{PolicyCommand, PolicyTestArguments};
use crate::columns::{optional_texts, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Shows what somebody sees of each table.
pub(crate) async fn policy(invocation: &Invocation, command: &PolicyCommand) -> Result<()> {
    let PolicyCommand::Test(PolicyTestArguments { reader: name }) = command;
    let lakehouse = invocation.lakehouse().await?;
    let rules = Policies::of(&invocation.directory).rules()?.ok_or(Error::NoPolicies)?;
    let name = name.as_deref().unwrap_or_default();
    if !name.is_empty() && !rules.roles().contains(name) {
        invocation.output.say(&format!("no policy names '{name}': it sees what everybody sees"));
    }
    let session = lakehouse.read(None).await?;
    let seen = rules.summary(&session, &rules.reader(name)).await?;
    let part = |of: &dyn Fn(&lakebed_query::policies::Part) -> Option<String>| {
        optional_texts(seen.iter().map(|seen| seen.part.as_ref().and_then(of)))
    };
    let rows = seen.iter().map(|seen| match &seen.part {
        None => "not there".to_owned(),
        Some(part) => format!("{} of {}", part.rows, seen.rows),
    });
    invocation.output.rows(&RecordBatch::try_from_iter_with_nullable([
        ("table", texts(seen.iter().map(|seen| seen.table.as_str())), false),
        ("rows", texts(rows), false),
        ("where", part(&|part| part.condition.clone()), true),
        ("columns", part(&|part| part.columns.as_ref().map(|columns| columns.join(", "))), true),
        ("masked", part(&|part| Some(part.masked.join(", ")).filter(|masked| !masked.is_empty())), true),
    ])?)
}
