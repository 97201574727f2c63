//! An HTTP API in front of the function: what `POST /v1/events` answers elsewhere, answered here.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use axum::http::{HeaderName, Method, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use lakebed_log::Ack;
use lakebed_project::{Secret, Tokens};
use serde_json::{Value, json};

use super::SOURCE;
use crate::http::IDEMPOTENCY_KEY;
use crate::intake::Intake;
use crate::post::{self, Answer, Post};

/// Takes the events of a request, from whoever an authorizer let pass or who has a token.
pub(super) async fn answer(
    intake: &Intake,
    senders: (&Tokens, Option<&Secret>),
    request: &ApiGatewayV2httpRequest,
    ack: Ack,
    limit: usize,
) -> Value {
    in_words(match take(intake, senders, request, ack, limit).await {
        Ok(answer) | Err(answer) => answer,
    })
}

/// What is answered to a request in a form that is not known here.
pub(super) fn unknown() -> Value {
    let hint = Some("set the payload format version of the API's integration to 2.0".to_owned());
    in_words(Answer::refusal(
        StatusCode::BAD_REQUEST,
        "this is no request of an HTTP API with payload version 2.0",
        hint,
    ))
}

fn in_words(answer: Answer) -> Value {
    let mut headers = json!({ "content-type": "application/json" });
    if let Some(seconds) = answer.retry_after {
        headers["retry-after"] = json!(seconds.to_string());
    }
    json!({
        "statusCode": answer.status.as_u16(),
        "headers": headers,
        "body": json!(answer.body).to_string(),
        "isBase64Encoded": false,
        "cookies": [],
    })
}

async fn take(
    intake: &Intake,
    (tokens, secret): (&Tokens, Option<&Secret>),
    request: &ApiGatewayV2httpRequest,
    ack: Ack,
    limit: usize,
) -> Result<Answer, Answer> {
    if request.request_context.http.method != Method::POST {
        let hint = Some("POST the events".to_owned());
        return Err(Answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "events are posted here", hint));
    }
    // Who got past an authorizer of the API's may send; and what that one was shown is not ours.
    let authorized = request.request_context.authorizer.is_some();
    let token = match post::token(&request.headers, tokens).await {
        Err(_) if authorized => None,
        token => token?,
    };
    let text = request.body.clone().unwrap_or_default();
    let body = match request.is_base64_encoded {
        true => BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|error| {
            Answer::refusal(StatusCode::BAD_REQUEST, format!("the body is no base64: {error}"), None)
        })?,
        false => Bytes::from(text),
    };
    let signed = secret.is_some_and(|secret| post::is_signed(&request.headers, &body, secret));
    if token.is_none() && !authorized && !signed {
        return Err(post::unauthorized("a token or a signature is needed here, or an authorizer before it"));
    }
    let unnamed = if signed { post::WEBHOOK } else { SOURCE };
    let source = token.as_ref().map_or_else(|| unnamed.to_owned(), |token| token.source.clone());
    let header = |name: HeaderName| post::header(&request.headers, &name);
    let (key, encoding) = (header(IDEMPOTENCY_KEY), header(header::CONTENT_ENCODING));
    let given = post::given(&request.headers, intake.fields());
    let asked = request.query_string_parameters.first("ack").map(str::to_owned);
    let sender = token.map(|token| token.name);
    let post = Post { key, ack: asked, encoding, sender, source, given, body };
    let (prepared, ack) = post::prepare(intake, post, ack, limit, ()).await?;
    Ok(post::answer(&prepared, intake.append(&prepared, ack).await))
}
