//! Committing: the I/O around the decisions of [`crate::commit`]. Whoever's turn it is commits for everybody; the others
//! watch the head, and nearly always find their batch in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::append::Appended;
use crate::batch::BatchKey;
use crate::commit::{self, Decision, Found, Plan};
use crate::entry::{CommitRecord, Entry, UNITS};
use crate::error::{Error, Result};
use crate::files::DataFile;
use crate::head::{self, Head};
use crate::inbox::{AT_ONCE, InboxEntry, Listed, Place, Receipt, StagedBatch, Waiting};
use crate::layout;
use crate::log::Log;
use crate::store::Put;

/// After so many commits of others that did not take a batch up, its own process does.
const PASSED_OVER: u32 = 3;

/// An entry that may be in any of more versions than this is for its own sender to commit, or for a drain: a batch that was first sent long
/// ago would have every committer read all versions since.
const LONGEST_SCAN: u64 = 4_096;

/// The shortest and the longest time between two looks at the head while others commit.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));

/// What a drained inbox held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Batches that are in the log now.
    pub committed: u64,
    /// Entries that were not committed, each with the reason in one sentence.
    pub left: Vec<String>,
}

/// What is wrong with a unit of which a part is in the log.
const TORN: &str = "some of its batches are in the log and others are not";

/// The entries that tasks of this process wait for: while it is here, whose turn it is counts them as one.
struct Announced<'l> {
    log: &'l Log,
    key: BatchKey,
}

