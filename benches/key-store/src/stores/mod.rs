//! What every store must be able to do to take part, and the list of those that do.

mod fjall;
mod lmdb;
mod memory;
mod parquet;
mod redb;

use std::error::Error;
use std::path::Path;

use crate::keys::Key;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Memory that a store with a cache of its own may use for it.
pub const CACHE_BYTES: usize = 256 << 20;

/// The names that `open` knows.
pub const NAMES: &[&str] = &[
    "redb",
    "redb-quick-repair",
    "redb-multi-writer",
    "fjall-journal",
    "fjall-tables",
    "lmdb",
    "parquet",
    "parquet-sorted",
    "memory",
];

/// When a commit is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It would survive a power cut.
    Synced,
    /// It is the store's cheapest commit that its own next reader sees.
    Buffered,
}

/// A key store: 128-bit key to a 64-bit offset.
pub trait Store {
    /// Fills an empty store with entries in the order of their keys, by its fastest way, and syncs.
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()>;
    /// Inserts entries (in the order of their keys) in one commit.
    fn insert(&mut self, entries: &[(Key, u64)], durability: Durability) -> Result<()>;
    /// Removes keys in one synced commit; `false` if this store cannot.
    fn remove(&mut self, keys: &[Key]) -> Result<bool>;
    /// How many of `keys` (in order) are stored.
    fn count_present(&self, keys: &[Key]) -> Result<usize>;
    /// Reads up to `limit` entries upwards from `from`; `None` if this store has no order.
    fn scan(&self, from: Key, limit: usize) -> Result<Option<usize>>;
}

/// Opens or creates the store `name` in the directory `dir`.
pub fn open(name: &str, dir: &Path) -> Result<Box<dyn Store>> {
    std::fs::create_dir_all(dir)?;
    Ok(match name {
        "redb" => Box::new(redb::Redb::open(dir, redb::Mode::Plain)?),
        "redb-quick-repair" => Box::new(redb::Redb::open(dir, redb::Mode::QuickRepair)?),
        "redb-multi-writer" => Box::new(redb::Redb::open(dir, redb::Mode::MultiWriter)?),
        "fjall-journal" => Box::new(fjall::Fjall::open(dir, fjall::Commit::Journal)?),
        "fjall-tables" => Box::new(fjall::Fjall::open(dir, fjall::Commit::Table)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(dir)?),
        "parquet" => Box::new(parquet::ParquetFiles::open(dir, parquet::Order::AsAppended)?),
        "parquet-sorted" => Box::new(parquet::ParquetFiles::open(dir, parquet::Order::ByKey)?),
        "memory" => Box::new(memory::Memory::default()),
        other => return Err(format!("no store is called {other}; there are {}", NAMES.join(", ")).into()),
    })
}
