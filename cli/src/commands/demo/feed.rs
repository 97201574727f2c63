//! The demo's events: which stretch of the feed comes next, and its way into the log.

use std::ops::Range;
use std::sync::Arc;

use lakebed_generator::{Generator, Settings as Feed};
use lakebed_ingest::{Outlet, RawBatches, Settings, Tally};
use lakebed_log::{Ack, BatchId, Entry};
use lakebed_query::Lakehouse;

use crate::error::Result;
use crate::invocation::Invocation;
use crate::progress::EventBar;

/// Events in a batch.
const BATCH: u64 = 20_000;

fn batch_prefix(seed: u64) -> String {
    format!("demo-{seed}-")
}

/// How many events of the feed are in the log, and the version that brought the last of them. They are fed in order, each batch
/// under the place of its first event.
pub(super) fn fed(versions: &[(u64, Entry)], seed: u64) -> (u64, u64) {
    let prefix = batch_prefix(seed);
    let (mut events, mut last) = (0, 0);
    for (version, entry) in versions {
        for batch in entry.record.batches.iter().filter(|batch| batch.id.as_str().starts_with(&prefix)) {
            events += batch.rows + batch.quarantined;
            last = *version;
        }
    }
    (events, last)
}

/// Up to where this run feeds: the end of the run of `length` events that was begun and not ended, or of the next.
/// A run has ended when its tables are there, so `behind` says of a full one that only those are missing.
pub(super) fn target(fed: u64, length: u64, behind: bool) -> u64 {
    match fed > 0 && fed.is_multiple_of(length) && behind {
        true => fed,
        false => (fed / length + 1) * length,
    }
}

/// Appends the events `range` of the feed.
pub(super) async fn feed(
    invocation: &Invocation,
    lakehouse: &Lakehouse,
    seed: u64,
    range: Range<u64>,
) -> Result<Tally> {
    let generator = Generator::new(Feed { seed, ..Feed::default() })?;
    // The feed has a calendar of its own, so the clock says nothing of its times; and a batch is never cut.
    let settings = Arc::new(Settings {
        batch_events: BATCH as usize,
        batch_bytes: Settings::default().batch_bytes.max(256 << 20),
        ..Settings::of(&lakehouse.project().config)
    });
    let bar = EventBar::new(&invocation.output, Some(range.end - range.start));
    let produce = move |outlet: &Outlet| {
        let mut first = range.start;
        while first < range.end {
            let count = BATCH.min(range.end - first);
            let mut text = Vec::new();
            generator.write(first, count, &mut text);
            let id = BatchId::new(format!("{}{first}", batch_prefix(seed)));
            for raw in RawBatches::new(text.as_slice(), &settings) {
                if !outlet.put(raw?, id.clone(), "demo", &settings) {
                    return Ok(());
                }
            }
            first += count;
        }
        Ok(())
    };
    invocation
        .intake(lakehouse.log(), &lakehouse.project().config)
        .take(Ack::Committed, |events| bar.add(events), produce)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_killed_is_finished_before_the_next_begins() {
        assert_eq!(target(0, 200, true), 200);
        assert_eq!(target(0, 200, false), 200);
        assert_eq!(target(60, 200, true), 200);
        assert_eq!(target(60, 200, false), 200);
        assert_eq!(target(200, 200, true), 200, "all appended, the tables not there");
        assert_eq!(target(200, 200, false), 400);
        assert_eq!(target(460, 200, true), 600);
    }
}
