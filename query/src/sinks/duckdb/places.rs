//! Where the rows of a table lie, known from the order that they were written in.
//!
//! A table that is written from nothing has its rows in the order of their addresses, later ones come behind them, and DuckDB keeps the
//! order of insertion, also where it moves rows together. So the place of a row is the number of rows with a lower address that are
//! still there, and a row goes without anybody reading the keys of all others, which takes most of the time in a large table.
//!
//! Another computation of the same rows may have them in another order, under the same addresses. Each has its name, the origin, and
//! only where that of the file is that of the image are places worth anything. Renewals, which give new addresses, keep the order.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use roaring::RoaringTreemap;

use super::database::Database;
use crate::error::Result;
use crate::sinks::TableImage;
use crate::sinks::change::Held;

/// Whether a table, whose rows are in the order of the addresses that its origin gave them, has them in that of the image's.
pub(super) fn is_in_order(table: &TableImage, origin: &str) -> bool {
    !table.origin.is_empty() && origin == table.origin
}

/// DuckDB's ids of the rows at some addresses, of a table in their order. `None` where the table has not the rows that it should have.
pub(super) fn row_ids(
    database: &Database,
    table: &str,
    held: &Held,
    addresses: &RoaringTreemap,
) -> Result<Option<Vec<i64>>> {
    let first = held.addresses.start;
    let gone_before = |address: u64| address.checked_sub(1).map_or(0, |last| held.deleted.rank(last));
    let gone_before_all = gone_before(first);
    let mut places = addresses.iter().map(|at| (at - first) - (gone_before(at) - gone_before_all)).peekable();
    let (mut ids, mut seen) = (Vec::new(), 0);
    database.query(&format!("SELECT rowid FROM {table}"), &mut |batch| {
        let here = batch.column(0).as_primitive::<Int64Type>();
        let end = seen + batch.num_rows() as u64;
        while let Some(place) = places.next_if(|place| *place < end) {
            ids.push(here.value((place - seen) as usize));
        }
        seen = end;
        Ok(())
    })?;
    let is_whole = seen == held.watermark.rows && ids.len() as u64 == addresses.len();
    Ok(is_whole.then_some(ids))
}
