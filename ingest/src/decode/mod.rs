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

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use arrow::array::{StringBuilder, StringViewArray, TimestampMicrosecondBuilder, make_view};
use chrono::{DateTime, NaiveDate};
use lakebed_log::{Batch, BatchId, ColumnType, Day, Events, Quarantined};

use crate::event::{self, Event, Required};
use crate::json;
use crate::raw_batch::RawBatch;
use crate::refusal::Refusal;
use crate::settings::Settings;
use grow::{Columns, DayColumns};
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
    days: Days,
    accepted: i64,
}

impl<'r> Decoder<'r> {
    fn new(raw: &'r RawBatch, source_name: &'r str, settings: &'r Settings) -> Self {
        Self {
            raw,
            text: simdutf8::basic::from_utf8(raw.text()).ok(),
            source_name,
            settings,
            shape: Shape::new(settings),
            columns: Columns::new(settings),
            days: Days::new(raw.events()),
            accepted: 0,
        }
    }

    /// Adds the event at a place in the text, or says why it is refused; then nothing of it is added.
    fn add(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let known = self.text.and_then(|text| text.get(range.clone()));
        let Self { shape, settings, columns, days, .. } = self;
        match known.filter(|text| shape.read(text).is_some()) {
            Some(text) => {
                let required = event::required(text.as_bytes(), settings, |path| shape.at(path, text))?;
                let day = days.of(required.time);
                let source = columns.add(&mut day.columns, shape, text);
                day.put(self.accepted, &required, source.map(json::text).as_deref().unwrap_or(self.source_name));
                day.places.push(range);
            }
            None => {
                let Event { required, source, rest } = event::read(&self.raw.text()[range.clone()], settings)?;
                let day = days.of(required.time);
                columns.add_entries(&mut day.columns, shape, rest);
                day.put(self.accepted, &required, source.as_deref().unwrap_or(self.source_name));
                day.places.push(range);
            }
        }
        self.accepted += 1;
        Ok(())
    }

    fn finish(self) -> (Events, BTreeMap<String, u64>, u64) {
        let (columns, misfits, over_limit) = self.columns.finish(&self.shape);
        let kinds: Vec<_> = columns.iter().map(|column| column.kind).collect();
        let mut days: Vec<Day> = self.days.days.into_iter().map(|day| day.finish(self.raw, &kinds)).collect();
        days.sort_by_key(|day| day.date);
        (Events { columns, days }, misfits, over_limit)
    }
}

/// Events by the day of their time.
struct Days {
    days: Vec<GrowingDay>,
    /// The place of each in `days`.
    places: HashMap<i64, usize>,
    /// That of the last event, which is often the next one's.
    last: usize,
    /// How many events there may be.
    events: usize,
}

impl Days {
    fn new(events: usize) -> Self {
        Self { days: Vec::new(), places: HashMap::new(), last: 0, events }
    }

    /// The day of a time in µs since 1970.
    #[inline]
    fn of(&mut self, time: i64) -> &mut GrowingDay {
        let number = time.div_euclid(DAY);
        if self.days.get(self.last).is_none_or(|last| last.number != number) {
            self.last = *self.places.entry(number).or_insert(self.days.len());
        }
        if self.last == self.days.len() {
            // Most batches are of one day. The room for all days together stays bounded, however many they are.
            let nth = self.days.len() + 1;
            self.days.push(GrowingDay::new(number, self.events / (nth * nth)));
        }
        &mut self.days[self.last]
    }
}

/// A day in µs.
const DAY: i64 = 86_400_000_000;

/// The events of a day, as far as they have come.
struct GrowingDay {
    /// Days since 1970.
    number: i64,
    rows: Vec<i64>,
    id: StringBuilder,
    event_type: StringBuilder,
    time: TimestampMicrosecondBuilder,
    source: StringBuilder,
    /// Where each is in the text.
    places: Vec<Range<usize>>,
    columns: DayColumns,
}

impl GrowingDay {
    fn new(number: i64, room: usize) -> Self {
        Self {
            number,
            rows: Vec::with_capacity(room),
            id: StringBuilder::with_capacity(room, room * 16),
            event_type: StringBuilder::with_capacity(room, room * 8),
            time: TimestampMicrosecondBuilder::with_capacity(room),
            source: StringBuilder::with_capacity(room, room * 8),
            places: Vec::with_capacity(room),
            columns: DayColumns::new(room),
        }
    }

    fn put(&mut self, row: i64, required: &Required<'_>, source: &str) {
        self.rows.push(row);
        self.id.append_value(&required.id);
        self.event_type.append_value(&required.event_type);
        self.time.append_value(required.time);
        self.source.append_value(source);
    }

    fn finish(mut self, raw: &RawBatch, kinds: &[ColumnType]) -> Day {
        Day {
            date: date(self.number),
            rows: self.rows.into(),
            event_id: self.id.finish(),
            event_type: self.event_type.finish(),
            event_time: self.time.finish().with_timezone("UTC"),
            source: self.source.finish(),
            doc: documents(raw, &self.places),
            values: self.columns.finish(kinds),
        }
    }
}

/// The day of so many since 1970.
fn date(number: i64) -> NaiveDate {
    // Nothing is decoded to a time of which there is no date.
    DateTime::from_timestamp_micros(number * DAY).unwrap_or_default().date_naive()
}

/// The documents at these places of a batch's text, as views of it. [`Decoder::add`] has found each of them to be UTF-8.
#[allow(unsafe_code, reason = "to look at all text for UTF-8 once more takes a thirtieth of an ingest")]
fn documents(raw: &RawBatch, places: &[Range<usize>]) -> StringViewArray {
    // A batch has less than 4 GiB.
    let view = |place: &Range<usize>| make_view(&raw.text()[place.clone()], 0, place.start as u32);
    let views = places.iter().map(view).collect::<Vec<_>>();
    // SAFETY: each view was made of the stretch of the one buffer that it points to, and a place is kept only after its bytes were
    // read as a `str`, of the whole text or of the event alone.
    unsafe { StringViewArray::new_unchecked(views.into(), vec![raw.text().clone()], None) }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
