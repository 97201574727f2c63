//! fjall 3: log-structured merge tree in a directory, pure Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{CACHE_BYTES, Durability, Result, Store};
use crate::keys::Key;

pub struct Fjall {
    database: Database,
    keys: Keyspace,
}

impl Fjall {
    pub fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir.join("keys.fjall")).cache_size(CACHE_BYTES as u64).open()?;
        let keys = database.keyspace("keys", KeyspaceCreateOptions::default)?;
        Ok(Self { database, keys })
    }
}

impl Store for Fjall {
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()> {
        let mut ingestion = self.keys.start_ingestion()?;
        for (key, value) in entries {
            ingestion.write(key.to_be_bytes(), value.to_be_bytes())?;
        }
        ingestion.finish()?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn insert(&mut self, entries: &[(Key, u64)], durability: Durability) -> Result<()> {
        let mode = if durability == Durability::Synced { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in entries {
            batch.insert(&self.keys, key.to_be_bytes(), value.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn remove(&mut self, keys: &[Key]) -> Result<bool> {
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
