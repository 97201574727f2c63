//! Which data files of a table are kept, and which addresses are written anew: decided from the files and the rows alone.
//!
//! A file holds the rows of a range of addresses, a *block*. Rows are only ever deleted, so a file with as many rows as its
//! range still has is right as it is. What is written takes in neighbours that are no larger, as a carry does in a binary
//! number: a table has few files, and a row is written again as often as the logarithm of the table at most.

use std::ops::Range;

use crate::hash::TableHash;
use crate::rows::Rows;

/// A file has no more rows than this: what one deleted row costs is a file.
pub(super) const MOST_ROWS: u64 = 1 << 18;

/// The rows of one data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// They are those with these addresses.
    pub(super) addresses: Range<u64>,
    /// So many were there when it was written.
    pub(super) rows: u64,
    /// Order-free hash over them.
    pub(super) hash: TableHash,
}

/// What brings the files to the rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The places of the blocks that stay; the others go.
    pub(super) keep: Vec<usize>,
    /// The addresses of the blocks that come, ascending.
    pub(super) write: Vec<Range<u64>>,
}

/// A stretch of the table's addresses.
struct Piece {
    addresses: Range<u64>,
    rows: u64,
    /// The block that holds just these rows.
    kept: Option<usize>,
}

impl Plan {
    /// Brings `blocks` to `rows`, with `most` rows in a file.
    pub(super) fn of(blocks: &[Block], rows: &Rows, most: u64) -> Self {
        let mut plan = Self::default();
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces(blocks, rows) {
            joined.push(piece);
            join(&mut joined, most);
        }
        for piece in joined.into_iter().filter(|piece| piece.rows > 0) {
            match piece.kept {
                Some(block) => plan.keep.push(block),
                None => plan.write.extend(cut(&piece, rows, most)),
            }
        }
        plan.keep.sort_unstable();
        plan
    }
}

/// The addresses of the rows as the blocks part them.
fn pieces(blocks: &[Block], rows: &Rows) -> Vec<Piece> {
    let all = &rows.addresses;
    let piece = |addresses: Range<u64>, block: Option<(usize, &Block)>| {
        let count = rows.between(addresses.clone()).count();
        let kept = block.filter(|(_, block)| block.rows == count).map(|(at, _)| at);
        Piece { addresses, rows: count, kept }
    };
    let mut ascending: Vec<(usize, &Block)> = blocks.iter().enumerate().collect();
    ascending.sort_by_key(|(_, block)| block.addresses.start);
    let (mut pieces, mut next) = (Vec::new(), all.start);
    for (at, block) in ascending {
        // One that begins before the rows, or before another has ended, holds rows that are not its own.
        if block.addresses.start < next || block.addresses.end > all.end || block.addresses.is_empty() {
            continue;
        }
        if next < block.addresses.start {
            pieces.push(piece(next..block.addresses.start, None));
        }
        pieces.push(piece(block.addresses.clone(), Some((at, block))));
        next = block.addresses.end;
    }
    if next < all.end {
        pieces.push(piece(next..all.end, None));
    }
    pieces
}

/// Joins the last piece with those before it, as long as one of the two is written and the other no larger than it.
fn join(pieces: &mut Vec<Piece>, most: u64) {
    while let [.., before, last] = pieces.as_slice() {
        let fits = before.rows + last.rows <= most;
        let due = match (before.kept, last.kept) {
            (None, None) => true,
            (Some(_), None) => before.rows <= last.rows,
            (None, Some(_)) => last.rows <= before.rows,
            (Some(_), Some(_)) => false,
        };
        if !(fits && due) {
            return;
        }
        let addresses = before.addresses.start..last.addresses.end;
        let rows = before.rows + last.rows;
        pieces.truncate(pieces.len() - 2);
        pieces.push(Piece { addresses, rows, kept: None });
    }
}

