//! One posted body of events → the log → an answer: the same from the HTTP server and from a function behind an HTTP API.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use lakebed_log::{Ack, Quarantined, RETRY};
use lakebed_project::{EventsConfig, Secret, Token, Tokens};
use serde::Serialize;
use sha2::Sha256;

use crate::error::Error;
use crate::intake::{Intake, Prepared, Sent, Tally, Whole};

/// How many refused events an answer tells of; all of them are in the quarantine.
const TOLD: usize = 10;

/// The longest name of a batch, in bytes.
const LONGEST_KEY: usize = 255;

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// The header `Idempotency-Key`: the batch's id.
    pub(crate) key: Option<String>,
    /// The parameter `ack`.
    pub(crate) ack: Option<String>,
    /// The header `Content-Encoding`.
    pub(crate) encoding: Option<String>,
    /// The name of the token that it came with.
    pub(crate) sender: Option<String>,
    /// The source of the events that do not name theirs.
    pub(crate) source: String,
    /// Headers in which something of an event may be.
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

/// What is answered, as JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Seconds after which the same request may succeed.
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Body,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Body {
    Taken(Taken),
    Refused {
        error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// What became of the events of one body.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    accepted: u64,
    quarantined: u64,
    duplicate: u64,
    /// None until a durable batch is committed.
    version: Option<u64>,
    /// The first events that went to quarantine, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    /// The event's place in the body, from 0.
    position: u64,
    reason: String,
}

impl Answer {
    pub(crate) fn refusal(status: StatusCode, error: impl Into<String>, hint: Option<String>) -> Self {
        Self { status, retry_after: None, body: Body::Refused { error: error.into(), hint } }
    }

    /// What is answered when nothing was taken, and sending again may help.
    pub(crate) fn later(status: StatusCode, error: impl Into<String>) -> Self {
        let hint = "send the same again a little later: nothing is taken twice".to_owned();
        Self { retry_after: Some(1), ..Self::refusal(status, error, Some(hint)) }
    }

    fn of(error: &Error) -> Self {
        let status = match error {
            Error::Read(reason) => {
                let hint = "send it again: nothing of this body was taken".to_owned();
                return Self::refusal(
                    StatusCode::BAD_REQUEST,
                    format!("the body cannot be read: {reason}"),
                    Some(hint),
                );
            }
            Error::BatchName { .. } | Error::ReservedName { .. } | Error::Parquet { .. } => StatusCode::BAD_REQUEST,
            Error::TooLarge { .. } | Error::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Ending => return Self::later(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Error::Log(lakebed_log::Error::BatchConflict { .. }) => StatusCode::CONFLICT,
            Error::Log(log) if log.may_pass() => {
                tracing::warn!("events were not taken: {log}");
                return Self::later(StatusCode::SERVICE_UNAVAILABLE, log.to_string());
            }
            _ => {
                tracing::error!("events were not taken: {error}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::refusal(status, error.to_string(), error.hint())
    }

    /// The events that it tells of, by what became of them.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        match &self.body {
            Body::Taken(taken) => (taken.accepted, taken.quarantined, taken.duplicate),
            Body::Refused { .. } => (0, 0, 0),
        }
    }
}

/// A header's text, without the quotes that may be around it.
pub(crate) fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).trim().trim_matches('"').to_owned())
}

/// The headers in which something of an event may be.
pub(crate) fn given(headers: &HeaderMap, fields: &EventsConfig) -> BTreeMap<String, String> {
    let value = |name: &str| Some((name.to_owned(), header(headers, &HeaderName::try_from(name).ok()?)?));
    fields.headers().filter_map(value).collect()
}

/// Whether a body is signed with the secret that the sender of webhooks shares with the server, as GitHub does it.
///
/// Method: "Validating webhook deliveries", docs.github.com: HMAC-SHA-256 over the body, in hex, in the header
/// `X-Hub-Signature-256` after `sha256=`.
pub(crate) fn is_signed(headers: &HeaderMap, body: &[u8], secret: &Secret) -> bool {
    let Some(signature) = signature(headers) else { return false };
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(secret.as_str().as_bytes()) else { return false };
    hmac.update(body);
    hmac.verify_slice(&signature).is_ok()
}

