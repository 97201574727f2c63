//! One Delta table: what its log says of it.

use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::errors::DeltaTableError;
use deltalake::kernel::{Add, Remove};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use lakebed_log::Store;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use super::blocks::Block;
use crate::error::{Error, Result};
use crate::sinks::{Image, TableImage};

/// Tags of a file: the addresses of its rows, `from-to`, and the hash over them.
pub(super) const ADDRESSES: &str = "lakebed.addresses";
pub(super) const HASH: &str = "lakebed.hash";
/// Properties of the table: the lake that it is of, and the fingerprint of its model.
pub(super) const LAKE: &str = "lakebed.lake";
pub(super) const FINGERPRINT: &str = "lakebed.fingerprint";
/// The application whose transaction number is the version of the lake's log.
pub(super) const APPLICATION: &str = "lakebed";

/// A table as its log says it is, or the place for one.
pub(super) struct Open {
    pub(super) store: Store,
    pub(super) at: Path,
    pub(super) log: LogStoreRef,
    /// `None` where there is no table.
    pub(super) table: Option<DeltaTable>,
    /// What its newest entry looks like from outside.
    stamp: Option<String>,
    version_of_log: Option<u64>,
    /// Its files that are ours.
    pub(super) blocks: Vec<Block>,
    /// What takes each of them out.
    pub(super) files: Vec<Remove>,
    /// The same for its other files.
    pub(super) foreign: Vec<Remove>,
}

/// A table as it was seen, and what its newest entry looked like from outside: a table that was made anew in the same place has
/// other ones under the same numbers.
#[derive(Clone)]
pub(super) struct Seen {
    table: DeltaTable,
    stamp: Option<String>,
}

/// What tells an object from every other that was or will be in its place.
async fn stamp_of(store: &Store, path: &Path) -> Option<String> {
    let object = store.objects().head(path).await.ok()?;
    Some(format!("{:?} {} {}", object.e_tag, object.size, object.last_modified))
}

fn entry_of(at: &Path, version: u64) -> Path {
    at.clone().join("_delta_log").join(format!("{version:020}.json"))
}

pub(super) fn failed(at: &Path, source: DeltaTableError) -> Error {
    Error::Delta { table: at.to_string(), source: Box::new(source) }
}

/// The log of a table. A local one goes by its real place: its listings come in no order, and are put in one where the URL
/// says that they are of files. For any other the URL is a name, for the store is given.
fn log_store(store: &Store, at: &Path) -> Result<LogStoreRef, DeltaTableError> {
    let named = |error: url::ParseError| DeltaTableError::Generic(error.to_string());
    let (root, within, url): (Arc<dyn ObjectStore>, _, _) = match store.directory() {
        Some(directory) => {
            let place = directory.join(at.as_ref());
            let no_url = |()| DeltaTableError::Generic(format!("'{}' has no URL", place.display()));
            let url = Url::from_directory_path(&place).map_err(no_url)?;
            let within = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
            (Arc::new(LocalFileSystem::new()), within, url)
        }
        None => (store.objects(), at.clone(), Url::parse(&format!("memory:///{at}/")).map_err(named)?),
    };
    let table = Arc::new(PrefixStore::new(Arc::clone(&root), within));
    Ok(default_logstore(table, root, &url, &StorageConfig::default()))
}

/// Whether there is no directory for the table, which is an error to who looks for a log in it.
fn is_absent(store: &Store, at: &Path) -> bool {
    store.directory().is_some_and(|directory| !directory.join(at.as_ref()).join("_delta_log").is_dir())
}

