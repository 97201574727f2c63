//! `POST /v1/sql`: a statement over HTTP, for people with curl; the answer as JSON, CSV, Arrow or Parquet.
//!
//! The body is the statement, or with `Content-Type: application/json` an object with `sql` and, where the statement has them,
//! `parameters`. It is planned, admitted and run as over Flight SQL.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use axum::RequestExt;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use lakebed_project::{Stranger, stranger};
use lakebed_query::{Format, RowsWriter};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::bounded::locked;
use crate::gate::Guest;
use crate::metrics::code_name;
use crate::parameters::write_parameters;
use crate::service::{Shared, VERSION_HEADER};
use crate::statements::Redeemed;
use crate::status;
use crate::stream::{self, Encode};
use crate::terms::{Terms, as_of};

/// Where statements are posted.
pub(crate) const PATH: &str = "/v1/sql";

/// Bytes of a body: a statement and its parameters.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// What the URL says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    format: Option<String>,
    as_of: Option<String>,
}

/// A statement with what its parameters are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    sql: String,
    #[serde(default)]
    parameters: Vec<Box<RawValue>>,
    as_of: Option<Value>,
}

/// Who may post statements.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    /// Others than this machine's programs can reach it.
    pub(crate) is_open: bool,
}

/// How long the body of what is refused may take to come; a client that is answered while it sends may not hear it.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// Answers a posted statement. Of whom it does not let in nothing is kept.
pub(crate) async fn answer(
    State(door): State<Door>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let mut given = None;
    let answered = async {
        let user = match door.let_in(&headers).await {
            Ok(Guest { user, bearer }) => {
                given = bearer;
                user
            }
            Err(refused) => {
                pass_over(request).await;
                return Err(refused);
            }
        };
        let body = Bytes::from_request(request, &()).await;
        let Query(asked) = asked.map_err(|wrong| {
            Status::invalid_argument(format!("{}\nhint: the URL may say format= and as_of=", wrong.body_text()))
        })?;
        let body = body.map_err(|wrong| match wrong.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Status::invalid_argument(format!("the body has more than {MOST_BYTES} bytes"))
            }
            _ => Status::invalid_argument(wrong.body_text()),
        })?;
        run(&door.shared, &asked, &headers, &body, &user).await
    };
    let answered = answered.await;
    let code = answered.as_ref().map_or_else(Status::code, |_| Code::Ok);
    door.shared.metrics.answered("PostSql", code);
    let mut response = answered.unwrap_or_else(|status| refusal(&status));
    // To use from now on, in the place of the password, whatever became of the statement.
    if let Some(bearer) = given.and_then(|bearer| format!("Bearer {bearer}").parse().ok()) {
        response.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let served = door.shared.lake.borrow().session.version();
    response.headers_mut().entry(VERSION_HEADER).or_insert_with(|| served.into());
    response
}

/// Takes a body in and drops it.
async fn pass_over(request: Request) {
    let mut body = request.into_limited_body().into_data_stream();
    let passing = async { while let Some(Ok(_)) = body.next().await {} };
    let _ = timeout(PASSED_OVER, passing).await;
}

impl Door {
    /// Lets in a user, or where the server has none, programs on this machine and the console, which its user looks at.
    async fn let_in(&self, headers: &HeaderMap) -> Result<Guest, Status> {
        let gate = &self.shared.gate;
        if !gate.is_open()? {
            let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            return gate.enter(header).await;
        }
        if self.is_open {
            return Err(Status::permission_denied(
                "statements are answered on loopback only while there are no users\nhint: add one with `lakebed user add`",
            ));
        }
        match stranger(|name| headers.get(name).map(|value| value.to_str().unwrap_or(""))) {
            None | Some(Stranger::OwnPage) => Ok(Guest::default()),
            Some(Stranger::Browser) => Err(Status::permission_denied(
                "statements are answered to programs on this machine and to the console, and not to other web pages",
            )),
            Some(Stranger::Proxy) => Err(Status::permission_denied(
                "statements are answered to programs on this machine only while there are no users, and this one came by a proxy\nhint: add one with `lakebed user add`",
            )),
        }
    }
}

async fn run(
    shared: &Arc<Shared>,
    asked: &Asked,
    headers: &HeaderMap,
    body: &Bytes,
    user: &str,
) -> Result<Response, Status> {
    let format = format(asked, headers)?;
    let posted = posted(headers, body)?;
    let mut terms = Terms::of_call(&MetadataMap::from_headers(headers.clone()), Terms::default())?;
    let of_body = posted.as_of.as_ref().map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    // What is nearest to the statement has the last word.
    if let Some(text) = of_body.as_deref().or(asked.as_of.as_deref()) {
        terms.as_of = as_of(text).map_err(Status::invalid_argument)?;
    }
    let parameters = match posted.parameters.as_slice() {
        [] => Bytes::new(),
        values => write_parameters(&row(values)?)?,
    };
    let planned = shared.statements.plans.plan(&posted.sql, &terms, &parameters, user).await?;
    let version = planned.session.version();
    let messages =
        stream::results(Redeemed::at_once(planned), shared, move |schema| Rows::begin(format, schema)).await?;
    let headers =
        [(header::CONTENT_TYPE.as_str(), format.media_type().to_owned()), (VERSION_HEADER, version.to_string())];
    Ok((headers, Body::from_stream(messages)).into_response())
}

