//! The sinks of a server that refreshes, brought up beside the refreshes: they take as long as they take, and what is stored is
//! served, and refreshed again, meanwhile.

use std::time::{Duration, Instant};

use lakebed_query::{Lakehouse, Publications};
use tokio::task::{AbortHandle, JoinHandle};

use crate::commands::run::behind::AGAIN_AFTER;
use crate::error::Result;

/// A version of the log that the tables have, and when nothing was known of a later one.
pub(super) type Covered = (u64, Instant);

/// What became of a publication.
pub(super) struct Ended {
    pub(super) outcome: Result<()>,
    pub(super) took: Duration,
    /// What the sinks have where it succeeded, if that was known when it began.
    pub(super) covers: Option<Covered>,
}

/// One publication after the other, each of the newest epoch.
pub(super) struct Publisher {
    under_way: Option<UnderWay>,
    /// An epoch may be stored that no publication has begun with.
    due: bool,
    /// When one failed, if the last one did.
    failed: Option<Instant>,
}

struct UnderWay {
    since: Instant,
    covers: Option<Covered>,
    publication: JoinHandle<lakebed_query::Result<Publications>>,
}

impl Publisher {
    /// `due`: whether to publish at once.
    pub(super) fn new(due: bool) -> Self {
        Self { under_way: None, due, failed: None }
    }

    /// Notes that an epoch may be stored that is to be published.
    pub(super) fn note_new(&mut self) {
        self.due = true;
    }

    /// The publication that is under way, if one is, and since when.
    pub(super) fn under_way(&self) -> Option<(Instant, AbortHandle)> {
        self.under_way.as_ref().map(|under_way| (under_way.since, under_way.publication.abort_handle()))
    }

    /// Whether the sinks have all that is stored, as far as this publisher knows.
    pub(super) fn is_done(&self) -> bool {
        self.under_way.is_none() && !self.due
    }

    /// Whether there is something for [`Self::go_on`] to do.
    pub(super) fn is_ready(&self) -> bool {
        let rests = || self.failed.is_some_and(|failed| failed.elapsed() < AGAIN_AFTER);
        match &self.under_way {
            Some(under_way) => under_way.publication.is_finished(),
            None => self.due && !rests(),
        }
    }

    /// Begins what is due, if nothing is under way, with tables that have what `covers` says; gives what became of a publication
    /// that has ended.
    pub(super) async fn go_on(&mut self, lakehouse: &Lakehouse, covers: Option<Covered>) -> Option<Ended> {
        if !self.is_ready() {
            return None;
        }
        let ended = match self.under_way.take() {
            Some(UnderWay { since, covers, publication }) => {
                Some(Ended { outcome: outcome(publication).await, took: since.elapsed(), covers })
            }
            None => None,
        };
        match &ended {
            Some(Ended { outcome: Err(_), .. }) => (self.due, self.failed) = (true, Some(Instant::now())),
            Some(Ended { took, .. }) => {
                tracing::info!("published in {} ms", took.as_millis());
                self.failed = None;
            }
            None => {}
        }
        if self.is_ready() {
            self.due = false;
            let lakehouse = lakehouse.clone();
            let publication = tokio::spawn(async move { lakehouse.publish_newest().await });
            self.under_way = Some(UnderWay { since: Instant::now(), covers, publication });
        }
        ended
    }
}

async fn outcome(publication: JoinHandle<lakebed_query::Result<Publications>>) -> Result<()> {
    publication.await??;
    Ok(())
}
