//! A batch before it is decoded: the events' bytes, where each of them is, and the hash that names it all.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::buffer::Buffer;
use lakebed_log::ContentHash;

use crate::refusal::Refusal;
use crate::settings::Settings;

/// How much of an event that is too long is kept for the quarantine, in bytes.
const KEPT: usize = 64 << 10;
/// Above this, the offsets of an Arrow text array (32 bits) might not reach; two of them are below 2 GiB.
const MOST_BYTES: usize = 512 << 20;
const MOST_EVENTS: usize = 1 << 20;

/// Undecoded events, in the order they came.
///
/// The text is in a normal form, the same for every compression, line end and blank line: each event without the
/// blanks around it, followed by a line feed; or, from an array, by a comma, with `[` before the first. Of an event that
/// is too long there are the first 64 KiB, and its length counts the blanks after it. So a plain NDJSON file that is one batch has its own bytes' hash as content.
#[derive(Clone, Debug)]
pub struct RawBatch {
    text: Buffer,
    events: Vec<Range<usize>>,
    flaws: BTreeMap<usize, Flaw>,
    content: ContentHash,
    bytes: u64,
    limit: usize,
}

/// What is wrong with an event before anybody looked into it.
#[derive(Clone, Debug)]
enum Flaw {
    /// Its length, and the hash of all of it.
    TooLong {
        bytes: u64,
        hash: blake3::Hash,
    },
    CutOff,
    /// What could not be taken apart into events.
    Damaged(String),
}

impl RawBatch {
    /// BLAKE3 over the text as described above, and over length and hash of each event that was too long.
    pub fn content(&self) -> ContentHash {
        self.content
    }

    /// How many bytes the events have, decompressed, in the normal form, and with the ones that are too long in full.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many events there are, good or bad.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// The text that is kept here.
    pub(crate) fn text(&self) -> &Buffer {
        &self.text
    }

    /// Where each event is in the text, or what was kept of it and why it is refused.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Range<usize>, Option<Refusal>)> {
        self.events.iter().enumerate().map(|(position, range)| {
            let flaw = self.flaws.get(&position).map(|flaw| match flaw {
                Flaw::TooLong { bytes, .. } => Refusal::TooLong { bytes: *bytes, limit: self.limit },
                Flaw::CutOff => Refusal::CutOff,
                Flaw::Damaged(why) => Refusal::Damaged(why.clone()),
            });
            (range.clone(), flaw)
        })
    }

    /// Each event's bytes, or those that were kept of it and why it is refused.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<Refusal>)> {
        self.ranges().map(|(range, flaw)| (&self.text[range], flaw))
    }
}

/// Where batches are cut, and how long an event may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    event_bytes: usize,
    batch_bytes: usize,
    batch_events: usize,
}

impl Limits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            event_bytes: settings.max_event_bytes.clamp(1, MOST_BYTES),
            batch_bytes: settings.batch_bytes.clamp(1, MOST_BYTES),
            batch_events: settings.batch_events.clamp(1, MOST_EVENTS),
        }
    }

    /// How long an event may be, in bytes.
    pub(crate) fn event_bytes(&self) -> usize {
        self.event_bytes
    }
}

/// What follows an event in the source, and so in the text of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Line,
    Element,
    /// The source ended before the array did.
    CutOff,
}

/// A batch being filled: bytes are added to the open event until it ends.
#[derive(Debug)]
pub(crate) struct Draft {
    limits: Limits,
    text: Vec<u8>,
    events: Vec<Range<usize>>,
    flaws: BTreeMap<usize, Flaw>,
    /// Where the open event starts.
    start: usize,
    /// Set once the open event is longer than allowed: only its head is in the text.
    too_long: Option<(u64, blake3::Hasher)>,
    /// Bytes of events that are not in the text.
    skipped: u64,
    /// The content of the batch before it in its source.
    after: Option<ContentHash>,
}

