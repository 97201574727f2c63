//! Appending: the I/O around the decisions of [`crate::commit`]. Stage, commit for everybody, clean.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::batch::{Batch, BatchKey};
use crate::claims::{self, Claim};
use crate::commit::{self, Decision, Found, Plan};
use crate::entry::{CommitRecord, CommittedBatch, Entry};
use crate::error::{Error, Result};
use crate::files;
use crate::head::{self, Head};
use crate::inbox::{ENTRY_FORMAT, InboxEntry, Receipt};
use crate::layout;
use crate::log::Log;
use crate::quarantine;
use crate::store::Put;

/// How many objects are read or written at once.
const AT_ONCE: usize = 16;

/// An entry this old may name files that somebody cleaned away, so they are looked at before it is committed.
const OLD: TimeDelta = TimeDelta::hours(1);

/// When an append may return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When the batch can no longer be lost: its commit may still be to come.
    Durable,
    /// When the batch is in the log.
    #[default]
    Committed,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, by this call.
    Committed {
        /// The version that has it.
        version: u64,
    },
    /// It was sent before and is in the log; this call added nothing of its own.
    Duplicate {
        /// The version that has it.
        version: u64,
    },
    /// It is staged: the next committer, whoever it is, puts it into the log.
    Durable,
}

/// What a drained inbox held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Batches that are in the log now.
    pub committed: u64,
    /// Entries that were left, each with the reason in one sentence.
    pub left: Vec<String>,
}

impl Log {
    /// Appends a batch at the time `at`.
    ///
    /// The batch is in the log exactly once, however often and from however many processes it is sent.
    ///
    /// # Errors
    /// [`Error::BatchConflict`] where its id stands for other content, [`Error::LaneConflict`] where its lane stands
    /// elsewhere, any failure of the store. After a failure the same batch can be sent again.
    pub async fn append(&self, batch: &Arc<Batch>, ack: Ack, at: DateTime<Utc>) -> Result<Appended> {
        let key = batch.id.key();
        let known: Option<Receipt> = self.store.get_json(&layout::receipt(&key)).await?;
        if let Some(version) = already(known.as_ref(), batch)? {
            return Ok(Appended::Duplicate { version });
        }
        let entry = self.stage(batch, at).await?;
        if known.is_none() {
            let receipt = Receipt { id: batch.id.clone(), content: batch.content, version: None, unit: None };
            if self.store.put_json_if_absent(&layout::receipt(&key), &receipt).await? == Put::Exists {
                let theirs: Option<Receipt> = self.store.get_json(&layout::receipt(&key)).await?;
                if let Some(version) = already(theirs.as_ref(), batch)? {
                    self.discard(&entry).await?;
                    return Ok(Appended::Duplicate { version });
                }
            }
        }
        let unit = entry.unit;
        let Some(entry) = self.announce(entry).await? else {
            let receipt: Option<Receipt> = self.store.get_json(&layout::receipt(&key)).await?;
            return match already(receipt.as_ref(), batch)? {
                Some(version) => Ok(Appended::Duplicate { version }),
                None => Err(Error::Corrupt { path: layout::receipt(&key), reason: "it is gone".to_owned() }),
            };
        };
        match ack {
            Ack::Durable => Ok(Appended::Durable),
            Ack::Committed => match self.commit(&entry, at).await? {
                // The staging of an earlier send, whose sender may be told of it at this moment: one send is the first.
                Appended::Committed { version } if entry.unit != unit => Ok(Appended::Duplicate { version }),
                answer => Ok(answer),
            },
        }
    }

