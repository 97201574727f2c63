//! Raw batch → batch.
//!
//! An event is read along the keys of the events before it ([`shape`]), by a cursor that checks its JSON on the way ([`cursor`]);
//! its texts go from where they are into the columns, and its document stays where it is. What is out of the ordinary (a new
//! key, one that is there twice, an escape in one, what is refused) is read by the plain reader, event by event; so what is
//! accepted, and why it is not, is what that one says. [`decode_plainly`] does all of it so.

mod cursor;
mod flatten;
mod grow;
mod plain;
mod shape;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{StringBuilder, StringViewArray, TimestampMicrosecondBuilder, make_view};
use lakebed_log::{Batch, BatchId, Events, Quarantined};

use crate::event::{self, Event, Required};
use crate::json;
use crate::raw_batch::RawBatch;
use crate::refusal::Refusal;
use crate::settings::Settings;
use grow::Columns;
pub use plain::decode_plainly;
use shape::Shape;

/// A decoded batch, and what was left out of its columns; all of that is still in `_doc`.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The events that were read and those that were not: together as many as the raw batch has.
    pub batch: Batch,
    /// How many values did not fit their column's type and are null there, by column name.
    pub misfits: BTreeMap<String, u64>,
    /// How many values have no column because the batch has `Settings::max_columns` of them already.
    pub over_limit: u64,
    /// How many events are no JSON at all.
    pub no_json: u64,
    /// The source ended within an array.
    pub cut_off: bool,
}

/// Decodes a batch. This never fails: an event that cannot be read is in `batch.quarantine`, with its reason.
///
/// `source` is the batch's source, and that of every event without a `source` text of its own. Documents are not copied: the
/// batch holds on to the text of `raw`.
pub fn decode(raw: &RawBatch, id: BatchId, source: &str, settings: &Settings) -> Decoded {
    let mut decoder = Decoder::new(raw, source, settings);
    let Refused { quarantine, no_json, cut_off } = refused(raw, |range| decoder.add(range));
    let (events, misfits, over_limit) = decoder.finish();
    let batch = Batch { id, content: raw.content(), source: source.to_owned(), lane: None, events, quarantine };
    Decoded { batch, misfits, over_limit, no_json, cut_off }
}

/// The events of a batch that were refused.
struct Refused {
    quarantine: Vec<Quarantined>,
    no_json: u64,
    cut_off: bool,
}

/// Hands each event's place to a decoder, and gathers those that it refuses or the framing did.
fn refused(raw: &RawBatch, mut add: impl FnMut(Range<usize>) -> Result<(), Refusal>) -> Refused {
    let mut refused = Refused { quarantine: Vec::new(), no_json: 0, cut_off: false };
    for (position, (range, flaw)) in (0u64..).zip(raw.ranges()) {
        if let Err(refusal) = flaw.map_or_else(|| add(range.clone()), Err) {
            refused.no_json += u64::from(refusal.is_no_json());
            refused.cut_off |= refusal == Refusal::CutOff;
            let bytes = raw.text()[range].to_vec();
            refused.quarantine.push(Quarantined { position, reason: refusal.to_string(), bytes });
        }
    }
    refused
}

/// The accepted events, column by column.
struct Decoder<'r> {
    raw: &'r RawBatch,
    /// All of the batch, if it is UTF-8, so that this need not be asked event by event.
    text: Option<&'r str>,
    source_name: &'r str,
    settings: &'r Settings,
    shape: Shape<'r>,
    columns: Columns<'r>,
    id: StringBuilder,
    event_type: StringBuilder,
    time: TimestampMicrosecondBuilder,
    source: StringBuilder,
    accepted: Vec<Range<usize>>,
}

impl<'r> Decoder<'r> {
    fn new(raw: &'r RawBatch, source_name: &'r str, settings: &'r Settings) -> Self {
        let events = raw.events();
        Self {
            raw,
            text: simdutf8::basic::from_utf8(raw.text()).ok(),
            source_name,
            settings,
            shape: Shape::new(settings),
            columns: Columns::new(settings, events),
            id: StringBuilder::with_capacity(events, events * 16),
            event_type: StringBuilder::with_capacity(events, events * 8),
            time: TimestampMicrosecondBuilder::with_capacity(events),
            source: StringBuilder::with_capacity(events, events * 8),
            accepted: Vec::with_capacity(events),
        }
    }

    /// Adds the event at a place in the text, or says why it is refused; then nothing of it is added.
    fn add(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let known = self.text.and_then(|text| text.get(range.clone()));
        match known.filter(|text| self.shape.read(text).is_some()) {
            Some(text) => {
                let Self { shape, settings, .. } = self;
                let required = event::required(text.as_bytes(), settings, |path| shape.at(path, text))?;
                let source = self.columns.add(&mut self.shape, text);
                self.put(&required, source.map(json::text).as_deref());
            }
            None => {
                let Event { required, source, rest } = event::read(&self.raw.text()[range.clone()], self.settings)?;
                self.columns.add_entries(&mut self.shape, rest);
                self.put(&required, source.as_deref());
            }
        }
        self.accepted.push(range);
        Ok(())
    }

    fn put(&mut self, required: &Required<'_>, source: Option<&str>) {
        self.id.append_value(&required.id);
        self.event_type.append_value(&required.event_type);
        self.time.append_value(required.time);
        self.source.append_value(source.unwrap_or(self.source_name));
    }

    fn finish(mut self) -> (Events, BTreeMap<String, u64>, u64) {
        let (columns, misfits, over_limit) = self.columns.finish(&self.shape);
        let events = Events {
            event_id: self.id.finish(),
            event_type: self.event_type.finish(),
            event_time: self.time.finish().with_timezone("UTC"),
            source: self.source.finish(),
            doc: documents(self.raw, &self.accepted),
            columns,
        };
        (events, misfits, over_limit)
    }
}

/// The documents at these places of a batch's text, as views of it.
fn documents(raw: &RawBatch, places: &[Range<usize>]) -> StringViewArray {
    // A batch has less than 4 GiB.
    let view = |place: &Range<usize>| make_view(&raw.text()[place.clone()], 0, place.start as u32);
    let views = places.iter().map(view).collect::<Vec<_>>();
    StringViewArray::new(views.into(), vec![raw.text().clone()], None)
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
