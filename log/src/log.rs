//! The log: opened, followed, read by version.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep;
use uuid::Uuid;

use crate::batch::BatchKey;
use crate::claims::Claims;
use crate::entry::{CommitRecord, Entry, PartitionBy, Table};
use crate::error::{Error, Result};
use crate::head::Head;
use crate::history::{History, Snapshot};
use crate::layout;
use crate::store::{ON_ITS_WAY, Store};

/// The lake format that this build writes, and the newest that it reads.
pub const LAKE_FORMAT: u32 = 1;

/// What a lake says about itself in `lake.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeIdentity {
    /// The format of its objects.
    pub format: u32,
    /// The project that it belongs to.
    pub project: String,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// One lake's log, open for appending and reading. Cheap to share: clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) store: Store,
    /// Held while committing, so that one task commits for all tasks of this process.
    pub(crate) head: Arc<Mutex<Head>>,
    /// What the head's table says, which never changes: nobody waits for the head to know it.
    pub(crate) partition_by: PartitionBy,
    /// Claims that this process has met, committed or not.
    pub(crate) claims: Arc<Mutex<Claims>>,
    /// The newest version that this process has seen, for those who cannot wait for the head.
    pub(crate) seen: Arc<AtomicU64>,
    /// The inbox entries of what tasks of this process wait for.
    pub(crate) announced: Arc<std::sync::Mutex<BTreeSet<BatchKey>>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) limit: Arc<ColumnLimit>,
}

/// Up to how many columns batches may invent new ones.
#[derive(Debug)]
pub struct ColumnLimit {
    /// The most that the log gets by that. A value whose column would be one more stays in `_doc` alone.
    pub(crate) most: usize,
    /// The names of those that come all the same.
    pub(crate) pinned: BTreeSet<String>,
    /// Whether it was said that it is reached.
    pub(crate) is_told: AtomicBool,
}

impl ColumnLimit {
    /// So many columns, and the pinned ones.
    pub fn new(most: usize, pinned: impl IntoIterator<Item = String>) -> Self {
        Self { most, pinned: pinned.into_iter().collect(), is_told: AtomicBool::new(false) }
    }
}

impl Default for ColumnLimit {
    /// As many as events have.
    fn default() -> Self {
        Self::new(usize::MAX, [])
    }
}

impl Log {
    /// Opens a project's lake, or makes it, partitioned by the day of events.
    ///
    /// # Errors
    /// [`Error::OtherProject`], [`Error::NewerFormat`], and any failure of the store.
    pub async fn open_or_create(store: Store, project: &str, at: DateTime<Utc>) -> Result<Self> {
        Self::open_or_create_by(store, project, PartitionBy::EventDate, at).await
    }

    /// The same, where one that is made is partitioned by this. One that is there stays as it was made.
    ///
    /// # Errors
    /// As [`Self::open_or_create`].
    pub async fn open_or_create_by(
        store: Store,
        project: &str,
        partition_by: PartitionBy,
        at: DateTime<Utc>,
    ) -> Result<Self> {
        if identity(&store, project).await?.is_none() {
            // Another may have made both since: the log comes after lake.json.
            if store.exists(&layout::commit(0)).await? && identity(&store, project).await?.is_none() {
                // Whose it is, nobody knows then.
                return Err(Error::Corrupt {
                    path: layout::lake(),
                    reason: "it is gone, and the log is there".to_owned(),
                });
            }
            let made = LakeIdentity { format: LAKE_FORMAT, project: project.to_owned(), created: at };
            store.put_or_read(&layout::lake(), json!(made)).await?;
            identity(&store, project).await?;
        }
        if !store.exists(&layout::commit(0)).await? {
            let table = Table { id: Uuid::new_v4(), created: at, partition_by };
            let record = CommitRecord {
                attempt: Uuid::now_v7(),
                next_offset: 0,
                metadata_version: 0,
                batches: Vec::new(),
                requires: partition_by.requires(),
            };
            let (claims, added, removed) = (Some(Claims::default()), Vec::new(), Vec::new());
            let first = Entry { time: at, record, claims, added, removed, lanes: Default::default() };
            // Whoever makes it, it is made; another's may be on its way still.
            store.put_if_absent(&layout::commit(0), first.encode(0, &table)?).await?;
            while !store.exists(&layout::commit(0)).await? {
                sleep(ON_ITS_WAY).await;
            }
        }
        Self::open_any(store).await
    }

    /// Opens a project's lake that is there.
    ///
    /// # Errors
    /// [`Error::NoLog`] where there is none, else as [`Self::open_or_create`].
    pub async fn open(store: Store, project: &str) -> Result<Self> {
        match identity(&store, project).await? {
            Some(_) => Self::open_any(store).await,
            None => Err(Error::NoLog { place: store.place().to_owned() }),
        }
    }

