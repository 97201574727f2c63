//! The control objects of an append: the receipt that makes a batch idempotent for ever, and the inbox entry that makes
//! it durable before it is committed, alone or with the others of its unit; and reading what waits.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::batch::{BatchId, BatchKey, ContentHash, LaneStep};
use crate::claims::Claim;
use crate::error::{Error, Result};
use crate::files::StagedFile;
use crate::layout;
use crate::log::Log;

/// The format of [`InboxEntry`] that this build writes. It also reads format 1, in which an entry was its only batch.
pub const ENTRY_FORMAT: u32 = 2;

/// How many of a commit's objects are read or written at once.
pub(crate) const AT_ONCE: usize = 16;

/// Between a staging and its announcement a vacuum does not know of its files; one that took this long, because its machine
/// slept for example, has them looked at before it is committed.
const LONG: TimeDelta = TimeDelta::minutes(30);

/// Says that a batch was sent, with which content, and once it is committed, at which version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The sender's id.
    pub id: BatchId,
    /// Hash of what was sent.
    pub content: ContentHash,
    /// The log's version before anybody could commit it: whatever was lost between its senders, its commit is after that.
    #[serde(default)]
    pub head: u64,
    /// The version that has it; none until its commit is known.
    pub version: Option<u64>,
    /// The staging that was committed, once it is. Before that, the unit in which the batch is to come, with others: nobody else
    /// may commit it until that unit is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Uuid>,
}

/// A staged unit: everything that a committer, whoever it is, needs to put its batches into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// [`ENTRY_FORMAT`]; an entry of a later format is left for those who can read it.
    pub format: u32,
    /// Names this staging; another staging of the same batch has another one.
    pub unit: Uuid,
    /// The log's version when it was staged: the batches are in no version up to there, unless their receipts say so.
    pub head: u64,
    /// The batches, in the order of their offsets. They come into the log together or not at all.
    pub batches: Vec<StagedBatch>,
    /// The data files, which several batches share.
    pub files: Vec<StagedFile>,
    /// The columns that the files use.
    pub columns: Vec<Claim>,
    /// The stretch of an ordered source that it is: of one batch alone.
    pub lane: Option<LaneStep>,
    /// When it was staged.
    pub staged_at: DateTime<Utc>,
}

/// A batch of a staged unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedBatch {
    /// The sender's id.
    pub id: BatchId,
    /// Hash of what was sent.
    pub content: ContentHash,
    /// Where it came in.
    pub source: String,
    /// Events for the log.
    pub rows: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// The quarantine file, relative to the table.
    pub quarantine: Option<String>,
}

impl StagedBatch {
    /// The key of the batch's receipt.
    pub fn key(&self) -> BatchKey {
        self.id.key()
    }
}

impl InboxEntry {
    /// The key of this entry: that of its only batch, whose next staging finds it there; or that of its unit, which the receipts of
    /// its batches name.
    pub fn key(&self) -> BatchKey {
        match self.batches.as_slice() {
            [alone] => alone.key(),
            _ => BatchKey::of_unit(self.unit),
        }
    }

    /// The unit's batches by name, for people.
    pub(crate) fn name(&self) -> String {
        match self.batches.as_slice() {
            [alone] => format!("batch '{}'", alone.id),
            several => format!("the unit {} of {} batches", self.unit.simple(), several.len()),
        }
    }

    /// Reads an entry's JSON; what is wrong with it is told in a sentence.
    ///
    /// # Errors
    /// An entry of another format, or none.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut entry: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match entry["format"].as_u64() {
            Some(2) => {}
            Some(1) => {
                let alone: StagedBatch = serde_json::from_value(entry.clone()).map_err(|error| error.to_string())?;
                entry["batches"] = json!([alone]);
            }
            _ => {
                return Err(format!("its format is {}, this lakebed knows up to {ENTRY_FORMAT}", entry["format"]));
            }
        }
        let entry: Self = serde_json::from_value(entry).map_err(|error| error.to_string())?;
        if entry.batches.is_empty() { Err("it has no batch".to_owned()) } else { Ok(entry) }
    }
}

/// The key of an object in the inbox.
pub(crate) fn key_of(object: &ObjectMeta) -> Option<BatchKey> {
    Some(BatchKey::new(object.location.filename()?.strip_suffix(".json")?))
}

/// Whether an object says that a unit is void.
pub(crate) fn is_void(object: &ObjectMeta) -> bool {
    let is_in_inbox = layout::kind_of(&object.location) == layout::INBOX_ENTRY;
    is_in_inbox && object.size == 0 && key_of(object).is_some_and(|key| key.is_of_unit())
}

/// What is at the key of a unit or a batch in the inbox.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Nothing.
    Empty,
    /// The entry.
    Entry(Box<InboxEntry>),
    /// An object without content: the unit of that key will never be there.
    Void,
}

/// An entry as the inbox lists it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) key: BatchKey,
    /// By the store's clock.
    pub(crate) put_at: DateTime<Utc>,
}

/// An inbox entry with the receipts of its batches, read in this order.
pub(crate) type Waiting = (InboxEntry, Vec<Option<Receipt>>);

