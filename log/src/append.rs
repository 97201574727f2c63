//! Appending: a batch is staged, which makes it durable; then it is committed, with whatever else waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use uuid::Uuid;

use crate::batch::Batch;
use crate::claims::{self, Claim};
use crate::error::{Error, Result};
use crate::files;
use crate::inbox::{ENTRY_FORMAT, InboxEntry, Receipt};
use crate::layout;
use crate::log::Log;
use crate::quarantine;
use crate::store::{ON_ITS_WAY, Put};

/// How long a staging may take: well below [`crate::maintenance::LEAST_RETENTION`].
const STAGING: Duration = Duration::from_secs(20 * 60);

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

impl Log {
    /// Appends a batch at the time `at`.
    ///
    /// The batch is in the log exactly once, however often and from however many processes it is sent.
    ///
    /// # Errors
    /// [`Error::BatchConflict`] where its id stands for other content, [`Error::LaneConflict`] where its lane stands
    /// elsewhere, any failure of the store. After a failure the same batch can be sent again.
    pub async fn append(&self, batch: &Arc<Batch>, ack: Ack, at: DateTime<Utc>) -> Result<Appended> {
        self.begin(Arc::clone(batch), at).await?.stage().await?.finish(ack).await
    }

    /// The first of an append's three steps, for who has many batches to append: the columns are claimed. Batches begin and
    /// finish in the order that they are to have in the log; they are staged beside each other.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn begin(&self, batch: Arc<Batch>, at: DateTime<Utc>) -> Result<Begun> {
        let known: Option<Receipt> = self.store.get_json(&layout::receipt(&batch.id.key())).await?;
        let duplicate = already(known.as_ref(), &batch)?;
        let mut columns: Vec<Claim> = Vec::with_capacity(batch.events.columns.len());
        if duplicate.is_none() {
            let mut known = self.claims.lock().await.clone();
            for column in &batch.events.columns {
                columns.push(claims::claim(&self.store, &mut known, &column.path, column.kind).await?);
            }
            self.claims.lock().await.merge(&known);
        }
        Ok(Begun { log: self.clone(), batch, at, known: known.is_some(), duplicate, columns })
    }

    /// Puts the batch's receipt, if there is none; gives the version of one that is in the log by now.
    async fn put_receipt(&self, batch: &Batch, head: u64) -> Result<Option<u64>> {
        let receipt = Receipt { id: batch.id.clone(), content: batch.content, head, version: None, unit: None };
        already(Some(&self.store.put_or_read(&layout::receipt(&batch.id.key()), receipt).await?), batch)
    }

    /// Puts the inbox entry, or finds the one of an earlier staging of the same batch: that one is to be committed, for
    /// only its head is old enough for the scan to find what became of it. `None` where the batch is in the log by now.
    async fn announce(&self, entry: InboxEntry) -> Result<Option<InboxEntry>> {
        let key = entry.key();
        loop {
            if self.store.put_json_if_absent(&layout::inbox_entry(&key), &entry).await? == Put::Created {
                return Ok(Some(entry));
            }
            let first = self.entry(&key).await?;
            if first.as_ref().is_some_and(|first| first.unit == entry.unit) {
                return Ok(first);
            }
            // Read after the inbox. Our put may have been done although its answer was lost, and the client library has put
            // it again: then somebody may have committed ours, marked the receipt, cleaned up, and made room for another's.
            let receipt: Option<Receipt> = self.store.get_json(&layout::receipt(&key)).await?;
            match (receipt.filter(|receipt| receipt.version.is_some()), first) {
                (Some(receipt), _) if receipt.unit == Some(entry.unit) => return Ok(Some(entry)),
                (Some(_), _) => {
                    self.discard(&entry).await?;
                    return Ok(None);
                }
                (None, Some(first)) => {
                    self.look_for_files(&first).await?;
                    self.discard(&entry).await?;
                    return Ok(Some(first));
                }
                // Taken back, because its lane stood elsewhere; or on its way.
                (None, None) => sleep(ON_ITS_WAY).await,
            }
        }
    }

    /// Deletes what a staging wrote that nobody will name.
    pub(crate) async fn discard(&self, entry: &InboxEntry) -> Result<()> {
        let paths = entry.files.iter().map(|file| file.path.as_str()).chain(entry.quarantine.as_deref());
        for path in paths {
            self.store.delete(&layout::in_table(path)).await?;
        }
        Ok(())
    }
}

