//! A plain hash map: what it would cost if memory were free and nothing had to last.

use std::collections::HashMap;

use super::{Durability, Result, Store};
use crate::keys::Key;

#[derive(Default)]
pub struct Memory {
    keys: HashMap<Key, u64>,
}

impl Store for Memory {
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()> {
        self.insert(entries, Durability::Buffered)
    }

    fn insert(&mut self, entries: &[(Key, u64)], _: Durability) -> Result<()> {
        self.keys.extend(entries.iter().copied());
        Ok(())
    }

    fn remove(&mut self, keys: &[Key]) -> Result<bool> {
        for key in keys {
            self.keys.remove(key);
        }
        Ok(true)
    }

    fn count_present(&self, keys: &[Key]) -> Result<usize> {
        Ok(keys.iter().filter(|key| self.keys.contains_key(key)).count())
    }

    fn scan(&self, _: Key, _: usize) -> Result<Option<usize>> {
        Ok(None)
    }
}
