//! Which rows a table has at an epoch: every row has an address, given when it is written and never again, as an event has
//! its offset. A table is a range of addresses without those that are deleted; what changed between two epochs follows from
//! the two alone, however the runs were folded in between.

use std::ops::Range;
use std::sync::Arc;

use lakebed_log::{Store, layout};
use parquet::arrow::arrow_reader::RowSelection;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::models::TableName;

/// An immutable Parquet file of a model's stored form.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Path below the lake's root; unique for ever, so that it names the content.
    pub path: String,
    /// The address of its first row; the others follow it.
    #[serde(default)]
    pub first: u64,
    /// Rows in the file, deleted ones among them.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Run {
    /// The addresses of its rows.
    pub fn addresses(&self) -> Range<u64> {
        self.first..self.first + self.rows
    }
}

/// An immutable object with the addresses that one epoch deleted, or that several did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deletion {
    /// Path below the lake's root.
    pub path: String,
    /// How many.
    pub rows: u64,
    /// The rows that were at these addresses, ascending, while they are kept beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Run>,
}

impl Deletion {
    /// The paths of all that it lists.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &str> {
        [self.path.as_str()].into_iter().chain(self.images.iter().map(|images| images.path.as_str()))
    }
}

/// The rows of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// They are among these.
    pub addresses: Range<u64>,
    /// These of them are gone.
    pub deleted: Arc<RoaringTreemap>,
    /// Where they are written, ascending: every address of the range is in one of these.
    pub runs: Vec<Run>,
    /// Sets of deleted addresses, each with a run of the rows that were there.
    pub images: Vec<(Arc<RoaringTreemap>, Run)>,
}

impl Rows {
    /// How many they are.
    pub fn count(&self) -> u64 {
        (self.addresses.end - self.addresses.start) - self.deleted.range_cardinality(self.addresses.clone())
    }

    /// Whether one of them has this address.
    pub fn has(&self, address: u64) -> bool {
        self.addresses.contains(&address) && !self.deleted.contains(address)
    }

    /// Those that were written after `before` was all there was.
    #[must_use]
    pub fn since(&self, before: u64) -> Self {
        let start = before.clamp(self.addresses.start, self.addresses.end);
        Self { addresses: start..self.addresses.end, ..self.clone() }
    }

    /// Those of them that have an address in the range.
    #[must_use]
    pub fn between(&self, addresses: Range<u64>) -> Self {
        let within = |address: u64| address.clamp(self.addresses.start, self.addresses.end);
        Self { addresses: within(addresses.start)..within(addresses.end), ..self.clone() }
    }

    /// The runs that have some of them, each with which of its rows; `None`: all.
    pub fn in_runs(&self) -> impl Iterator<Item = (&Run, Option<RowSelection>)> {
        self.runs.iter().filter_map(|run| {
            let (start, end) = (run.first.max(self.addresses.start), run.addresses().end.min(self.addresses.end));
            let deleted = self.deleted.range_cardinality(start..end.max(start));
            let live = end.saturating_sub(start) - deleted;
            match live {
                0 => None,
                live if live == run.rows => Some((run, None)),
                _ => Some((run, Some(selection(run, start..end, &self.deleted, false)))),
            }
        })
    }

    /// What has the rows that were at these addresses, each with which of its rows: their images, else the runs.
    pub fn at(&self, addresses: &RoaringTreemap) -> Vec<(&Run, RowSelection)> {
        let mut left = addresses.clone();
        let mut found = Vec::new();
        for (set, images) in &self.images {
            let here = &left & set.as_ref();
            if !here.is_empty() {
                // The n-th image is of the n-th address.
                let places = (images.first..).zip(set.iter()).filter(|(_, address)| here.contains(*address));
                let places = places.map(|(place, _)| place).collect();
                found.push((images, selection(images, images.addresses(), &places, true)));
                left -= here;
            }
        }
        found.extend(self.runs.iter().filter_map(|run| {
            let range = run.addresses();
            (left.range_cardinality(range.clone()) > 0).then(|| (run, selection(run, range, &left, true)))
        }));
        found
    }
}

/// The selection of a run's rows in the range: those at `addresses`, or those that are not.
fn selection(run: &Run, range: Range<u64>, addresses: &RoaringTreemap, of_them: bool) -> RowSelection {
    let place = |address: u64| usize::try_from(address - run.first).unwrap_or(usize::MAX);
    let mut selected = Vec::new();
    let mut next = range.start;
    let mut addresses = addresses.iter();
    addresses.advance_to(range.start);
    for address in addresses.take_while(|address| *address < range.end) {
        match of_them {
            true => selected.push(place(address)..place(address) + 1),
            false => selected.push(place(next)..place(address)),
        }
        next = address + 1;
    }
    if !of_them {
        selected.push(place(next)..place(range.end));
    }
    let rows = usize::try_from(run.rows).unwrap_or(usize::MAX);
    RowSelection::from_consecutive_ranges(selected.into_iter().filter(|range| !range.is_empty()), rows)
}

