//! What a server tells of when it goes wrong: tables that fall behind the log, many events in quarantine, a check that fails, an edit
//! of a model that it cannot take up.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use lakebed_flight_server::Served;
use lakebed_project::AlertsConfig;
use lakebed_query::Lakehouse;
use lakebed_query::checks::Checked;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::publisher::Covered;
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
    /// The newest version that the tables and all sinks are known to have, and when nothing was known of a later one.
    pub(super) up_to_date: Covered,
    /// What keeps a refresh or a publication from its end, if something does.
    pub(super) behind: Option<String>,
    /// What is wrong with the files of the models, if they are not those that it goes by.
    pub(super) refused: Option<String>,
    /// Since when a refresh is under way, if one is.
    pub(super) refreshing: Option<Instant>,
    /// The publication that was under way then, if one was, and since when.
    pub(super) publishing: Option<(Instant, AbortHandle)>,
}

impl State {
    /// For how long something has been in the log that the tables, or a sink, do not have; at most, where they are brought up all
    /// the time.
    pub(super) fn behind_for(&self) -> Duration {
        let (version, at) = self.up_to_date;
        match self.behind.is_none() && self.lakehouse.log().seen() <= version {
            true => Duration::ZERO,
            false => at.elapsed(),
        }
    }
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
    /// The versions of the tables and of the log that were compared, and whether the log has more.
    compared: Option<((u64, u64), bool)>,
    quarantined: VecDeque<(DateTime<Utc>, u64)>,
    burst: bool,
    /// The version whose tables were checked last, and when.
    checked: (Option<u64>, Option<Instant>),
    failing: BTreeSet<String>,
    /// What was told to be wrong with the files of the models.
    refused: Option<String>,
    /// The checks, while they are asked.
    asking: Option<JoinHandle<lakebed_query::Result<Vec<Checked>>>>,
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
            compared: None,
            quarantined,
            burst,
            checked: (None, None),
            failing,
            refused: None,
            asking: None,
        }
    }

    /// Looks again and again, beside the work that it looks at: a refresh that hangs is what it is there for.
    pub(super) async fn keep_looking(
        mut self,
        state: watch::Receiver<State>,
        sessions: watch::Receiver<Served>,
        clock: impl Fn() -> DateTime<Utc>,
    ) {
        // Where nobody is to be called there is nothing to look out for.
        while self.alerts.has_somebody() {
            tokio::time::sleep(EVERY).await;
            let State { lakehouse, up_to_date, behind, refused, refreshing, publishing } = state.borrow().clone();
            self.look_at_files(refused, lakehouse.log().seen(), clock());
            // While events come all the time there is always something that the tables do not have yet.
            self.fresh = self.fresh.max(up_to_date.1);
            let served = sessions.borrow().session.version();
            // One that takes so long does not come to its end: a sink, say, that is there and does not answer.
            let publishing = publishing.filter(|(_, publication)| !publication.is_finished()).map(|(began, _)| began);
            let hangs = refreshing
                .into_iter()
                .chain(publishing)
                .min()
                .filter(|began| began.elapsed() > self.config.stale_after);
            if let Some(began) = hangs {
                self.fresh = self.fresh.min(began);
            }
            let hangs = hangs.map(|began| {
                format!("a refresh, or its publication, has been under way for {} s", began.elapsed().as_secs())
            });
            let behind = behind.or(hangs);
            if let Err(error) = self.look(&lakehouse, served, behind.as_deref(), clock()).await {
                tracing::warn!("nobody looks out for what goes wrong: {error}");
            }
        }
        std::future::pending().await
    }

    async fn look(
        &mut self,
        lakehouse: &Lakehouse,
        served: u64,
        behind: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        match self.look_at_log(lakehouse, served).await {
            Ok((head, has_new)) => self.look_at_age((head, served), has_new, behind, now),
            // Nobody knows what is in a log that cannot be asked.
            Err(error) => self.look_at_age((self.seen, served), true, Some(&error.to_string()), now),
        }
        self.look_at_quarantine(now);
        self.look_at_checks(lakehouse, served, now).await
    }

    /// Reads what came; gives the log's version, and whether there is something in it that is not in the tables.
    async fn look_at_log(&mut self, lakehouse: &Lakehouse, served: u64) -> Result<(u64, bool)> {
        let log = lakehouse.log();
        let (head, _) = log.head().await?;
        let mut count = head.saturating_sub(self.seen);
        while count > 0 {
            let versions = log.versions(count).await?;
            // More may have come meanwhile: those that are asked for are the newest.
            if versions.first().is_some_and(|(first, _)| *first > self.seen + 1) {
                count *= 2;
                continue;
            }
            let seen = self.seen;
            for (version, entry) in versions.iter().filter(|(version, _)| *version > seen) {
                let events = entry.quarantined();
                self.quarantined.push_back((entry.time, events));
                self.seen = *version;
            }
            break;
        }
        // A version without rows, of a compaction, leaves nothing to refresh.
        let known = self.compared.filter(|(of, _)| *of == (served, head));
        let has_new = match known {
            Some((_, has_new)) => has_new,
            None => {
                served < head && {
                    let (of_tables, of_log) = (log.snapshot_at(served).await?, log.snapshot().await?);
                    of_tables.next_offset < of_log.next_offset
                }
            }
        };
        self.compared = Some(((served, head), has_new));
        Ok((head, has_new))
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

    /// Tells of an edit that is not taken up, of another one, and of one that is.
    fn look_at_files(&mut self, refused: Option<String>, version: u64, now: DateTime<Utc>) {
        if refused == self.refused {
            return;
        }
        let (message, hint) = match &refused {
            Some(why) => (
                format!("the models go on as they were, for an edit of them is wrong: {why}"),
                "correct the file: the server takes it up by itself",
            ),
            None => ("the models are what their files say".to_owned(), "nothing is to be done"),
        };
        self.alerts.tell("model", (message, hint), version, now, refused.is_none());
        self.refused = refused;
    }

    fn look_at_quarantine(&mut self, now: DateTime<Utc>) {
        while self.quarantined.front().is_some_and(|(time, _)| *time < now - BURST) {
            self.quarantined.pop_front();
        }
        let events: u64 = self.quarantined.iter().map(|(_, events)| events).sum();
        if events >= self.config.quarantine_burst && !self.burst {
            let message = format!("{events} events went to quarantine within a minute");
            let hint = "`lakebed quarantine list` has the reasons; `lakebed quarantine retry` reads them again";
            self.alerts.tell("quarantine", (message, hint), self.seen, now, false);
        }
        self.burst = events >= self.config.quarantine_burst;
    }

    /// Checks the tables that are served, once for each version and not more often than is set.
    async fn look_at_checks(&mut self, lakehouse: &Lakehouse, served: u64, now: DateTime<Utc>) -> Result<()> {
        let (version, at) = self.checked;
        let due = at.is_none_or(|at| at.elapsed() >= self.config.check_every);
        let asks = lakehouse.project().models.iter().any(|model| !model.checks.is_empty()) || !self.failing.is_empty();
        if version == Some(served) || !due || !asks {
            return Ok(());
        }
        // One that is still asked is asked on; the looks go on meanwhile.
        let asked = match self.asking.take() {
            Some(asking) if !asking.is_finished() => {
                self.asking = Some(asking);
                return Ok(());
            }
            Some(asking) => asking.await??,
            None => {
                let lakehouse = lakehouse.clone();
                self.asking = Some(tokio::spawn(async move { lakehouse.check(&[]).await }));
                return Ok(());
            }
        };
        self.checked = (Some(served), Some(Instant::now()));
        let names: BTreeSet<String> =
            asked.iter().map(|Checked { model, check, .. }| format!("{model}: {check}")).collect();
        for gone in self.failing.extract_if(.., |name| !names.contains(name)) {
            let message = format!("the check '{gone}' is no longer there");
            self.alerts.tell("check", (message, "nothing is to be done"), served, now, true);
        }
        for Checked { model, check, failures, .. } in asked {
            let name = format!("{model}: {check}");
            let wrong = match failures {
                Ok(None | Some(0)) => None,
                Ok(Some(rows)) => Some(format!("{rows} rows of {model} fail the check '{check}'")),
                Err(error) => Some(format!("the check '{check}' of {model} cannot be asked: {error}")),
            };
            match wrong {
                Some(message) if self.failing.insert(name.clone()) => {
                    self.alerts.tell("check", (message, "`lakebed test` shows every check"), served, now, false);
                }
                None if self.failing.remove(&name) => {
                    let message = format!("every row of {model} passes the check '{check}' again");
                    self.alerts.tell("check", (message, "nothing is to be done"), served, now, true);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