/// The format that the URL names, or the first that the client accepts; JSON by default.
fn format(asked: &Asked, headers: &HeaderMap) -> Result<Format, Status> {
    if let Some(name) = &asked.format {
        return name.parse().map_err(Status::invalid_argument);
    }
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<&str> = accepted
        .flat_map(|value| value.split(','))
        .filter_map(|media| media.split(';').next().map(str::trim))
        .filter(|media| !media.is_empty())
        .collect();
    let of = |media: &str| match media {
        "*/*" | "application/*" => Some(Format::Json),
        "text/*" => Some(Format::Csv),
        media => Format::ALL.into_iter().find(|format| format.media_type().eq_ignore_ascii_case(media)),
    };
    match accepted.iter().find_map(|media| of(media)) {
        Some(format) => Ok(format),
        None if accepted.is_empty() => Ok(Format::Json),
        None => Err(Status::invalid_argument(format!(
            "none of {} is answered here\nhint: accept {}",
            accepted.join(", "),
            Format::ALL.map(Format::media_type).join(", ")
        ))),
    }
}

fn posted(headers: &HeaderMap, body: &Bytes) -> Result<Posted, Status> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
        return serde_json::from_slice(body).map_err(|error| {
            Status::invalid_argument(format!(
                "the body is no statement: {error}\nhint: send {{\"sql\": \"SELECT …\", \"parameters\": []}}"
            ))
        });
    }
    let sql = std::str::from_utf8(body).map_err(|_| Status::invalid_argument("the statement is not UTF-8"))?;
    Ok(Posted { sql: sql.to_owned(), parameters: Vec::new(), as_of: None })
}

/// One row of parameters, each of the type that JSON says.
fn row(values: &[Box<RawValue>]) -> Result<RecordBatch, Status> {
    let column = |(number, value): (usize, &RawValue)| {
        let text = value.get();
        let plain = serde_json::from_str(text).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let column: ArrayRef = match plain {
            Value::Null => Arc::new(NullArray::new(1)),
            Value::Bool(value) => Arc::new(BooleanArray::from(vec![value])),
            Value::Number(_) => number_of(text),
            Value::String(value) => Arc::new(StringArray::from(vec![value])),
            Value::Array(_) | Value::Object(_) => {
                let message = format!("parameter {} is no plain value", number + 1);
                return Err(Status::invalid_argument(message));
            }
        };
        Ok((format!("{}", number + 1), column))
    };
    let columns = values.iter().map(AsRef::as_ref).enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_from_iter(columns).map_err(|error| status::of_arrow(&error))
}

/// A number, with every digit that it is written with, up to 38; a longer one, or one with an exponent, is a double.
fn number_of(text: &str) -> ArrayRef {
    let whole = text.parse::<i64>().ok().map(|whole| Arc::new(Int64Array::from(vec![whole])) as ArrayRef);
    let decimal = || {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let number = format!("{whole}{fraction}").parse::<i128>().ok()?;
        let digits = number.unsigned_abs().to_string().len().max(fraction.len());
        let decimal = Decimal128Array::from(vec![number]);
        let decimal = decimal.with_precision_and_scale(digits.try_into().ok()?, fraction.len().try_into().ok()?);
        decimal.ok().map(|decimal| Arc::new(decimal) as ArrayRef)
    };
    let double = || Some(Arc::new(Float64Array::from(vec![text.parse::<f64>().ok()?])) as ArrayRef);
    whole.or_else(decimal).or_else(double).unwrap_or_else(|| Arc::new(StringArray::from(vec![text])))
}

/// The answer to what is not answered.
fn refusal(refused: &Status) -> Response {
    let code = match refused.code() {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted if refused.metadata().contains_key(status::PUSHBACK) => StatusCode::TOO_MANY_REQUESTS,
        // It would need as much if it came again.
        Code::ResourceExhausted => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let (error, hint) = match refused.message().split_once("\nhint: ") {
        Some((error, hint)) => (error, Some(hint)),
        None => (refused.message(), None),
    };
    let mut body = json!({ "error": error, "code": code_name(refused.code()) });
    if let Some(hint) = hint {
        body["hint"] = hint.into();
    }
    let mut response = (code, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response();
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic, Bearer"));
    }
    if code == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

/// Bytes of a piece of an answer: what waits for the connection is counted by the piece.
const PIECE: usize = 1 << 20;

/// Rows in a format, in pieces as they are written.
struct Rows {
    writer: RowsWriter<Buffer>,
    buffer: Buffer,
    at_once: usize,
}

impl Rows {
    fn begin(format: Format, schema: &SchemaRef) -> Result<Self, Status> {
        let buffer = Buffer::default();
        let writer = RowsWriter::begin(format, schema, buffer.clone());
        let writer = writer.map_err(|error| status::of_arrow(&error))?;
        Ok(Self { writer, buffer, at_once: format.rows_at_once(schema) })
    }

    fn written(buffer: &Buffer) -> Vec<Bytes> {
        let mut written = Bytes::from(std::mem::take(&mut *locked(&buffer.0)));
        let mut pieces = Vec::with_capacity(written.len().div_ceil(PIECE));
        while !written.is_empty() {
            pieces.push(written.split_to(written.len().min(PIECE)));
        }
        pieces
    }
}

impl Encode for Rows {
    type Message = Bytes;

    const COPIES: bool = false;

    fn rows_at_once(&self) -> usize {
        self.at_once
    }

    /// What begins a format goes out with the first rows, so that what goes wrong before them has a status of its own.
    fn begin(&mut self) -> Result<Vec<Bytes>, ArrowError> {
        Ok(Vec::new())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
        self.writer.write(batch)?;
        Ok(Self::written(&self.buffer))
    }

    fn end(self) -> Result<Vec<Bytes>, ArrowError> {
        self.writer.finish()?;
        Ok(Self::written(&self.buffer))
    }

    fn bytes(message: &Bytes) -> usize {
        message.len()
    }
}

/// Bytes that a writer wrote and nobody took yet.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
