//! The plain decoder: raw batch → batch, one event after the other, on what `serde_json` takes apart.
//!
//! It is written to be plainly right, and is what the fast one is held against.

use arrow::array::{StringBuilder, TimestampMicrosecondBuilder};
use lakebed_log::{Batch, BatchId, Events};

use crate::decode::flatten::{Flattened, Flattener};
use crate::decode::{Decoded, Refused, documents, refused};
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
    let events = Events {
        event_id: ids.finish(),
        event_type: types.finish(),
        event_time: times.finish().with_timezone("UTC"),
        source: sources.finish(),
        doc: documents(raw, &accepted),
        columns,
    };
    let batch = Batch { id, content: raw.content(), source: source.to_owned(), lane: None, events, quarantine };
    Decoded { batch, misfits, over_limit, no_json, cut_off }
}