/// An append that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    log: Log,
    batch: Arc<Batch>,
    at: DateTime<Utc>,
    /// There is a receipt.
    known: bool,
    /// The version that has the batch already.
    duplicate: Option<u64>,
    /// The column of each of the batch's.
    columns: Vec<Claim>,
}

/// An append whose files are written. Nobody names them until it is finished.
#[derive(Clone, Debug)]
pub struct Staged {
    begun: Begun,
    written: Written,
    /// When its writing began, by the wall's clock: a machine that slept meanwhile has taken all that time.
    since: SystemTime,
}

#[derive(Clone, Debug)]
enum Written {
    /// What the inbox is to say.
    Entry(Box<InboxEntry>),
    /// Nothing: this version has the batch.
    Duplicate(u64),
}

impl Begun {
    /// The second step, which is nearly all of the work: the batch is encoded and its files are written.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn stage(self) -> Result<Staged> {
        let since = SystemTime::now();
        let written = match self.duplicate {
            Some(version) => Written::Duplicate(version),
            None => Written::Entry(Box::new(self.write().await?)),
        };
        Ok(Staged { begun: self, written, since })
    }

    /// Writes what the inbox entry will name: data files and quarantine.
    async fn write(&self) -> Result<InboxEntry> {
        let Self { log, batch, at, .. } = self;
        // Any version will do: an older one costs the committer a longer scan, and what was committed before it is found by
        // the receipt, which is marked before the inbox entry goes and read again after the inbox is listed. So nobody waits
        // here for a task that commits.
        if let Ok(mut head) = log.head.try_lock() {
            log.follow(&mut head).await?;
        }
        let version = log.seen.load(Ordering::Acquire);
        let unit = Uuid::now_v7();
        let mut columns = self.columns.clone();
        let encoded = files::encode_off_thread(Arc::clone(batch), columns.clone(), *at).await?;
        let mut staged = Vec::with_capacity(encoded.len());
        for file in encoded {
            log.store.put(&layout::in_table(&file.staged.path), file.parquet).await?;
            staged.push(file.staged);
        }
        let quarantined = quarantine::put(&log.store, batch, unit, *at).await?;
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
            staged_at: *at,
        })
    }
}

impl Staged {
    /// The third step: the batch is announced and, unless that is enough for `ack`, committed.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn finish(self, ack: Ack) -> Result<Appended> {
        let Self { begun, written, mut since } = self;
        let mut entry = match written {
            Written::Entry(entry) => *entry,
            Written::Duplicate(version) => return Ok(Appended::Duplicate { version }),
        };
        // A vacuum spares what no inbox entry names for a limited time: an older staging is done again.
        while !since.elapsed().is_ok_and(|took| took < STAGING) {
            begun.log.discard(&entry).await?;
            since = SystemTime::now();
            entry = begun.write().await?;
        }
        let Begun { log, batch, at, known, .. } = begun;
        if !known && let Some(version) = log.put_receipt(&batch, entry.head).await? {
            log.discard(&entry).await?;
            return Ok(Appended::Duplicate { version });
        }
        let unit = entry.unit;
        let Some(entry) = log.announce(entry).await? else {
            let path = layout::receipt(&batch.id.key());
            let receipt: Option<Receipt> = log.store.get_json(&path).await?;
            return match already(receipt.as_ref(), &batch)? {
                Some(version) => Ok(Appended::Duplicate { version }),
                None => Err(Error::Corrupt { path, reason: "it is gone".to_owned() }),
            };
        };
        let adopted = entry.unit != unit;
        match ack {
            // A lane's batch whose turn it is not is taken back, so nobody may be told that it is safe before it is committed.
            Ack::Durable if entry.lane.is_none() => Ok(Appended::Durable),
            _ => log.commit(&entry, adopted, at).await,
        }
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