    /// Commits whatever waits in the inbox.
    ///
    /// # Errors
    /// Any failure of the store. What cannot be committed is left and named in the answer.
    pub async fn drain(&self, at: DateTime<Utc>) -> Result<Drained> {
        let mut head = self.head.lock().await;
        let (entries, mut left) = self.waiting(None, at).await?;
        if entries.is_empty() {
            return Ok(Drained { committed: 0, left });
        }
        let found = self.commit_all(&mut head, &entries, at).await?;
        for (entry, receipt) in &entries {
            let settled =
                found.contains_key(&entry.key()) || receipt.as_ref().is_some_and(|receipt| receipt.version.is_some());
            if !settled {
                left.push(format!("batch '{}' waits for its lane", entry.id));
            }
        }
        let committed = entries.iter().filter(|(entry, _)| found.contains_key(&entry.key())).count() as u64;
        self.clean(&entries, &found).await?;
        Ok(Drained { committed, left })
    }

    /// Writes what the inbox entry will name: data files, quarantine, and the claims for their columns.
    async fn stage(&self, batch: &Arc<Batch>, at: DateTime<Utc>) -> Result<InboxEntry> {
        let (version, mut known) = {
            let mut head = self.head.lock().await;
            head.follow(&self.store).await?;
            (head.version, head.claims.clone())
        };
        known.merge(&*self.claims.lock().await);
        let mut columns: Vec<Claim> = Vec::with_capacity(batch.events.columns.len());
        for column in &batch.events.columns {
            columns.push(claims::claim(&self.store, &mut known, &column.path, column.kind).await?);
        }
        self.claims.lock().await.merge(&known);
        let unit = Uuid::now_v7();
        let encoded = files::encode_off_thread(Arc::clone(batch), columns.clone(), at).await?;
        let mut staged = Vec::with_capacity(encoded.len());
        for file in encoded {
            self.store.put(&layout::in_table(&file.staged.path), file.parquet).await?;
            staged.push(file.staged);
        }
        let quarantined = quarantine::put(&self.store, batch, unit, at).await?;
        columns.sort_by_key(|claim| claim.id);
        columns.dedup_by_key(|claim| claim.id);
        Ok(InboxEntry {
            format: ENTRY_FORMAT,
            unit,
            head: version,
            id: batch.id.clone(),
            content: batch.content,
            source: batch.source.clone(),
            rows: batch.events.len() as u64,
            quarantined: batch.quarantine.len() as u64,
            quarantine: quarantined,
            files: staged,
            columns,
            lane: batch.lane.clone(),
            staged_at: at,
        })
    }

    /// Puts the inbox entry, or finds the one of an earlier staging of the same batch: that one is to be committed, for
    /// only its head is old enough for the scan to find what became of it. `None` where the batch is in the log by now.
    async fn announce(&self, entry: InboxEntry) -> Result<Option<InboxEntry>> {
        let key = entry.key();
        loop {
            if self.store.put_json_if_absent(&layout::inbox_entry(&key), &entry).await? == Put::Created {
                return Ok(Some(entry));
            }
            let first: Option<InboxEntry> = self.store.get_json(&layout::inbox_entry(&key)).await?;
            if let Some(first) = first {
                if first.unit != entry.unit {
                    self.discard(&entry).await?;
                }
                return Ok(Some(first));
            }
            // Committed and cleaned between the two requests; or taken back, if its lane stood elsewhere.
            let receipt: Option<Receipt> = self.store.get_json(&layout::receipt(&key)).await?;
            if receipt.is_some_and(|receipt| receipt.version.is_some()) {
                self.discard(&entry).await?;
                return Ok(None);
            }
        }
    }

    /// Deletes what a staging wrote that nobody will name.
    async fn discard(&self, entry: &InboxEntry) -> Result<()> {
        let paths = entry.files.iter().map(|file| file.path.as_str()).chain(entry.quarantine.as_deref());
        for path in paths {
            self.store.delete(&layout::in_table(path)).await?;
        }
        Ok(())
    }

    /// Commits, with ours, whatever else waits; whoever holds the head meanwhile probably commits ours too.
    async fn commit(&self, own: &InboxEntry, at: DateTime<Utc>) -> Result<Appended> {
        let mut head = self.head.lock().await;
        let recent = head.committed_since(&self.store, own.head).await?;
        if recent.contains_key(&own.key()) {
            return self.answer(own, None, &recent, &mut head).await;
        }
        let (entries, _) = self.waiting(Some(own), at).await?;
        let found = self.commit_all(&mut head, &entries, at).await?;
        self.clean(&entries, &found).await?;
        let receipt = entries.into_iter().find(|(entry, _)| entry.id == own.id).and_then(|(_, receipt)| receipt);
        self.answer(own, receipt.as_ref(), &found, &mut head).await
    }

