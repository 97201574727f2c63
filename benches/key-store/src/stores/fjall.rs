//! fjall 3: log-structured merge tree in a directory, pure Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{CACHE_BYTES, Durability, Result, Store};
use crate::keys::Key;

/// The way of a commit into the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Through the journal and the table in memory: what a batch does. The next open reads the journal again.
    Journal,
    /// As a sorted, synced table of its own: what an ingestion does. There is nothing to read again.
    Table,
}

pub struct Fjall {
    commit: Commit,
    database: Database,
    keys: Keyspace,
}

impl Fjall {
    pub fn open(dir: &Path, commit: Commit) -> Result<Self> {
        let database = Database::builder(dir.join("keys.fjall")).cache_size(CACHE_BYTES as u64).open()?;
        let keys = database.keyspace("keys", KeyspaceCreateOptions::default)?;
        Ok(Self { commit, database, keys })
    }
}

impl Store for Fjall {
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()> {
        let mut ingestion = self.keys.start_ingestion()?;
        for (key, value) in entries {
            ingestion.write(key.to_be_bytes(), value.to_be_bytes())?;
        }
        Ok(ingestion.finish()?)
    }

    fn insert(&mut self, entries: &[(Key, u64)], durability: Durability) -> Result<()> {
        if self.commit == Commit::Table {
            return self.load_sorted(entries);
        }
        let mode = if durability == Durability::Synced { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in entries {
            batch.insert(&self.keys, key.to_be_bytes(), value.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn remove(&mut self, keys: &[Key]) -> Result<bool> {
        if self.commit == Commit::Table {
            let mut ingestion = self.keys.start_ingestion()?;
            for key in keys {
                ingestion.write_tombstone(key.to_be_bytes())?;
            }
            ingestion.finish()?;
            return Ok(true);
        }
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for key in keys {
            batch.remove(&self.keys, key.to_be_bytes());
        }
        batch.commit()?;
        Ok(true)
    }

    fn count_present(&self, keys: &[Key]) -> Result<usize> {
        let mut present = 0;
        for key in keys {
            present += usize::from(self.keys.get(key.to_be_bytes())?.is_some());
        }
        Ok(present)
    }

    fn scan(&self, from: Key, limit: usize) -> Result<Option<usize>> {
        let mut read = 0;
        for entry in self.keys.range(from.to_be_bytes()..).take(limit) {
            entry.into_inner()?;
            read += 1;
        }
        Ok(Some(read))
    }
}
