//! batch → log for `ingest` and `demo`: the next batch is read and decoded while the present one is appended.

use std::sync::Arc;

use lakebed_ingest::{Decoded, RawBatch, Settings, decode};
use lakebed_log::{Ack, Appended, Batch, BatchId, Log};
use lakebed_query::Config;
use tokio::sync::mpsc;

use crate::error::Result;
use crate::invocation::Invocation;
use crate::progress::EventBar;

/// A batch that is ready to be appended.
pub(crate) struct Prepared {
    batch: Arc<Batch>,
    bytes: u64,
    misfits: u64,
    over_limit: u64,
}

impl Prepared {
    /// Decodes a batch.
    pub(crate) fn new(raw: &RawBatch, id: BatchId, source: &str, settings: &Settings) -> Self {
        let Decoded { batch, misfits, over_limit } = decode(raw, id, source, settings);
        Self { batch: Arc::new(batch), bytes: raw.bytes(), misfits: misfits.values().sum(), over_limit }
    }
}

/// What became of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that are in the log by this call.
    pub(crate) accepted: u64,
    /// Events that are in quarantine by this call.
    pub(crate) quarantined: u64,
    /// Events, good or bad, of batches that the log had before.
    pub(crate) duplicates: u64,
    /// Batches, all of them.
    pub(crate) batches: u64,
    /// The newest version that has one of them.
    pub(crate) version: Option<u64>,
    /// Decompressed bytes of all events.
    pub(crate) bytes: u64,
    /// Values that did not fit their pinned type, or had no column left.
    pub(crate) only_in_doc: u64,
}

impl Tally {
    /// Events, all of them.
    pub(crate) fn sent(&self) -> u64 {
        self.accepted + self.quarantined + self.duplicates
    }

    fn add(&mut self, prepared: &Prepared, appended: Appended) {
        let (rows, bad) = (prepared.batch.events.len() as u64, prepared.batch.quarantine.len() as u64);
        let version = match appended {
            Appended::Duplicate { version } => {
                self.duplicates += rows + bad;
                Some(version)
            }
            Appended::Committed { version } => {
                self.accepted += rows;
                self.quarantined += bad;
                Some(version)
            }
            Appended::Durable => {
                self.accepted += rows;
                self.quarantined += bad;
                None
            }
        };
        self.batches += 1;
        self.version = self.version.max(version);
        self.bytes += prepared.bytes;
        self.only_in_doc += prepared.misfits + prepared.over_limit;
    }
}

/// How a project's settings say that events are read.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        declared: config.columns.clone(),
        max_event_bytes: config.ingest.max_event_bytes,
        max_depth: config.ingest.max_depth,
        max_columns: config.ingest.max_columns,
        batch_events: config.ingest.batch_events,
        batch_bytes: config.ingest.batch_bytes,
        ..Settings::default()
    }
}

/// Appends every batch that `produce` sends. It runs on a thread of its own and is one batch ahead; when the appending
/// fails, what it sends is refused and it should return.
pub(crate) async fn append_all<P>(
    invocation: &Invocation,
    log: &Log,
    ack: Ack,
    bar: &EventBar,
    produce: P,
) -> Result<Tally>
where
    P: FnOnce(&mpsc::Sender<Prepared>) -> Result<()> + Send + 'static,
{
    let (sender, mut prepared) = mpsc::channel(1);
    let producer = tokio::task::spawn_blocking(move || produce(&sender));
    let mut tally = Tally::default();
    while let Some(prepared) = prepared.recv().await {
        let appended = log.append(&prepared.batch, ack, invocation.now()).await?;
        tally.add(&prepared, appended);
        bar.add((prepared.batch.events.len() + prepared.batch.quarantine.len()) as u64);
    }
    producer.await??;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_sets_nothing_reads_as_the_reader_does_by_default() {
        assert_eq!(settings(&Config::default()), Settings::default());
    }
}