    /// What an appender is told, now that everything that could be committed is.
    async fn answer(
        &self,
        own: &InboxEntry,
        receipt: Option<&Receipt>,
        found: &Found,
        head: &mut Head,
    ) -> Result<Appended> {
        let none = BTreeMap::new();
        let lanes = if own.lane.is_some() { head.lanes(&self.store).await? } else { &none };
        match commit::decide(own, receipt, found, lanes, &[]) {
            Decision::Done { version } => Ok(Appended::Committed { version }),
            Decision::Duplicate { version } => Ok(Appended::Duplicate { version }),
            Decision::Conflict { theirs } => {
                Err(Error::BatchConflict { id: own.id.clone(), theirs, ours: own.content })
            }
            Decision::OutOfLane { stands } => {
                // The staging goes, so that it can never come later.
                self.store.delete(&layout::inbox_entry(&own.key())).await?;
                self.discard(own).await?;
                let step = own.lane.clone().unwrap_or_default();
                Err(Error::LaneConflict { lane: step.lane, stands, from: step.from, to: step.to })
            }
            // Its lane's predecessor came too late for this commit: it stays durable, for the next committer.
            Decision::Append | Decision::Wait => Ok(Appended::Durable),
        }
    }

    /// The inbox with its receipts, read after it was listed; and what in it cannot be committed by this build.
    ///
    /// `own` is among them even where a listing does not show it yet.
    async fn waiting(
        &self,
        own: Option<&InboxEntry>,
        at: DateTime<Utc>,
    ) -> Result<(Vec<(InboxEntry, Option<Receipt>)>, Vec<String>)> {
        let listed = self.store.list(&layout::inbox()).await?;
        let keys =
            listed.iter().filter_map(|object| object.location.filename()?.strip_suffix(".json").map(BatchKey::new));
        let mut entries = BTreeMap::new();
        let mut left = Vec::new();
        let own_key = own.map(InboxEntry::key);
        // Collected, here and below, so that no closure over borrows is held across an await: appends are spawned.
        let others: Vec<_> = keys.filter(|key| Some(key) != own_key.as_ref()).collect();
        let reads = futures::stream::iter(others).map(async |key| (self.read_entry(&key, at).await, key));
        for (entry, key) in reads.buffered(AT_ONCE).collect::<Vec<_>>().await {
            match entry {
                Ok(Some(entry)) => drop(entries.insert(key, entry)),
                Ok(None) => {}
                Err(Error::Corrupt { path, reason }) => left.push(format!("'{path}' is left alone: {reason}")),
                Err(error) => return Err(error),
            }
        }
        entries.extend(own.map(|own| (own.key(), own.clone())));
        for sentence in &left {
            tracing::warn!("{sentence}");
        }
        let receipts = futures::stream::iter(entries).map(async |(key, entry)| {
            let receipt: Option<Receipt> = self.store.get_json(&layout::receipt(&key)).await?;
            Ok::<_, Error>((entry, receipt))
        });
        // In the order staged, so that nobody's batch is overtaken for ever.
        let mut entries: Vec<_> = receipts.buffered(AT_ONCE).try_collect().await?;
        entries.sort_by_key(|(entry, _)| (entry.staged_at, entry.unit));
        Ok((entries, left))
    }

