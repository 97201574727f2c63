//! An HTTP API in front of the function: what `POST /v1/events` answers elsewhere, answered here.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use axum::http::{HeaderName, Method, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use lakebed_log::Ack;
use lakebed_project::Tokens;
use serde_json::{Value, json};

use super::SOURCE;
use crate::http::IDEMPOTENCY_KEY;
use crate::intake::Intake;
use crate::post::{self, Answer, Post};

/// Takes the events of a request. Who may send is for the API's authorizer, or for a token that comes along.
pub(super) async fn answer(
    intake: &Intake,
    tokens: &Tokens,
    request: &ApiGatewayV2httpRequest,
    ack: Ack,
    limit: usize,
) -> Value {
    let answer = match take(intake, tokens, request, ack, limit).await {
        Ok(answer) | Err(answer) => answer,
    };
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
    tokens: &Tokens,
    request: &ApiGatewayV2httpRequest,
    ack: Ack,
    limit: usize,
) -> Result<Answer, Answer> {
    if request.request_context.http.method != Method::POST {
        let hint = Some("POST the events".to_owned());
        return Err(Answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "events are posted here", hint));
    }
    let source = match post::token(&request.headers, tokens).await? {
        Some(token) => token.source,
        None => SOURCE.to_owned(),
    };
    let text = request.body.clone().unwrap_or_default();
    let body = match request.is_base64_encoded {
        true => BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|error| {
            Answer::refusal(StatusCode::BAD_REQUEST, format!("the body is no base64: {error}"), None)
        })?,
        false => Bytes::from(text),
    };
    let header = |name: HeaderName| post::header(&request.headers, &name);
    let (key, encoding) = (header(IDEMPOTENCY_KEY), header(header::CONTENT_ENCODING));
    let asked = request.query_string_parameters.first("ack").map(str::to_owned);
    let post = Post { key, ack: asked, encoding, source, body };
    let (prepared, ack) = post::prepare(intake, &post, ack, limit).await?;
    Ok(post::append(intake, &prepared, ack).await)
}