impl Open {
    /// Reads a table's log, from where `seen` stood if it was seen before.
    pub(super) async fn at(store: &Store, at: Path, seen: Option<Seen>) -> Result<Self> {
        let wrong = |error| failed(&at, error);
        let log = match &seen {
            Some(seen) => seen.table.log_store(),
            None => log_store(store, &at).map_err(wrong)?,
        };
        // What was seen may be gone, or be another table now.
        let seen = match seen {
            Some(Seen { mut table, stamp }) => {
                let version = table.version().unwrap_or_default();
                let same = stamp.is_some() && stamp_of(store, &entry_of(&at, version)).await == stamp;
                let updated = same && table.update_state().await.is_ok();
                let stamp = stamp.filter(|_| table.version() == Some(version));
                updated.then_some(Seen { table, stamp })
            }
            None => None,
        };
        let seen = match seen {
            Some(seen) => Ok(seen),
            None if is_absent(store, &at) => Err(DeltaTableError::NotATable(String::new())),
            None => {
                let mut table = DeltaTable::new(Arc::clone(&log));
                table.load().await.map(|()| Seen { table, stamp: None })
            }
        };
        let mut open = Self {
            store: store.clone(),
            at: at.clone(),
            log,
            table: None,
            stamp: None,
            version_of_log: None,
            blocks: Vec::new(),
            files: Vec::new(),
            foreign: Vec::new(),
        };
        let Seen { table, stamp } = match seen {
            Err(DeltaTableError::NotATable(_)) => return Ok(open),
            seen => seen.map_err(wrong)?,
        };
        open.stamp = match stamp {
            Some(stamp) => Some(stamp),
            None => stamp_of(store, &open.entry(table.version().unwrap_or_default())).await,
        };
        let state = table.snapshot().map_err(wrong)?;
        let version = state.transaction_version(open.log.as_ref(), APPLICATION).await.map_err(wrong)?;
        open.version_of_log = version.and_then(|version| u64::try_from(version).ok());
        for file in state.log_data().iter() {
            #[allow(deprecated, reason = "there is no other way to a file's tags")]
            let block = block_of(&file.add_action());
            match block {
                Some(block) => {
                    open.blocks.push(block);
                    open.files.push(file.remove_action(true));
                }
                None => open.foreign.push(file.remove_action(true)),
            }
        }
        open.table = Some(table);
        Ok(open)
    }

    fn property(&self, name: &str) -> Option<&String> {
        let state = self.table.as_ref()?.snapshot().ok()?;
        state.metadata().configuration().get(name)
    }

    /// The fingerprint of the model that it is of.
    pub(super) fn fingerprint(&self) -> Option<&String> {
        self.property(FINGERPRINT)
    }

    /// The version of the lake's log that its rows are of, or an earlier one with the same rows.
    pub(super) fn version_of_log(&self) -> Option<u64> {
        self.version_of_log
    }

    /// The names of its columns, or `None` where there is no table.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        let state = self.table.as_ref()?.snapshot().ok()?;
        Some(state.schema().fields().map(|field| field.name().clone()).collect())
    }

    /// Its files, as the store sees them.
    pub(super) fn paths(&self) -> impl Iterator<Item = Path> {
        let path =
            |file: &Remove| Path::parse(format!("{}/{}", self.at, file.path)).unwrap_or_else(|_| self.at.clone());
        self.files.iter().chain(&self.foreign).map(path)
    }

    /// Makes sure that the table is this lake's, if there is one.
    ///
    /// # Errors
    /// [`Error::TableTaken`] for somebody else's, [`Error::DeltaTaken`] for another lake's.
    pub(super) fn check_owner(&self, image: &Image, table: &TableImage) -> Result<()> {
        match (&self.table, self.property(LAKE)) {
            (None, _) => Ok(()),
            (Some(_), Some(lake)) if *lake == image.lake => Ok(()),
            (Some(_), Some(_)) => Err(Error::DeltaTaken { table: self.place() }),
            (Some(_), None) => Err(Error::TableTaken { table: table.model() }),
        }
    }

    /// What the next look starts from, if there is a table.
    pub(super) fn seen(&self) -> Option<Seen> {
        Some(Seen { table: self.table.clone()?, stamp: self.stamp.clone() })
    }

    /// The log's entry of a version.
    pub(super) fn entry(&self, version: u64) -> Path {
        entry_of(&self.at, version)
    }

    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.store.place(), self.at)
    }
}

/// The rows that a file was tagged with.
fn block_of(file: &Add) -> Option<Block> {
    // With a deletion vector it has not the rows any more that it was tagged with.
    if file.deletion_vector.is_some() {
        return None;
    }
    let tag = |name: &str| file.tags.as_ref()?.get(name)?.as_deref();
    let (from, to) = tag(ADDRESSES)?.split_once('-')?;
    let stats: serde_json::Value = serde_json::from_str(file.stats.as_deref()?).ok()?;
    Some(Block {
        addresses: from.parse().ok()?..to.parse().ok()?,
        rows: stats.get("numRecords")?.as_u64()?,
        hash: tag(HASH)?.parse().ok()?,
    })
}
