//! Which rows may differ: the keys are parted into shares by their hashes, and of each share the hashes of its rows are summed.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::error::Result;
use crate::hash::encoding::RowEncoder;
use crate::hash::{TableHash, row_hashes, short};
use crate::keys::row_keys;

/// A share is the first bits of a key's hash: 262,144 shares, and 8 MB for their sums. Of a table of millions of rows a share is some tens,
/// so that what is sorted follows what changed.
const BITS: u32 = 18;

fn share(key: u128) -> usize {
    (key >> (u128::BITS - BITS)) as usize
}

/// The sums of each share, over the rows of both sides.
pub(super) struct Shares {
    key: Vec<usize>,
    sums: Vec<TableHash>,
}

impl Shares {
    /// No rows yet; `key` are the places of the columns by which they are told apart.
    pub(super) fn new(key: Vec<usize>) -> Self {
        Self { key, sums: vec![TableHash::EMPTY; 1 << BITS] }
    }

    /// Takes in rows of one side.
    ///
    /// # Errors
    /// As [`row_keys`] and [`row_hashes`].
    pub(super) fn take(&mut self, batch: &RecordBatch, is_after: bool) -> Result<()> {
        let of_key: Vec<ArrayRef> = self.key.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        for (key, row) in row_keys(&of_key)?.into_iter().zip(row_hashes(batch)?) {
            let (sum, row) = (&mut self.sums[share(key)], TableHash::of_row(row));
            *sum = if is_after { sum.add(row) } else { sum.without(row) };
        }
        Ok(())
    }

    /// The shares whose rows are not the same on both sides.
    pub(super) fn differing(self) -> Differing {
        Differing(self.sums.into_iter().map(|sum| sum != TableHash::EMPTY).collect())
    }
}

/// Of each share, whether its rows differ.
#[derive(Debug)]
pub(super) struct Differing(Vec<bool>);

/// `differs(key…)`: whether a key is in a share whose rows differ.
pub(super) fn differs(shares: &Arc<Differing>) -> ScalarUDF {
    function(Of::Share(Arc::clone(shares)))
}

/// `key_hash(key…)`: 16 bytes that equal keys share.
pub(super) fn key_hash() -> ScalarUDF {
    function(Of::Key)
}

/// `row_hash(column, …)`: 16 bytes that rows share which the content hash sees as equal.
pub(super) fn row_hash() -> ScalarUDF {
    function(Of::Row)
}

fn function(of: Of) -> ScalarUDF {
    ScalarUDF::from(Hashed { of, signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug)]
enum Of {
    Key,
    Row,
    Share(Arc<Differing>),
}

/// Shares are those of one comparison.
impl PartialEq for Of {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key, Self::Key) | (Self::Row, Self::Row) => true,
            (Self::Share(mine), Self::Share(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        }
    }
}

impl Eq for Of {}

impl Hash for Of {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Hashed {
    of: Of,
    signature: Signature,
}

impl ScalarUDFImpl for Hashed {
    fn name(&self) -> &str {
        match self.of {
            Of::Key => "key_hash",
            Of::Row => "row_hash",
            Of::Share(_) => "differs",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(match self.of {
            Of::Key | Of::Row => DataType::FixedSizeBinary(16),
            Of::Share(_) => DataType::Boolean,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let columns = arguments.args.iter().map(|argument| argument.to_array(arguments.number_rows));
        let columns = columns.collect::<PlanResult<Vec<_>>>()?;
        let rows = 0..arguments.number_rows;
        Ok(ColumnarValue::Array(match &self.of {
            Of::Key => bytes(row_keys(&columns)?.into_iter().map(u128::to_be_bytes)),
            Of::Row => {
                let mut encoder = RowEncoder::new(&columns)?;
                bytes(rows.map(|row| short(&encoder.hash(row)).to_be_bytes()))
            }
            Of::Share(differing) => {
                let differs = row_keys(&columns)?.into_iter().map(|key| differing.0[share(key)]);
                Arc::new(BooleanArray::from_iter(differs.map(Some)))
            }
        }))
    }
}

fn bytes(hashes: impl Iterator<Item = [u8; 16]>) -> ArrayRef {
    let bytes: Vec<u8> = hashes.flatten().collect();
    Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), None))
}
