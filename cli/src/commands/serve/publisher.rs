//! The sinks of a server that refreshes, brought up beside the refreshes: they take as long as they take, and what is stored is
//! served, and refreshed again, meanwhile.

use std::time::{Duration, Instant};

use lakebed_query::{Lakehouse, Publications};
use tokio::task::JoinHandle;

use crate::error::Result;

/// How long a sink is left alone that could not be brought up.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

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
    publication: JoinHandle<lakebed_query::Result<Publications>>,
}

impl Publisher {
    /// With something to begin with, or nothing.
    pub(super) fn new(due: bool) -> Self {
        Self { under_way: None, due, failed: None }
    }

    /// Says that an epoch may be stored that is to be published.
    pub(super) fn has_new(&mut self) {
        self.due = true;
    }

    /// Since when a publication is under way, if one is.
    pub(super) fn since(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|under_way| under_way.since)
    }

    /// Whether there is something for [`Self::go_on`] to do.
    pub(super) fn is_ready(&self) -> bool {
        let rests = || self.failed.is_some_and(|failed| failed.elapsed() < AGAIN_AFTER);
        match &self.under_way {
            Some(under_way) => under_way.publication.is_finished(),
            None => self.due && !rests(),
        }
    }

    /// Whether every epoch that it was told of is published.
    pub(super) fn is_done(&self) -> bool {
        self.under_way.is_none() && !self.due
    }

    /// Begins what is due, if nothing is under way; gives what became of a publication that has ended.
    pub(super) async fn go_on(&mut self, lakehouse: &Lakehouse) -> Option<Result<()>> {
        if !self.is_ready() {
            return None;
        }
        let ended = match self.under_way.take() {
            Some(UnderWay { since, publication }) => Some(Self::outcome(since, publication).await),
            None => None,
        };
        match &ended {
            Some(Err(_)) => (self.due, self.failed) = (true, Some(Instant::now())),
            Some(Ok(())) => self.failed = None,
            None => {}
        }
        if self.is_ready() {
            self.due = false;
            let lakehouse = lakehouse.clone();
            let publication = tokio::spawn(async move { lakehouse.publish_newest().await });
            self.under_way = Some(UnderWay { since: Instant::now(), publication });
        }
        ended
    }

    async fn outcome(since: Instant, publication: JoinHandle<lakebed_query::Result<Publications>>) -> Result<()> {
        publication.await??;
        tracing::info!("published in {} ms", since.elapsed().as_millis());
        Ok(())
    }
}