/// A piece in parts of no more than `most` rows.
fn cut(piece: &Piece, rows: &Rows, most: u64) -> Vec<Range<u64>> {
    let (mut parts, mut rest) = (Vec::new(), piece.addresses.clone());
    while !rest.is_empty() {
        let mut end = rest.start;
        // As far as it is full: so many more addresses have so many more rows at most.
        loop {
            let missing = most - rows.between(rest.start..end).count();
            if missing == 0 || end == rest.end {
                break;
            }
            end = (end + missing).min(rest.end);
        }
        parts.push(rest.start..end);
        rest.start = end;
    }
    parts.retain(|part| rows.between(part.clone()).count() > 0);
    parts
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "blocks are ranges")]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn rows(addresses: Range<u64>, deleted: &[u64]) -> Rows {
        Rows { addresses, deleted: Arc::new(deleted.iter().copied().collect()), ..Rows::default() }
    }

    fn block(addresses: Range<u64>) -> Block {
        Block { rows: addresses.end - addresses.start, addresses, hash: TableHash::EMPTY }
    }

    fn plan(blocks: &[Range<u64>], rows: &Rows, most: u64) -> (Vec<usize>, Vec<Range<u64>>) {
        let blocks: Vec<Block> = blocks.iter().cloned().map(block).collect();
        let Plan { keep, write } = Plan::of(&blocks, rows, most);
        (keep, write)
    }

    #[test]
    fn what_is_right_stays_and_what_is_missing_comes() {
        assert_eq!(plan(&[], &rows(0..0, &[]), 10), (vec![], vec![]));
        assert_eq!(plan(&[], &rows(5..8, &[]), 10), (vec![], vec![5..8]));
        assert_eq!(plan(&[0..8], &rows(0..8, &[]), 10), (vec![0], vec![]));
        assert_eq!(plan(&[0..8], &rows(0..10, &[]), 10), (vec![0], vec![8..10]));
        assert_eq!(plan(&[4..8, 0..4], &rows(0..8, &[]), 10), (vec![0, 1], vec![]));
    }

    #[test]
    fn a_deleted_row_costs_its_file() {
        assert_eq!(plan(&[0..8, 8..16], &rows(0..16, &[3]), 8), (vec![1], vec![0..8]));
        assert_eq!(plan(&[0..8, 8..16], &rows(0..16, &(0..8).collect::<Vec<_>>()), 8), (vec![1], vec![]));
        assert_eq!(plan(&[0..8], &rows(0..8, &(0..8).collect::<Vec<_>>()), 8), (vec![], vec![]));
    }

    #[test]
    fn small_files_are_carried_into_larger_ones() {
        let (mut files, mut written) = (Vec::<Range<u64>>::new(), 0);
        for end in 1..=1000 {
            let (keep, write) = plan(&files, &rows(0..end, &[]), MOST_ROWS);
            written += write.iter().map(|range| range.end - range.start).sum::<u64>();
            files = keep.into_iter().map(|at| files[at].clone()).chain(write).collect();
            assert!(files.len() <= 11, "{files:?}");
        }
        assert!(written < 1000 * 11, "{written}");
    }

    #[test]
    fn files_that_are_not_of_these_rows_go() {
        assert_eq!(plan(&[0..4, 2..8], &rows(0..8, &[]), 100), (vec![], vec![0..8]), "one is over another");
        assert_eq!(plan(&[0..4, 4..9], &rows(2..8, &[]), 100), (vec![], vec![2..8]), "before and after the rows");
        assert_eq!(plan(&[100..900, 900..901], &rows(100..901, &[]), 1000), (vec![0, 1], vec![]));
    }

    #[test]
    fn no_file_has_more_rows_than_allowed() {
        assert_eq!(plan(&[], &rows(0..25, &[]), 10), (vec![], vec![0..10, 10..20, 20..25]));
        let few = rows(0..25, &(2..22).collect::<Vec<_>>());
        assert_eq!(plan(&[], &few, 4), (vec![], vec![0..24, 24..25]));
        assert_eq!(plan(&[0..8], &rows(0..20, &[]), 10), (vec![0], vec![8..18, 18..20]));
    }
}
