//! The head of the log: all that an appender needs to know of it, found and followed without a listing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::batch::BatchKey;
use crate::checkpoint;
use crate::claims::Claims;
use crate::commit::Found;
use crate::entry::{CommittedBatch, Entry, PartitionBy, Table};
use crate::error::{Error, Result};
use crate::layout;
use crate::search::Search;
use crate::store::Store;

/// How many batches of the latest commits are remembered, so that a scan need not read them again; a few MB at most.
const REMEMBERED: usize = 8192;

/// So many new versions are read one by one; after them so many together, where so many are there.
const NEAR: u64 = 8;
const STRETCH: u64 = 64;

/// What a commit takes, in requests one after the other: some of its own, and four for each entry, of which sixteen are made at
/// once.
fn requests(entries: usize) -> u32 {
    8 + u32::try_from(entries / 4).unwrap_or(u32::MAX >> 1)
}

/// The average of what was noted lately: of everything, as long as that is little.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    value: Duration,
    noted: u32,
}

impl Average {
    /// How much counts at most.
    const LATEST: u32 = 16;

    /// Notes something that counts as much as so many.
    fn note(&mut self, value: Duration, weight: u32) {
        let known = self.noted.min(Self::LATEST - weight);
        self.value = (self.value * known + value * weight) / (known + weight);
        self.noted = known + weight;
    }
}

/// How many entries are read at once where many are read.
const AT_ONCE: usize = 32;

/// The log as an appender sees it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
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
    /// The batches of the latest versions, by version and by key.
    recent: VecDeque<(u64, Vec<BatchKey>)>,
    remembered: HashMap<BatchKey, (u64, CommittedBatch)>,
    /// Committed batches that were seen in the inbox: who committed them is cleaning up, or has died.
    sighted: HashSet<BatchKey>,
    /// Batches that were waiting at the last scan and are in no version up to that one: those that wait for their lane are
    /// not scanned for from the beginning again and again. And the entries that were not taken up then.
    absent: BTreeMap<BatchKey, u64>,
    /// What a request takes here.
    request: Average,
}

impl Head {
    /// Finds the head: versions are dense and never go, so it takes about 2·log2(versions since the last checkpoint) requests.
    ///
    /// # Errors
    /// [`Error::NoLog`] where there is no version 0; any failure of the store.
    pub(crate) async fn find(store: &Store) -> Result<Self> {
        let there = async |version| store.exists(&layout::commit(version)).await;
        if !there(0).await? {
            return Err(Error::NoLog { place: store.place().to_owned() });
        }
        // A checkpoint says from where on to look; it is a hint, and may be an old one.
        let hint = checkpoint::newest(store).await?.unwrap_or(0);
        let mut search = Search::from(if there(hint).await? { hint } else { 0 });
        while let Some(version) = search.next() {
            search.learn(there(version).await?);
        }
        Self::at(store, search.last()).await
    }

    /// The head as it stood at a version.
    async fn at(store: &Store, version: u64) -> Result<Self> {
        let entry = read(store, version).await?;
        let metadata_version = entry.record.metadata_version;
        let described = if metadata_version == version { entry.clone() } else { read(store, metadata_version).await? };
        let table = table(store).await?;
        let mut head = Self {
            version,
            time: entry.time,
            next_offset: entry.record.next_offset,
            metadata_version,
            claims: described.claims.unwrap_or_default(),
            table,
            lanes: None,
            recent: VecDeque::new(),
            remembered: HashMap::new(),
            sighted: HashSet::new(),
            absent: BTreeMap::new(),
            request: Average::default(),
        };
        head.remember(version, entry.record.batches);
        Ok(head)
    }

    /// Probes for the next versions and follows them; gives how many there were.
    ///
    /// # Errors
    /// Any failure of the store, and an entry that lakebed did not write.
    pub(crate) async fn follow(&mut self, store: &Store) -> Result<u64> {
        follow(store, self.version + 1, |version, entry| self.apply(version, entry)).await
    }

