//! What the server counts about itself, in Prometheus' text format.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tonic::Code;

use crate::error::Result;

/// Upper bounds of the query time buckets, in seconds.
const QUERY_SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// The counters of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    log_version: IntGauge,
    requests: IntCounterVec,
    rows_sent: IntCounter,
    bytes_sent: IntCounter,
    query_seconds: Histogram,
    active_streams: IntGauge,
}

impl Metrics {
    /// A registry of its own, so that two servers in one process count apart.
    ///
    /// # Errors
    /// [`crate::Error::Metrics`] where two metrics have one name.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            log_version: IntGauge::new("lakebed_log_version", "Version of the log at which new requests are answered")?,
            requests: IntCounterVec::new(
                Opts::new("lakebed_flight_requests_total", "Flight SQL calls answered, by call and gRPC code"),
                &["call", "code"],
            )?,
            rows_sent: IntCounter::new("lakebed_flight_rows_sent_total", "Rows of results sent over Flight SQL")?,
            bytes_sent: IntCounter::new("lakebed_flight_bytes_sent_total", "Bytes of results sent over Flight SQL")?,
            query_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "lakebed_query_seconds",
                    "Seconds from the start of a result stream to its end, the client's reading included",
                )
                .buckets(QUERY_SECONDS.to_vec()),
            )?,
            active_streams: IntGauge::new(
                "lakebed_flight_active_streams",
                "Results that are being sent over Flight SQL",
            )?,
            registry,
        };
        metrics.registry.register(Box::new(metrics.log_version.clone()))?;
        metrics.registry.register(Box::new(metrics.requests.clone()))?;
        metrics.registry.register(Box::new(metrics.rows_sent.clone()))?;
        metrics.registry.register(Box::new(metrics.bytes_sent.clone()))?;
        metrics.registry.register(Box::new(metrics.query_seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.active_streams.clone()))?;
        Ok(metrics)
    }

    /// Where other rooms of the same process add counters of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds a number that is asked for whenever the others are read.
    ///
    /// # Errors
    /// [`crate::Error::Metrics`] for a name that is there already, or is none.
    pub fn gauge(&self, name: &str, help: &str, value: impl Fn() -> f64 + Send + Sync + 'static) -> Result<()> {
        let asked = Asked { gauge: Gauge::new(name, help)?, value: Box::new(value) };
        Ok(self.registry.register(Box::new(asked))?)
    }

    /// Everything counted so far, in Prometheus' text format.
    ///
    /// # Errors
    /// [`crate::Error::Metrics`] where a foreign collector of the registry cannot be written as text.
    pub fn text(&self) -> Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    pub(crate) fn serve_version(&self, version: u64) {
        self.log_version.set(i64::try_from(version).unwrap_or(i64::MAX));
    }

    pub(crate) fn answered(&self, call: &str, code: Code) {
        self.requests.with_label_values(&[call, code_name(code)]).inc();
    }

    pub(crate) fn sent(&self, rows: usize, bytes: usize) {
        self.rows_sent.inc_by(rows as u64);
        self.bytes_sent.inc_by(bytes as u64);
    }

    /// How many results are being sent.
    pub fn active_streams(&self) -> i64 {
        self.active_streams.get()
    }

    /// Counts a stream as active until the guard is dropped, however it ends.
    pub(crate) fn stream_started(self: &Arc<Self>) -> ActiveStream {
        self.active_streams.inc();
        ActiveStream { metrics: Arc::clone(self), started: tokio::time::Instant::now() }
    }
}

/// A gauge that asks for its value.
struct Asked {
    gauge: Gauge,
    value: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Collector for Asked {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set((self.value)());
        self.gauge.collect()
    }
}

/// One result stream under way.
pub(crate) struct ActiveStream {
    metrics: Arc<Metrics>,
    started: tokio::time::Instant,
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.metrics.active_streams.dec();
        let lasted: Duration = self.started.elapsed();
        self.metrics.query_seconds.observe(lasted.as_secs_f64());
    }
}

/// gRPC's own names: they are what dashboards of other services show.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