/// Whether a request comes with what may be a signature, and without a token.
pub(crate) fn may_be_signed(headers: &HeaderMap) -> bool {
    signature(headers).is_some() && !headers.contains_key(header::AUTHORIZATION)
}

/// The bytes of the signature that a request comes with.
fn signature(headers: &HeaderMap) -> Option<Vec<u8>> {
    let hex = headers.get(SIGNATURE)?.to_str().ok()?.strip_prefix("sha256=")?;
    let hex = Some(hex).filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// The header of a webhook's signature.
const SIGNATURE: &str = "x-hub-signature-256";

/// The source of events that come as signed webhooks and do not name theirs.
pub(crate) const WEBHOOK: &str = "webhook";

/// What lets longer bodies in.
pub(crate) const MOST_OF_A_BODY: &str = "[serve] max_body_bytes in lakebed.toml";

/// The answer to a body of more than so many bytes, and what to set for longer ones.
pub(crate) fn too_large(limit: usize, set: &str) -> Answer {
    let hint = several_bodies(set);
    Answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {limit} bytes"), Some(hint))
}

/// What to do with more than a body may have.
pub(crate) fn several_bodies(set: &str) -> String {
    format!("send the events in several bodies, or set {set}")
}

/// Refuses what no batch can be called; `what` is how the sender names it.
///
/// # Errors
/// [`Error::BatchName`], [`Error::ReservedName`].
pub fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    match name.len() {
        1..=LONGEST_KEY if name.contains(RETRY) => Err(Error::ReservedName { what }),
        1..=LONGEST_KEY => Ok(()),
        bytes => Err(Error::BatchName { what, bytes }),
    }
}

/// The answer to somebody who may not send.
pub(crate) fn unauthorized(error: &str) -> Answer {
    let hint = "`lakebed token add` makes a token; send it as Authorization: Bearer TOKEN".to_owned();
    Answer::refusal(StatusCode::UNAUTHORIZED, error, Some(hint))
}

/// The token that a request came with, if it is one of the lake's.
pub(crate) async fn token(headers: &HeaderMap, tokens: &Tokens) -> Result<Option<Token>, Answer> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
    match bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        None => Err(unauthorized("this is no bearer token")),
        Some((_, secret)) => match tokens.of_secret(secret.trim()).await {
            Ok(None) => Err(unauthorized("nobody has this token")),
            Ok(token) => Ok(token),
            Err(error) => Err(Answer::later(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        },
    }
}

/// Before names with a slash in them that come without a token. No token is called so.
const UNNAMED: &str = "http";

/// The batch that a body is once it is decoded; or the answer, where there is nothing in it to take. `held` is given back once it is decoded.
pub(crate) async fn prepare(
    intake: &Intake,
    post: Post,
    ack: Ack,
    limit: usize,
    held: impl Send + 'static,
) -> Result<(Prepared, Ack), Answer> {
    let wrong = |error: String, hint: &str| Answer::refusal(StatusCode::BAD_REQUEST, error, Some(hint.to_owned()));
    let ack = match post.ack.as_deref() {
        None => ack,
        Some("durable") => Ack::Durable,
        Some("committed") => Ack::Committed,
        Some(other) => return Err(wrong(format!("ack is '{other}'"), "ask for ack=durable or ack=committed")),
    };
    if let Some(encoding) = &post.encoding
        && !matches!(encoding.to_ascii_lowercase().as_str(), "" | "identity" | "gzip" | "x-gzip" | "zstd")
    {
        let hint = Some("send plain JSON, or gzip or zstd".to_owned());
        let error = format!("Content-Encoding is '{encoding}'");
        return Err(Answer::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, hint));
    }
    if let Some(key) = &post.key {
        check_name("Idempotency-Key", key).map_err(|error| Answer::of(&error))?;
    }
    if post.body.len() > limit {
        return Err(too_large(limit, MOST_OF_A_BODY));
    }
    // Who has a token has names of its own, and so have queues, streams and buckets: no sender stands in another's way.
    let key = post.key.map(|key| match post.sender {
        Some(sender) => format!("{sender}/{key}"),
        None if key.contains('/') => format!("{UNNAMED}/{key}"),
        None => key,
    });
    let sent = Sent { id: key, source: post.source, headers: post.given };
    let whole = intake.prepare(post.body, &sent, limit, held).await.map_err(|error| Answer::of(&error))?;
    match whole {
        Whole { flaw: Some(flaw), .. } => {
            let hint = "send one JSON object a line, or an array of them; nothing of this body was taken";
            Err(wrong(format!("the body is no JSON: {flaw}"), hint))
        }
        Whole { prepared: Some(prepared), .. } => Ok((prepared, ack)),
        Whole { prepared: None, .. } => Err(taken(&Tally::default(), &[])),
    }
}

