//! Lambda → log: what the binary `bootstrap` does with an invocation.
//!
//! Whatever invokes the function, its events go the same way as those of a file. AWS repeats what is answered as failed: that
//! is only what may succeed later, so that a poison record is in quarantine and not retried for ever; and whatever is
//! repeated is in the log once.

mod http_api;
mod invocation;
mod objects;
mod queue;
mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lakebed_log::Ack;
use lakebed_project::{Config, EventsConfig, Tokens};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use self::invocation::Invocation;
use crate::error::{Error, Result};
use crate::intake::{Intake, Sent, Tally};
use crate::post;

/// The source of events that do not name theirs.
const SOURCE: &str = "lambda";

/// More than AWS lets a call carry, in bytes.
const MOST_OF_A_CALL: usize = 64 << 20;

/// The function: the way into one lake, opened with the first invocation that needs it.
pub struct Function {
    config: Config,
    directory: PathBuf,
    clock: fn() -> DateTime<Utc>,
    opened: OnceCell<Opened>,
}

/// A lake that is open.
struct Opened {
    intake: Intake,
    tokens: Tokens,
}

impl Function {
    /// The function of a project: lakebed.toml in `directory`, where there is one, and the environment.
    ///
    /// # Errors
    /// As [`Config::load_or_default`].
    pub fn new(
        directory: PathBuf,
        environment: &dyn Fn(&str) -> Option<String>,
        clock: fn() -> DateTime<Utc>,
    ) -> lakebed_project::Result<Self> {
        let config = Config::load_or_default(&directory, environment)?;
        Ok(Self { config, directory, clock, opened: OnceCell::new() })
    }

    /// Answers invocations until the runtime ends. The lake is opened while the first of them is waited for.
    ///
    /// # Errors
    /// Where the runtime cannot be reached.
    pub async fn run(self) -> Result<(), lambda_runtime::Error> {
        let function = Arc::new(self);
        let ahead = Arc::clone(&function);
        // What fails here fails again with the invocation, and is told there.
        tokio::spawn(async move { ahead.opened().await.map(drop) });
        let answer = |event: LambdaEvent<Box<RawValue>>| {
            let function = Arc::clone(&function);
            async move { function.answer(&event.payload).await.map_err(in_words) }
        };
        lambda_runtime::run(service_fn(answer)).await
    }

    async fn opened(&self) -> Result<&Opened> {
        let open = async || {
            let log = self.config.log_or_new(&self.directory, (self.clock)()).await?;
            let tokens = Tokens::new(log.store().clone());
            Ok(Opened { intake: Intake::new(log, &self.config, self.clock), tokens })
        };
        self.opened.get_or_try_init(open).await
    }

    /// What an invocation is answered.
    ///
    /// # Errors
    /// Where nothing is known to be in the log, and the same invocation may succeed later; AWS repeats it. And
    /// [`Error::BatchName`] and [`Error::TooMany`] for a call that has to be another one.
    pub async fn answer(&self, payload: &RawValue) -> Result<Value> {
        let Opened { intake, tokens } = self.opened().await?;
        // An answer that says less than this would have AWS forget the events.
        let ack = self.config.ingest.ack;
        let settings = intake.settings();
        let is_event = |text: &str| crate::event::read(text.as_bytes(), &settings).is_ok();
        Ok(match Invocation::of(payload, is_event)? {
            Invocation::HttpApi(request) => {
                let serve = &self.config.serve;
                let senders = (tokens, serve.webhook_secret.as_ref());
                http_api::answer(intake, senders, &request, ack, serve.max_body_bytes).await
            }
            Invocation::OtherHttp => http_api::unknown(),
            Invocation::Queue(event) => queue::answer(intake, &self.config.s3, event.records, ack).await?,
            Invocation::Stream(event) => stream::answer(intake, event.records).await?,
            Invocation::Objects(event) => counts(&objects::take_all(intake, &self.config.s3, &event, ack).await?),
            Invocation::Bus { detail, envelope } => {
                // An event of ours on the bus is its detail; any other one is told by the bus.
                let ours = is_event(detail.get());
                let (intake, event) = match EventsConfig::preset("eventbridge") {
                    Some(preset) if !ours => (intake.with_fields(preset), envelope),
                    _ => (intake.clone(), detail),
                };
                counts(&take(&intake, event.get(), None, "eventbridge", ack).await?)
            }
            Invocation::Events { events, id, source } => {
                if let Some(id) = &id {
                    post::check_name("batch_id", id)?;
                }
                counts(&take(intake, &events, id, source.as_deref().unwrap_or(SOURCE), ack).await?)
            }
        })
    }
}

/// Appends the events of a text.
async fn take(intake: &Intake, events: &str, id: Option<String>, source: &str, ack: Ack) -> Result<Tally> {
    let sent = Sent { id, source: source.to_owned(), headers: BTreeMap::new() };
    let whole = intake.prepare(events.to_owned().into(), &sent, MOST_OF_A_CALL, ()).await?;
    match whole.prepared {
        Some(prepared) => intake.append(&prepared, ack).await,
        None => Ok(Tally::default()),
    }
}

fn counts(tally: &Tally) -> Value {
    let Tally { accepted, quarantined, duplicates, version, .. } = tally;
    json!({ "accepted": accepted, "quarantined": quarantined, "duplicate": duplicates, "version": version })
}

/// An error with its hint, as the caller sees it and the runtime logs it.
fn in_words(error: Error) -> lambda_runtime::Diagnostic {
    let message = match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    lambda_runtime::Diagnostic { error_type: "lakebed".to_owned(), error_message: message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a function answers to a call, in a lake of its own, where `batch_events` is set.
    async fn answered(batch_events: Option<&str>, payload: &str) -> Result<Value> {
        let directory = tempfile::tempdir().unwrap();
        let lake = directory.path().join("lake").display().to_string();
        let environment = |name: &str| match name {
            "LAKEBED_LAKE_URL" => Some(lake.clone()),
            "LAKEBED_PROJECT_NAME" => Some("shop".to_owned()),
            "LAKEBED_INGEST_BATCH_EVENTS" => batch_events.map(str::to_owned),
            _ => None,
        };
        let function = Function::new(directory.path().to_owned(), &environment, Utc::now).unwrap();
        function.answer(&RawValue::from_string(payload.to_owned()).unwrap()).await
    }

    fn call(events: usize, id: &str) -> String {
        let event = |at: usize| json!({ "event_id": at.to_string(), "event_type": "t", "event_time": 0 });
        json!({ "events": (0..events).map(event).collect::<Vec<_>>(), "batch_id": id }).to_string()
    }

    #[tokio::test]
    async fn a_call_has_as_many_events_as_are_set() {
        let error = answered(Some("2"), &call(3, "a")).await.unwrap_err();
        assert!(matches!(error, Error::TooMany { most: 2 }), "{error}");
        assert_eq!(answered(Some("3"), &call(3, "a")).await.unwrap()["accepted"], 3);
    }

    #[tokio::test]
    async fn a_call_names_its_batch_or_does_not() {
        for (id, bytes) in [(String::new(), 0), ("k".repeat(256), 256)] {
            let said = in_words(answered(None, &call(1, &id)).await.unwrap_err()).error_message;
            assert!(
                said.starts_with(&format!("batch_id has {bytes} bytes; give the batch a name of 1 to 255")),
                "{said}"
            );
        }
        assert_eq!(answered(None, &call(1, &"k".repeat(255))).await.unwrap()["accepted"], 1);
    }
}