/// Puts the addresses that an epoch deletes; `images` is a run of the rows that were there, ascending by address.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn put_deletion(
    store: &Store,
    name: &TableName,
    fingerprint: &str,
    addresses: &RoaringTreemap,
    images: Option<Run>,
) -> Result<Deletion> {
    let path = layout::deletion(&name.to_string(), fingerprint, Uuid::now_v7());
    store.put(&path, to_bytes(addresses)).await?;
    Ok(Deletion { path: path.to_string(), rows: addresses.len(), images })
}

/// The addresses of a deletion.
///
/// # Errors
/// Any failure of the store, and [`Error::Manifest`] for an object that is gone or no such set.
pub(crate) async fn read_deletion(store: &Store, deletion: &Deletion) -> Result<RoaringTreemap> {
    let wrong = |reason: &str| Error::Manifest { path: deletion.path.clone(), reason: reason.to_owned() };
    let bytes = store.get(&layout::stored(&deletion.path)).await?.ok_or_else(|| wrong("it is gone"))?;
    from_bytes(&bytes).ok_or_else(|| wrong("it is no set of addresses"))
}

/// A set in Roaring's portable format.
pub(crate) fn to_bytes(addresses: &RoaringTreemap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(addresses.serialized_size());
    // Writing into memory does not fail.
    let _ = addresses.serialize_into(&mut bytes);
    bytes
}

/// What [`to_bytes`] wrote.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<RoaringTreemap> {
    RoaringTreemap::deserialize_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(addresses: Range<u64>, deleted: &[u64]) -> Rows {
        let run = |first, rows| Run { path: format!("{first}"), first, rows, bytes: 0 };
        let deleted = Arc::new(deleted.iter().copied().collect());
        Rows { addresses, deleted, runs: vec![run(10, 5), run(15, 5), run(20, 10)], images: Vec::new() }
    }

    /// The addresses that `in_runs` or `at` select.
    fn addresses<'a>(selected: impl Iterator<Item = (&'a Run, Option<RowSelection>)>) -> Vec<u64> {
        let of_run = |(run, selection): (&Run, Option<RowSelection>)| -> Vec<u64> {
            let Some(selection) = selection else { return run.addresses().collect() };
            let mut next = run.first;
            let selectors = selection.iter().flat_map(|selector| {
                let (from, count) = (next, selector.row_count as u64);
                next += count;
                (from..next).filter(|_| !selector.skip).collect::<Vec<_>>()
            });
            selectors.collect()
        };
        selected.flat_map(of_run).collect()
    }

    #[test]
    fn a_table_is_a_range_without_what_is_deleted() {
        let all = rows(10..30, &[]);
        assert_eq!((all.count(), addresses(all.in_runs())), (20, (10..30).collect()));
        let some = rows(12..28, &[3, 12, 15, 16, 17, 18, 19, 27, 29]);
        assert_eq!(addresses(some.in_runs()), [13, 14, 20, 21, 22, 23, 24, 25, 26]);
        assert_eq!(some.count(), 9);
        assert_eq!(addresses(some.since(21).in_runs()), [21, 22, 23, 24, 25, 26]);
        assert_eq!(some.since(21).count(), 6);
        assert_eq!((some.since(99).count(), addresses(some.since(0).in_runs()).len()), (0, 9));
    }

    #[test]
    fn rows_are_found_by_their_addresses() {
        let asked = RoaringTreemap::from_iter([11, 14, 20, 29]);
        let mut rows = rows(10..30, &[]);
        let found = |rows: &Rows| -> Vec<u64> {
            addresses(rows.at(&asked).into_iter().map(|(run, selection)| (run, Some(selection))))
        };
        assert_eq!(found(&rows), [11, 14, 20, 29]);
        // The images of 12, 14 and 20 are the rows 0, 1 and 2 of a run that begins at 100.
        let images = Run { path: "images".to_owned(), first: 100, rows: 3, bytes: 0 };
        rows.images.push((Arc::new([12, 14, 20].into_iter().collect()), images));
        assert_eq!(found(&rows), [101, 102, 11, 29]);
        assert_eq!(from_bytes(&to_bytes(&asked)), Some(asked));
    }
}
