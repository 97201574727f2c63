//! The control objects of an append: the receipt that makes a batch idempotent for ever, and the inbox entry that makes
//! it durable before it is committed; and reading what waits.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::batch::{BatchId, BatchKey, ContentHash, LaneStep};
use crate::claims::Claim;
use crate::error::{Error, Result};
use crate::files::StagedFile;
use crate::layout;
use crate::log::Log;

/// The format of [`InboxEntry`] that this build writes and reads.
pub const ENTRY_FORMAT: u32 = 1;

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
    /// The staging that was committed, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Uuid>,
}

/// A staged batch: everything that a committer, whoever it is, needs to put it into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// [`ENTRY_FORMAT`]; an entry of a later format is left for those who can read it.
    pub format: u32,
    /// Names this staging; another staging of the same batch has another one.
    pub unit: Uuid,
    /// The log's version when it was staged: the batch is in no version up to there, unless its receipt says so.
    pub head: u64,
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
    /// The data files.
    pub files: Vec<StagedFile>,
    /// The columns that the files use.
    pub columns: Vec<Claim>,
    /// The stretch of an ordered source that it is.
    pub lane: Option<LaneStep>,
    /// When it was staged.
    pub staged_at: DateTime<Utc>,
}

impl InboxEntry {
    /// The key of the batch's receipt and of this entry.
    pub fn key(&self) -> BatchKey {
        self.id.key()
    }
}

/// An entry as the inbox lists it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) key: BatchKey,
    /// By the store's clock.
    pub(crate) put_at: DateTime<Utc>,
}

/// An inbox entry with its batch's receipt, read in this order.
pub(crate) type Waiting = (InboxEntry, Option<Receipt>);

impl Log {
    /// What is in the inbox, in the order in which the store got it.
    pub(crate) async fn inbox(&self) -> Result<Vec<Listed>> {
        let mut objects = self.store.list(&layout::inbox()).await?;
        objects.sort_by(|a, b| (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location)));
        let listed = |object: &ObjectMeta| {
            let key = BatchKey::new(object.location.filename()?.strip_suffix(".json")?);
            Some(Listed { key, put_at: object.last_modified })
        };
        Ok(objects.iter().filter_map(listed).collect())
    }

    /// Reads the listed entries, and after each its receipt; and says what cannot be committed by this build.
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
        let receipts = futures::stream::iter(entries).map(async |(key, entry)| {
            let receipt: Result<Option<Receipt>> = self.store.get_json(&layout::receipt(&key)).await;
            (entry, receipt)
        });
        let mut waiting = Vec::new();
        for (entry, receipt) in receipts.buffered(AT_ONCE).collect::<Vec<_>>().await {
            let is_anothers = own.is_none_or(|own| own.unit != entry.unit);
            match receipt {
                Ok(receipt) => waiting.push((entry, receipt)),
                // One batch's broken receipt is not the others' failure.
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
            None => self.entry(&listed.key).await?,
        };
        if let Some(entry) = &entry
            && listed.put_at - entry.staged_at > LONG
        {
            self.look_for_files(entry).await?;
        }
        Ok(entry)
    }

    /// An inbox entry, if it is there.
    pub(crate) async fn entry(&self, key: &BatchKey) -> Result<Option<InboxEntry>> {
        let path = layout::inbox_entry(key);
        let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
        let Some(entry) = self.store.get_json::<serde_json::Value>(&path).await? else { return Ok(None) };
        if entry["format"] != ENTRY_FORMAT {
            return Err(corrupt(format!("its format is {}, this lakebed knows {ENTRY_FORMAT}", entry["format"])));
        }
        serde_json::from_value(entry).map(Some).map_err(|error| corrupt(error.to_string()))
    }

    /// Makes sure that an entry's data files are there.
    pub(crate) async fn look_for_files(&self, entry: &InboxEntry) -> Result<()> {
        for file in &entry.files {
            if !self.store.exists(&layout::in_table(&file.path)).await? {
                let reason = format!("its data file '{}' is gone", file.path);
                return Err(Error::Corrupt { path: layout::inbox_entry(&entry.key()), reason });
            }
        }
        Ok(())
    }
}