    /// Takes up the entry of the next version.
    pub(crate) fn apply(&mut self, version: u64, entry: Entry) {
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
        self.remember(version, entry.record.batches);
    }

    fn remember(&mut self, version: u64, batches: Vec<CommittedBatch>) {
        let units: HashMap<Uuid, u32> = batches.iter().fold(HashMap::new(), |mut units, batch| {
            *units.entry(batch.unit).or_default() += 1;
            units
        });
        let mut keys = Vec::with_capacity(batches.len());
        for batch in batches {
            let key = batch.key();
            // The entry of several batches is known by its unit.
            let of_unit = (units.get(&batch.unit) > Some(&1)).then(|| BatchKey::of_unit(batch.unit));
            for key in of_unit.filter(|key| !self.remembered.contains_key(key)).into_iter().chain([key]) {
                self.remembered.insert(key.clone(), (version, batch.clone()));
                keys.push(key);
            }
        }
        self.recent.push_back((version, keys));
        while self.recent.len() > 1 && self.remembered.len().max(self.recent.len()) > REMEMBERED {
            for key in self.recent.pop_front().into_iter().flat_map(|(_, keys)| keys) {
                self.remembered.remove(&key);
                self.sighted.remove(&key);
            }
        }
    }

    /// The versions of a unit's batches and their lines there, if all of them are of the latest.
    pub(crate) fn remembered_of(&self, batches: &BTreeSet<BatchKey>) -> Option<Found> {
        batches.iter().map(|key| Some((key.clone(), self.remembered(key)?.clone()))).collect()
    }

    /// The version of a batch and its line there, if it is of the latest; or of the first of a unit.
    pub(crate) fn remembered(&self, key: &BatchKey) -> Option<&(u64, CommittedBatch)> {
        self.remembered.get(key)
    }

    /// Whether a listed entry is for a committer to take up: not if its batch was committed just now and its committer is
    /// about to delete it; but at the second sighting it is, for then that committer may be dead.
    pub(crate) fn should_take_up(&mut self, key: &BatchKey) -> bool {
        !self.remembered.contains_key(key) || !self.sighted.insert(key.clone())
    }

    /// How long a commit of so many entries takes here, by what the latest requests took.
    pub(crate) fn pace(&self, entries: usize) -> Duration {
        self.request.value.saturating_mul(requests(entries))
    }

    /// Takes a request's time into the account.
    pub(crate) fn note_request(&mut self, took: Duration) {
        self.request.note(took, 1);
    }

    /// Takes a commit's time into the account.
    pub(crate) fn note_commit(&mut self, entries: usize, took: Duration) {
        self.request.note(took / requests(entries), Average::LATEST / 2);
    }

    /// The time of the next version: the clock's, but always later than the last.
    pub(crate) fn next_time(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        at.max(self.time + TimeDelta::milliseconds(1))
    }

    /// Whether an entry in the inbox is no reason to leave a commit to others: it is committed, or it was there at the last
    /// commit and not taken up.
    pub(crate) fn passes_over(&self, key: &BatchKey) -> bool {
        self.remembered.contains_key(key) || self.absent.contains_key(key)
    }

    /// Notes entries that were held at the last commit and not taken up.
    pub(crate) fn note_left(&mut self, entries: impl Iterator<Item = BatchKey>) {
        self.absent.extend(entries.map(|key| (key, self.version)));
    }

