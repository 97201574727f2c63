//! `lakebed why`: which events a row of a table comes from.

use lakebed_query::{Question, Why};

use crate::arguments::WhyArguments;
use crate::error::Result;
use crate::invocation::Invocation;

/// So many events are shown to people.
const SHOWN: u64 = 20;

/// Answers with the events on stdout: people get the first of them, whoever asks for a format all, with their documents.
pub(crate) async fn why(invocation: &Invocation, arguments: WhyArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse_to_ask().await?;
    let WhyArguments { model, values, as_of, limit } = arguments;
    let for_people = invocation.output.is_for_people();
    let most = limit.or(for_people.then_some(SHOWN));
    let stored_otherwise = match as_of {
        None => lakehouse.unlike_the_tables().await?.contains(&model),
        Some(_) => false,
    };
    let why = lakehouse.why(&Question { model: model.clone(), values, as_of }).await?;
    let events = why.read(most, !for_people).await?;
    invocation.output.stream(events.schema(), events).await?;
    invocation.output.say(&summary(&model, &why, most));
    if stored_otherwise {
        invocation.output.say(&format!("{model} is stored by other SQL than its file has now, by which this is told"));
    }
    Ok(())
}

/// How many events there are, of how many rows, and how many of them were shown.
fn summary(model: &str, why: &Why, most: Option<u64>) -> String {
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (events, rows) = (counted(why.events(), "event"), counted(why.rows, "row"));
    let shown = match most {
        Some(most) if most < why.events() => format!("; the first {most} are shown: --limit shows more"),
        _ => String::new(),
    };
    format!("{rows} of {model} as of version {} from {events}{shown}", why.version)
}
