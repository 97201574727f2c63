//! Keys of rows: 128-bit hashes of their columns, by which operators and models tell them apart.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::hash::encoding::RowEncoder;

/// A map by keys that are hashes already.
pub(crate) type KeyMap<V> = HashMap<u128, V, BuildHasherDefault<Taken>>;

/// A set of such.
pub(crate) type KeySet = HashSet<u128, BuildHasherDefault<Taken>>;

/// Takes the last bits of a hash for a hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let last = bytes.last_chunk().copied().unwrap_or_default();
        self.0 = u64::from_ne_bytes(last);
    }
}

/// The hash of each row's key: 128 bits of BLAKE3 over the canonical encoding of the key columns, as the content hash
/// has it, but that what is finer than a microsecond is told apart; nulls equal each other. Without columns there are no rows.
///
/// # Errors
/// Columns of different lengths, a type without an encoding, or a value that the plain type of its kind cannot hold.
pub(crate) fn row_keys(columns: &[ArrayRef]) -> Result<Vec<u128>, ArrowError> {
    let rows = columns.first().map_or(0, |column| column.len());
    if columns.iter().any(|column| column.len() != rows) {
        return Err(ArrowError::InvalidArgumentError("key columns of different lengths".to_owned()));
    }
    let mut encoder = RowEncoder::of_keys(columns)?;
    let key = |row| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&encoder.hash(row)[..16]);
        u128::from_be_bytes(bytes)
    };
    Ok((0..rows).map(key).collect())
}

/// Whether values of a type have the same key exactly where they are of one group to DataFusion. Of what is made of other
/// values it is not looked into.
pub(crate) fn told_apart_as_values(kind: &DataType) -> bool {
    use DataType::{
        Binary, Boolean, Date32, Decimal128, Decimal256, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, Timestamp,
        UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let integer = matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64);
    let bytes = matches!(kind, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary);
    integer || bytes || matches!(kind, Boolean | Date32 | Timestamp(..) | Decimal128(..) | Decimal256(..))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Date64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, StringArray, StringViewArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::IntervalMonthDayNano;

    use super::*;

    #[test]
    fn a_key_is_the_same_whatever_its_types_and_nulls_equal_each_other() {
        let keys = |left: ArrayRef, right: ArrayRef| row_keys(&[left, right]).unwrap();
        let narrow = keys(
            Arc::new(Int32Array::from(vec![Some(1), None, None, Some(1)])),
            Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("a"), None])),
        );
        let wide = keys(
            Arc::new(Int64Array::from(vec![Some(1), None, None, Some(1)])),
            Arc::new(StringViewArray::from(vec![Some("a"), Some("a"), Some("a"), None])),
        );
        assert_eq!(narrow, wide);
        assert_eq!(narrow[1], narrow[2]);
        assert!(narrow[0] != narrow[1] && narrow[0] != narrow[3] && narrow[1] != narrow[3]);
        assert_eq!(row_keys(&[]).unwrap(), [0; 0]);
        let keys = |column: ArrayRef| row_keys(&[column]).unwrap();
        let fine = keys(Arc::new(TimestampNanosecondArray::from(vec![-1_000, -999, -1, 0, 1, 1_000])));
        assert_eq!([fine[0], fine[3], fine[5]], keys(Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, 1])))[..]);
        assert_eq!(fine.iter().collect::<BTreeSet<_>>().len(), fine.len());
        let days = keys(Arc::new(Date64Array::from(vec![86_400_000, 86_400_001])));
        assert!(days[0] == keys(Arc::new(Date32Array::from(vec![1])))[0] && days[0] != days[1]);
        let length = |nanoseconds| IntervalMonthDayNano::new(1, 2, nanoseconds);
        let lengths =
            keys(Arc::new(IntervalMonthDayNanoArray::from(vec![length(0), length(1), length(2), length(1_000)])));
        assert_eq!(lengths.iter().collect::<BTreeSet<_>>().len(), lengths.len());
        let uneven: [ArrayRef; 2] = [Arc::new(Int32Array::from(vec![1])), Arc::new(Int32Array::from(vec![1, 2]))];
        assert!(row_keys(&uneven).is_err());
    }
}