    /// Those of some batches that were committed, each after the version that it comes with.
    ///
    /// # Errors
    /// Any failure of the store: what is not remembered is read.
    pub(crate) async fn committed_since(&mut self, store: &Store, batches: &BTreeMap<BatchKey, u64>) -> Result<Found> {
        let since = |(key, since): (&BatchKey, &u64)| (*since).max(self.absent.get(key).copied().unwrap_or(0));
        let since = batches.iter().map(since).min().unwrap_or(self.version);
        let remembered_from = self.recent.front().map_or(self.version + 1, |(version, _)| *version);
        let forgotten = (since + 1)..remembered_from.max(since + 1);
        let remembered = batches.keys().filter_map(|key| Some((key.clone(), self.remembered.get(key)?.clone())));
        let mut found: Found = remembered.collect();
        let mut older = std::pin::pin!(scan(store, forgotten));
        while let Some((version, entry)) = older.try_next().await? {
            let lines = entry.record.batches.into_iter().map(|batch| (batch.key(), (version, batch)));
            found.extend(lines.filter(|(key, _)| batches.contains_key(key)));
        }
        let absent = batches.keys().filter(|key| !found.contains_key(key));
        self.absent = absent.map(|key| (key.clone(), self.version)).collect();
        Ok(found)
    }

    /// Where the lanes stand, read from the log the first time.
    ///
    /// # Errors
    /// Any failure of the store.
    pub(crate) async fn lanes(&mut self, store: &Store) -> Result<&BTreeMap<String, String>> {
        if self.lanes.is_none() {
            let checkpoint = checkpoint::newest_readable(store).await?;
            let (mut lanes, from) = match checkpoint.filter(|checkpoint| checkpoint.version <= self.version) {
                Some(checkpoint) => (checkpoint.lanes, checkpoint.version + 1),
                None => (BTreeMap::new(), 0),
            };
            let mut entries = std::pin::pin!(scan(store, from..self.version + 1));
            while let Some((_, entry)) = entries.try_next().await? {
                lanes.extend(entry.lanes);
            }
            self.lanes = Some(lanes);
        }
        Ok(self.lanes.get_or_insert_default())
    }
}

/// Gives every entry from the version `first` on to `take`, as far as the log has come; gives how many there were.
///
/// # Errors
/// Any failure of the store, and an entry that lakebed did not write.
pub(crate) async fn follow(store: &Store, first: u64, mut take: impl FnMut(u64, Entry)) -> Result<u64> {
    let mut next = first;
    while let Some(entry) = read_if_there(store, next).await? {
        take(next, entry);
        next += 1;
        // One probe is enough for the ordinary case, that little or nothing is new; who was away for long catches up in
        // stretches.
        while next - first >= NEAR && store.exists(&layout::commit(next + STRETCH)).await? {
            for (version, entry) in entries(store, next..next + STRETCH).await? {
                take(version, entry);
            }
            next += STRETCH;
        }
    }
    Ok(next - first)
}

/// The entries of a range of versions, in order, many read at once; a version that is not there is [`Error::Corrupt`].
fn scan(store: &Store, versions: Range<u64>) -> impl Stream<Item = Result<(u64, Entry)>> + '_ {
    futures::stream::iter(versions).map(async |version| Ok((version, read(store, version).await?))).buffered(AT_ONCE)
}

/// The entries of a range of versions, in order.
///
/// # Errors
/// Any failure of the store; a version that is not there is [`Error::Corrupt`].
pub(crate) async fn entries(store: &Store, versions: Range<u64>) -> Result<Vec<(u64, Entry)>> {
    scan(store, versions).try_collect().await
}

/// One version's entry.
///
/// # Errors
/// [`Error::Corrupt`] where it is not there or not ours; any failure of the store.
pub(crate) async fn read(store: &Store, version: u64) -> Result<Entry> {
    let missing = || Error::Corrupt { path: layout::commit(version), reason: "it is gone".to_owned() };
    read_if_there(store, version).await?.ok_or_else(missing)
}

/// One version's entry, or `None` where the log has not come that far.
///
/// # Errors
/// Any failure of the store, and an entry that lakebed did not write.
pub(crate) async fn read_if_there(store: &Store, version: u64) -> Result<Option<Entry>> {
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
    let partition_by = match metadata["partitionColumns"].as_array().is_some_and(Vec::is_empty) {
        true => PartitionBy::Nothing,
        false => PartitionBy::EventDate,
    };
    let id = id.ok_or_else(|| corrupt("its table has no id"))?;
    Ok(Table { id, created: created.unwrap_or_default(), partition_by })
}
