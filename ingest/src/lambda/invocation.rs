//! What invoked the function, told by the shape of its payload.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_lambda_events::kinesis::KinesisEvent;
use aws_lambda_events::s3::S3Event;
use aws_lambda_events::sqs::SqsEvent;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An invocation, by who made it.
pub(super) enum Invocation<'p> {
    /// API Gateway's HTTP API, payload version 2, or a function URL, which has the same.
    HttpApi(Box<ApiGatewayV2httpRequest>),
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

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "http")]
    _http: IgnoredAny,
}

impl<'p> Invocation<'p> {
    /// What a payload is. Whatever is of none of the known shapes is events: what is wrong with them is told in quarantine.
    pub(super) fn of(payload: &'p RawValue) -> Self {
        let text = payload.get();
        let plain = || {
            // A text is the bytes of a file.
            let events = serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
            Self::Events { events, id: None, source: None }
        };
        let outline = text.starts_with('{').then(|| serde_json::from_str::<Outline<'_>>(text));
        let Some(Ok(outline)) = outline else { return plain() };
        let source = outline.records.as_ref().and_then(|records| records.first()).map(|record| record.source.as_str());
        let known = match source {
            Some("aws:sqs") => serde_json::from_str(text).ok().map(Self::Queue),
            Some("aws:kinesis") => serde_json::from_str(text).ok().map(Self::Stream),
            Some("aws:s3") => serde_json::from_str(text).ok().map(Self::Objects),
            _ if outline.request.is_some() => serde_json::from_str(text).ok().map(Self::HttpApi),
            _ => None,
        };
        match (known, outline) {
            (Some(known), _) => known,
            (None, Outline { detail_type: Some(_), detail: Some(detail), .. }) => {
                Self::Bus { detail, envelope: payload }
            }
            (None, Outline { events: Some(events), batch_id: id, source, .. }) if events.get().starts_with('[') => {
                Self::Events { events: events.get().to_owned(), id, source }
            }
            _ => plain(),
        }
    }
}