/// What is answered to a body once it was tried to append it.
pub(crate) fn answer(prepared: &Prepared, appended: Result<Tally, Error>) -> Answer {
    match appended {
        Ok(tally) => taken(&tally, prepared.quarantine()),
        Err(error) => Answer::of(&error),
    }
}

fn taken(tally: &Tally, refused: &[Quarantined]) -> Answer {
    let refused = refused.iter().take(TOLD);
    let refused = refused.map(|event| Refused { position: event.position, reason: event.reason.clone() }).collect();
    let Tally { accepted, quarantined, duplicates: duplicate, version, .. } = *tally;
    let status = if version.is_none() && tally.batches > 0 { StatusCode::ACCEPTED } else { StatusCode::OK };
    let taken = Taken { accepted, quarantined, duplicate, version, refused };
    Answer { status, retry_after: None, body: Body::Taken(taken) }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use lakebed_log::{Log, Store};
    use lakebed_project::Config;

    use super::*;

    /// What a body is answered of which no more than 100 bytes are taken.
    async fn refused(key: Option<&str>, body: &[u8]) -> (StatusCode, String) {
        let log = Log::open_or_create(Store::memory(), "shop", Utc::now()).await.unwrap();
        let intake = Intake::new(log, &Config::default(), Utc::now);
        let post = Post {
            key: key.map(str::to_owned),
            ack: None,
            encoding: None,
            sender: None,
            source: "test".to_owned(),
            given: BTreeMap::new(),
            body: Bytes::copy_from_slice(body),
        };
        let answer = prepare(&intake, post, Ack::Committed, 100, ()).await.unwrap_err();
        (answer.status, serde_json::to_string(&answer.body).unwrap())
    }

    #[tokio::test]
    async fn what_is_too_long_is_told_with_the_setting_for_it() {
        let (status, said) = refused(None, &[b' '; 101]).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(said.contains("more than 100 bytes\"") && said.contains("[serve] max_body_bytes"), "{said}");
        let (status, said) = refused(None, &zstd::encode_all([b' '; 101].as_slice(), 1).unwrap()).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(said.contains("without its compression") && said.contains("[serve] max_body_bytes"), "{said}");
    }

    #[tokio::test]
    async fn a_batch_has_a_name_or_none() {
        for (key, bytes) in [("", 0), (&*"k".repeat(256), 256)] {
            let (status, said) = refused(Some(key), b"{}").await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(
                said.contains(&format!("Idempotency-Key has {bytes} bytes")) && said.contains("1 to 255"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_webhook_is_known_by_its_signature() {
        // The example of GitHub's documentation.
        let secret = Secret::new("It's a Secret to Everybody");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let headers =
            |value: &str| HeaderMap::from_iter([(HeaderName::from_static(SIGNATURE), value.parse().unwrap())]);
        assert!(is_signed(&headers(signature), b"Hello, World!", &secret));
        assert!(!is_signed(&headers(signature), b"Hello, World", &secret));
        assert!(!is_signed(&headers(signature), b"Hello, World!", &Secret::new("another")));
        for wrong in ["", "sha256=", "757107", &signature.replace('7', "x"), &signature[..70]] {
            assert!(!is_signed(&headers(wrong), b"Hello, World!", &secret), "{wrong}");
        }
        assert!(!is_signed(&HeaderMap::new(), b"Hello, World!", &secret));
    }
}
