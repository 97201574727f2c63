//! What a server counts about its tables, beside what it counts about who asks.

use std::time::Duration;

use lakebed_flight_server::Metrics;
use prometheus::{HistogramOpts, HistogramVec};
use tokio::sync::watch;

use super::lookout::State;
use crate::error::Result;
use crate::system;

/// Upper bounds of the buckets of refreshes and publications, in seconds.
const SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0];

/// How refreshes and publications went.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    refreshes: HistogramVec,
    publications: HistogramVec,
}

impl Counters {
    /// Registers them beside what the server counts, and how far the tables are behind the log where they are refreshed here.
    pub(super) fn new(metrics: &Metrics, state: watch::Receiver<State>, refreshes_here: bool) -> Result<Self> {
        let timed = |name: &str, help: &str| {
            let timed = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), &["outcome"])?;
            // Who asks before the first one sees that there was none.
            for outcome in ["done", "failed"] {
                timed.with_label_values(&[outcome]);
            }
            metrics.registry().register(Box::new(timed.clone()))?;
            Ok::<_, prometheus::Error>(timed)
        };
        let of_server = lakebed_flight_server::Error::Metrics;
        let refreshes = timed("lakebed_refresh_seconds", "Seconds that a refresh took, by its outcome");
        let publications =
            timed("lakebed_publication_seconds", "Seconds that bringing up the sinks took, by its outcome");
        let counters =
            Self { refreshes: refreshes.map_err(of_server)?, publications: publications.map_err(of_server)? };
        let help = "Newest version of the log that this server has seen";
        let log = state.clone();
        metrics.gauge("lakebed_log_newest_version", help, move || log.borrow().lakehouse.log().seen() as f64)?;
        let help =
            "Seconds for which something was in the log that the tables, or a sink, do not have; 0 where they have all";
        if refreshes_here {
            metrics.gauge("lakebed_tables_behind_seconds", help, move || state.borrow().behind_for().as_secs_f64())?;
        }
        let help = "Bytes of memory that this process holds";
        metrics.gauge("process_resident_memory_bytes", help, || system::resident().unwrap_or(0) as f64)?;
        Ok(counters)
    }

    pub(super) fn refreshed(&self, took: Duration, succeeded: bool) {
        self.refreshes.with_label_values(&[outcome(succeeded)]).observe(took.as_secs_f64());
    }

    pub(super) fn published(&self, took: Duration, succeeded: bool) {
        self.publications.with_label_values(&[outcome(succeeded)]).observe(took.as_secs_f64());
    }
}

fn outcome(succeeded: bool) -> &'static str {
    if succeeded { "done" } else { "failed" }
}
