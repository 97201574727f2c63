//! What a server tells of when it goes wrong: tables that fall behind the log, many events in quarantine, a check that fails.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use lakebed_project::AlertsConfig;
use lakebed_query::{Lakehouse, ReadSession};
use tokio::sync::watch;

use crate::alerts::Alerts;
use crate::error::Result;

/// The time in which events in quarantine are a burst.
const BURST: TimeDelta = TimeDelta::minutes(1);

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// What a server is at.
#[derive(Clone)]
pub(super) struct State {
    /// With its models as they are now.
    pub(super) lakehouse: Lakehouse,
    /// What keeps a refresh from its end, if something does.
    pub(super) behind: Option<String>,
}

/// What was seen, and what was told of it.
pub(super) struct Lookout {
    alerts: Alerts,
    config: AlertsConfig,
    /// When the tables were last as new as the log.
    fresh: Instant,
    stale: bool,
    /// The last version that was looked at.
    seen: u64,
    quarantined: VecDeque<(DateTime<Utc>, u64)>,
    burst: bool,
    /// The epoch that was checked last, and when.
    checked: (Option<u64>, Option<Instant>),
    failing: BTreeSet<String>,
}

impl Lookout {
    /// Nothing seen yet, of a log at this version.
    pub(super) fn new(alerts: Alerts, config: AlertsConfig, version: u64) -> Self {
        let (stale, burst) = (false, false);
        let (quarantined, failing) = (VecDeque::new(), BTreeSet::new());
        Self {
            alerts,
            config,
            fresh: Instant::now(),
            stale,
            seen: version,
            quarantined,
            burst,
            checked: (None, None),
            failing,
        }
    }

    /// Looks again and again, beside the work that it looks at: a refresh that hangs is what it is there for.
    pub(super) async fn keep_looking(
        mut self,
        state: watch::Receiver<State>,
        sessions: watch::Receiver<Arc<ReadSession>>,
        clock: impl Fn() -> DateTime<Utc>,
    ) {
        loop {
            tokio::time::sleep(EVERY).await;
            let (State { lakehouse, behind }, served) = (state.borrow().clone(), sessions.borrow().version());
            if let Err(error) = self.look(&lakehouse, served, behind.as_deref(), clock()).await {
                tracing::warn!("nobody looks out for what goes wrong: {error}");
            }
        }
    }

    async fn look(
        &mut self,
        lakehouse: &Lakehouse,
        served: u64,
        behind: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let (head, _) = lakehouse.log().head().await?;
        // A version without rows, of a compaction, leaves nothing to refresh.
        let has_new = served < head && {
            let (of_tables, of_log) = (lakehouse.log().snapshot_at(served).await?, lakehouse.log().snapshot().await?);
            of_tables.next_offset < of_log.next_offset
        };
        self.look_at_age((head, served), has_new, behind, now);
        if head > self.seen {
            self.look_at_quarantine(lakehouse, head, now).await?;
            self.seen = head;
        }
        self.look_at_checks(lakehouse, served, now).await
    }

    fn look_at_age(&mut self, (head, served): (u64, u64), has_new: bool, behind: Option<&str>, now: DateTime<Utc>) {
        if !has_new && behind.is_none() {
            self.fresh = Instant::now();
            if std::mem::take(&mut self.stale) {
                let message = format!("the tables have all that is in the log at version {head}");
                self.alerts.tell("stale", (message, "nothing is to be done"), head, now, true);
            }
            return;
        }
        let age = self.fresh.elapsed();
        if age > self.config.stale_after && !self.stale {
            self.stale = true;
            let why = behind.map_or_else(String::new, |why| format!(": {why}"));
            let message = format!(
                "the log is at version {head}, and after {} s the tables are at version {served} or not in every sink{why}",
                age.as_secs()
            );
            let hint = "`lakebed doctor` tries every connection; `lakebed run` says what stands in the way";
            self.alerts.tell("stale", (message, hint), head, now, false);
        }
    }

    async fn look_at_quarantine(&mut self, lakehouse: &Lakehouse, head: u64, now: DateTime<Utc>) -> Result<()> {
        for (version, entry) in lakehouse.log().versions(head - self.seen).await? {
            let events: u64 = entry.record.batches.iter().map(|batch| batch.quarantined).sum();
            if version > self.seen && events > 0 {
                self.quarantined.push_back((entry.time, events));
            }
        }
        while self.quarantined.front().is_some_and(|(time, _)| *time < now - BURST) {
            self.quarantined.pop_front();
        }
        let events: u64 = self.quarantined.iter().map(|(_, events)| events).sum();
        if events >= self.config.quarantine_burst && !self.burst {
            let message = format!("{events} events went to quarantine within a minute");
            let hint = "`lakebed quarantine list` has the reasons; `lakebed quarantine retry` reads them again";
            self.alerts.tell("quarantine", (message, hint), head, now, false);
        }
        self.burst = events >= self.config.quarantine_burst;
        Ok(())
    }

    /// Checks the tables that are served, once for each epoch and not more often than is set.
    async fn look_at_checks(&mut self, lakehouse: &Lakehouse, served: u64, now: DateTime<Utc>) -> Result<()> {
        let (epoch, at) = self.checked;
        let due = at.is_none_or(|at| at.elapsed() >= self.config.check_every);
        if epoch == Some(served) || !due || !lakehouse.project().models.iter().any(|model| !model.checks.is_empty()) {
            return Ok(());
        }
        self.checked = (Some(served), Some(Instant::now()));
        for checked in lakehouse.check(&[]).await? {
            let name = format!("{}: {}", checked.model, checked.check);
            let holds = checked.failures == 0;
            if !holds && self.failing.insert(name.clone()) {
                let message =
                    format!("{} rows of {} fail the check '{}'", checked.failures, checked.model, checked.check);
                let hint = "`lakebed test` shows every check";
                self.alerts.tell("check", (message, hint), served, now, false);
            } else if holds && self.failing.remove(&name) {
                let message = format!("every row of {} passes the check '{}' again", checked.model, checked.check);
                self.alerts.tell("check", (message, "nothing is to be done"), served, now, true);
            }
        }
        Ok(())
    }
}
