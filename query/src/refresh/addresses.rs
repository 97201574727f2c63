//! Where the rows of a model are, by their hash: how a row that goes is found in the runs that have it.
//!
//! On the shelf of addresses the key is the first 16 bytes of the row's hash and its address (`u64`, big endian).

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use lakebed_log::Store;
use roaring::RoaringTreemap;

use crate::epoch::ModelState;
use crate::error::{Error, Result};
use crate::hash::{TableHash, row_hashes};
use crate::run_files::StoredRuns;
use crate::sinks::ReadRun;
use crate::state_cache::{ADDRESSES, CacheEntry, ModelCache};

/// How many addresses go into one commit of the cache.
const AT_ONCE: usize = 500_000;

/// Addresses of rows that went.
#[derive(Debug, Default)]
pub(super) struct Addressed {
    pub(super) gone: RoaringTreemap,
    /// The hash of the rows that were there.
    pub(super) hash: TableHash,
    /// The same, in the order of the rows.
    of_rows: Vec<u64>,
}

impl Addressed {
    /// Finds the address of each row that goes; of equal rows any.
    ///
    /// # Errors
    /// [`Error::CacheBroken`] where there is no such row.
    pub(super) fn take_away(
        &mut self,
        gone: &[RecordBatch],
        cache: &ModelCache,
        entries: &mut Vec<CacheEntry>,
    ) -> Result<()> {
        for batch in gone {
            for hash in row_hashes(batch)? {
                // Of equal rows, those that are taken already come first.
                let mut most = 1;
                let address = loop {
                    let found = cache.under(ADDRESSES, &hash[..16], most)?;
                    let addresses =
                        found.iter().filter_map(|(rest, _)| Some(u64::from_be_bytes(rest.as_slice().try_into().ok()?)));
                    match addresses.into_iter().find(|address| !self.gone.contains(*address)) {
                        Some(address) => break address,
                        None if found.len() < most => return Err(Error::CacheBroken),
                        None => most *= 2,
                    }
                };
                self.gone.insert(address);
                self.hash = self.hash.add(TableHash::of_row(hash));
                self.of_rows.push(address);
                entries.push(entry(&hash, address, false));
            }
        }
        Ok(())
    }

    /// The rows that went, ascending by address.
    ///
    /// # Errors
    /// None for the rows that were taken away.
    pub(super) fn in_order(&self, gone: &[RecordBatch], schema: &SchemaRef) -> Result<RecordBatch> {
        let mut order: Vec<u32> = (0..).take(self.of_rows.len()).collect();
        order.sort_unstable_by_key(|row| self.of_rows[*row as usize]);
        Ok(take_record_batch(&concat_batches(schema, gone)?, &UInt32Array::from(order))?)
    }

    /// Notes the addresses of rows that are written from `first` on.
    ///
    /// # Errors
    /// For a value that cannot be hashed.
    pub(super) fn give(&self, added: &[RecordBatch], first: u64, entries: &mut Vec<CacheEntry>) -> Result<()> {
        let mut next = first;
        for batch in added {
            for hash in row_hashes(batch)? {
                entries.push(entry(&hash, next, true));
                next += 1;
            }
        }
        Ok(())
    }
}

fn entry(hash: &[u8; 32], address: u64, is_there: bool) -> CacheEntry {
    let key = [&hash[..16], &address.to_be_bytes()].concat();
    CacheEntry { shelf: ADDRESSES, key, value: is_there.then(Vec::new) }
}

/// Puts the address of each row of a table into the cache, which then stands at `epoch`, if there is one.
///
/// # Errors
/// Any failure of the store or of the cache.
pub(crate) async fn put_addresses(
    runs: &Store,
    state: &ModelState,
    cache: &ModelCache,
    epoch: Option<u64>,
) -> Result<()> {
    let (rows, stored) = (state.stored(runs).await?, StoredRuns(runs.clone()));
    let mut entries: Vec<CacheEntry> = Vec::new();
    for (run, selection) in rows.in_runs() {
        let mut addresses = run.addresses().filter(|address| rows.has(*address));
        let mut batches = stored.read(run, selection);
        while let Some(batch) = batches.try_next().await? {
            let addressed = row_hashes(&batch)?.into_iter().zip(&mut addresses);
            entries.extend(addressed.map(|(hash, address)| entry(&hash, address, true)));
            if entries.len() > AT_ONCE {
                cache.put(std::mem::take(&mut entries), None)?;
            }
        }
    }
    cache.put(entries, epoch)
}
