//! Appending: a batch is staged, which makes it durable; then it is committed, with whatever else waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use tokio::time::sleep;
use uuid::Uuid;

use crate::batch::{Batch, BatchKey};
use crate::claims::{self, Claim};
use crate::columns::column_name;
use crate::encoding::{self, Claimed};
use crate::error::{Error, Result};
use crate::inbox::{AT_ONCE, ENTRY_FORMAT, InboxEntry, Place, Receipt, StagedBatch};
use crate::layout;
use crate::log::{ColumnLimit, Log};
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
        let known = match self.receipt(&batch).await? {
            Some(receipt) if receipt.version > Some(self.seen()) => Some(self.believed(receipt).await?),
            known => known,
        };
        let duplicate = known.as_ref().map(|receipt| already(receipt, &batch)).transpose()?.flatten();
        let columns = if duplicate.is_none() { self.claim(&batch).await? } else { Vec::new() };
        Ok(Begun { log: self.clone(), claimed: [Claimed { batch, columns }], at, known, duplicate })
    }

    /// A receipt that names a version which this process has not seen. If nobody has, the version is lost, as by a power cut, and the
    /// batch with it: then it is to come again.
    async fn believed(&self, receipt: Receipt) -> Result<Receipt> {
        let mut head = self.head.lock().await;
        self.follow(&mut head).await?;
        if receipt.version <= Some(head.version) {
            return Ok(receipt);
        }
        tracing::warn!("batch '{}' was in a version that is gone: it is appended again", receipt.id);
        let receipt = Receipt { version: None, unit: None, head: receipt.head.min(head.version), ..receipt };
        self.store.put_json(&layout::receipt(&receipt.id.key()), &receipt).await?;
        Ok(receipt)
    }

    /// A batch's receipt, if it has one.
    pub(crate) async fn receipt(&self, batch: &Batch) -> Result<Option<Receipt>> {
        self.store.get_json(&layout::receipt(&batch.id.key())).await
    }

    /// Claims the columns of a batch.
    pub(crate) async fn claim(&self, batch: &Batch) -> Result<Vec<Option<Claim>>> {
        let mut columns = Vec::with_capacity(batch.events.columns.len());
        let mut known = self.claims.lock().await.clone();
        let ColumnLimit { most, pinned, is_told } = &*self.limit;
        for column in &batch.events.columns {
            let is_new = known.find(&column.path, column.kind).is_none();
            if is_new && known.iter().count() >= *most && !pinned.contains(&column_name(&column.path)) {
                if !is_told.swap(true, Ordering::Relaxed) {
                    let name = column_name(&column.path);
                    tracing::warn!(
                        "the log has {most} columns, as many as it may: '{name}' and other new ones stay in _doc"
                    );
                }
                columns.push(None);
                continue;
            }
            columns.push(Some(claims::claim(&self.store, &mut known, &column.path, column.kind).await?));
        }
        self.claims.lock().await.merge(&known);
        Ok(columns)
    }

    /// Writes what the inbox entry will name: data files and quarantine.
    pub(crate) async fn write(&self, members: &[Claimed], at: DateTime<Utc>) -> Result<InboxEntry> {
        // Any version will do: an older one costs the committer a longer scan, and what was committed before it is found by
        // the receipt, which is marked before the inbox entry goes and read again after the inbox is listed. So nobody waits
        // here for a task that commits.
        if let Ok(mut head) = self.head.try_lock() {
            self.follow(&mut head).await?;
        }
        let head = self.seen.load(Ordering::Acquire);
        let encoded = encoding::encode_off_thread(members.to_vec(), self.partition_by, at).await?;
        let puts = encoded.into_iter().map(async |file| {
            self.store.put(&layout::in_table(&file.staged.path), file.parquet).await?;
            Ok::<_, Error>(file.staged)
        });
        let puts = puts.collect::<Vec<_>>();
        let files: Vec<_> = futures::stream::iter(puts).buffered(AT_ONCE).try_collect().await?;
        let mut batches = Vec::with_capacity(members.len());
        let refused: Vec<_> = members.iter().map(|member| quarantine::put(&self.store, &member.batch, at)).collect();
        let quarantine: Vec<_> = futures::stream::iter(refused).buffered(AT_ONCE).try_collect().await?;
        for (Claimed { batch, .. }, quarantine) in members.iter().zip(quarantine) {
            batches.push(StagedBatch {
                id: batch.id.clone(),
                content: batch.content,
                source: batch.source.clone(),
                rows: batch.events.len() as u64,
                quarantined: batch.quarantine.len() as u64,
                quarantine,
            });
        }
        let mut columns: Vec<Claim> =
            members.iter().flat_map(|member| member.columns.iter().flatten().cloned()).collect();
        columns.sort_by_key(|claim| claim.id);
        columns.dedup_by_key(|claim| claim.id);
        let lane = members.iter().find_map(|member| member.batch.lane.clone());
        Ok(InboxEntry {
            format: ENTRY_FORMAT,
            unit: Uuid::now_v7(),
            head,
            batches,
            files,
            columns,
            lane,
            staged_at: at,
        })
    }

    /// Puts the batch's receipt, if there is none, and gives the one that is there then. `unit` is the one of several batches in
    /// which it is to come.
    pub(crate) async fn put_receipt(&self, batch: &Batch, head: u64, unit: Option<Uuid>) -> Result<Receipt> {
        let receipt = Receipt { id: batch.id.clone(), content: batch.content, head, version: None, unit };
        self.store.put_or_read(&layout::receipt(&batch.id.key()), receipt).await
    }

    /// Where a batch stands by its receipt. One that is to come in a unit which nobody has announced does not come in it any more:
    /// its place in the inbox is made void, so that the batch may be committed alone.
    async fn stand(&self, batch: &Batch, mut receipt: Receipt) -> Result<Stand> {
        loop {
            if let Some(version) = already(&receipt, batch)? {
                return Ok(Stand::InLog(version));
            }
            let Some(unit) = receipt.unit else { return Ok(Stand::Alone) };
            let key = BatchKey::of_unit(unit);
            match self.entry(&key).await? {
                Place::Void => return Ok(Stand::Alone),
                Place::Entry(entry) => {
                    if self.missing_file(&entry).await?.is_none() {
                        return Ok(Stand::InUnit(entry));
                    }
                    // Nobody can commit it, and its batches come one by one.
                    self.store.put(&layout::inbox_entry(&key), Vec::new()).await?;
                    return Ok(Stand::Alone);
                }
                Place::Empty => self.store.put_if_absent(&layout::inbox_entry(&key), Vec::new()).await?,
            };
            // Read after the inbox: it may have been announced, committed and cleaned up meanwhile.
            let path = layout::receipt(&batch.id.key());
            receipt = self.receipt(batch).await?.ok_or(Error::Corrupt { path, reason: "it is gone".to_owned() })?;
        }
    }

    /// Puts the inbox entry, or finds the one of an earlier staging of the same batch: that one is to be committed, for
    /// only its head is old enough for the scan to find what became of it. `None` where a batch alone is in the log by now, or
    /// a unit is void: then what it wrote is deleted.
    pub(crate) async fn announce(&self, entry: InboxEntry) -> Result<Option<InboxEntry>> {
        let key = entry.key();
        loop {
            if self.store.put_json_if_absent(&layout::inbox_entry(&key), &entry).await? == Put::Created {
                return Ok(Some(entry));
            }
            let place = self.entry(&key).await?;
            if matches!(&place, Place::Entry(first) if first.unit == entry.unit) {
                return Ok(Some(entry));
            }
            // Read after the inbox. Our put may have been done although its answer was lost, and the client library has put
            // it again: then somebody may have committed ours, marked the receipt, cleaned up, and made room for another's.
            let batch = entry.batches.first().map_or_else(|| key.clone(), StagedBatch::key);
            let receipt: Option<Receipt> = self.store.get_json(&layout::receipt(&batch)).await?;
            match (receipt.filter(|receipt| receipt.version.is_some()), place) {
                (Some(receipt), _) if receipt.unit == Some(entry.unit) => return Ok(Some(entry)),
                (Some(_), _) | (None, Place::Void) => {
                    self.discard(&entry).await?;
                    return Ok(None);
                }
                (None, Place::Entry(first)) => {
                    if self.missing_file(&first).await?.is_none() {
                        self.discard(&entry).await?;
                        return Ok(Some(*first));
                    }
                    // Nobody can commit that one, so this one takes its place. If another sender's has taken it meanwhile and is
                    // committed, that came after this one's head, and the scan finds it.
                    self.store.put_json(&layout::inbox_entry(&key), &entry).await?;
                    return Ok(Some(entry));
                }
                // Taken back, because its lane stood elsewhere; or on its way.
                (None, Place::Empty) => sleep(ON_ITS_WAY).await,
            }
        }
    }

    /// Makes sure that a vacuum has left what is announced by now, where its staging began so long ago that it need not have.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a file is gone; any failure of the store.
    pub(crate) async fn look_for_files_after(&self, since: SystemTime, entry: &InboxEntry) -> Result<()> {
        if is_recent(since) { Ok(()) } else { self.look_for_files(entry).await }
    }

    /// Deletes what a staging wrote that nobody will name.
    pub(crate) async fn discard(&self, entry: &InboxEntry) -> Result<()> {
        let quarantine = entry.batches.iter().filter_map(|batch| batch.quarantine.as_deref());
        let paths = entry.files.iter().map(|file| file.path.as_str()).chain(quarantine);
        for path in paths {
            self.store.delete(&layout::in_table(path)).await?;
        }
        Ok(())
    }
}