    async fn read_entry(&self, key: &BatchKey, at: DateTime<Utc>) -> Result<Option<InboxEntry>> {
        let path = layout::inbox_entry(key);
        let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
        let Some(entry) = self.store.get_json::<serde_json::Value>(&path).await? else { return Ok(None) };
        if entry["format"] != ENTRY_FORMAT {
            return Err(corrupt(format!("its format is {}, this lakebed knows {ENTRY_FORMAT}", entry["format"])));
        }
        let entry: InboxEntry = serde_json::from_value(entry).map_err(|error| corrupt(error.to_string()))?;
        if at - entry.staged_at > OLD {
            for file in &entry.files {
                if !self.store.exists(&layout::in_table(&file.path)).await? {
                    return Err(corrupt(format!("its data file '{}' is gone", file.path)));
                }
            }
        }
        Ok(Some(entry))
    }

    /// Scans and puts until nothing of `entries` is left to commit; gives where each batch was found.
    async fn commit_all(
        &self,
        head: &mut Head,
        entries: &[(InboxEntry, Option<Receipt>)],
        at: DateTime<Utc>,
    ) -> Result<Found> {
        let since = entries.iter().map(|(entry, _)| entry.head).min().unwrap_or(head.version);
        let attempt = Uuid::now_v7();
        loop {
            head.follow(&self.store).await?;
            let found = head.committed_since(&self.store, since).await?;
            let lanes = match entries.iter().any(|(entry, _)| entry.lane.is_some()) {
                true => head.lanes(&self.store).await?.clone(),
                false => BTreeMap::new(),
            };
            let plan = commit::plan(entries, &found, &head.claims, &lanes, head.next_offset);
            if plan.batches.is_empty() {
                return Ok(found);
            }
            let version = head.version + 1;
            let entry = next_entry(head, plan, attempt, at);
            let bytes = entry.encode(version, &head.table)?;
            match self.store.put_if_absent(&layout::commit(version), bytes).await {
                Ok(Put::Created) => head.apply(version, entry),
                // Somebody else's, or ours whose answer was lost: the scan tells.
                Ok(Put::Exists) => {}
                // The answer may be lost while the entry is there: look, and only if it is not, fail.
                Err(error) => match head::read_if_there(&self.store, version).await {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Err(error),
                },
            }
        }
    }

    /// Writes the version into the receipts, then deletes the inbox entries: a receipt must never be behind.
    async fn clean(&self, entries: &[(InboxEntry, Option<Receipt>)], found: &Found) -> Result<()> {
        let marked = |receipt: &Option<Receipt>| receipt.as_ref().is_some_and(|receipt| receipt.version.is_some());
        let settled = entries.iter().filter(|(entry, receipt)| marked(receipt) || found.contains_key(&entry.key()));
        let cleaning: Vec<_> =
            settled.map(|(entry, receipt)| self.settle(entry, marked(receipt), found.get(&entry.key()))).collect();
        let cleaning = futures::stream::iter(cleaning).buffer_unordered(AT_ONCE);
        cleaning.try_collect::<Vec<()>>().await.map(drop)
    }

    async fn settle(&self, entry: &InboxEntry, marked: bool, found: Option<&(u64, CommittedBatch)>) -> Result<()> {
        let key = entry.key();
        if let (false, Some((version, committed))) = (marked, found) {
            let (id, content) = (committed.id.clone(), committed.content);
            let receipt = Receipt { id, content, version: Some(*version), unit: Some(committed.unit) };
            self.store.put_json(&layout::receipt(&key), &receipt).await?;
        }
        self.store.delete(&layout::inbox_entry(&key)).await
    }
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
        time: at.max(head.time + TimeDelta::milliseconds(1)),
        record: CommitRecord {
            attempt,
            next_offset: plan.next_offset,
            metadata_version: if columns_change { head.version + 1 } else { head.metadata_version },
            batches: plan.batches,
        },
        claims,
        added: plan.files,
        removed: Vec::new(),
        lanes: plan.lanes,
    }
}

/// The version of a batch that a receipt says is in the log.
fn already(receipt: Option<&Receipt>, batch: &Batch) -> Result<Option<u64>> {
    match receipt {
        Some(receipt) if receipt.content != batch.content => {
            Err(Error::BatchConflict { id: batch.id.clone(), theirs: receipt.content, ours: batch.content })
        }
        Some(receipt) => Ok(receipt.version),
        None => Ok(None),
    }
}
