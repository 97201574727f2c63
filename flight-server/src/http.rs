//! HTTP beside Flight: `/healthz` for whoever watches the process, `/metrics` for Prometheus, and what other rooms bring.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lakebed_query::ReadSession;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::metrics::Metrics;

#[derive(Clone)]
struct Shared {
    lake: watch::Receiver<Arc<ReadSession>>,
    metrics: Arc<Metrics>,
}

/// Answers until `shutdown` resolves and the requests under way are done.
///
/// # Errors
/// [`Error::Http`] where the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    lake: watch::Receiver<Arc<ReadSession>>,
    metrics: Arc<Metrics>,
    others: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics_text))
        .with_state(Shared { lake, metrics })
        .merge(others);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await.map_err(Error::Http)
}

async fn health(State(shared): State<Shared>) -> Response {
    let version = shared.lake.borrow().version();
    let body = format!("{{\"status\":\"ok\",\"version\":{version}}}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match shared.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
