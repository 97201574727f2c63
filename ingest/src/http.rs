//! HTTP → log: `POST /v1/events`, for a server that other rooms bring along.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures::StreamExt;
use lakebed_log::Ack;
use lakebed_project::{Secret, Stranger, Token, Tokens, stranger};
use prometheus::{IntCounterVec, Opts, Registry};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::gathering::Gathering;
use crate::intake::Intake;
use crate::post::{self, Answer, Post};

/// Where events are posted.
pub const PATH: &str = "/v1/events";

/// The header that names a batch.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The source of events that come without a token and do not name theirs.
const SOURCE: &str = "http";

/// A body that takes longer to arrive is given up.
const ARRIVAL: Duration = Duration::from_secs(60);

/// One that is to be signed, of which nobody knows before it is there who sends it, has less time, …
const UNKNOWN_ARRIVAL: Duration = Duration::from_secs(10);

/// … and a share of the memory: who has a token is not kept from sending by those who have nothing.
const UNKNOWN_SHARE: usize = 8;

/// Memory is counted in pieces of this many bytes.
const PIECE: usize = 1 << 10;

/// What a server sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a request is answered that does not say it.
    pub ack: Ack,
    /// A longer body is refused. Bytes, decompressed.
    pub max_body_bytes: usize,
    /// How much of the bodies is held at once; whoever comes then is asked to come again. Bytes.
    pub memory: usize,
    /// Whether others than this machine can reach the server: then they need a token.
    pub needs_token: bool,
    /// What senders of webhooks sign with, who cannot send a token.
    pub webhook_secret: Option<Secret>,
}

#[derive(Clone)]
struct Shared {
    intake: Intake,
    gathering: Gathering,
    tokens: Tokens,
    options: Options,
    memory: Room,
    /// The part of it for bodies of which nobody knows yet who sends them.
    unknown: Room,
    /// As much again, for what is decoded. It is held by appends and what waits for them, which come to an end: who waits for it waits for
    /// nobody who waits for it.
    decoded: Arc<Semaphore>,
    /// Decoding takes more memory than a body has, and no more of it goes on at once than there are processors for.
    decoding: Arc<Semaphore>,
    counters: Counters,
}

/// Memory for bodies.
#[derive(Clone)]
struct Room {
    /// Its pieces that nobody holds.
    free: Arc<Semaphore>,
    /// All of it, in bytes: a longer body never fits.
    bytes: usize,
    /// What makes it larger.
    set: &'static str,
}

impl Room {
    fn of(bytes: usize, set: &'static str) -> Self {
        Self { free: pieces_of(bytes), bytes: bytes / PIECE * PIECE, set }
    }

    /// Room for so many bytes, if there is.
    fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Answer> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(pieces).map_err(|_| {
            let error = "more events are waiting for the lake than there is memory for";
            Answer::later(StatusCode::TOO_MANY_REQUESTS, error)
        })
    }
}

/// So many bytes in pieces.
fn pieces_of(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((bytes / PIECE).min(Semaphore::MAX_PERMITS)))
}

/// `POST /v1/events` into a log.
///
/// # Errors
/// Where `registry` has metrics of these names already.
pub fn routes(intake: Intake, tokens: Tokens, options: Options, registry: &Registry) -> prometheus::Result<Router> {
    let shared = Shared::new(intake, tokens, options, Counters::new(registry)?);
    Ok(Router::new().route(PATH, post(events)).with_state(shared))
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    ack: Option<String>,
}