    async fn open_any(store: Store) -> Result<Self> {
        let head = Head::find(&store).await?;
        let claims = Arc::new(Mutex::new(head.claims.clone()));
        let seen = Arc::new(AtomicU64::new(head.version));
        let partition_by = head.table.partition_by;
        let head = Arc::new(Mutex::new(head));
        Ok(Self {
            store,
            head,
            partition_by,
            claims,
            seen,
            announced: Arc::default(),
            history: Arc::default(),
            limit: Arc::default(),
        })
    }

    /// The same log for an appender that may invent so many columns.
    #[must_use]
    pub fn with_columns_up_to(self, limit: ColumnLimit) -> Self {
        Self { limit: Arc::new(limit), ..self }
    }

    /// The lake's store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Delta's id of the table: another one for every lake that was ever made.
    pub async fn table_id(&self) -> Uuid {
        self.head.lock().await.table.id
    }

    /// What the data files are partitioned by.
    pub fn partition_by(&self) -> PartitionBy {
        self.partition_by
    }

    /// The newest version and its time, after a look at the store.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn head(&self) -> Result<(u64, DateTime<Utc>)> {
        let mut head = self.head.lock().await;
        self.follow(&mut head).await?;
        Ok((head.version, head.time))
    }

    /// The newest version that this process knows of, without a look at the store: its own commits are in it.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Where a lane stands after the newest version; none for one that was never written.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn lane(&self, name: &str) -> Result<Option<String>> {
        let mut head = self.head.lock().await;
        self.follow(&mut head).await?;
        Ok(head.lanes(&self.store).await?.get(name).cloned())
    }

    /// The log as of its newest version.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut history = self.history.lock().await;
        history.follow(&self.store).await?;
        history.newest(&self.store).await
    }

    /// The log as of a version.
    ///
    /// # Errors
    /// [`Error::NoVersion`] where the log has not come that far; any failure of the store.
    pub async fn snapshot_at(&self, version: u64) -> Result<Snapshot> {
        let mut history = self.history.lock().await;
        history.follow(&self.store).await?;
        history.at(version, &self.store).await
    }

    /// The newest version at or before a time.
    ///
    /// # Errors
    /// [`Error::BeforeTheLog`]; any failure of the store.
    pub async fn version_at(&self, time: DateTime<Utc>) -> Result<u64> {
        let mut history = self.history.lock().await;
        history.follow(&self.store).await?;
        history.version_at(time, &self.store).await
    }

    /// The versions that brought the events of these offsets, which ascend: each once, with the offset after its last event. Of what
    /// has not come yet, none.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn brought(&self, offsets: &[u64]) -> Result<Vec<(u64, u64)>> {
        let mut history = self.history.lock().await;
        history.follow(&self.store).await?;
        let mut versions: Vec<(u64, u64)> = Vec::new();
        for offset in offsets {
            if versions.last().is_none_or(|(_, end)| end <= offset) {
                versions.extend(history.brought(*offset, &self.store).await?);
            }
        }
        Ok(versions)
    }

    /// The newest versions, at most `count` of them, oldest first.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn versions(&self, count: u64) -> Result<Vec<(u64, Entry)>> {
        let (head, _) = self.head().await?;
        crate::head::entries(&self.store, (head + 1).saturating_sub(count)..head + 1).await
    }

    /// The versions from one on to another, both included, as far as there are any; oldest first.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn versions_between(&self, from: u64, to: u64) -> Result<Vec<(u64, Entry)>> {
        let (head, _) = self.head().await?;
        crate::head::entries(&self.store, from..to.min(head) + 1).await
    }
}

/// The lake's identity, checked; `None` where there is no lake.
async fn identity(store: &Store, project: &str) -> Result<Option<LakeIdentity>> {
    let Some(raw) = store.get_json::<serde_json::Value>(&layout::lake()).await? else { return Ok(None) };
    let place = || store.place().to_owned();
    // The format is read first: a later one may have changed everything else.
    let found = raw["format"].as_u64().and_then(|format| u32::try_from(format).ok()).unwrap_or(u32::MAX);
    if found > LAKE_FORMAT {
        return Err(Error::NewerFormat { place: place(), found, known: LAKE_FORMAT });
    }
    let corrupt = |error: serde_json::Error| Error::Corrupt { path: layout::lake(), reason: error.to_string() };
    let identity: LakeIdentity = serde_json::from_value(raw).map_err(corrupt)?;
    if identity.project != project {
        return Err(Error::OtherProject { place: place(), theirs: identity.project, ours: project.to_owned() });
    }
    Ok(Some(identity))
}