impl Draft {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with_room(limits, 0)
    }

    /// A draft that will have about so many bytes.
    pub(crate) fn with_room(limits: Limits, bytes: usize) -> Self {
        let (text, events) = (Vec::with_capacity(bytes), Vec::new());
        let (flaws, after) = (BTreeMap::new(), None);
        Self { limits, text, events, flaws, start: 0, too_long: None, skipped: 0, after }
    }

    /// The same after another batch of the source.
    pub(crate) fn after(self, before: Option<ContentHash>) -> Self {
        Self { after: before, ..self }
    }

    /// Whether the batch is to be cut here: the ended events alone decide, and without one there is nothing to cut.
    pub(crate) fn is_full(&self) -> bool {
        let full = self.events.len() >= self.limits.batch_events || self.start >= self.limits.batch_bytes;
        full && !self.events.is_empty()
    }

    /// Adds bytes to the open event; its memory stays bounded.
    pub(crate) fn add(&mut self, bytes: &[u8], in_array: bool) {
        let mut bytes = bytes;
        if self.text.len() == self.start {
            bytes = without_leading_blanks(bytes);
            if in_array && self.text.is_empty() && !bytes.is_empty() {
                self.text.push(b'[');
                self.start = 1;
            }
        }
        if let Some((length, hasher)) = &mut self.too_long {
            *length += bytes.len() as u64;
            hasher.update(bytes);
            return;
        }
        self.text.extend_from_slice(bytes);
        // One byte more may be the carriage return of the line's end.
        if self.text.len() - self.start > self.limits.event_bytes + 1 {
            self.cut_to_head();
        }
    }

    fn cut_to_head(&mut self) {
        let event = &self.text[self.start..];
        let mut hasher = blake3::Hasher::new();
        hasher.update(event);
        self.too_long = Some((event.len() as u64, hasher));
        self.text.truncate(self.start + KEPT.min(self.limits.event_bytes));
    }

    /// Ends the open event. Blanks alone are no event; but where an array is cut off between two, that is told by an empty one.
    pub(crate) fn end(&mut self, end: End) {
        if self.too_long.is_none() {
            while self.text.len() > self.start && self.text.last().is_some_and(|&byte| is_blank(byte)) {
                self.text.pop();
            }
            if self.text.len() == self.start && end != End::CutOff {
                return;
            }
            if self.text.len() - self.start > self.limits.event_bytes {
                self.cut_to_head();
            }
        }
        let flaw = match self.too_long.take() {
            Some((bytes, hasher)) => {
                self.skipped += bytes - (self.text.len() - self.start) as u64;
                Some(Flaw::TooLong { bytes, hash: hasher.finalize() })
            }
            None => (end == End::CutOff).then_some(Flaw::CutOff),
        };
        if let Some(flaw) = flaw {
            self.flaws.insert(self.events.len(), flaw);
        }
        self.events.push(self.start..self.text.len());
        match end {
            End::Line => self.text.push(b'\n'),
            End::Element => self.text.push(b','),
            // No comma: a cut array is not the same content as the whole one.
            End::CutOff => {}
        }
        self.start = self.text.len();
    }

    /// Adds bytes that no events could be found in, as one refused event.
    pub(crate) fn refuse(&mut self, bytes: &[u8], why: String) {
        self.text.truncate(self.start);
        self.too_long = None;
        self.text.extend_from_slice(&bytes[..bytes.len().min(KEPT)]);
        self.skipped += (bytes.len() - bytes.len().min(KEPT)) as u64;
        self.flaws.insert(self.events.len(), Flaw::Damaged(why));
        self.events.push(self.start..self.text.len());
        self.text.push(b'\n');
        self.start = self.text.len();
    }

    /// The batch, if there is any event in it.
    pub(crate) fn finish(self) -> Option<RawBatch> {
        if self.events.is_empty() {
            return None;
        }
        let Self { text, events, flaws, limits, skipped, after, .. } = self;
        let bytes = text.len() as u64 + skipped;
        let content = content_of(&text, &events, &flaws, after);
        Some(RawBatch { text: text.into(), events, flaws, content, bytes, limit: limits.event_bytes })
    }
}

fn content_of(
    text: &[u8],
    events: &[Range<usize>],
    flaws: &BTreeMap<usize, Flaw>,
    after: Option<ContentHash>,
) -> ContentHash {
    let mut notes = Vec::new();
    for (position, flaw) in flaws {
        match flaw {
            Flaw::TooLong { bytes, hash } => {
                notes.extend_from_slice(&(*position as u64).to_le_bytes());
                notes.extend_from_slice(&bytes.to_le_bytes());
                notes.extend_from_slice(hash.as_bytes());
            }
            // Of which there is nothing in the text: it is told from the whole array, and from other arrays that end so.
            Flaw::CutOff if events.get(*position).is_some_and(Range::is_empty) => {
                notes.extend_from_slice(format!("cut off at {position}").as_bytes());
                notes.extend(after.iter().flat_map(|after| after.to_string().into_bytes()));
            }
            Flaw::CutOff | Flaw::Damaged(_) => {}
        }
    }
    if notes.is_empty() { ContentHash::of(text) } else { ContentHash::of(&[text, &notes].concat()) }
}

