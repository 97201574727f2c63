//! Record batches between this workspace's arrow and the newer one that the DuckDB crate is built on, without copying.
//!
//! Both lay the structs of the Arrow C Data Interface out alike, as its specification fixes them: a batch is exported
//! by one crate, its two structs are moved over byte for byte, and the other crate imports them.
#![allow(
    unsafe_code,
    reason = "the C Data Interface is a handover of raw pointers; nothing else crosses two arrow versions"
)]

use arrow::array::{Array, RecordBatch, StructArray};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use duckdb::arrow as newer;

// What the casts below rest on, checked where it costs nothing: a change of layout in either crate does not compile.
const _: () = assert!(size_of::<FFI_ArrowArray>() == size_of::<newer::ffi::FFI_ArrowArray>());
const _: () = assert!(size_of::<FFI_ArrowSchema>() == size_of::<newer::ffi::FFI_ArrowSchema>());
const _: () = assert!(align_of::<FFI_ArrowArray>() == align_of::<newer::ffi::FFI_ArrowArray>());
const _: () = assert!(align_of::<FFI_ArrowSchema>() == align_of::<newer::ffi::FFI_ArrowSchema>());

/// The batch as DuckDB's arrow sees it. Shares the buffers.
pub(super) fn to_duckdb(batch: RecordBatch) -> Result<newer::array::RecordBatch, ArrowError> {
    let (mut array, mut schema) = to_ffi(&StructArray::from(batch).into_data())?;
    // SAFETY: both pointers are to live, aligned, initialized values of the C Data Interface's own layout, which the
    // newer crate's types share (asserted above). `from_raw` moves them out and leaves released structs behind, so each
    // release callback runs once.
    let (array, schema) = unsafe {
        (
            newer::ffi::FFI_ArrowArray::from_raw((&raw mut array).cast()),
            newer::ffi::FFI_ArrowSchema::from_raw((&raw mut schema).cast()),
        )
    };
    // SAFETY: the array and the schema were exported together from a valid array, so they describe each other.
    let data = unsafe { newer::ffi::from_ffi(array, &schema) };
    let data = data.map_err(|error| ArrowError::CDataInterface(error.to_string()))?;
    Ok(newer::array::StructArray::from(data).into())
}

/// A batch of DuckDB's as the rest of the workspace sees it. Shares the buffers.
pub(super) fn from_duckdb(batch: newer::array::RecordBatch) -> Result<RecordBatch, ArrowError> {
    let data = newer::array::Array::into_data(newer::array::StructArray::from(batch));
    let exported = newer::ffi::to_ffi(&data).map_err(|error| ArrowError::CDataInterface(error.to_string()))?;
    let (mut array, mut schema) = exported;
    // SAFETY: as in `to_duckdb`, with the crates the other way round.
    let (array, schema) = unsafe {
        (FFI_ArrowArray::from_raw((&raw mut array).cast()), FFI_ArrowSchema::from_raw((&raw mut schema).cast()))
    };
    // SAFETY: the array and the schema were exported together from a valid array, so they describe each other.
    let data = unsafe { from_ffi(array, &schema) }?;
    Ok(StructArray::from(data).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::{from_duckdb, to_duckdb};

    fn batch() -> RecordBatch {
        let inner = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef;
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", Arc::new(StringArray::from(vec![Some("a"), None, Some("ö")]))),
            ("view", Arc::new(StringViewArray::from(vec![Some("longer than twelve bytes"), None, Some("x")]))),
            ("decimal", Arc::new(Decimal128Array::from(vec![Some(i128::MAX >> 3), None, Some(-5)]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
                    Some(vec![Some(1), None]),
                    None,
                    Some(vec![]),
                ])),
            ),
            ("struct", Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), inner)]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        let crossed = from_duckdb(to_duckdb(batch()).unwrap()).unwrap();
        assert_eq!(crossed, batch());
    }

    #[test]
    fn a_slice_comes_back_as_it_went_and_outlives_its_source() {
        let whole = batch();
        let slice = whole.slice(1, 2);
        let crossed = to_duckdb(slice.clone()).unwrap();
        drop(whole);
        assert_eq!(from_duckdb(crossed).unwrap(), slice);
    }
}
