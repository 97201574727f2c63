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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fjall::Readable;

    use super::*;
    use crate::keys::key;

    /// Tables that overwrite, delete and bring back the same few keys, with the store opened again and again and
    /// compacted now and then: what is read must be what a map in memory holds, by key, in order and in a snapshot.
    #[test]
    fn tables_of_sorted_entries_are_read_as_a_map_would_be() {
        let dir = std::env::temp_dir().join(format!("lakebed-key-store-test-{}", std::process::id()));
        let mut model: BTreeMap<[u8; 16], Option<[u8; 8]>> = BTreeMap::new();
        let mut store = Fjall::open(&dir, Commit::Table).unwrap();
        for round in 0..400_u64 {
            let mut entries = BTreeMap::new();
            for draw in 0..200 {
                let chance = key(round * 1_000 + draw) as u64;
                let value = (chance % 3 != 0).then(|| (round * 1_000 + draw).to_be_bytes());
                entries.insert(key(chance % 2_000).to_be_bytes(), value);
            }
            let mut ingestion = store.keys.start_ingestion().unwrap();
            for (key, value) in &entries {
                match value {
                    Some(value) => ingestion.write(key.as_slice(), value.as_slice()).unwrap(),
                    None => ingestion.write_tombstone(key.as_slice()).unwrap(),
                }
            }
            ingestion.finish().unwrap();
            model.extend(entries);
            if round % 41 == 0 {
                store.keys.major_compact().unwrap();
            }
            if round % 7 == 0 {
                drop(store);
                store = Fjall::open(&dir, Commit::Table).unwrap();
            }
            if round % 10 == 0 {
                let snapshot = store.database.snapshot();
                for (key, value) in &model {
                    let wanted = value.as_ref().map(<[u8; 8]>::as_slice);
                    assert_eq!(store.keys.get(key).unwrap().as_deref(), wanted, "round {round}");
                    assert_eq!(snapshot.get(&store.keys, key).unwrap().as_deref(), wanted, "round {round}, snapshot");
                }
                let stored: Vec<_> = store.keys.iter().map(|entry| entry.into_inner().unwrap()).collect();
                let wanted: Vec<_> = model.iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect();
                assert!(
                    stored
                        .iter()
                        .map(|(key, value)| (&**key, &**value))
                        .eq(wanted.iter().map(|(k, v)| (&k[..], &v[..])))
                );
            }
        }
        drop(store);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
