//! What a server does as its lake moves on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lakebed_flight_server::Served;
use lakebed_query::{Lakehouse, Progress, models};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::counters::Counters;
use super::lookout::State;
use super::publisher::{Covered, Ended, Publisher};
use super::served;
use crate::commands::run::behind::Behind;
use crate::commands::run::{maintain, reloaded};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::progress::ModelBar;

/// How often it looks whether it has appended something itself, which costs no request.
const OWN_EVERY: Duration = Duration::from_millis(10);

/// For how long the log is quiet before it looks into the inbox.
const DRAIN_AFTER: Duration = Duration::from_secs(2);

/// A server's eye on its lake and on the files of its models.
pub(super) struct Following<'i> {
    pub(super) invocation: &'i Invocation,
    pub(super) lakehouse: Lakehouse,
    pub(super) sessions: watch::Sender<Served>,
    /// What it is at, for whoever looks out.
    pub(super) state: watch::Sender<State>,
    /// Whether it refreshes.
    pub(super) watch: bool,
    /// The log's version before the first refresh, and the epoch after it.
    pub(super) seen: Stand,
    /// What was away at the first refresh, or failed.
    pub(super) behind: Behind,
    pub(super) files: models::Stamp,
    /// How the files looked when it was looked at them last.
    pub(super) looked: models::Stamp,
    /// As in [`State`].
    pub(super) refused: Option<String>,
    /// The models of which it was told that the tables are of other SQL.
    pub(super) unlike: Vec<String>,
    pub(super) keeping: Keeping,
    pub(super) counters: Counters,
    /// As in [`State`].
    pub(super) up_to_date: Covered,
}

/// A version of the log, and an epoch.
pub(super) type Stand = (u64, Option<u64>);

/// What goes on beside the refreshes, and since when it was quiet.
pub(super) struct Keeping {
    /// The log's upkeep, while it is under way.
    upkeep: Option<JoinHandle<Result<()>>>,
    publisher: Publisher,
    /// When something last came, or the inbox was looked into.
    quiet: Instant,
    /// What was told that could not be committed.
    left: BTreeSet<String>,
}

impl Keeping {
    /// Nothing under way; what is stored is to be published, where this server publishes.
    pub(super) fn of(publishes: bool) -> Self {
        let (upkeep, publisher, left) = (None, Publisher::new(publishes), BTreeSet::new());
        Self { upkeep, publisher, quiet: Instant::now(), left }
    }
}

