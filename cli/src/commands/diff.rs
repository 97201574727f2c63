//! `lakebed diff`: the rows of a model that are others at another version.

use lakebed_query::{DiffCounts, DiffOf};

use crate::arguments::DiffArguments;
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Shows the rows batch by batch, and says then how many there were.
pub(crate) async fn diff(invocation: &Invocation, arguments: DiffArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse_to_ask().await?;
    let of = DiffOf { model: arguments.model, from: arguments.from, to: arguments.to };
    let mut diff = lakehouse.diff(&of).await.map_err(usage)?;
    invocation.output.stream(diff.rows.schema(), &mut diff.rows).await?;
    let (counts, from, to) = (diff.rows.counts(), diff.from, diff.to);
    invocation.output.say(&format!("{} from version {from} to version {to}: {}", of.model, in_words(counts)));
    Ok(())
}

/// Versions in the wrong order are a wrong command line.
fn usage(error: lakebed_query::Error) -> Error {
    match &error {
        lakebed_query::Error::Backwards(..) => {
            Error::Usage { message: error.to_string(), hint: error.hint().unwrap_or_default() }
        }
        _ => error.into(),
    }
}

fn in_words(counts: DiffCounts) -> String {
    let rows = if counts.added == 1 { "row" } else { "rows" };
    format!("{} {rows} came, {} went, {} changed", counts.added, counts.removed, counts.changed)
}