/// Where a batch stands, by its receipt.
enum Stand {
    /// This version has it.
    InLog(u64),
    /// This unit has it, which waits to be committed.
    InUnit(Box<InboxEntry>),
    /// It is to come alone.
    Alone,
}

/// An append that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    log: Log,
    claimed: [Claimed; 1],
    at: DateTime<Utc>,
    /// The batch's receipt, if it was there.
    known: Option<Receipt>,
    /// The version that has the batch already.
    duplicate: Option<u64>,
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
            None => Written::Entry(Box::new(self.log.write(&self.claimed, self.at).await?)),
        };
        Ok(Staged { begun: self, written, since })
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
        while !is_recent(since) {
            begun.log.discard(&entry).await?;
            since = SystemTime::now();
            entry = begun.log.write(&begun.claimed, begun.at).await?;
        }
        let Begun { log, claimed: [Claimed { batch, .. }], at, known, .. } = begun;
        let receipt = match known {
            Some(known) => known,
            None => log.put_receipt(&batch, entry.head, None).await?,
        };
        let unit = entry.unit;
        let entry = match log.stand(&batch, receipt).await? {
            Stand::Alone => log.announce(entry).await?,
            Stand::InUnit(of_several) => {
                log.discard(&entry).await?;
                Some(*of_several)
            }
            Stand::InLog(version) => {
                log.discard(&entry).await?;
                return Ok(Appended::Duplicate { version });
            }
        };
        let Some(entry) = entry else {
            let path = layout::receipt(&batch.id.key());
            let receipt = log.receipt(&batch).await?;
            return match receipt.map(|receipt| already(&receipt, &batch)).transpose()?.flatten() {
                Some(version) => Ok(Appended::Duplicate { version }),
                None => Err(Error::Corrupt { path, reason: "it is gone".to_owned() }),
            };
        };
        let adopted = entry.unit != unit;
        match ack {
            // A lane's batch whose turn it is not is taken back, so nobody may be told that it is safe before it is committed.
            Ack::Durable if entry.lane.is_none() => {
                log.look_for_files_after(since, &entry).await?;
                Ok(Appended::Durable)
            }
            _ => log.commit(&entry, adopted, at).await,
        }
    }
}

/// Whether what is staged since then may be announced.
pub(crate) fn is_recent(since: SystemTime) -> bool {
    since.elapsed().is_ok_and(|took| took < STAGING)
}

/// The version of a batch that a receipt says is in the log.
fn already(receipt: &Receipt, batch: &Batch) -> Result<Option<u64>> {
    match receipt.content == batch.content {
        true => Ok(receipt.version),
        false => Err(Error::BatchConflict { id: batch.id.clone(), theirs: receipt.content, ours: batch.content }),
    }
}