impl Following<'_> {
    /// Swaps the session whenever the log has moved or somebody has refreshed, which with `watch` is done here, also when a
    /// model's file has changed. What fails is told, and the lake is served as it was. Returns only with a failure that
    /// nobody can go on with.
    pub(super) async fn follow(mut self) -> Result<()> {
        let mut seen = self.seen;
        loop {
            self.wait(seen.0).await;
            let (before, looked) = (self.lakehouse.clone(), Instant::now());
            // Where one model fails already, it is not the edit that keeps the others from their end.
            let was_stuck = self.behind.is_stuck();
            let edited = self.watch && self.still().is_some_and(|files| self.reload(files));
            let worked = match self.keep_up(edited, &mut seen).await {
                // A model that parses may still be wrong: it is told, and the others are served.
                Err(error) if edited && !was_stuck && !error.may_pass() => {
                    self.lakehouse = before;
                    self.refuse(&error);
                    self.keep_up(true, &mut seen).await
                }
                worked => {
                    self.refused = self.refused.take().filter(|_| !edited || worked.is_err());
                    worked
                }
            };
            let Self { invocation, lakehouse, behind, watch, counters, up_to_date, keeping, .. } = &mut self;
            let publisher = &mut keeping.publisher;
            match worked {
                Ok(Looked::Rested) => {}
                worked => behind.refreshed(invocation, worked.map(drop), *watch)?,
            }
            // Where others refresh, it is they who know what the tables have.
            let covers = (*watch && behind.what().is_none()).then_some((seen.0, looked));
            if let Some(Ended { outcome, took, covers }) = publisher.go_on(lakehouse, covers).await {
                counters.published(took, outcome.is_ok());
                *up_to_date = covers.filter(|_| outcome.is_ok()).unwrap_or(*up_to_date);
                behind.published(invocation, outcome);
            }
            if publisher.is_done() {
                *up_to_date = covers.unwrap_or(*up_to_date);
            }
            self.tell_state(None);
        }
    }

    /// Says what it is at, and since when it refreshes.
    fn tell_state(&self, refreshing: Option<Instant>) {
        let (behind, publishing) = (self.behind.what().cloned(), self.keeping.publisher.under_way());
        let (lakehouse, up_to_date, refused) = (self.lakehouse.clone(), self.up_to_date, self.refused.clone());
        self.state.send_replace(State { lakehouse, up_to_date, behind, refused, refreshing, publishing });
    }

    /// Waits for the next look: until it is time, until this process has appended something, or until a publication has ended.
    async fn wait(&self, seen: u64) {
        let (began, publisher, behind) = (Instant::now(), &self.keeping.publisher, &self.behind);
        let has_news = || !behind.is_stuck() && self.lakehouse.log().seen() > seen;
        let is_due = || !behind.is_away() && (has_news() || publisher.is_ready());
        while began.elapsed() < behind.pause() && !is_due() {
            tokio::time::sleep(OWN_EVERY).await;
        }
    }

    /// How the files look, if nobody has written to them since it was asked last: half a file of a seed reads as a whole one.
    fn still(&mut self) -> Option<models::Stamp> {
        let files = models::stamp(&self.invocation.directory);
        let before = std::mem::replace(&mut self.looked, files.clone());
        (before == files).then_some(files)
    }

    /// Reads the models again, if their files look otherwise than when they were read. With a file that is wrong, all stays as it was.
    fn reload(&mut self, files: models::Stamp) -> bool {
        if files == self.files {
            return false;
        }
        self.files = files;
        match reloaded(self.invocation, &self.lakehouse) {
            Ok(lakehouse) => {
                self.lakehouse = lakehouse;
                true
            }
            Err(error) => {
                self.refuse(&error);
                false
            }
        }
    }

    fn refuse(&mut self, error: &Error) {
        self.invocation.output.fail(error);
        self.refused = Some(error.to_string());
        self.invocation.output.say("the models go on as they were");
    }

    /// Has the log kept up beside what goes on here: a refresh does not wait for a compaction. Gives what became of the last time.
    async fn keep_tidy(&mut self) -> Result<()> {
        let last = match self.keeping.upkeep.take() {
            Some(upkeep) if !upkeep.is_finished() => {
                self.keeping.upkeep = Some(upkeep);
                return Ok(());
            }
            Some(upkeep) => upkeep.await?,
            None => Ok(()),
        };
        let (invocation, lakehouse) = (self.invocation.clone(), self.lakehouse.clone());
        self.keeping.upkeep = Some(tokio::spawn(async move { maintain(&invocation, &lakehouse).await }));
        last
    }

    /// Refreshes; what is stored is served at once, and published when the publisher comes to it. Gives the epoch that is served.
    async fn refresh(&mut self) -> Result<Option<u64>> {
        let began = Instant::now();
        self.tell_state(Some(began));
        let (stored, mut news) = watch::channel(None);
        let told = Told { bar: ModelBar::new(&self.invocation.output), stored };
        let mut served_epoch = None;
        let serving = async {
            while news.changed().await.is_ok() {
                let epoch = *news.borrow_and_update();
                // One that cannot be opened now is opened after the refresh, and fails there.
                if let Ok(session) = self.lakehouse.read(None).await {
                    self.sessions.send_replace(served(session, &self.lakehouse));
                    served_epoch = epoch;
                }
            }
        };
        let refreshed = tokio::select! {
            refreshed = self.lakehouse.refresh_models(&told) => refreshed,
            () = serving => return Ok(None),
        };
        self.counters.refreshed(began.elapsed(), refreshed.is_ok());
        let refreshed = refreshed?;
        tracing::info!("version {} refreshed in {} ms", refreshed.version, began.elapsed().as_millis());
        self.keeping.publisher.note_new();
        Ok(served_epoch)
    }

    /// Commits what waits in the inbox while nobody else commits it: a batch whose sender has only had it made durable comes into
    /// the tables although nothing is sent any more.
    async fn drain(&mut self) -> Result<()> {
        if self.watch && self.keeping.quiet.elapsed() >= DRAIN_AFTER {
            let drained = self.lakehouse.log().drain(self.invocation.now()).await?;
            for left in drained.left {
                if self.keeping.left.insert(left.clone()) {
                    self.invocation.output.say(&left);
                }
            }
            self.keeping.quiet = Instant::now();
        }
        Ok(())
    }

    /// One look at the lake, and what follows from it.
    async fn keep_up(&mut self, edited: bool, seen: &mut Stand) -> Result<Looked> {
        let now = stand(&self.lakehouse).await?;
        let due = edited || self.behind.is_due(now.0 > seen.0, Instant::now());
        let rests = !due && self.behind.is_stuck();
        let looked = if rests { Looked::Rested } else { Looked::KeptUp };
        // Before the first epoch there is the log alone, as it is.
        let is_old = now.1.is_none() && self.sessions.borrow().session.version() != now.0;
        if !due && (now == *seen || (rests && now.1 == seen.1 && !is_old)) {
            return self.drain().await.map(|()| looked);
        }
        self.keeping.quiet = Instant::now();
        // Who reads files that a compaction replaced has as long as a vacuum leaves them: readers move on with it.
        let worked = match self.watch && due {
            true => self.refresh().await,
            false => Ok(None),
        };
        let tidied = self.keep_tidy().await;
        let epoch = self.lakehouse.epoch().await?;
        if !self.watch && epoch != seen.1 {
            self.take_up_models().await?;
        }
        // What was refreshed is served. The log may have moved on meanwhile, and that is still to be refreshed: it was seen as far
        // as it stood before, or not at all while a refresh that failed is left alone.
        *seen = (if rests { seen.0 } else { now.0 }, epoch);
        // Plans are kept for a session: a new one of the same tables would have none.
        if !matches!(worked, Ok(served) if served.is_some() && served == seen.1) {
            self.sessions.send_replace(served(self.lakehouse.read(None).await?, &self.lakehouse));
        }
        worked.and(tidied).map(|()| looked)
    }

    /// Where others refresh, takes up the models that the tables are of: an earlier version is to be of the same SQL.
    async fn take_up_models(&mut self) -> Result<()> {
        let mut unlike = self.lakehouse.unlike_the_tables().await?;
        if !unlike.is_empty() && self.reload(models::stamp(&self.invocation.directory)) {
            self.refused = None;
            unlike = self.lakehouse.unlike_the_tables().await?;
        }
        if unlike != self.unlike {
            tell_unlike(self.invocation, &unlike);
            self.unlike = unlike;
        }
        Ok(())
    }
}

/// What a look at the lake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// Everything is as it shall be.
    KeptUp,
    /// A refresh that failed is left alone for now.
    Rested,
}

/// Says for which models a table and its earlier versions are of different SQL.
pub(super) fn tell_unlike(invocation: &Invocation, unlike: &[String]) {
    if !unlike.is_empty() {
        let models = unlike.join(", ");
        invocation.output.say(&format!(
            "for {models} the tables are of other SQL than the models here: earlier versions are of the models' SQL, \
             until `lakebed run` brings the tables to it"
        ));
    }
}

/// Draws a bar, and tells of an epoch that is stored.
struct Told {
    bar: ModelBar,
    stored: watch::Sender<Option<u64>>,
}

impl Progress for Told {
    fn model(&self, name: &str, done: usize, of: usize) {
        self.bar.model(name, done, of);
    }

    fn stored(&self, epoch: u64) {
        self.stored.send_replace(Some(epoch));
    }
}

/// The log's newest version, and the newest epoch.
async fn stand(lakehouse: &Lakehouse) -> Result<Stand> {
    let (head, _) = lakehouse.log().head().await?;
    Ok((head, lakehouse.epoch().await?))
}