async fn events(
    State(shared): State<Shared>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Response {
    let taken = match parameters {
        Ok(Query(parameters)) => shared.take(parameters, request).await,
        Err(rejection) => {
            let hint = Some("ask for ack=durable or ack=committed, once".to_owned());
            Err(Answer::refusal(
                StatusCode::BAD_REQUEST,
                format!("the query cannot be read: {}", rejection.body_text()),
                hint,
            ))
        }
    };
    let (Ok(answer) | Err(answer)) = taken;
    shared.counters.answered(&answer);
    answer.into_response()
}

impl Shared {
    fn new(intake: Intake, tokens: Tokens, options: Options, counters: Counters) -> Self {
        let memory = Room::of(options.memory, "[serve] ingest_memory in lakebed.toml");
        let of_it = "[serve] ingest_memory in lakebed.toml, of which a signed body has an eighth at most";
        let unknown = Room::of(options.memory / UNKNOWN_SHARE, of_it);
        let decoded = pieces_of(options.memory);
        let decoding = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));
        let gathering = Gathering::new(intake.clone());
        Self { intake, gathering, tokens, options, memory, unknown, decoded, decoding, counters }
    }

    async fn take(&self, parameters: Parameters, request: Request) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        // Who signs is known by the body only.
        let secret = self.options.webhook_secret.as_ref().filter(|_| post::may_be_signed(&head.headers));
        let token = if secret.is_some() { None } else { self.token_of(&head.headers).await? };
        let (room, patience) = match secret {
            Some(_) => (&self.unknown, UNKNOWN_ARRIVAL),
            None => (&self.memory, ARRIVAL),
        };
        let (body, held) = self.body_of(&head.headers, body, room, patience).await?;
        if secret.is_some_and(|secret| !post::is_signed(&head.headers, &body, secret)) {
            let hint = "sign it with LAKEBED_SERVE_WEBHOOK_SECRET of this server, or send a token".to_owned();
            let error = "the body is not signed with the secret of this server";
            return Err(Answer::refusal(StatusCode::UNAUTHORIZED, error, Some(hint)));
        }
        let held = if secret.is_some() { self.memory.hold(body.len())? } else { held };
        let header = |name: HeaderName| post::header(&head.headers, &name);
        let (key, encoding) = (header(IDEMPOTENCY_KEY), header(header::CONTENT_ENCODING));
        let given = post::given(&head.headers, self.intake.fields());
        let unnamed = if secret.is_some() { post::WEBHOOK } else { SOURCE };
        let source = token.as_ref().map_or_else(|| unnamed.to_owned(), |token| token.source.clone());
        let sender = token.map(|token| token.name);
        let post = Post { key, ack: parameters.ack, encoding, sender, source, given, body };
        // Never closed. The work holds both until it is done, whether somebody waits for it or not.
        let decoding = Arc::new(Arc::clone(&self.decoding).acquire_owned().await);
        let (options, held) = (&self.options, (held, Arc::clone(&decoding)));
        let (prepared, ack) = post::prepare(&self.intake, post, options.ack, options.max_body_bytes, held).await?;
        // What is decoded waits for its room, and nobody else is decoded in this one's place meanwhile.
        let held = self.room_for(prepared.memory()).await;
        drop(decoding);
        Ok(post::answer(&prepared, self.gathering.append(&prepared, ack, held).await))
    }

    /// Room for so many decoded bytes; all of it for more than there is.
    async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let pieces = u32::try_from(bytes.min(self.options.memory) / PIECE).unwrap_or(u32::MAX);
        Arc::clone(&self.decoded).acquire_many_owned(pieces).await.ok()
    }

    /// The token that a request came with, if it needs one or has one.
    async fn token_of(&self, headers: &HeaderMap) -> Result<Option<Token>, Answer> {
        if let Some(token) = post::token(headers, &self.tokens).await? {
            return Ok(Some(token));
        }
        if self.options.needs_token {
            return Err(post::unauthorized("a token is needed here"));
        }
        match stranger(|name| headers.get(name).map(|value| value.to_str().unwrap_or(""))) {
            None => Ok(None),
            Some(Stranger::Proxy) => Err(post::unauthorized("a token is needed here")),
            Some(Stranger::Browser | Stranger::OwnPage) => {
                Err(Answer { status: StatusCode::FORBIDDEN, ..post::unauthorized("a browser needs a token") })
            }
        }
    }

    /// Reads the body, as far as there is room for it. One that would never fit is not asked to come again.
    async fn body_of(
        &self,
        headers: &HeaderMap,
        body: Body,
        room: &Room,
        patience: Duration,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Answer> {
        let most = self.options.max_body_bytes;
        let (limit, set) = if room.bytes < most { (room.bytes, room.set) } else { (most, post::MOST_OF_A_BODY) };
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > limit) {
            return Err(post::too_large(limit, set));
        }
        // What is announced is held from the beginning: a body that is half there is in the way of those that would fit.
        let mut held = room.hold(announced.unwrap_or(0))?;
        let mut within = announced.unwrap_or(0).next_multiple_of(PIECE);
        let mut chunks = body.into_data_stream();
        let mut body = Vec::with_capacity(announced.unwrap_or(0));
        let arriving = async {
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| {
                    let error = format!("the body broke off: {error}");
                    Answer::refusal(StatusCode::BAD_REQUEST, error, Some("send it again".to_owned()))
                })?;
                if body.len() + chunk.len() > limit {
                    return Err(post::too_large(limit, set));
                }
                if let Some(missing @ 1..) = (body.len() + chunk.len()).checked_sub(within) {
                    held.merge(room.hold(missing)?);
                    within += missing.next_multiple_of(PIECE);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        match timeout(patience, arriving).await {
            Ok(arrived) => arrived?,
            Err(_) => {
                let error = format!("the body did not arrive within {} s", patience.as_secs());
                return Err(Answer::later(StatusCode::REQUEST_TIMEOUT, error));
            }
        }
        Ok((Bytes::from(body), held))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What is counted about posts.
#[derive(Clone, Debug)]
struct Counters {
    requests: IntCounterVec,
    events: IntCounterVec,
}

impl Counters {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new("lakebed_ingest_requests_total", "Posts of events, by the status answered");
        let events = Opts::new("lakebed_ingest_events_total", "Events posted, by what became of them");
        let counters = Self {
            requests: IntCounterVec::new(requests, &["status"])?,
            events: IntCounterVec::new(events, &["result"])?,
        };
        registry.register(Box::new(counters.requests.clone()))?;
        registry.register(Box::new(counters.events.clone()))?;
        Ok(counters)
    }

    fn answered(&self, answer: &Answer) {
        self.requests.with_label_values(&[answer.status.as_str()]).inc();
        let (accepted, quarantined, duplicate) = answer.counts();
        for (result, events) in [("accepted", accepted), ("quarantined", quarantined), ("duplicate", duplicate)] {
            self.events.with_label_values(&[result]).inc_by(events);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use lakebed_log::{Log, Store};
    use lakebed_project::Config;

    use super::*;

    async fn shared(memory: usize) -> Shared {
        let log = Log::open_or_create(Store::memory(), "shop", Utc::now()).await.unwrap();
        let tokens = Tokens::new(log.store().clone());
        let options = Options {
            ack: Ack::Committed,
            max_body_bytes: 32 << 10,
            memory,
            needs_token: false,
            webhook_secret: Some(Secret::new("hush")),
        };
        let intake = Intake::new(log, &Config::default(), Utc::now);
        Shared::new(intake, tokens, options, Counters::new(&Registry::new()).unwrap())
    }

    /// What is answered to a body in chunks of so many bytes, whose length is announced or not; 200 where it is let in.
    async fn answered(shared: &Shared, room: &Room, body: &[usize], is_announced: bool) -> (u16, String) {
        let length = body.iter().sum::<usize>();
        let announced = is_announced.then(|| (header::CONTENT_LENGTH, header::HeaderValue::from(length)));
        let chunks = body.iter().map(|bytes| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; *bytes])));
        let body = Body::from_stream(futures::stream::iter(chunks.collect::<Vec<_>>()));
        match shared.body_of(&HeaderMap::from_iter(announced), body, room, ARRIVAL).await {
            Ok((body, _)) => (200, body.len().to_string()),
            Err(answer) => (answer.status.as_u16(), serde_json::to_string(&answer.body).unwrap()),
        }
    }

    #[tokio::test]
    async fn what_never_fits_is_too_large_and_not_asked_to_come_again() {
        let shared = shared(128 << 10).await;
        for is_announced in [true, false] {
            let (signed, others) = (&shared.unknown, &shared.memory);
            let (status, said) = answered(&shared, signed, &[(16 << 10) + 1], is_announced).await;
            assert_eq!(status, 413, "{said}");
            assert!(said.contains("more than 16384 bytes") && said.contains("[serve] ingest_memory"), "{said}");
            assert_eq!(answered(&shared, signed, &[16 << 10], is_announced).await, (200, "16384".to_owned()));
            let (status, said) = answered(&shared, others, &[(32 << 10) + 1], is_announced).await;
            assert_eq!(status, 413, "{said}");
            assert!(said.contains("more than 32768 bytes") && said.contains("[serve] max_body_bytes"), "{said}");
        }
        let _others = shared.unknown.hold(1).unwrap();
        assert_eq!(answered(&shared, &shared.unknown, &[16 << 10], true).await.0, 429, "there will be room for it");
    }

    /// Chunks do not each take a piece of their own.
    #[tokio::test]
    async fn a_body_of_many_chunks_takes_the_room_of_its_bytes() {
        let shared = shared(128 << 10).await;
        assert_eq!(answered(&shared, &shared.unknown, &[10; 1_600], false).await, (200, "16000".to_owned()));
    }
}
