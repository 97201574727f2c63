//! LMDB through heed 0.23: memory-mapped copy-on-write B+tree, C code.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, PutFlags};

use super::{Durability, Result, Store};
use crate::keys::Key;

/// The most that the file may grow to: LMDB wants to know before it opens.
const MAP_BYTES: usize = 16 << 30;

pub struct Lmdb {
    environment: Env,
    keys: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    pub fn open(dir: &Path) -> Result<Self> {
        // SAFETY: the directory is this measurement's own, and nothing else maps or changes its files.
        let environment = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).open(dir)? };
        let transaction = environment.write_txn()?;
        let keys = environment.create_databases_and_commit(transaction, |opener, transaction| {
            opener.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let keys = keys.commit().ok_or("lmdb gave the transaction up")?;
        Ok(Self { environment, keys })
    }

    fn put(&self, entries: &[(Key, u64)], flags: PutFlags) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for (key, value) in entries {
            self.keys.put_with_flags(&mut transaction, flags, &key.to_be_bytes(), &value.to_be_bytes())?;
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Lmdb {
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()> {
        self.put(entries, PutFlags::APPEND)
    }

    fn insert(&mut self, entries: &[(Key, u64)], durability: Durability) -> Result<()> {
        let sync = if durability == Durability::Buffered { FlagSetMode::Enable } else { FlagSetMode::Disable };
        // SAFETY: without the sync a crash of the machine may break the file; the measurement never reads it then.
        unsafe { self.environment.set_flags(EnvFlags::NO_SYNC, sync)? };
        self.put(entries, PutFlags::empty())
    }

    fn remove(&mut self, keys: &[Key]) -> Result<bool> {
        let mut transaction = self.environment.write_txn()?;
        for key in keys {
            self.keys.delete(&mut transaction, &key.to_be_bytes())?;
        }
        transaction.commit()?;
        Ok(true)
    }

    fn count_present(&self, keys: &[Key]) -> Result<usize> {
        let transaction = self.environment.read_txn()?;
        let mut present = 0;
        for key in keys {
            present += usize::from(self.keys.get(&transaction, &key.to_be_bytes())?.is_some());
        }
        Ok(present)
    }

    fn scan(&self, from: Key, limit: usize) -> Result<Option<usize>> {
        let transaction = self.environment.read_txn()?;
        let from = from.to_be_bytes();
        let mut read = 0;
        for entry in self.keys.range(&transaction, &(Bound::Included(from.as_slice()), Bound::Unbounded))?.take(limit) {
            entry?;
            read += 1;
        }
        Ok(Some(read))
    }
}
