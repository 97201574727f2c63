//! Rows by key, each with a count: how rows change, or what is kept of them.

use std::ops::Range;

use itertools::Itertools;

/// A row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted<'a> {
    pub(super) key: u128,
    /// By what it sorts among those of its key, and is told apart from them.
    pub(super) place: &'a [u8],
    /// The row itself.
    pub(super) row: &'a [u8],
    /// How often it is there. Of a change: how often it comes; below zero, how often it goes.
    pub(super) count: i64,
}

/// Rows in the order that they were put in, or [settled](Self::settle), without an allocation for each.
#[derive(Debug, Default)]
pub(super) struct Bag {
    heads: Vec<Head>,
    /// The place of each row and then the row, one behind the other.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    key: u128,
    count: i64,
    /// Where its place begins, its row, and what is behind it.
    start: usize,
    row: usize,
    end: usize,
}

impl Bag {
    /// Puts a row in, whose place is of several parts.
    pub(super) fn put(&mut self, key: u128, place: &[&[u8]], row: &[u8], count: i64) {
        let start = self.bytes.len();
        place.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let row_starts = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.heads.push(Head { key, count, start, row: row_starts, end: self.bytes.len() });
    }

    /// Empties it, for others.
    pub(super) fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Sorts the rows by key and place, and counts what is the same as one; what comes to nothing goes.
    pub(super) fn settle(&mut self) {
        let bytes = &self.bytes;
        let place = |head: &Head| &bytes[head.start..head.row];
        self.heads.sort_unstable_by(|one, other| one.key.cmp(&other.key).then_with(|| place(one).cmp(place(other))));
        self.heads.dedup_by(|next, kept| {
            let same = next.key == kept.key && place(next) == place(kept);
            if same {
                kept.count += next.count;
            }
            same
        });
        self.heads.retain(|head| head.count != 0);
    }

    /// All rows, or those of a [span](Self::span).
    pub(super) fn rows(&self, span: Range<usize>) -> impl Iterator<Item = Counted<'_>> + Clone {
        self.heads[span].iter().map(|head| {
            let (place, row) = (&self.bytes[head.start..head.row], &self.bytes[head.row..head.end]);
            Counted { key: head.key, place, row, count: head.count }
        })
    }

    /// All rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = Counted<'_>> + Clone {
        self.rows(0..self.len())
    }

    /// The key of the row with a number, in a bag that is settled.
    pub(super) fn key_at(&self, at: usize) -> Option<u128> {
        self.heads.get(at).map(|head| head.key)
    }

    /// The numbers of a key's rows in a bag that is settled, of which none is before `from`; none where that is another key's.
    pub(super) fn span(&self, key: u128, from: usize) -> Range<usize> {
        let of_key = self.heads[from..].iter().take_while(|head| head.key == key).count();
        from..from + of_key
    }
}

/// Rows with changes applied, both of one key and ascending by place. What comes to a count below nothing is left out.
pub(super) fn after<'a>(
    before: impl Iterator<Item = Counted<'a>>,
    changes: impl Iterator<Item = Counted<'a>>,
) -> impl Iterator<Item = Counted<'a>> {
    let both = before.merge_join_by(changes, |kept, change| kept.place.cmp(change.place));
    let counted = both.map(|row| row.reduce(|kept, change| Counted { count: kept.count + change.count, ..kept }));
    counted.filter(|row| row.count > 0)
}

/// Gives the first rows of a key to `each`, as many as `most` counts, and those behind them to `beyond`.
pub(super) fn first<'a>(
    rows: impl Iterator<Item = Counted<'a>>,
    most: Option<usize>,
    mut each: impl FnMut(Counted<'a>),
    mut beyond: impl FnMut(Counted<'a>),
) {
    let mut left = most.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX));
    for row in rows {
        if left > 0 {
            each(row)
        } else {
            beyond(row)
        }
        left = left.saturating_sub(row.count);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Key, place, and how often it comes or goes; the row is told by both.
    type Row = (u8, u8, i64);

    fn bag(rows: &[Row]) -> Bag {
        let mut bag = Bag::default();
        for (key, place, count) in rows {
            bag.put(u128::from(*key), &[&[*place], b"place"], &[*key, *place], *count);
        }
        bag.settle();
        bag
    }

    fn counted(rows: &[Row]) -> BTreeMap<(u8, u8), i64> {
        let mut counts = BTreeMap::new();
        rows.iter().for_each(|(key, place, count)| *counts.entry((*key, *place)).or_insert(0) += count);
        counts.retain(|_, count| *count != 0);
        counts
    }

    fn seen<'a>(rows: impl Iterator<Item = Counted<'a>>) -> Vec<((u8, u8), i64)> {
        let seen = |row: Counted<'_>| {
            assert_eq!((row.row, &row.place[1..]), (&[row.key as u8, row.place[0]][..], &b"place"[..]));
            ((row.key as u8, row.place[0]), row.count)
        };
        rows.map(seen).collect()
    }

    proptest! {
        #[test]
        fn rows_are_counted_as_a_map_would_and_changes_applied_as_to_one(
            kept in prop::collection::vec((0..4_u8, 0..6_u8, 1..3_i64), 0..30),
            changes in prop::collection::vec((0..4_u8, 0..6_u8, -2..3_i64), 0..30),
            most in prop::option::of(0..8_usize),
        ) {
            let (had, delta) = (bag(&kept), bag(&changes));
            prop_assert_eq!(seen(delta.iter()), counted(&changes).into_iter().collect::<Vec<_>>());
            let (mut now, mut from) = (counted(&kept), 0);
            for (row, change) in counted(&changes) {
                *now.entry(row).or_insert(0) += change;
            }
            now.retain(|_, count| *count > 0);
            while let Some(key) = delta.key_at(from) {
                let changed = delta.span(key, from);
                from = changed.end;
                let first_kept = (0..had.len()).find(|at| had.key_at(*at) == Some(key)).unwrap_or(had.len());
                let before = had.rows(had.span(key, first_kept));
                let after = after(before, delta.rows(changed));
                let expected: Vec<_> = now.clone().into_iter().filter(|((of, _), _)| u128::from(*of) == key).collect();
                let (mut rows, mut beyond) = (Vec::new(), Vec::new());
                first(after, most, |row| rows.push(row), |row| beyond.push(row));
                let but_the_last = rows.split_last().map_or(0, |(_, rows)| rows.iter().map(|row| row.count).sum());
                let count = |rows: &[Counted<'_>]| rows.iter().map(|row| row.count).sum::<i64>();
                match most.map(|most| most as i64) {
                    Some(most) => prop_assert!(but_the_last < most.max(1) && (beyond.is_empty() || count(&rows) >= most)),
                    None => prop_assert!(beyond.is_empty()),
                }
                prop_assert_eq!(seen(rows.into_iter().chain(beyond)), expected);
            }
            prop_assert_eq!(from, delta.len());
        }
    }
}
