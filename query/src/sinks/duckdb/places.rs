//! Where the rows of a table lie, known from the order that they were written in.
//!
//! A table that is written from nothing has its rows in the order of their addresses, later ones come behind them, and DuckDB keeps the
//! order of insertion, also where it moves rows together. So the place of a row is the number of rows with a lower address that are
//! still there, and a row is found without decoding and hashing the keys of all others, which takes most of the time in a large table.
//!
//! It need not be so: the same rows may have been computed twice, and under the same addresses come in another order. Whoever deletes by
//! places compares the keys of what was deleted.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use roaring::RoaringTreemap;

use super::database::Database;
use crate::error::Result;
use crate::sinks::change::Held;

/// DuckDB's ids of the rows at the places of some addresses. `None` where the table has not as many rows as it should have.
pub(super) fn row_ids(
    database: &Database,
    table: &str,
    held: &Held,
    addresses: &RoaringTreemap,
) -> Result<Option<Vec<i64>>> {
    let (mut from, mut gone_before) = (held.addresses.start, 0);
    let place_of = |address: u64| {
        gone_before += held.deleted.range_cardinality(from..address);
        from = address;
        address - held.addresses.start - gone_before
    };
    let mut places = addresses.iter().map(place_of).peekable();
    let (mut ids, mut seen) = (Vec::new(), 0);
    database.query(&format!("SELECT rowid FROM {table}"), &mut |batch| {
        let (here, before) = (batch.column(0).as_primitive::<Int64Type>().values(), seen);
        seen += batch.num_rows() as u64;
        while let Some(place) = places.next_if(|place| *place < seen) {
            ids.extend(usize::try_from(place - before).ok().and_then(|at| here.get(at)));
        }
        Ok(())
    })?;
    let is_whole = seen == held.watermark.rows && ids.len() as u64 == addresses.len();
    Ok(is_whole.then_some(ids))
}
