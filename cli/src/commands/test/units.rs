//! Unit tests: their events decoded as every event is, each tried, and told what it has instead of what it expects.

use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use lakebed_ingest::{RawBatches, Settings, decode};
use lakebed_log::{Batch, BatchId};
use lakebed_project::{Config, UnitTest};
use lakebed_query::Project;
use lakebed_query::catalog::{BRONZE, EVENTS};
use lakebed_query::unit_tests::{Difference, Failure, GivenEvents, Instead, Way, no_time, time_of};

use super::{FAILS, Outcome, UNIT_TEST};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::output::Output;

/// So many rows of a difference are shown.
const SHOWN: usize = 20;

/// What an event has to be.
const EVENT: &str =
    "an event is one JSON object in one line, with its id, type and time where [events] in lakebed.toml says";

/// Tries the tests of the models that are named, or all of them; of those that fail it is said why.
pub(super) async fn outcomes(invocation: &Invocation, project: &Project, models: &[String]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for test in project.unit_tests(models)? {
        let (state, rows) = match tried(project, &test).await {
            Ok(failures) => {
                let state = if failures.is_empty() { "holds" } else { FAILS };
                failures.iter().try_for_each(|failure| tell(&invocation.output, &test, failure))?;
                (state, failures.iter().map(rows_of).max().unwrap_or(Some(0)))
            }
            Err(error) => {
                invocation.output.say(&format!("'{}' cannot be tried: {error}", test.name));
                tell_hint(&invocation.output, error.hint());
                (FAILS, None)
            }
        };
        outcomes.push(Outcome { model: test.model.text, name: test.name, kind: UNIT_TEST, state, rows });
    }
    Ok(outcomes)
}

async fn tried(project: &Project, test: &UnitTest) -> Result<Vec<Failure>> {
    let events = given_events(&project.config, test)?;
    Ok(project.try_out(test, &events).await?)
}

fn rows_of(failure: &Failure) -> Option<u64> {
    match &failure.instead {
        Instead::Rows(Difference { missing, too_many, .. }) => Some((missing + too_many) as u64),
        Instead::Error(_) => None,
    }
}

fn tell(output: &Output, test: &UnitTest, failure: &Failure) -> Result<()> {
    let (place, name, model) = (format!("{}:{}", test.file.display(), test.line), &test.name, &test.model.text);
    let way = match failure.way {
        Way::Any => "",
        Way::Together => " with all events in one append",
        Way::Apart => " with every event an epoch of its own",
    };
    match &failure.instead {
        Instead::Error(error) => {
            output.say(&format!("{place}: '{name}': {model} cannot be computed{way}: {error}"));
            tell_hint(output, error.hint());
        }
        Instead::Rows(Difference { missing, too_many, rows }) => {
            output.say(&format!(
                "{place}: '{name}': {model} has other rows{way}: {missing} missing, {too_many} too many"
            ));
            let shown = rows.slice(0, rows.num_rows().min(SHOWN));
            let options = FormatOptions::default().with_null("NULL");
            output.say(&pretty_format_batches_with_options(&[shown], &options)?.to_string());
            if rows.num_rows() > SHOWN {
                output.say(&format!("and {} more", rows.num_rows() - SHOWN));
            }
        }
    }
    Ok(())
}

fn tell_hint(output: &Output, hint: Option<String>) {
    if let Some(hint) = hint {
        output.say(&format!("hint: {hint}"));
    }
}

/// The events of a test, as the project's settings have them decoded.
///
/// # Errors
/// [`lakebed_query::Error::UnitTest`] for one that would go to quarantine.
fn given_events(config: &Config, test: &UnitTest) -> Result<GivenEvents> {
    let is_events = |name: &str| name.split_once('.') == Some((BRONZE, EVENTS));
    let Some(given) = test.given.iter().find(|table| is_events(&table.name)) else {
        return Ok(GivenEvents::default());
    };
    let settings = Settings::of(config).uncut();
    let settings = match time_of(test)? {
        Some(now) => settings.at(now),
        // Nothing is ahead of a clock that there is not.
        None => Settings { latest: None, ..settings.at(no_time()) },
    };
    let mut events = GivenEvents::default();
    for (number, line) in given.rows.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |message: String| -> Error {
            let (path, line, hint) = (test.file.clone(), given.rows.line + number, Some(EVENT.to_owned()));
            lakebed_query::Error::UnitTest { path, line, message, hint }.into()
        };
        let Some(batch) = batch(line, &number.to_string(), &settings)? else { continue };
        if let Some(refused) = batch.quarantine.first() {
            return Err(wrong(format!("this event would go to quarantine: {}", refused.reason)));
        }
        if batch.events.len() > 1 {
            return Err(wrong(format!("this line has {} events", batch.events.len())));
        }
        events.apart.push(batch.into());
    }
    events.together.extend(batch(&given.rows.text, "all", &settings)?.map(Into::into));
    Ok(events)
}

/// One batch of all events in a text, if there is one.
fn batch(text: &str, id: &str, settings: &Settings) -> Result<Option<Batch>> {
    let raw = RawBatches::new(text.as_bytes(), settings).next().transpose()?;
    Ok(raw.map(|raw| decode(&raw, BatchId::new(id), "test", settings).batch))
}
