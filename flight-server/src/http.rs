//! HTTP beside Flight: statements, the console, `/healthz` for whoever watches the process, `/metrics` for Prometheus, and what other rooms bring.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use tokio::net::TcpListener;

use crate::console;
use crate::error::{Error, Result};
use crate::service::Shared;
use crate::sql::{self, Door};

/// Answers until `shutdown` resolves and the requests under way are done.
///
/// # Errors
/// [`Error::Http`] where the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    door: Door,
    others: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let statements = Router::new()
        .route(sql::PATH, post(sql::answer))
        .layer(DefaultBodyLimit::max(sql::MOST_BYTES))
        .with_state(door.clone());
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics_text))
        .with_state(Arc::clone(&door.shared))
        .merge(statements)
        .merge(console::routes())
        .merge(others)
        .layer(middleware::from_fn(close_after_unread));
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await.map_err(Error::Http)
}

/// Says so where the connection ends with an answer, for some of the request's body was not read: a client that is not
/// told sends its next request into it.
async fn close_after_unread(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(head, body)).await;
    }
    let is_read = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&is_read);
    let end = stream::poll_fn(move |_| -> Poll<Option<Result<Bytes, axum::Error>>> {
        end.store(true, Ordering::Relaxed);
        Poll::Ready(None)
    });
    let body = Body::from_stream(body.into_data_stream().chain(end));
    let mut response = next.run(Request::from_parts(head, body)).await;
    if !is_read.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let version = shared.lake.borrow().session.version();
    let body = format!("{{\"status\":\"ok\",\"version\":{version}}}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
