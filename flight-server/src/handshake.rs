//! Login. The server listens on loopback only and has no users yet, so every login is accepted and answered with
//! the same bearer; what is fixed here is the exchange, which differs from client to client:
//!
//! - ADBC sends `authorization: Basic …`, and neither writes nor half-closes before it has seen our headers;
//! - JDBC and pyarrow's `authenticate_basic_token` send the same header and half-close;
//! - pyarrow's `authenticate` sends no header but a payload, and waits for one payload back.

use std::pin::Pin;

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use futures::{Stream, StreamExt};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

/// What the handshake call answers with.
pub(crate) type HandshakeStream = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// The token of whoever logs in while there are no users.
const ANONYMOUS: &str = "anonymous";
const AUTHORIZATION: &str = "authorization";

/// Answers a login with a bearer, in the headers and in the payload.
///
/// # Errors
/// UNAUTHENTICATED for a header of another kind than Basic and Bearer.
pub(crate) fn answer(request: Request<Streaming<HandshakeRequest>>) -> Result<Response<HandshakeStream>, Status> {
    let in_headers = is_login(request.metadata())?;
    let answers: HandshakeStream = if in_headers {
        Box::pin(futures::stream::iter([Ok(token(0))]))
    } else {
        let payloads = request.into_inner();
        Box::pin(payloads.map(|payload| payload.map(|payload| token(payload.protocol_version))))
    };
    let mut response = Response::new(answers);
    response.metadata_mut().insert(AUTHORIZATION, MetadataValue::from_static("Bearer anonymous"));
    Ok(response)
}

/// Whether the headers carry a login.
fn is_login(headers: &MetadataMap) -> Result<bool, Status> {
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(false) };
    let kind = header.to_str().ok().and_then(|header| header.split_whitespace().next());
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case("basic") || kind.eq_ignore_ascii_case("bearer") => Ok(true),
        _ => Err(Status::unauthenticated(
            "the authorization header is neither Basic nor Bearer\nhint: log in with a user and a password, or without",
        )),
    }
}

fn token(protocol_version: u64) -> HandshakeResponse {
    HandshakeResponse { protocol_version, payload: ANONYMOUS.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_and_bearer_are_logins_in_any_case_and_others_are_refused() {
        let headers = |value: &'static str| {
            let mut headers = MetadataMap::new();
            headers.insert(AUTHORIZATION, MetadataValue::from_static(value));
            headers
        };
        assert!(!is_login(&MetadataMap::new()).unwrap());
        assert!(is_login(&headers("basic dTpw")).unwrap());
        assert!(is_login(&headers("Bearer x")).unwrap());
        let refused = is_login(&headers("Digest x")).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    }
}
