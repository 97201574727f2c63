//! The content hash of a table: a sum, mod 2^256, of row hashes, so that it knows no order and follows a change in O(change).
//!
//! A row's hash is BLAKE3 (256 bits, read little endian) of the row's canonical encoding, which [`encoding`] lays down;
//! a table that comes back from a sink with other types for the same visible values has the same hash. It sums rows and
//! is no defence against somebody who makes up rows to reach a given sum: it finds mistakes, not forgeries.

pub(crate) mod encoding;

use std::fmt;
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use self::encoding::RowEncoder;

/// Order-free hash over canonical visible values: one NaN, −0 = 0, integers and texts alike whatever their width.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TableHash([u64; 4]);

impl TableHash {
    /// The hash of a table without rows.
    pub const EMPTY: Self = Self([0; 4]);

    /// The hash of the rows of both, mod 2^256.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "callers add hashes without importing an operator's trait")]
    pub fn add(self, other: Self) -> Self {
        let mut sum = [0; 4];
        let mut carry = false;
        for (limb, (left, right)) in sum.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            let (partial, over) = left.overflowing_add(right);
            let (whole, over_by_carry) = partial.overflowing_add(u64::from(carry));
            (*limb, carry) = (whole, over || over_by_carry);
        }
        Self(sum)
    }

    /// The hash of the rows that are left when those of `other` go.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        // Two's complement: −x is !x + 1.
        let negated = Self(other.0.map(|limb| !limb)).add(Self([1, 0, 0, 0]));
        self.add(negated)
    }

    /// The sum of the hashes of the batch's rows: all its columns, in their order, without their names.
    ///
    /// # Errors
    /// A type that has no encoding (a union), or a value that the plain type of its kind cannot hold (an instant beyond
    /// what 64 bits of µs reach).
    pub fn of_batch(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let mut rows = RowEncoder::new(batch.columns())?;
        Ok((0..batch.num_rows()).fold(Self::EMPTY, |sum, row| sum.add(Self::of_row(rows.hash(row)))))
    }

    /// The hash of a table of one row, by the row's own.
    pub(crate) fn of_row(hash: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(hash.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*bytes);
        }
        Self(limbs)
    }
}

/// The first 128 bits of a row's hash.
pub(crate) fn short(hash: &[u8; 32]) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(bytes)
}

/// The hash of each of the batch's rows.
///
/// # Errors
/// As [`TableHash::of_batch`].
pub(crate) fn row_hashes(batch: &RecordBatch) -> Result<Vec<[u8; 32]>, ArrowError> {
    let mut rows = RowEncoder::new(batch.columns())?;
    Ok((0..batch.num_rows()).map(|row| rows.hash(row)).collect())
}

impl fmt::Display for TableHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

impl fmt::Debug for TableHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no table hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a content hash of 64 hex digits")]
pub struct InvalidTableHash(String);

impl FromStr for TableHash {
    type Err = InvalidTableHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTableHash(text.to_owned());
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut limbs = [0; 4];
        for (limb, at) in limbs.iter_mut().zip([48, 32, 16, 0]) {
            *limb = u64::from_str_radix(&text[at..at + 16], 16).map_err(|_| invalid())?;
        }
        Ok(Self(limbs))
    }
}

#[cfg(test)]
mod tests;
