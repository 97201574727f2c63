//! The rows that an operator reads, by key, in the state cache: what has to be asked again when a key is touched.
//!
//! An entry's key is the hash of the row's key; the rest of it is the bytes of its place in an order, where there is one, and the
//! hash of the row itself (16 bytes). What is kept is how many such rows there are (`u32`, big endian) and the row.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result as PlanResult, exec_err};

use crate::error::{Error, Result};
use crate::keys::row_keys;
use crate::state_cache::{Entries, ModelCache, Reader, Shelf};

/// Rows of one key: by place, how many there are of each, and the row as bytes.
pub(super) type Bag = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

/// How rows of each key change; a count is negative for rows that go.
pub(super) type Delta = BTreeMap<u128, Bag>;

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

    /// Counts the rows of a batch: as added, or as gone.
    pub(super) fn count(&self, batch: &RecordBatch, gone: bool, delta: &mut Delta) -> PlanResult<()> {
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
            let row = rows.as_ref().map(|rows| rows.row(at));
            let row: &[u8] = row.as_ref().map_or(&[], |row| row.as_ref());
            let mut place = order.as_ref().map(|order| order.row(at).as_ref().to_vec()).unwrap_or_default();
            place.extend_from_slice(&blake3::hash(row).as_bytes()[..16]);
            let counted = delta.entry(key).or_default().entry(place).or_insert_with(|| (0, row.to_vec()));
            counted.0 += if gone { -1 } else { 1 };
        }
        Ok(())
    }

    /// Opens what is kept of the rows.
    pub(super) fn read(&self, cache: &ModelCache) -> Result<Reader> {
        cache.read(self.shelf)
    }

    /// The rows of a key as they were, as far as they count when `changes` come to them.
    pub(super) fn before(&self, kept: &mut Reader, key: u128, changes: Option<&Bag>) -> Result<Bag> {
        let going = changes.into_iter().flatten().filter(|(_, (count, _))| *count < 0).count();
        let most = self.most.map_or(usize::MAX, |most| most.saturating_add(going));
        let found = kept.under(key, most)?;
        found.into_iter().map(|(place, value)| Ok((place, counted(&value)?))).collect()
    }

    /// What is to be kept of rows that change.
    ///
    /// # Errors
    /// [`Error::CacheBroken`] where rows go that were never there: the cache is not to be trusted.
    pub(super) fn entries(&self, kept: &mut Reader, delta: &Delta, entries: &mut Entries) -> Result<()> {
        let entries = entries.on(self.shelf);
        for (key, bag) in delta {
            for (place, (change, row)) in bag {
                let before = kept.get(*key, place)?.map(counted).transpose()?.map_or(0, |(count, _)| count);
                match before + change {
                    after if after == before => {}
                    after @ 1.. => entries.keep(*key, place, &[&(after as u32).to_be_bytes(), row.as_slice()].concat()),
                    0 => entries.take_away(*key, place),
                    _ => return Err(unknown_row()),
                }
            }
        }
        Ok(())
    }

    /// Forgets what is beyond the rows that are ever asked for; right only where no row ever goes.
    pub(super) fn forget(&self, key: u128, beyond: &Bag, entries: &mut Entries) {
        let entries = entries.on(self.shelf);
        beyond.keys().for_each(|place| entries.take_away(key, place));
    }

    /// How many rows of each key are ever asked for.
    pub(super) fn most(&self) -> Option<usize> {
        self.most
    }

    /// Rows as columns, each as often as it counts.
    pub(super) fn batch<'a>(&self, bags: impl Iterator<Item = (i64, &'a [u8])>) -> PlanResult<RecordBatch> {
        let parser = self.rows.parser();
        let mut count = 0;
        let rows = bags.flat_map(|(copies, row)| std::iter::repeat_n(row, usize::try_from(copies).unwrap_or(0)));
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

/// Rows with changes applied. What is left of a count below nothing is an error of the cache.
pub(super) fn after(before: &Bag, changes: Option<&Bag>) -> Bag {
    let mut bag = before.clone();
    for (place, (change, row)) in changes.into_iter().flatten() {
        let kept = bag.entry(place.clone()).or_insert_with(|| (0, row.clone()));
        kept.0 += change;
        if kept.0 <= 0 {
            bag.remove(place);
        }
    }
    bag
}

/// The first rows, and those behind them.
pub(super) fn first(mut bag: Bag, most: Option<usize>) -> (Bag, Bag) {
    let Some(most) = most else { return (bag, Bag::new()) };
    let mut left = i64::try_from(most).unwrap_or(i64::MAX);
    let mut end = None;
    for (place, (count, _)) in &bag {
        if left <= 0 {
            end = Some(place.clone());
            break;
        }
        left -= *count;
    }
    let beyond = end.map(|end| bag.split_off(&end)).unwrap_or_default();
    (bag, beyond)
}

fn counted(value: &[u8]) -> Result<(i64, Vec<u8>)> {
    let (count, row) = value.split_first_chunk().ok_or_else(unknown_row)?;
    Ok((i64::from(u32::from_be_bytes(*count)), row.to_vec()))
}

/// That the cache is not what it says it is. It is not the truth, and made anew.
pub(super) fn unknown_row() -> Error {
    Error::CacheBroken
}
