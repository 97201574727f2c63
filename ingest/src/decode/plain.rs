//! The plain decoder: raw batch → batch, one event after the other, on what `serde_json` takes apart.
//!
//! It is written to be plainly right, and is what the fast one is held against.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder, TimestampMicrosecondBuilder, UInt64Array};
use arrow::compute::take;
use chrono::NaiveDate;
use lakebed_log::{Batch, BatchId, Column, Day, Events};

use crate::decode::flatten::{Flattened, Flattener};
use crate::decode::{DAY, Decoded, Refused, date, documents, refused};
use crate::event;
use crate::raw_batch::RawBatch;
use crate::settings::Settings;

/// Decodes a batch as [`crate::decode`] does, to the same result, in several times its time.
pub fn decode_plainly(raw: &RawBatch, id: BatchId, source: &str, settings: &Settings) -> Decoded {
    let (mut ids, mut types, mut sources) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut times = TimestampMicrosecondBuilder::new();
    let mut flattener = Flattener::new(settings);
    let mut accepted = Vec::new();
    let Refused { quarantine, no_json, cut_off } = refused(raw, |range| {
        let event = event::read(&raw.text()[range.clone()], settings)?;
        ids.append_value(event.required.id);
        types.append_value(event.required.event_type);
        times.append_value(event.required.time);
        sources.append_value(event.source.as_deref().unwrap_or(source));
        flattener.add(event.rest);
        accepted.push(range);
        Ok(())
    });
    let Flattened { columns, misfits, over_limit } = flattener.finish();
    let (columns, values): (Vec<Column>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let all = Day {
        date: NaiveDate::default(),
        rows: (0..accepted.len() as i64).collect::<Vec<_>>().into(),
        event_id: ids.finish(),
        event_type: types.finish(),
        event_time: times.finish().with_timezone("UTC"),
        source: sources.finish(),
        doc: documents(raw, &accepted),
        values,
    };
    let mut days: BTreeMap<NaiveDate, Vec<u64>> = BTreeMap::new();
    for (row, time) in (0..).zip(all.event_time.values()) {
        days.entry(date(time.div_euclid(DAY))).or_default().push(row);
    }
    let days = days.into_iter().map(|(date, rows)| of_rows(&all, date, &rows.into())).collect();
    let events = Events { columns, days };
    let batch = Batch { id, content: raw.content(), source: source.to_owned(), lane: None, events, quarantine };
    Decoded { batch, misfits, over_limit, no_json, cut_off }
}

/// Some of the events.
fn of_rows(all: &Day, date: NaiveDate, rows: &UInt64Array) -> Day {
    // Cannot fail: the rows are there.
    let taken = |values: &dyn Array| take(values, rows, None).unwrap_or_else(|_| values.slice(0, 0));
    Day {
        date,
        rows: taken(&all.rows).as_primitive().clone(),
        event_id: taken(&all.event_id).as_string().clone(),
        event_type: taken(&all.event_type).as_string().clone(),
        event_time: taken(&all.event_time).as_primitive().clone(),
        source: taken(&all.source).as_string().clone(),
        doc: taken(&all.doc).as_string_view().clone(),
        values: all.values.iter().map(|values| taken(values)).collect(),
    }
}