/// JSON's own blanks (RFC 8259, 2).
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn without_leading_blanks(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(event_bytes: usize, batch_bytes: usize, batch_events: usize) -> Draft {
        Draft::new(Limits { event_bytes, batch_bytes, batch_events })
    }

    fn lines(event_bytes: usize, lines: &[&str]) -> RawBatch {
        let mut draft = draft(event_bytes, 1000, 1000);
        for line in lines {
            draft.add(line.as_bytes(), false);
            draft.end(End::Line);
        }
        draft.finish().unwrap()
    }

    fn events(batch: &RawBatch) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        batch.iter().map(|(bytes, flaw)| (text(bytes), flaw.map(|flaw| flaw.to_string()))).collect()
    }

    #[test]
    fn blanks_around_events_are_not_in_the_batch() {
        let batch = lines(100, &[" 1\r", "", " \t", "2 2"]);
        assert_eq!(events(&batch), [("1".to_owned(), None), ("2 2".to_owned(), None)]);
        assert_eq!(batch.content(), ContentHash::of(b"1\n2 2\n"));
        assert_eq!(batch.bytes(), 6);
    }

    #[test]
    fn too_long_is_judged_without_the_line_end() {
        let batch = lines(4, &["1234\r", "12345", "12345\r", "1234567890"]);
        let long = |bytes: u64| Some(format!("{bytes} bytes long, and the limit is 4"));
        let expected = [("1234", None), ("1234", long(5)), ("1234", long(6)), ("1234", long(10))];
        assert_eq!(events(&batch), expected.map(|(text, flaw)| (text.to_owned(), flaw)));
        assert_eq!(batch.bytes(), 4 + 5 + 6 + 10 + 4);
    }

    #[test]
    fn what_was_skipped_is_part_of_the_content() {
        let one = lines(4, &["1234567890"]);
        let other = lines(4, &["1234567891"]);
        assert_eq!(events(&one), events(&other));
        assert_ne!(one.content(), other.content());
    }

    #[test]
    fn an_array_cut_off_is_not_the_whole_one() {
        let array = |end| {
            let mut draft = draft(100, 1000, 1000);
            draft.add(b"{}", true);
            draft.end(end);
            draft.finish().unwrap()
        };
        assert_eq!(array(End::Element).content(), ContentHash::of(b"[{},"));
        assert_eq!(array(End::CutOff).content(), ContentHash::of(b"[{}"));
        assert_ne!(array(End::Element).content(), lines(100, &["{}"]).content());
        let between = |before: Option<&RawBatch>| {
            let mut draft = draft(100, 1000, 1000).after(before.map(RawBatch::content));
            if before.is_none() {
                draft.add(b"{}", true);
                draft.end(End::Element);
            }
            draft.end(End::CutOff);
            draft.finish().unwrap().content()
        };
        assert_ne!(between(None), array(End::Element).content());
        assert_ne!(between(Some(&array(End::Element))), between(Some(&lines(100, &["{}"]))));
    }

    #[test]
    fn only_ended_events_fill_a_batch() {
        let mut draft = draft(100, 4, 2);
        draft.add(b"12345678", false);
        assert!(!draft.is_full());
        draft.end(End::Line);
        assert!(draft.is_full());
    }

    #[test]
    fn memory_is_bounded_by_the_limit() {
        let mut draft = draft(100_000, 1000, 1000);
        for _ in 0..1000 {
            draft.add(&[b'x'; 50_000], false);
        }
        assert!(draft.text.capacity() < 400_000);
        draft.end(End::Line);
        let batch = draft.finish().unwrap();
        assert_eq!(batch.iter().map(|(kept, _)| kept.len()).collect::<Vec<_>>(), [KEPT]);
        assert_eq!(batch.bytes(), 50_000_001);
    }
}