impl Log {
    /// What is in the inbox, in the order in which the store got it.
    pub(crate) async fn inbox(&self) -> Result<Vec<Listed>> {
        let mut objects = self.store.list(&layout::inbox()).await?;
        objects.sort_by(|a, b| (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location)));
        let listed = |object: &ObjectMeta| {
            let key = key_of(object)?;
            // What is void waits for nothing.
            (!is_void(object)).then_some(Listed { key, put_at: object.last_modified })
        };
        Ok(objects.iter().filter_map(listed).collect())
    }

    /// Reads the listed entries, and after them the receipts of their batches; and says what cannot be committed by this build.
    ///
    /// `own` is among them even where a listing does not show it yet. Beside it, what the store does not give at this moment
    /// is another commit's: nobody fails for others' sake.
    pub(crate) async fn read_waiting(
        &self,
        listed: Vec<Listed>,
        own: Option<&InboxEntry>,
    ) -> Result<(Vec<Waiting>, Vec<String>)> {
        // Collected, here and below, so that no closure over borrows is held across an await: appends are spawned.
        let own_key = own.map(InboxEntry::key);
        let is_own = |key: &BatchKey| own_key.as_ref() == Some(key);
        let reads = listed.into_iter();
        let reads =
            reads.map(async |listed| (is_own(&listed.key), self.read_entry(&listed, own).await)).collect::<Vec<_>>();
        let mut entries = BTreeMap::new();
        let mut left = Vec::new();
        for (is_own, entry) in futures::stream::iter(reads).buffered(AT_ONCE).collect::<Vec<_>>().await {
            match entry {
                Ok(entry) => entries.extend(entry.map(|entry| (entry.key(), entry))),
                Err(Error::Corrupt { path, reason }) if !is_own => {
                    left.push(format!("'{path}' is left alone: {reason}"))
                }
                Err(error) if own.is_some() && !is_own && error.may_pass() => {}
                Err(error) => return Err(error),
            }
        }
        entries.extend(own.map(|own| (own.key(), own.clone())));
        let batches = entries.values().flat_map(|entry| entry.batches.iter().map(StagedBatch::key));
        let reads = batches.map(async |key| self.store.get_json(&layout::receipt(&key)).await).collect::<Vec<_>>();
        let receipts: Vec<Result<Option<Receipt>>> = futures::stream::iter(reads).buffered(AT_ONCE).collect().await;
        let mut receipts = receipts.into_iter();
        let mut waiting = Vec::new();
        for entry in entries.into_values() {
            let is_anothers = own.is_none_or(|own| own.unit != entry.unit);
            let of_it: Vec<_> = receipts.by_ref().take(entry.batches.len()).collect();
            match of_it.into_iter().collect::<Result<Vec<_>>>() {
                Ok(receipts) => waiting.push((entry, receipts)),
                // One entry's broken receipt is not the others' failure.
                Err(Error::Corrupt { path, reason }) if is_anothers => {
                    left.push(format!("'{path}' is left alone: {reason}"));
                }
                Err(error) if own.is_some() && is_anothers && error.may_pass() => {}
                Err(error) => return Err(error),
            }
        }
        for sentence in &left {
            tracing::warn!("{sentence}");
        }
        // In the order staged, so that nobody's batch is overtaken for ever.
        waiting.sort_by_key(|(entry, _)| (entry.staged_at, entry.unit));
        Ok((waiting, left))
    }

    /// A listed entry that can be committed; one whose staging took long is [`Error::Corrupt`] if its files are gone.
    async fn read_entry(&self, listed: &Listed, own: Option<&InboxEntry>) -> Result<Option<InboxEntry>> {
        let entry = match own.filter(|own| own.key() == listed.key) {
            Some(own) => Some(own.clone()),
            None => match self.entry(&listed.key).await? {
                Place::Entry(entry) => Some(*entry),
                Place::Empty | Place::Void => None,
            },
        };
        if let Some(entry) = &entry
            && listed.put_at - entry.staged_at > LONG
        {
            self.look_for_files(entry).await?;
        }
        Ok(entry)
    }

    /// What is at a key of the inbox.
    pub(crate) async fn entry(&self, key: &BatchKey) -> Result<Place> {
        let path = layout::inbox_entry(key);
        match self.store.get(&path).await? {
            None => Ok(Place::Empty),
            Some(bytes) if bytes.is_empty() && key.is_of_unit() => Ok(Place::Void),
            Some(bytes) => match InboxEntry::decode(&bytes) {
                Ok(entry) => Ok(Place::Entry(Box::new(entry))),
                Err(reason) => Err(Error::Corrupt { path, reason }),
            },
        }
    }

    /// Makes sure that an entry's data files are there.
    pub(crate) async fn look_for_files(&self, entry: &InboxEntry) -> Result<()> {
        match self.missing_file(entry).await? {
            None => Ok(()),
            Some(file) => {
                let reason = format!("its data file '{file}' is gone");
                Err(Error::Corrupt { path: layout::inbox_entry(&entry.key()), reason })
            }
        }
    }

    /// The first of the data files that an entry names and that are not there.
    pub(crate) async fn missing_file<'e>(&self, entry: &'e InboxEntry) -> Result<Option<&'e str>> {
        for file in &entry.files {
            if !self.store.exists(&layout::in_table(&file.path)).await? {
                return Ok(Some(&file.path));
            }
        }
        Ok(None)
    }
}