impl<'l> Announced<'l> {
    fn new(log: &'l Log, key: BatchKey) -> Self {
        log.announced.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        Self { log, key }
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.log.announced.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Log {
    /// Commits whatever waits in the inbox, and finishes what dead committers left there.
    ///
    /// # Errors
    /// Any failure of the store. What cannot be committed is left and named in the answer.
    pub async fn drain(&self, at: DateTime<Utc>) -> Result<Drained> {
        let mut head = self.head.lock().await;
        let listed = self.inbox().await?;
        let (entries, mut left) = self.read_waiting(listed, None).await?;
        if entries.is_empty() {
            return Ok(Drained { committed: 0, left });
        }
        let (found, _) = self.commit_all(&mut head, &entries, at).await?;
        drop(head);
        for waiting in &entries {
            let entry = &waiting.0;
            if settled(waiting, &found) {
                continue;
            }
            if entry.batches.len() > 1 {
                left.push(format!("{} is left alone: {TORN}", entry.name()));
                continue;
            }
            let why = match entry.lane {
                Some(_) => "does not follow where its lane stands",
                None => "is known with other content",
            };
            // Its sender was told nothing yet, or is told that.
            self.store.delete(&layout::inbox_entry(&entry.key())).await?;
            left.push(format!("{} {why}, and was taken back", entry.name()));
        }
        let batches = entries.iter().flat_map(|(entry, _)| &entry.batches);
        let committed = batches.filter(|batch| found.contains_key(&batch.key())).count() as u64;
        self.clean(&entries, &found).await?;
        Ok(Drained { committed, left })
    }

    /// Follows the head, and lets those who stage know how far it has come.
    pub(crate) async fn follow(&self, head: &mut Head) -> Result<u64> {
        let metadata_version = head.metadata_version;
        let followed = head.follow(&self.store).await;
        if head.metadata_version != metadata_version {
            self.claims.lock().await.merge(&head.claims);
        }
        self.seen.fetch_max(head.version, Ordering::AcqRel);
        followed
    }

    /// Sees to it that what is staged gets into the log, by this process or another. `adopted` says that the staging is an
    /// earlier send's.
    pub(crate) async fn commit(&self, own: &InboxEntry, adopted: bool, at: DateTime<Utc>) -> Result<Appended> {
        let key = own.key();
        let own_batches: BTreeSet<_> = own.batches.iter().map(StagedBatch::key).collect();
        let announced = Announced::new(self, key.clone());
        let mut head = self.head.lock().await;
        self.wait_for_turn(&mut head, &key).await?;
        let none = vec![None; own.batches.len()];
        let found = match head.remembered_of(&own_batches) {
            Some(found) => found,
            None => {
                let (began, stood) = (Instant::now(), head.version);
                let listed = self.inbox().await?;
                let worth = |listed: &Listed| listed.key == key || head.should_take_up(&listed.key);
                let listed = listed.into_iter().filter(worth).collect();
                let (mut entries, _) = self.read_waiting(listed, Some(own)).await?;
                let oldest = head.version.saturating_sub(LONGEST_SCAN);
                entries.retain(|waiting| waiting.0.unit == own.unit || scanned_from(waiting) >= oldest);
                let (mut found, put) = self.commit_all(&mut head, &entries, at).await?;
                head.note_commit(entries.len(), began.elapsed());
                let receipts = entries.iter().find(|(entry, _)| entry.unit == own.unit).map(|(_, receipts)| receipts);
                let answer = self.answer(own, receipts.unwrap_or(&none), &found, &mut head).await;
                // The next committer need not wait until this one has cleaned up.
                drop((head, announced));
                // What another committed meanwhile, that one is cleaning up; if it has died, who sees the inbox next does.
                found.retain(|found, (version, _)| {
                    own_batches.contains(found) || *version <= stood || put.contains(version)
                });
                if let Err(error) = self.clean(&entries, &found).await {
                    tracing::warn!("a later commit will clean the inbox: {error}");
                }
                return told(answer?, adopted);
            }
        };
        let answer = self.answer(own, &none, &found, &mut head).await?;
        drop((head, announced));
        // Whoever committed it may have died before this.
        if adopted && let Err(error) = self.settle_if_there(own, &found).await {
            tracing::warn!("a later commit will clean the inbox: {error}");
        }
        told(answer, adopted)
    }

    /// Cleans up an entry that is committed, unless that was done: of a unit, many may wait who adopted it.
    async fn settle_if_there(&self, own: &InboxEntry, found: &Found) -> Result<()> {
        match self.entry(&own.key()).await? {
            Place::Entry(there) if there.unit == own.unit => {
                self.settle(&(*there, vec![None; own.batches.len()]), found).await
            }
            _ => Ok(()),
        }
    }

    /// Returns once the entry is in the log as far as `head` knows, or nobody is before this process in the inbox, or those
    /// who are have had the time to commit.
    ///
    /// The rank is by the time at which entries were put, as the store tells it: all processes count alike, whatever their
    /// clocks say. The first is given the time that a commit takes here, then the next one, then two, four, …, so that of many dead
    /// somebody takes over, and 256 appenders do not read each other's entries 256 times.
    async fn wait_for_turn(&self, head: &mut Head, own: &BatchKey) -> Result<()> {
        let mut passed_over = 0;
        while head.remembered(own).is_none() && passed_over < PASSED_OVER {
            let began = Instant::now();
            let mut listed = self.inbox().await?;
            head.note_request(began.elapsed());
            let mut listed_again = false;
            loop {
                let before = self.rank(head, &listed, own);
                // The more requests were made, the better is it known how long others take.
                let pace = head.pace(listed.len());
                // Twice as many before it are one pace more: whoever commits, commits for all, and of any number of them it may be
                // that nobody commits, as those are gone, or were content to have it durable.
                let turn = began + pace.saturating_mul(before.checked_ilog2().map_or(0, |doublings| doublings + 1));
                let left = turn.saturating_duration_since(Instant::now());
                if before == 0 || left.is_zero() && listed_again {
                    return Ok(());
                }
                if left.is_zero() {
                    let looked = Instant::now();
                    // Those who came since make the commit that is waited for take longer.
                    listed = self.inbox().await?;
                    head.note_request(looked.elapsed());
                    listed_again = true;
                    continue;
                }
                listed_again = false;
                sleep((pace / 2).clamp(LOOK.0, LOOK.1).min(left)).await;
                let looked = Instant::now();
                if self.follow(head).await? > 0 {
                    passed_over += 1;
                    break;
                }
                head.note_request(looked.elapsed());
            }
        }
        Ok(())
    }

    /// How many entries of other processes are before the first of this one, those not counted that wait for something else
    /// than a committer.
    fn rank(&self, head: &Head, listed: &[Listed], own: &BatchKey) -> usize {
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = listed.iter().map(|listed| &listed.key).filter(|key| *key == own || !head.passes_over(key));
        waiting.take_while(|key| *key != own && !announced.contains(*key)).count()
    }

    /// What an appender is told, now that everything that could be committed is.
    async fn answer(
        &self,
        own: &InboxEntry,
        receipts: &[Option<Receipt>],
        found: &Found,
        head: &mut Head,
    ) -> Result<Appended> {
        let none = BTreeMap::new();
        let lanes = if own.lane.is_some() { head.lanes(&self.store).await? } else { &none };
        let torn = || Error::Corrupt { path: layout::inbox_entry(&own.key()), reason: TORN.to_owned() };
        match commit::decide(own, receipts, found, lanes) {
            Decision::Done { version } => Ok(Appended::Committed { version }),
            Decision::Duplicate { version } => Ok(Appended::Duplicate { version }),
            Decision::Conflict { theirs } => {
                // Only of one alone: those of a unit have receipts of its own.
                let batch = own.batches.first().ok_or_else(torn)?;
                Err(Error::BatchConflict { id: batch.id.clone(), theirs, ours: batch.content })
            }
            Decision::Torn => Err(torn()),
            Decision::OutOfLane { stands } => {
                // What is taken back does not come later, unless a committer has read it already: its files stay, for a vacuum.
                self.store.delete(&layout::inbox_entry(&own.key())).await?;
                let step = own.lane.clone().unwrap_or_default();
                Err(Error::LaneConflict { lane: step.lane, stands, from: step.from, to: step.to })
            }
            // Not for an entry that was among those of a commit: whatever could be appended was.
            Decision::Append => Ok(Appended::Durable),
        }
    }

    /// Scans and puts until nothing of `entries` is left to commit; gives where each batch was found, and which versions were
    /// put here.
    async fn commit_all(
        &self,
        head: &mut Head,
        entries: &[Waiting],
        at: DateTime<Utc>,
    ) -> Result<(Found, BTreeSet<u64>)> {
        let attempt = Uuid::now_v7();
        let since = |(entry, receipts): &Waiting| {
            let batches = entry.batches.iter().zip(receipts);
            batches.map(|(batch, receipt)| (batch.key(), head_of(entry, receipt))).collect::<Vec<_>>()
        };
        let since: BTreeMap<_, _> = entries.iter().flat_map(since).collect();
        let mut put = BTreeSet::new();
        loop {
            self.follow(head).await?;
            let found = head.committed_since(&self.store, &since).await?;
            let lanes = match entries.iter().any(|(entry, _)| entry.lane.is_some()) {
                true => head.lanes(&self.store).await?.clone(),
                false => BTreeMap::new(),
            };
            let plan = commit::plan(entries, &found, &head.claims, &lanes, head.next_offset);
            if plan.batches.is_empty() {
                head.note_left(
                    entries.iter().filter(|waiting| !settled(waiting, &found)).map(|(entry, _)| entry.key()),
                );
                return Ok((found, put));
            }
            let version = head.version + 1;
            if self.put_next(head, next_entry(head, plan, attempt, at)).await? == Put::Created {
                put.insert(version);
            }
        }
    }

    /// Puts the entry of the next version, unless one is there. The head is followed only where the answer says that the entry
    /// is ours; everybody else's, and ours whose answer was lost, is found by the next look.
    pub(crate) async fn put_next(&self, head: &mut Head, entry: Entry) -> Result<Put> {
        let version = head.version + 1;
        let bytes = entry.encode(version, &head.table)?;
        match self.store.put_if_absent(&layout::commit(version), bytes).await {
            Ok(Put::Created) => {
                head.apply(version, entry);
                self.seen.fetch_max(version, Ordering::AcqRel);
                Ok(Put::Created)
            }
            Ok(Put::Exists) => Ok(Put::Exists),
            // The answer may be lost while the entry is there: look, and only if it is not, fail.
            Err(error) => match head::read_if_there(&self.store, version).await {
                Ok(Some(_)) => Ok(Put::Exists),
                Ok(None) | Err(_) => Err(error),
            },
        }
    }

    /// Writes the version into the receipts, then deletes the inbox entries: a receipt must never be behind.
    async fn clean(&self, entries: &[Waiting], found: &Found) -> Result<()> {
        let settled = entries.iter().filter(|waiting| settled(waiting, found));
        let cleaning: Vec<_> = settled.map(|waiting| self.settle(waiting, found)).collect();
        let cleaning = futures::stream::iter(cleaning).buffer_unordered(AT_ONCE);
        cleaning.try_collect::<Vec<()>>().await.map(drop)
    }

    async fn settle(&self, (entry, receipts): &Waiting, found: &Found) -> Result<()> {
        let unmarked = entry.batches.iter().zip(receipts).filter(|(_, receipt)| !is_marked(receipt));
        let found = unmarked.filter_map(|(batch, _)| found.get(&batch.key()));
        let marks = found.map(async |(version, committed)| {
            let (id, content) = (committed.id.clone(), committed.content);
            let (head, unit) = (entry.head, Some(committed.unit));
            let receipt = Receipt { id, content, head, version: Some(*version), unit };
            self.store.put_json(&layout::receipt(&committed.key()), &receipt).await
        });
        let marks = futures::stream::iter(marks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        marks.try_collect::<Vec<()>>().await?;
        self.store.delete(&layout::inbox_entry(&entry.key())).await
    }
}

/// The version from which on a batch may be in the log. A sender that was told "conflict" may have been wrong: a committer had read its
/// entry before it was taken back. So the scan begins where the batch's first sender stood.
fn head_of(entry: &InboxEntry, receipt: &Option<Receipt>) -> u64 {
    match receipt {
        Some(receipt) if receipt.version.is_none() => entry.head.min(receipt.head),
        _ => entry.head,
    }
}

/// The version from which on all versions are looked through for an entry.
fn scanned_from((entry, receipts): &Waiting) -> u64 {
    receipts.iter().map(|receipt| head_of(entry, receipt)).min().unwrap_or(entry.head)
}

fn is_marked(receipt: &Option<Receipt>) -> bool {
    receipt.as_ref().is_some_and(|receipt| receipt.version.is_some())
}

/// Whether all batches of an entry are in the log.
fn settled((entry, receipts): &Waiting, found: &Found) -> bool {
    let mut batches = entry.batches.iter().zip(receipts);
    batches.all(|(batch, receipt)| is_marked(receipt) || found.contains_key(&batch.key()))
}

/// Of two sends of one batch only the first is told that it was committed: an adopted staging is an earlier send's, whose
/// sender may be told of it at this moment.
fn told(answer: Appended, adopted: bool) -> Result<Appended> {
    Ok(match answer {
        Appended::Committed { version } if adopted => Appended::Duplicate { version },
        answer => answer,
    })
}

/// What a reader must know of files.
fn files_require(files: &[DataFile]) -> Vec<String> {
    let has_units = files.iter().any(|file| file.staged.places.is_some());
    has_units.then(|| UNITS.to_owned()).into_iter().collect()
}

/// The entry for the version after `head`.
fn next_entry(head: &Head, plan: Plan, attempt: Uuid, at: DateTime<Utc>) -> Entry {
    let columns_change = plan.new_columns.iter().next().is_some();
    let claims = columns_change.then(|| {
        let mut claims = head.claims.clone();
        claims.merge(&plan.new_columns);
        claims
    });
    Entry {
        time: head.next_time(at),
        record: CommitRecord {
            attempt,
            next_offset: plan.next_offset,
            metadata_version: if columns_change { head.version + 1 } else { head.metadata_version },
            batches: plan.batches,
            requires: [head.table.partition_by.requires(), files_require(&plan.files)].concat(),
        },
        claims,
        added: plan.files,
        removed: Vec::new(),
        lanes: plan.lanes,
    }
}
