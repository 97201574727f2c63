//! `lakebed ingest`: events from files or stdin into the log.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use lakebed_ingest::{Outlet, Tally};

use crate::arguments::IngestArguments;
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::progress::EventBar;
use crate::system;

/// Appends the events of every input and says in one line what became of them.
pub(crate) async fn ingest(invocation: &Invocation, arguments: &IngestArguments) -> Result<()> {
    let inputs = inputs(arguments)?;
    system::keep_freed_memory(1 << 30);
    let config = invocation.config()?;
    // One that cannot be opened is told before anything is made or appended.
    let settings = lakebed_ingest::Settings::of(&config);
    let mut files = inputs.iter().filter(|input| !is_stdin(input));
    files.try_for_each(|input| lakebed_ingest::check_source(input, &settings))?;
    let log = invocation.log_or_new(&config).await?;
    let ack = arguments.ack.map_or(config.ingest.ack, Into::into);
    let id = arguments.batch_id.clone();
    let bar = EventBar::new(&invocation.output, None);
    let produce = move |outlet: &Outlet| inputs.iter().try_for_each(|input| read(input, id.as_deref(), outlet));
    let intake = invocation.intake(&log, &config);
    let (tally, outcome) = intake.take_what_can_be(ack, |events| bar.add(events), produce).await;
    drop(bar);
    // What came before a failure is in the log, and told before it.
    if outcome.is_ok() || tally.batches > 0 {
        report(invocation, &tally)?;
    }
    outcome?;
    match tally {
        Tally { quarantined, .. } if arguments.strict && quarantined > 0 => {
            Err(Error::Quarantined { quarantined, sent: tally.sent() })
        }
        Tally { accepted: 0, duplicates: 0, quarantined, .. } if quarantined > 0 => {
            Err(lakebed_ingest::Error::NothingAccepted { quarantined }.into())
        }
        _ => Ok(()),
    }
}

fn inputs(arguments: &IngestArguments) -> Result<Vec<PathBuf>> {
    if arguments.batch_id.is_some() && arguments.files.len() > 1 {
        return Err(Error::Usage {
            message: format!("--batch-id names one input, and there are {}", arguments.files.len()),
            hint: "ingest each file with an id of its own, or leave --batch-id out".to_owned(),
        });
    }
    if arguments.files.is_empty() && std::io::stdin().is_terminal() {
        return Err(Error::Usage {
            message: "no events to ingest".to_owned(),
            hint: "name files, or pipe events in: lakebed generate | lakebed ingest".to_owned(),
        });
    }
    Ok(if arguments.files.is_empty() { vec![PathBuf::from("-")] } else { arguments.files.clone() })
}

fn is_stdin(input: &Path) -> bool {
    input == Path::new("-")
}

/// Reads one input batch by batch, until it ends or nobody takes them any more.
fn read(input: &Path, id: Option<&str>, outlet: &Outlet) -> Result<()> {
    let (reader, source) = match is_stdin(input) {
        true => (lakebed_ingest::stdin(), "stdin"),
        false => (lakebed_ingest::open_any(input, outlet.settings())?, "file"),
    };
    outlet.put_all(reader, id, source).map(drop).map_err(Error::from)
}

fn report(invocation: &Invocation, tally: &Tally) -> Result<()> {
    let version = tally.version.map_or_else(String::new, |version| format!(", version {version}"));
    invocation.output.say(&format!(
        "{} events accepted, {} quarantined, {} duplicates, in {} batches{version}",
        tally.accepted, tally.quarantined, tally.duplicates, tally.batches
    ));
    if tally.quarantined > 0 {
        invocation.output.say("`lakebed quarantine list` has the reasons");
    }
    if tally.only_in_doc > 0 {
        invocation.output.say(&format!(
            "{} values did not fit their column and are in _doc alone; [columns] in lakebed.toml pins the types",
            tally.only_in_doc
        ));
    }
    if !invocation.output.wants_rows() {
        return Ok(());
    }
    let one = |value: Option<u64>| Arc::new(UInt64Array::from(vec![value])) as ArrayRef;
    invocation.output.rows(&RecordBatch::try_from_iter_with_nullable([
        ("accepted", one(Some(tally.accepted)), false),
        ("quarantined", one(Some(tally.quarantined)), false),
        ("duplicates", one(Some(tally.duplicates)), false),
        ("batches", one(Some(tally.batches)), false),
        ("version", one(tally.version), true),
    ])?)
}
