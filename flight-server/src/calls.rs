//! The way into every call: who may not ask is refused by the headers, and of nobody more is read than the call can have a use for.
//!
//! And DoGet without copies: an answer's batches go to the connection as they were encoded. tonic's codec writes a message into a
//! buffer that grows to its size, which for batches of 2 MiB is most of the work. A message is five bytes of gRPC, the head of its
//! protobuf, and the buffers of its batch; nothing says that they are in one place.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::{FlightData, Ticket};
use axum::body::to_bytes;
use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use http_body::{Body, Frame};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Status};

use crate::gate::Guest;
use crate::handshake::AUTHORIZATION;
use crate::messages::Message;
use crate::service::LakeService;
use crate::status;
use crate::stream::Batches;

/// Bytes of a statement with its parameters, as clients carry it.
pub(crate) const LONGEST_HANDLE: usize = 24 << 20;
/// Bytes of a message with such a handle in it.
const WITH_A_HANDLE: usize = LONGEST_HANDLE + (64 << 10);
/// Bytes of a user and a password: all that is read of whom nobody knows yet.
const LOGIN: usize = 64 << 10;
/// Bytes of a batch that is uploaded, where gRPC's default of 4 MiB is too little; and of what calls a statement off, which has its
/// handle twice.
const MOST: usize = 64 << 20;

const HANDSHAKE: &str = "Handshake";
const DO_GET: &str = "DoGet";

/// The calls, each with the bytes that a message to it may have.
const CALLS: [(&str, usize); 10] = [
    (HANDSHAKE, LOGIN),
    ("ListFlights", WITH_A_HANDLE),
    ("GetFlightInfo", WITH_A_HANDLE),
    ("PollFlightInfo", WITH_A_HANDLE),
    ("GetSchema", WITH_A_HANDLE),
    (DO_GET, WITH_A_HANDLE),
    ("DoPut", MOST),
    ("DoAction", MOST),
    ("ListActions", WITH_A_HANDLE),
    ("DoExchange", WITH_A_HANDLE),
];

/// The field of a batch's body in `FlightData`.
const DATA_BODY: u32 = 1000;

/// Bytes of a body that is copied behind its head, rather than sent apart from it.
const SMALL: usize = 64 << 10;

/// gRPC's own five bytes: whether a message is compressed, and its length.
const HEAD: usize = 5;

/// The server that tonic generates, behind the gate and with a DoGet of its own.
#[derive(Clone)]
pub(crate) struct Answering {
    lake: LakeService,
    others: FlightServiceServer<LakeService>,
    most_sent: usize,
}

impl Answering {
    /// One that gives messages of so many bytes.
    pub(crate) fn new(lake: LakeService, most_sent: usize) -> Self {
        let others = FlightServiceServer::new(lake.clone()).max_encoding_message_size(most_sent);
        Self { lake, others, most_sent }
    }
}

impl NamedService for Answering {
    const NAME: &'static str = <FlightServiceServer<LakeService> as NamedService>::NAME;
}

type Asked = http::Request<tonic::body::Body>;
type Answer = http::Response<tonic::body::Body>;

impl Service<Asked> for Answering {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<Answer, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Asked>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: Asked) -> Self::Future {
        let Some((name, most)) = call_at(request.uri().path()) else { return self.others.call(request) };
        let mut others = self.others.clone().max_decoding_message_size(most);
        if name == HANDSHAKE {
            return others.call(request);
        }
        let (lake, sent) = (self.lake.clone(), self.most_sent);
        let answering = async move {
            let (mut parts, body) = request.into_parts();
            let guest = let_in(&lake, name, &parts.headers).await?;
            parts.extensions.insert(guest);
            let request = Asked::from_parts(parts, body);
            match name {
                DO_GET => do_get(&lake, request, most, sent).await,
                _ => others.call(request).await.map_err(|never| match never {}),
            }
        };
        answering.map(|answered: Result<Answer, Status>| Ok(answered.unwrap_or_else(Status::into_http))).boxed()
    }
}

/// The call that a path is of, and the bytes of a message to it.
fn call_at(path: &str) -> Option<(&'static str, usize)> {
    let call = path.strip_prefix('/')?.strip_prefix(Answering::NAME)?.strip_prefix('/')?;
    CALLS.into_iter().find(|(name, _)| *name == call)
}

/// Lets in who the headers of a call are of.
///
/// # Errors
/// As [`crate::gate::Gate::enter`].
async fn let_in(lake: &LakeService, name: &'static str, headers: &http::HeaderMap) -> Result<Guest, Status> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    lake.0.gate.enter(header).await.map_err(|status| lake.refused(name, lake.served(), status))
}

