//! The head of the log: all that an appender needs to know of it, found and followed without a listing.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::claims::Claims;
use crate::commit::Found;
use crate::entry::{CommittedBatch, Entry, Table};
use crate::error::{Error, Result};
use crate::layout;
use crate::store::Store;

/// How many of the latest commits' batches are remembered, so that a scan need not read them again.
const REMEMBERED: usize = 256;

/// How many entries are read at once where many are read.
const AT_ONCE: usize = 32;

/// The log as an appender sees it.
#[derive(Clone, Debug)]
pub struct Head {
    /// The newest version.
    pub version: u64,
    /// Its time.
    pub time: DateTime<Utc>,
    /// The offset after its last event.
    pub next_offset: u64,
    /// The version of the last `metaData` action.
    pub metadata_version: u64,
    /// The columns of the table.
    pub claims: Claims,
    /// Delta's identity of the table.
    pub table: Table,
    /// Where the lanes stand; read from the whole log, and so only once somebody asks.
    lanes: Option<BTreeMap<String, String>>,
    recent: VecDeque<(u64, Vec<CommittedBatch>)>,
}

impl Head {
    /// Finds the head: versions are dense and never go, so it is between the last power of two that is there and the
    /// first that is not. About 2·log2(versions) requests.
    ///
    /// # Errors
    /// [`Error::NoLog`] where there is no version 0; any failure of the store.
    pub async fn find(store: &Store) -> Result<Self> {
        let there = async |version| store.exists(&layout::commit(version)).await;
        if !there(0).await? {
            return Err(Error::NoLog { place: store.place().to_owned() });
        }
        let (mut low, mut high) = (0, 1);
        while there(high).await? {
            (low, high) = (high, high * 2);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if there(middle).await? { low = middle } else { high = middle }
        }
        Self::at(store, low).await
    }

    /// The head as it stood at a version.
    async fn at(store: &Store, version: u64) -> Result<Self> {
        let entry = read(store, version).await?;
        let metadata_version = entry.record.metadata_version;
        let described = if metadata_version == version { entry.clone() } else { read(store, metadata_version).await? };
        let table = table(store).await?;
        Ok(Self {
            version,
            time: entry.time,
            next_offset: entry.record.next_offset,
            metadata_version,
            claims: described.claims.unwrap_or_default(),
            table,
            lanes: None,
            recent: VecDeque::from([(version, entry.record.batches)]),
        })
    }

    /// Probes for the next versions and follows them; gives how many there were.
    ///
    /// # Errors
    /// Any failure of the store, and an entry that lakebed did not write.
    pub async fn follow(&mut self, store: &Store) -> Result<u64> {
        let from = self.version;
        while let Some(entry) = read_if_there(store, self.version + 1).await? {
            self.apply(self.version + 1, entry);
        }
        Ok(self.version - from)
    }

    /// Takes up the entry of the next version.
    pub fn apply(&mut self, version: u64, entry: Entry) {
        debug_assert_eq!(version, self.version + 1, "versions are dense");
        self.version = version;
        self.time = entry.time;
        self.next_offset = entry.record.next_offset;
        if let Some(claims) = entry.claims {
            self.metadata_version = version;
            self.claims = claims;
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.extend(entry.lanes);
        }
        self.recent.push_back((version, entry.record.batches));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Every batch that was committed after `since`.
    ///
    /// # Errors
    /// Any failure of the store: what is not remembered is read.
    pub async fn committed_since(&self, store: &Store, since: u64) -> Result<Found> {
        let remembered_from = self.recent.front().map_or(self.version + 1, |(version, _)| *version);
        let forgotten = (since + 1)..remembered_from.max(since + 1);
        let reads = futures::stream::iter(forgotten)
            .map(async |version| Ok::<_, Error>((version, read(store, version).await?)));
        let older: Vec<_> = reads.buffered(AT_ONCE).try_collect().await?;
        let older = older.into_iter().map(|(version, entry)| (version, entry.record.batches));
        let recent = self.recent.iter().filter(|(version, _)| *version > since).cloned();
        let lines =
            older.chain(recent).flat_map(|(version, batches)| batches.into_iter().map(move |batch| (version, batch)));
        Ok(lines.map(|(version, batch)| (batch.key(), (version, batch))).collect())
    }

    /// Where the lanes stand, read from the log the first time.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn lanes(&mut self, store: &Store) -> Result<&BTreeMap<String, String>> {
        if self.lanes.is_none() {
            let mut lanes = BTreeMap::new();
            for (_, entry) in entries(store, 0..self.version + 1).await? {
                lanes.extend(entry.lanes);
            }
            self.lanes = Some(lanes);
        }
        Ok(self.lanes.get_or_insert_default())
    }
}

/// The entries of a range of versions, in order.
///
/// # Errors
/// Any failure of the store; a version that is not there is [`Error::Corrupt`].
pub async fn entries(store: &Store, versions: std::ops::Range<u64>) -> Result<Vec<(u64, Entry)>> {
    let reads = futures::stream::iter(versions).map(async |version| Ok((version, read(store, version).await?)));
    reads.buffered(AT_ONCE).try_collect().await
}

/// One version's entry.
///
/// # Errors
/// [`Error::Corrupt`] where it is not there or not ours; any failure of the store.
pub async fn read(store: &Store, version: u64) -> Result<Entry> {
    let missing = || Error::Corrupt { path: layout::commit(version), reason: "it is gone".to_owned() };
    read_if_there(store, version).await?.ok_or_else(missing)
}

/// One version's entry, or `None` where the log has not come that far.
///
/// # Errors
/// Any failure of the store, and an entry that lakebed did not write.
pub async fn read_if_there(store: &Store, version: u64) -> Result<Option<Entry>> {
    let path = layout::commit(version);
    store.get(&path).await?.map(|bytes| Entry::decode(&path, &bytes)).transpose()
}

async fn table(store: &Store) -> Result<Table> {
    let path = layout::commit(0);
    let corrupt = |reason: &str| Error::Corrupt { path: path.clone(), reason: reason.to_owned() };
    let bytes = store.get(&path).await?.ok_or_else(|| corrupt("it is gone"))?;
    let lines = bytes.split(|byte| *byte == b'\n');
    let metadata = lines
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .find_map(|mut action| action.get_mut("metaData").map(serde_json::Value::take));
    let metadata = metadata.ok_or_else(|| corrupt("it has no metaData"))?;
    let id: Option<Uuid> = metadata["id"].as_str().and_then(|id| id.parse().ok());
    let created = metadata["createdTime"].as_i64().and_then(DateTime::from_timestamp_millis);
    Ok(Table { id: id.ok_or_else(|| corrupt("its table has no id"))?, created: created.unwrap_or_default() })
}
