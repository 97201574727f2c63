//! Which rows differ between two places, by their keys, in bounded memory: a first pass sums the rows of each of 65,536 shares
//! of the keys, and a second looks at the shares that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::scan::Scan;
use crate::error::Result;
use crate::hash::{TableHash, row_hashes};

/// So many shares of the keys; a share is the first 16 bits of a key's hash.
const SHARES: usize = 1 << 16;

/// So many keys are named.
const NAMED: usize = 3;

/// So many shares are looked at.
const LOOKED_AT: usize = 16;

/// What a place has that it should not have, or lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `stored`, `duckdb`, `postgres`, `delta` or `replay`.
    pub place: &'static str,
    /// Whether there is such a table.
    pub is_there: bool,
    /// The columns that are of other types there, each with both types; then no row is compared.
    pub columns: Vec<String>,
    /// The first few keys whose rows differ, each with how; none where the rows are right, and what is said of them is not.
    pub keys: Vec<(String, Differs)>,
    /// Whether there are others.
    pub more: bool,
}

impl Difference {
    /// There is no such table.
    pub(super) fn absent(place: &'static str) -> Self {
        Self { place, is_there: false, columns: Vec::new(), keys: Vec::new(), more: false }
    }

    /// Its columns are of other types.
    pub(super) fn altered(place: &'static str, columns: Vec<String>) -> Self {
        Self { is_there: true, columns, ..Self::absent(place) }
    }
}

/// How the rows of a key differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// They are not there.
    Missing,
    /// There should be none.
    Unexpected,
    /// They have other values.
    Changed,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Unexpected => "should not be there",
            Self::Changed => "has other values",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_there {
            return write!(f, "{}: the table, or a part of it, is not there", self.place);
        }
        if !self.columns.is_empty() {
            return write!(f, "{}: {}", self.place, self.columns.join(", "));
        }
        if self.keys.is_empty() {
            return write!(f, "{}: the rows are those of a replay, and the epoch says other ones", self.place);
        }
        let keys = self.keys.iter().map(|(key, differs)| format!("{key} {differs}")).collect::<Vec<_>>().join(", ");
        write!(f, "{}: {keys}{}", self.place, if self.more { ", and others" } else { "" })
    }
}

/// The rows of a key in the two places.
#[derive(Clone, Copy, Default)]
struct Found {
    expected: (u64, TableHash),
    there: (u64, TableHash),
}

/// Compares two places by the columns of a key; all columns, where there is none.
///
/// # Errors
/// What the scans say.
pub(super) async fn difference(
    place: &'static str,
    expected: &dyn Scan,
    there: &dyn Scan,
    key: &[usize],
) -> Result<Difference> {
    let mut shares = vec![TableHash::EMPTY; SHARES];
    let mut sum = |batch: &RecordBatch, add: bool| -> Result<()> {
        for (share, row) in shares_of(batch, key)?.into_iter().zip(row_hashes(batch)?) {
            let row = TableHash::of_row(row);
            shares[share] = if add { shares[share].add(row) } else { shares[share].without(row) };
        }
        Ok(())
    };
    expected.scan(&mut |batch| sum(&batch, true)).await?;
    there.scan(&mut |batch| sum(&batch, false)).await?;
    let differ = (0..SHARES).filter(|share| shares[*share] != TableHash::EMPTY);
    let differ: BTreeSet<usize> = differ.take(LOOKED_AT + 1).collect();
    let looked_at: BTreeSet<usize> = differ.iter().copied().take(LOOKED_AT).collect();

    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut look = |batch: &RecordBatch, is_expected: bool| -> Result<()> {
        for (row, (share, hash)) in shares_of(batch, key)?.into_iter().zip(row_hashes(batch)?).enumerate() {
            if looked_at.contains(&share) {
                let of_key = found.entry(text(batch, key, row)?).or_default();
                let side = if is_expected { &mut of_key.expected } else { &mut of_key.there };
                *side = (side.0 + 1, side.1.add(TableHash::of_row(hash)));
            }
        }
        Ok(())
    };
    expected.scan(&mut |batch| look(&batch, true)).await?;
    there.scan(&mut |batch| look(&batch, false)).await?;
    let mut keys = found.into_iter().filter(|(_, found)| found.expected != found.there).map(|(key, found)| {
        let differs = match (found.expected.0, found.there.0) {
            (_, 0) => Differs::Missing,
            (0, _) => Differs::Unexpected,
            _ => Differs::Changed,
        };
        (key, differs)
    });
    let named = keys.by_ref().take(NAMED).collect();
    let more = keys.next().is_some() || differ.len() > LOOKED_AT;
    Ok(Difference { place, is_there: true, columns: Vec::new(), keys: named, more })
}

/// The share of each row's key.
fn shares_of(batch: &RecordBatch, key: &[usize]) -> Result<Vec<usize>> {
    let hashes = match key {
        [] => row_hashes(batch)?,
        key => row_hashes(&batch.project(key)?)?,
    };
    Ok(hashes.iter().map(|hash| usize::from(u16::from_be_bytes([hash[0], hash[1]]))).collect())
}

/// A row's key as people read it: `day=2026-11-01 country=NO`.
fn text(batch: &RecordBatch, key: &[usize], row: usize) -> Result<String> {
    const LONGEST: usize = 200;
    let all: Vec<usize> = (0..batch.num_columns()).collect();
    let options = FormatOptions::default().with_null("null");
    let mut texts = Vec::new();
    for column in if key.is_empty() { &all } else { key } {
        let value = ArrayFormatter::try_new(batch.column(*column), &options)?.value(row).to_string();
        texts.push(format!("{}={value}", batch.schema_ref().field(*column).name()));
    }
    let text = texts.join(" ");
    Ok(match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    })
}
