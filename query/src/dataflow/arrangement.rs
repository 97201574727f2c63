//! The rows that an operator reads, by key, in the state cache: what has to be asked again when a key is touched.
//!
//! An entry's key is the hash of the row's key; the rest of it is the bytes of its place in an order, where there is one, and the
//! hash of the row itself (16 bytes). What is kept is how many such rows there are (`u32`, big endian) and the row.

use std::iter::repeat_n;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result as PlanResult, exec_err};

use super::bag::{Bag, Counted};
use super::changes::Changes;
use crate::error::{Error, Result};
use crate::keys::row_keys;
use crate::state_cache::{Entries, ModelCache, Reader, Shelf};

/// Rows of a stream of batches: first the columns that are kept, then those of the key, then those of the order.
#[derive(Debug)]
pub(super) struct Arrangement {
    shelf: Shelf,
    columns: usize,
    keys: usize,
    /// Only so many rows of each key are ever asked for, in their order.
    most: Option<usize>,
    rows: RowConverter,
    order: Option<RowConverter>,
    fields: SchemaRef,
}

/// The key of all rows, where they have none.
const EVERYTHING: u128 = 0;

impl Arrangement {
    /// `fields` are those of the batches; `order` says how the last of them sort.
    pub(super) fn new(
        shelf: Shelf,
        fields: &SchemaRef,
        (columns, keys): (usize, usize),
        order: Vec<SortField>,
        most: Option<usize>,
    ) -> PlanResult<Self> {
        let kept = fields.project(&(0..columns).collect::<Vec<_>>())?;
        let kinds = kept.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let rows = RowConverter::new(kinds.collect())?;
        let order = (!order.is_empty()).then(|| RowConverter::new(order)).transpose()?;
        Ok(Self { shelf, columns, keys, most, rows, order, fields: kept.into() })
    }

    /// How rows of each key change; the bag is settled.
    pub(super) fn delta(&self, fed: &Changes) -> PlanResult<Bag> {
        let mut delta = Bag::default();
        fed.added.iter().try_for_each(|batch| self.count(batch, 1, &mut delta))?;
        fed.gone.iter().try_for_each(|batch| self.count(batch, -1, &mut delta))?;
        delta.settle();
        Ok(delta)
    }

    fn count(&self, batch: &RecordBatch, each: i64, delta: &mut Bag) -> PlanResult<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (columns, rest) = batch.columns().split_at(self.columns);
        let (keys, order) = rest.split_at(self.keys);
        let keys = match keys.is_empty() {
            true => vec![EVERYTHING; batch.num_rows()],
            false => row_keys(keys)?,
        };
        let rows = match columns.is_empty() {
            true => None,
            false => Some(self.rows.convert_columns(columns)?),
        };
        let order = self.order.as_ref().map(|converter| converter.convert_columns(order)).transpose()?;
        for (at, key) in keys.into_iter().enumerate() {
            let row = rows.as_ref().map_or(&[][..], |rows| rows.row(at).data());
            let order = order.as_ref().map_or(&[][..], |order| order.row(at).data());
            delta.put(key, &[order, &blake3::hash(row).as_bytes()[..16]], row, each);
        }
        Ok(())
    }

    /// Opens what is kept of the rows.
    pub(super) fn read(&self, cache: &ModelCache) -> Result<Reader> {
        cache.read(self.shelf)
    }

    /// Fills `bag` with the rows of a key as they were, as far as they count when `changes` come to them.
    pub(super) fn before<'a>(
        &self,
        kept: &mut Reader,
        key: u128,
        changes: impl Iterator<Item = Counted<'a>>,
        bag: &mut Bag,
    ) -> Result<()> {
        let most =
            self.most.map_or(usize::MAX, |most| most.saturating_add(changes.filter(|row| row.count < 0).count()));
        bag.clear();
        let mut all_whole = true;
        kept.under(key, most, |place, value| match counted(value) {
            Ok((count, row)) => bag.put(key, &[place], row, count),
            Err(_) => all_whole = false,
        })?;
        if all_whole { Ok(()) } else { Err(unknown_row()) }
    }

    /// What is to be kept of rows that change.
    ///
    /// # Errors
    /// [`Error::CacheBroken`] where rows go that were never there: the cache is not to be trusted.
    pub(super) fn entries(&self, kept: &mut Reader, delta: &Bag, entries: &mut Entries) -> Result<()> {
        let (entries, mut value) = (entries.on(self.shelf), Vec::new());
        for Counted { key, place, row, count: change } in delta.iter() {
            let before = kept.get(key, place)?.map(counted).transpose()?.map_or(0, |(count, _)| count);
            match before + change {
                after if after == before => {}
                after @ 1.. => {
                    value.clear();
                    value.extend_from_slice(&(after as u32).to_be_bytes());
                    value.extend_from_slice(row);
                    entries.keep(key, place, &value);
                }
                0 => entries.take_away(key, place),
                _ => return Err(unknown_row()),
            }
        }
        Ok(())
    }

    /// Forgets a row that is never asked for again; right only where no row ever goes.
    pub(super) fn forget(&self, row: Counted<'_>, entries: &mut Entries) {
        entries.on(self.shelf).take_away(row.key, row.place);
    }

    /// How many rows of each key are ever asked for.
    pub(super) fn most(&self) -> Option<usize> {
        self.most
    }

    /// Rows as columns, each as often as it counts.
    pub(super) fn batch(&self, rows: &Bag) -> PlanResult<RecordBatch> {
        let parser = self.rows.parser();
        let mut count = 0;
        let rows = rows.iter().flat_map(|row| repeat_n(row.row, usize::try_from(row.count).unwrap_or(0)));
        let rows: Vec<_> = rows.inspect(|_| count += 1).collect();
        let columns: Vec<ArrayRef> = match self.columns {
            0 => Vec::new(),
            _ => self.rows.convert_rows(rows.into_iter().map(|row| parser.parse(row)))?,
        };
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
        let kinds = columns.iter().map(|column| column.data_type());
        if !kinds.eq(self.fields.fields().iter().map(|field| field.data_type())) {
            return exec_err!("kept rows have other columns than {}", self.fields);
        }
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.fields), columns, &options)?)
    }
}

fn counted(value: &[u8]) -> Result<(i64, &[u8])> {
    let (count, row) = value.split_first_chunk().ok_or_else(unknown_row)?;
    Ok((i64::from(u32::from_be_bytes(*count)), row))
}

/// That the cache is not what it says it is. It is not the truth, and made anew.
pub(super) fn unknown_row() -> Error {
    Error::CacheBroken
}
