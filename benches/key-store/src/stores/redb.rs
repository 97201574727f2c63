//! redb 4: copy-on-write B+tree in one file, pure Rust.

use std::path::Path;

use redb::{ConcurrencyMode, Database, Durability as RedbDurability, ReadableDatabase, TableDefinition};

use super::{CACHE_BYTES, Durability, Result, Store};
use crate::keys::Key;

const KEYS: TableDefinition<u128, u64> = TableDefinition::new("keys");

/// How the file is shared and repaired.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One process; the whole file is checked after a crash.
    Plain,
    /// One process; each commit also saves the allocator, so that nothing is walked after a crash.
    QuickRepair,
    /// Any number of processes, one write transaction at a time.
    MultiWriter,
}

pub struct Redb {
    database: Database,
    mode: Mode,
}

impl Redb {
    pub fn open(dir: &Path, mode: Mode) -> Result<Self> {
        let concurrency =
            if mode == Mode::MultiWriter { ConcurrencyMode::MultiWriter } else { ConcurrencyMode::ExclusiveWriter };
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_concurrency_mode(concurrency)
            .create(dir.join("keys.redb"))?;
        Ok(Self { database, mode })
    }
}

impl Store for Redb {
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()> {
        self.insert(entries, Durability::Synced)
    }

    fn insert(&mut self, entries: &[(Key, u64)], durability: Durability) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        // Processes that share a file see each other's commits through the disk: redb refuses `None` there.
        if durability == Durability::Buffered && self.mode != Mode::MultiWriter {
            transaction.set_durability(RedbDurability::None)?;
        }
        transaction.set_quick_repair(self.mode == Mode::QuickRepair);
        {
            let mut table = transaction.open_table(KEYS)?;
            for (key, value) in entries {
                table.insert(key, value)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn remove(&mut self, keys: &[Key]) -> Result<bool> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(self.mode == Mode::QuickRepair);
        {
            let mut table = transaction.open_table(KEYS)?;
            for key in keys {
                table.remove(key)?;
            }
        }
        transaction.commit()?;
        Ok(true)
    }

    fn count_present(&self, keys: &[Key]) -> Result<usize> {
        let table = self.database.begin_read()?.open_table(KEYS)?;
        let mut present = 0;
        for key in keys {
            present += usize::from(table.get(key)?.is_some());
        }
        Ok(present)
    }

    fn scan(&self, from: Key, limit: usize) -> Result<Option<usize>> {
        let table = self.database.begin_read()?.open_table(KEYS)?;
        let mut read = 0;
        for entry in table.range(from..)?.take(limit) {
            entry?;
            read += 1;
        }
        Ok(Some(read))
    }
}
