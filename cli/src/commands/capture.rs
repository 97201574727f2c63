//! `lakebed capture`: what changes in a database, into the log.

use arrow::array::RecordBatch;
use lakebed_capture::{Capture, Step};
use lakebed_ingest::Tally;
use lakebed_project::{CaptureConfig, Config};

use crate::arguments::CaptureArguments;
use crate::columns::numbers;
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::output::Output;
use crate::progress::EventBar;
use crate::{signals, system};

/// Follows a database until it is told to end, or with `--once` up to where it is now; and says in one line what came of it.
pub(crate) async fn capture(invocation: &Invocation, arguments: &CaptureArguments) -> Result<()> {
    let stopped = signals::stop()?;
    system::keep_freed_memory(256 << 20);
    let config = invocation.config()?;
    let (name, section) = named(&config, arguments.name.as_deref())?;
    let capture = Capture::new(name, section, &invocation.directory)?;
    let log = invocation.log_or_new(&config).await?;
    // What one that was killed had staged is in the log before the lane is looked at.
    log.drain(invocation.now()).await?;
    let intake = invocation.intake(&log, &config);
    let (bar, mut tally) = (EventBar::new(&invocation.output, None), Tally::default());
    let mut report = |step: Step| match step {
        Step::Appended(appended) => {
            bar.add(appended.sent());
            tally.add(&appended);
        }
        step => say(&invocation.output, &capture, &step),
    };
    let outcome = tokio::select! {
        outcome = capture.run(&intake, arguments.once, &mut report) => outcome.map_err(Error::from),
        () = stopped => if arguments.once { Err(Error::Interrupted) } else { Ok(()) },
    };
    drop(bar);
    // What came before a failure is in the log, and told before it.
    if outcome.is_ok() || tally.batches > 0 {
        total(&invocation.output, &tally)?;
    }
    outcome
}

/// The capture that is meant.
fn named<'c>(config: &'c Config, name: Option<&str>) -> Result<(&'c str, &'c CaptureConfig)> {
    let mut captures = config.captures.iter().map(|(name, section)| (name.as_str(), section));
    let there = || config.captures.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let usage = |message: String, hint: String| Err(Error::Usage { message, hint });
    if config.captures.is_empty() {
        let hint =
            "write [capture.NAME] into lakebed.toml, with url = \"postgres://user@host:5432/database\"".to_owned();
        return usage("lakebed.toml has no [capture.NAME]".to_owned(), hint);
    }
    match name {
        Some(name) => match captures.find(|(known, _)| *known == name) {
            Some(found) => Ok(found),
            None => usage(format!("lakebed.toml has no [capture.{name}]"), format!("there are {}", there())),
        },
        None => match (captures.next(), captures.next()) {
            (Some(one), None) => Ok(one),
            _ => usage("there are several captures in lakebed.toml".to_owned(), format!("name one of {}", there())),
        },
    }
}

fn say(output: &Output, capture: &Capture, step: &Step) {
    let server = capture.server();
    match step {
        Step::Reads { tables: 1 } => output.say(&format!("reading a table of {server} as it is")),
        Step::Reads { tables } => output.say(&format!("reading {tables} tables of {server} as they are")),
        Step::Follows { from } => output.say(&format!("following the changes of {server} from {from} on")),
        Step::Waits { error, pause } => {
            output.say(&format!("{error}; tried again in {} s", pause.as_secs()));
        }
        Step::Appended(_) => {}
    }
}

fn total(output: &Output, tally: &Tally) -> Result<()> {
    let version = tally.version.map_or_else(String::new, |version| format!(", version {version}"));
    output.say(&format!(
        "{} changes in the log, {} in quarantine, in {} batches{version}",
        tally.accepted, tally.quarantined, tally.batches
    ));
    if tally.quarantined > 0 {
        output.say("`lakebed quarantine list` has the reasons");
    }
    if !output.wants_rows() {
        return Ok(());
    }
    output.rows(&RecordBatch::try_from_iter([
        ("accepted", numbers([tally.accepted])),
        ("quarantined", numbers([tally.quarantined])),
        ("batches", numbers([tally.batches])),
    ])?)
}