async fn do_get(lake: &LakeService, request: Asked, most: usize, most_sent: usize) -> Result<Answer, Status> {
    let (parts, body) = request.into_parts();
    let received = to_bytes(axum::body::Body::new(body), most.saturating_add(HEAD)).await;
    let ticket = ticket(&received.map_err(|_| Status::out_of_range(format!("a ticket has {most} bytes at most")))?)?;
    let request = Request::from_parts(MetadataMap::from_headers(parts.headers), parts.extensions, ticket);
    let (headers, messages, extensions) = lake.get(request).await?.into_parts();
    let frames = Frames { messages, most_sent, rest: Vec::new().into_iter(), ended: false };
    let mut answer = http::Response::new(tonic::body::Body::new(frames));
    *answer.headers_mut() = headers.into_headers();
    let kind = http::HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    *answer.extensions_mut() = extensions;
    Ok(answer)
}

/// The one message of a request.
fn ticket(received: &Bytes) -> Result<Ticket, Status> {
    let wrong = || status::of_body("ticket");
    let [compressed, length @ ..] = received.first_chunk::<HEAD>().ok_or_else(wrong)?;
    if *compressed != 0 {
        return Err(Status::unimplemented("messages are taken without compression"));
    }
    let message = received.slice(HEAD..);
    match u32::from_be_bytes(*length) as usize == message.len() {
        true => Ticket::decode(message).map_err(|_| wrong()),
        false => Err(wrong()),
    }
}

/// The frames of an answer.
struct Frames {
    messages: Batches,
    /// Bytes of a message.
    most_sent: usize,
    /// What is left of the body of the message that went last.
    rest: std::vec::IntoIter<Bytes>,
    ended: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.rest.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let end = match ready!(self.messages.as_mut().poll_next(context)) {
            Some(Ok(message)) => match framed(message, self.most_sent) {
                Ok((head, body)) => {
                    self.rest = body.into_iter();
                    return Poll::Ready(Some(Ok(Frame::data(head))));
                }
                Err(status) => status,
            },
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// A message as it goes over the wire: all that comes before the body, and the body.
///
/// # Errors
/// OUT_OF_RANGE for one of more than `most` bytes.
fn framed(message: Message, most: usize) -> Result<(Bytes, Vec<Bytes>), Status> {
    let bytes = message.body_bytes();
    let before = FlightData { data_header: message.header, ..FlightData::default() };
    let mut head = BytesMut::with_capacity(HEAD + before.encoded_len() + 16);
    head.put_bytes(0, HEAD);
    before.encode_raw(&mut head);
    if bytes > 0 {
        encode_key(DATA_BODY, WireType::LengthDelimited, &mut head);
        encode_varint(bytes as u64, &mut head);
    }
    let length = head.len() - HEAD + bytes;
    let length = u32::try_from(length).ok().filter(|_| length <= most).ok_or_else(|| {
        let hint = "ask for fewer columns at once, or for a part of the value";
        Status::out_of_range(format!("a row has {length} bytes, and {most} are sent at once\nhint: {hint}"))
    })?;
    head[1..HEAD].copy_from_slice(&length.to_be_bytes());
    // A small answer is one frame, and one packet.
    if bytes <= SMALL {
        for piece in &message.body {
            head.extend_from_slice(piece);
        }
        return Ok((head.freeze(), Vec::new()));
    }
    Ok((head.freeze(), message.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_framed_as_prost_would() {
        for body in [0, 1, 200, 70_000] {
            let pieces = vec![Bytes::from(vec![2; body]), Bytes::from(vec![3; body / 2])];
            let message = Message { header: vec![1; 300].into(), body: pieces };
            let whole = FlightData::from(message.clone());
            let mut expected = vec![0];
            expected.extend((whole.encoded_len() as u32).to_be_bytes());
            expected.extend(whole.encode_to_vec());
            let most = whole.encoded_len();
            let refused = framed(message.clone(), most - 1).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::OutOfRange);
            let (head, rest) = framed(message, most).unwrap();
            assert_eq!([head.as_ref(), &rest.concat()].concat(), expected);
        }
    }

    #[test]
    fn every_call_has_a_bound() {
        assert_eq!(call_at("/arrow.flight.protocol.FlightService/DoGet"), Some((DO_GET, WITH_A_HANDLE)));
        assert_eq!(call_at("/arrow.flight.protocol.FlightService/Handshake"), Some((HANDSHAKE, LOGIN)));
        for other in ["/arrow.flight.protocol.FlightService/Dance", "/other.Service/DoGet", "DoGet", ""] {
            assert_eq!(call_at(other), None);
        }
    }

    #[test]
    fn a_request_is_one_message_without_compression() {
        let message = |compressed: u8, length: u32, ticket: &[u8]| {
            Bytes::from([&[compressed], &length.to_be_bytes()[..], ticket].concat())
        };
        let sent = Ticket::new("abc").encode_to_vec();
        let length = sent.len() as u32;
        assert_eq!(ticket(&message(0, length, &sent)).unwrap(), Ticket::new("abc"));
        for wrong in [
            Bytes::new(),
            Bytes::from_static(&[0, 0]),
            message(0, length + 1, &sent),
            message(0, length - 1, &sent),
            message(0, 2, &[0xff, 0xff]),
        ] {
            assert_eq!(ticket(&wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert_eq!(ticket(&message(1, length, &sent)).unwrap_err().code(), tonic::Code::Unimplemented);
    }
}
