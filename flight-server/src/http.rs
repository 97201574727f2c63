//! HTTP beside Flight: statements, `/healthz` for whoever watches the process, `/metrics` for Prometheus, and what other rooms bring.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

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
        .merge(others);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await.map_err(Error::Http)
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
