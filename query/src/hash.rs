//! The content hash of a table: a sum, mod 2^256, of row hashes, so that it knows no order and follows a change in O(change).

use std::fmt;
use std::str::FromStr;

/// Order-free hash over canonical visible values: one NaN, −0 = 0, integers and texts alike whatever their width.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TableHash([u64; 4]);

impl TableHash {
    /// The hash of a table without rows.
    pub const EMPTY: Self = Self([0; 4]);
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
