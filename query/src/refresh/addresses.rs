//! Where the rows of a model are, by their hash: how a row that goes is found in the runs that have it.
//!
//! On the shelf of addresses the key is the first 16 bytes of the row's hash, and the rest of it the address (`u64`, big endian).

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use lakebed_log::Store;
use roaring::RoaringTreemap;

use crate::epoch::ModelState;
use crate::error::{Error, Result};
use crate::hash::{TableHash, row_hashes, short};
use crate::run_files::StoredRuns;
use crate::sinks::ReadRun;
use crate::state_cache::{ADDRESSES, Entries, ModelCache};

/// How many addresses go into one commit of the cache; few where it is to be tried what comes of many.
pub(super) const IN_ONE_COMMIT: usize = if cfg!(debug_assertions) { 100 } else { 1_000_000 };

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
    pub(super) fn take_away(&mut self, gone: &[RecordBatch], cache: &ModelCache, entries: &mut Entries) -> Result<()> {
        let mut rows: Vec<(u128, usize)> = Vec::new();
        for batch in gone {
            for hash in row_hashes(batch)? {
                self.hash = self.hash.add(TableHash::of_row(hash));
                rows.push((short(&hash), rows.len()));
            }
        }
        self.of_rows = vec![0; rows.len()];
        rows.sort_unstable();
        let (mut addresses, entries) = (cache.read(ADDRESSES)?, entries.on(ADDRESSES));
        for equal in rows.chunk_by(|(left, _), (right, _)| left == right) {
            let hash = equal[0].0;
            let mut unfound = equal.iter();
            addresses.under(hash, equal.len(), |rest, _| {
                // What is no address counts as one of those that are given: a row is left without any.
                let Ok(address) = rest.try_into().map(u64::from_be_bytes) else { return };
                let Some((_, row)) = unfound.next() else { return };
                self.gone.insert(address);
                self.of_rows[*row] = address;
                entries.take_away(hash, rest);
            })?;
            if unfound.len() > 0 {
                return Err(Error::CacheBroken);
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
}

/// Notes the addresses of rows that were written from `first` on.
pub(super) fn give(hashes: &[u128], first: u64, entries: &mut Entries) {
    let entries = entries.on(ADDRESSES);
    (first..).zip(hashes).for_each(|(address, hash)| entries.keep(*hash, &address.to_be_bytes(), &[]));
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
    let mut entries = Entries::default();
    for (run, selection) in rows.in_runs() {
        let mut addresses = run.addresses().filter(|address| rows.has(*address));
        let mut batches = stored.read(run, selection);
        while let Some(batch) = batches.try_next().await? {
            let addressed = row_hashes(&batch)?.into_iter().zip(&mut addresses);
            let kept = entries.on(ADDRESSES);
            addressed.for_each(|(hash, address)| kept.keep(short(&hash), &address.to_be_bytes(), &[]));
            if entries.len() > IN_ONE_COMMIT {
                cache.put(std::mem::take(&mut entries), None)?;
            }
        }
    }
    cache.put(entries, epoch)
}
