//! What invoked the function, told by the shape of its payload.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_lambda_events::kinesis::KinesisEvent;
use aws_lambda_events::s3::S3Event;
use aws_lambda_events::sqs::SqsEvent;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// An invocation, by who made it.
pub(super) enum Invocation<'p> {
    /// API Gateway's HTTP API, payload version 2, or a function URL, which has the same.
    HttpApi(Box<ApiGatewayV2httpRequest>),
    /// Another form of an HTTP request, which is not understood.
    OtherHttp,
    /// SQS.
    Queue(SqsEvent),
    /// Kinesis.
    Stream(KinesisEvent),
    /// S3's notification of new objects.
    Objects(S3Event),
    /// EventBridge.
    Bus {
        /// What the sender put on the bus.
        detail: &'p RawValue,
        /// That, with what the bus says of it.
        envelope: &'p RawValue,
    },
    /// Somebody who calls the function with events: one, an array, a text of lines, or
    /// `{"events": […], "batch_id": "…", "source": "…"}`.
    Events { events: String, id: Option<String>, source: Option<String> },
}

/// As much of a payload as tells what it is.
#[derive(Deserialize)]
struct Outline<'p> {
    #[serde(rename = "Records", default)]
    records: Option<Vec<Record>>,
    #[serde(rename = "requestContext", default)]
    request: Option<Request>,
    #[serde(rename = "detail-type", default)]
    detail_type: Option<IgnoredAny>,
    #[serde(borrow, default)]
    detail: Option<&'p RawValue>,
    #[serde(borrow, default)]
    events: Option<&'p RawValue>,
    #[serde(default)]
    batch_id: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

/// SQS and Kinesis write `eventSource`; so does S3.
#[derive(Deserialize)]
struct Record {
    #[serde(rename = "eventSource")]
    source: String,
}

/// Whatever invokes functions over HTTP has this; version 2 of its payload has `http` in it.
#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    http: Option<IgnoredAny>,
}

impl<'p> Invocation<'p> {
    /// What a payload is; `is_event` says whether a text is an event by itself, which goes before
    /// all that is not from a queue, a stream or a bucket.
    ///
    /// What is of none of the known shapes is events: what is wrong with them is told in quarantine.
    ///
    /// # Errors
    /// [`Error::Payload`] for what a service sent that is not understood: its events are not to be taken for done.
    pub(super) fn of(payload: &'p RawValue, is_event: impl Fn(&str) -> bool) -> Result<Self> {
        let text = payload.get();
        let plain = || {
            // A text is the bytes of a file.
            let events = serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
            Ok(Self::Events { events, id: None, source: None })
        };
        if !text.starts_with('{') {
            return plain();
        }
        let Ok(outline) = serde_json::from_str::<Outline<'_>>(text) else { return plain() };
        let service = outline.records.as_ref().and_then(|records| records.first()).map(|record| record.source.clone());
        match (service, outline) {
            (Some(service), _) => match service.as_str() {
                "aws:sqs" => read(text, &service).map(Self::Queue),
                "aws:kinesis" => read(text, &service).map(Self::Stream),
                "aws:s3" => read(text, &service).map(Self::Objects),
                _ if is_event(text) => plain(),
                _ => Err(Error::Payload { service, reason: "it is none that is known here".to_owned() }),
            },
            // Most payloads are not read twice.
            (None, Outline { request: None, detail: None, events: None, .. }) => plain(),
            _ if is_event(text) => plain(),
            (None, Outline { request: Some(Request { http: Some(_) }), .. }) => {
                Ok(read(text, "an HTTP API").map_or(Self::OtherHttp, Self::HttpApi))
            }
            (None, Outline { request: Some(_), .. }) => Ok(Self::OtherHttp),
            (None, Outline { detail_type: Some(_), detail: Some(detail), .. }) => {
                Ok(Self::Bus { detail, envelope: payload })
            }
            (None, Outline { events: Some(events), batch_id: id, source, .. }) if events.get().starts_with('[') => {
                Ok(Self::Events { events: events.get().to_owned(), id, source })
            }
            _ => plain(),
        }
    }
}

fn read<T: DeserializeOwned>(text: &str, service: &str) -> Result<T> {
    let wrong = |error: serde_json::Error| Error::Payload { service: service.to_owned(), reason: error.to_string() };
    serde_json::from_str(text).map_err(wrong)
}
