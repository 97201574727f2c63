//! Login: the exchange, which differs from client to client.
//!
//! - ADBC sends `authorization: Basic …`, and neither writes nor half-closes before it has seen our headers;
//! - JDBC and pyarrow's `authenticate_basic_token` send the same header and half-close;
//! - pyarrow's `authenticate` sends no header but a payload, and waits for one payload back.

use std::pin::Pin;

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use futures::Stream;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::gate::{Gate, Guest};

/// What the handshake call answers with.
pub(crate) type HandshakeStream = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// The bearer of whoever logs in where there are no users.
const ANONYMOUS: &str = "anonymous";
pub(crate) const AUTHORIZATION: &str = "authorization";

/// Arrow Flight's own payload for a user and a password:
/// <https://github.com/apache/arrow/blob/main/format/Flight.proto>.
#[derive(Clone, PartialEq, Message)]
struct BasicAuth {
    #[prost(string, tag = "2")]
    username: String,
    #[prost(string, tag = "3")]
    password: String,
}

/// Answers a login with a bearer, in the headers and in the payload.
///
/// # Errors
/// UNAUTHENTICATED where it is nobody's.
pub(crate) async fn answer(
    request: Request<Streaming<HandshakeRequest>>,
    gate: &Gate,
) -> Result<Response<HandshakeStream>, Status> {
    let header = request.metadata().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (guest, protocol_version) = match &header {
        Some(header) => (gate.enter(Some(header)).await?, 0),
        None => {
            let payload = request.into_inner().message().await?.unwrap_or_default();
            let login = BasicAuth::decode(payload.payload).unwrap_or_default();
            (gate.enter_with(&login.username, &login.password).await?, payload.protocol_version)
        }
    };
    let token = token_of(guest, header.as_deref()).unwrap_or_else(|| ANONYMOUS.to_owned());
    let payload = HandshakeResponse { protocol_version, payload: token.clone().into() };
    let mut response = Response::new(Box::pin(futures::stream::iter([Ok(payload)])) as HandshakeStream);
    if let Ok(bearer) = MetadataValue::try_from(format!("Bearer {token}")) {
        response.metadata_mut().insert(AUTHORIZATION, bearer);
    }
    Ok(response)
}

/// The token to use from now on: a new one, or the good one that came.
fn token_of(guest: Guest, header: Option<&str>) -> Option<String> {
    let came = || header?.trim().split_once(' ').map(|(_, token)| token.trim().to_owned());
    guest.bearer.or_else(|| came().filter(|_| !guest.user.is_empty()))
}
