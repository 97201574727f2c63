//! Finds the events in a stream of bytes and cuts it into batches, in bounded memory.
//!
//! The first byte that is no blank says how the events are framed: `[` begins an array of them, anything else is one
//! event a line. After an array's end it is looked at again, so that arrays may follow each other. A source that is one
//! object over several lines, as people write them by hand, is one event, if it is no longer than one may be. The cuts
//! depend on the content alone, never on how a reader hands it out.

use std::io::{self, BufRead, Chain, Cursor, ErrorKind, Read};

use lakebed_log::ContentHash;
use serde::de::IgnoredAny;

use crate::decompress::decompress;
use crate::error::Error;
use crate::raw_batch::{Draft, End, Limits, RawBatch, is_blank};
use crate::settings::Settings;

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// The batches of a source, in order. After an error there are no more.
#[derive(Debug)]
pub struct RawBatches<R: BufRead> {
    /// Before the rest comes what was read ahead of it.
    reader: Chain<Cursor<Vec<u8>>, R>,
    limits: Limits,
    framing: Framing,
    begun: bool,
    ended: bool,
    /// How many bytes the last batch had, and its content.
    last: (usize, Option<ContentHash>),
}

impl<R: BufRead> RawBatches<R> {
    /// Reads events from decompressed bytes.
    pub fn new(reader: R, settings: &Settings) -> Self {
        let (reader, limits) = (Cursor::new(Vec::<u8>::new()).chain(reader), Limits::of(settings));
        Self { reader, limits, framing: Framing::START, begun: false, ended: false, last: (0, None) }
    }

    fn read_batch(&mut self) -> Result<Option<RawBatch>, Error> {
        let (bytes, before) = self.last;
        let mut draft = Draft::with_room(self.limits, bytes + bytes / 64).after(before);
        if !std::mem::replace(&mut self.begun, true) {
            // Nothing comes after one event that is all of it, nor after an error.
            self.ended = true;
            match self.is_all_one_event().map_err(Error::reading)? {
                true => add_whole(self.reader.get_ref().0.get_ref(), &mut draft),
                false => self.ended = false,
            }
        }
        while !self.ended && !draft.is_full() {
            match self.reader.fill_buf() {
                Ok([]) => {
                    self.framing.end_of_source(&mut draft);
                    self.ended = true;
                }
                Ok(chunk) => {
                    let used = self.framing.feed(chunk, &mut draft);
                    self.reader.consume(used);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    return Err(Error::reading(error));
                }
            }
        }
        let batch = draft.finish();
        self.last = batch.as_ref().map_or((0, None), |batch| (batch.text().len(), Some(batch.content())));
        Ok(batch)
    }

    /// Whether all of the source is one event over several lines. So much is read ahead as it takes to know: of one event a line
    /// the first line, and never much more than an event may have.
    fn is_all_one_event(&mut self) -> io::Result<bool> {
        let most = self.limits.event_bytes();
        let (ahead, rest) = self.reader.get_mut();
        if first_byte(rest)? != Some(b'{') {
            return Ok(false);
        }
        let (text, mut looked_at) = (ahead.get_mut(), 0);
        while text.len() <= most {
            let room = (most - text.len()) as u64 + 1;
            if rest.by_ref().take(room).read_until(b'\n', text)? == 0 {
                return Ok(is_one_event(text));
            }
            // At the end of a line, where no word or number is cut; and again once there is twice as much.
            if text.ends_with(b"\n") && text.len() >= 2 * looked_at {
                looked_at = text.len();
                if !may_be_one_event(text) {
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Iterator for RawBatches<R> {
    type Item = Result<RawBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_batch().transpose()
    }
}

/// A record that has more bytes than this without its compression is not taken apart: twelve times the largest that Kinesis takes.
const MOST_OF_ONE: usize = 128 << 20;

/// Nor is one with which all records of a batch have more than this.
const MOST_TOGETHER: usize = 256 << 20;

/// One batch of all events of a text that is held whole.
pub(crate) fn frame_text(text: &[u8], settings: &Settings) -> Option<RawBatch> {
    let mut draft = Draft::with_room(Limits::of(settings), text.len());
    frame_into(text, &mut draft);
    draft.finish()
}

/// One batch of all events of several sources that are held whole, in their order, each framed and compressed in its own way.
/// What cannot be decompressed is one refused event.
pub(crate) fn frame_all<'b>(sources: impl IntoIterator<Item = &'b [u8]>, settings: &Settings) -> Option<RawBatch> {
    let (mut draft, mut left) = (Draft::new(Limits::of(settings)), MOST_TOGETHER);
    for source in sources {
        let (mut text, most) = (Vec::new(), left.min(MOST_OF_ONE));
        let reader = decompress(Cursor::new(source.to_vec()), "this record");
        let read = reader.take(most as u64 + 1).read_to_end(&mut text);
        let refused = match read {
            Err(error) => Some(error.to_string()),
            Ok(_) if text.len() > MOST_OF_ONE => Some(format!("more than {MOST_OF_ONE} bytes without its compression")),
            Ok(_) if text.len() > most => Some(format!("more than {MOST_TOGETHER} bytes with the records before it")),
            Ok(_) => None,
        };
        left -= text.len().min(left);
        if let Some(why) = refused {
            draft.refuse(source, why);
            continue;
        }
        frame_into(&text, &mut draft);
    }
    draft.finish()
}

fn frame_into(text: &[u8], draft: &mut Draft) {
    if is_one_event(text) {
        return add_whole(text, draft);
    }
    let (mut framing, mut rest) = (Framing::START, text);
    while !rest.is_empty() {
        rest = &rest[framing.feed(rest, draft)..];
    }
    framing.end_of_source(draft);
}

/// Whether a text is one object that goes over several lines, as people write them by hand.
fn is_one_event(text: &[u8]) -> bool {
    let begins = text.iter().find(|byte| !is_blank(**byte)) == Some(&b'{');
    // The first line of what is one event a line is an object by itself, and the second is too much.
    begins && text.contains(&b'\n') && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// Whether a text may become one event over several lines, by the lines that have come.
fn may_be_one_event(lines: &[u8]) -> bool {
    match serde_json::from_slice::<IgnoredAny>(lines) {
        // Blanks may follow; but an object that ends in its first line is one event a line.
        Ok(_) => lines.trim_ascii_end().contains(&b'\n'),
        Err(error) => error.is_eof(),
    }
}

fn add_whole(text: &[u8], draft: &mut Draft) {
    draft.add(text, false);
    draft.end(End::Line);
}

/// The next byte that is no blank, if there is one. The blanks before it are read, and it is not.
fn first_byte(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let chunk = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let blanks = chunk.iter().take_while(|byte| is_blank(**byte)).count();
        let (first, is_end) = (chunk.get(blanks).copied(), chunk.is_empty());
        reader.consume(blanks);
        if first.is_some() || is_end {
            return Ok(first);
        }
    }
}

/// One batch of events that are taken apart already.
pub(crate) fn frame_events<'b>(events: impl IntoIterator<Item = &'b [u8]>, settings: &Settings) -> Option<RawBatch> {
    let mut draft = Draft::new(Limits::of(settings));
    for event in events {
        draft.add(event, false);
        draft.end(End::Line);
    }
    draft.finish()
}

/// A batch of one refused event.
pub(crate) fn refused(bytes: &[u8], why: String, settings: &Settings) -> Option<RawBatch> {
    let mut draft = Draft::new(Limits::of(settings));
    draft.refuse(bytes, why);
    draft.finish()
}

/// Where in the framing the stream stands.
#[derive(Debug)]
enum Framing {
    /// Before the first event; so many bytes of a byte order mark have been seen.
    Start {
        mark: usize,
    },
    Lines,
    Array(Scanner),
}

impl Framing {
    const START: Self = Self::Start { mark: 0 };

    /// Takes bytes in, up to the end of at most one event. Returns how many were taken, at least one.
    fn feed(&mut self, chunk: &[u8], draft: &mut Draft) -> usize {
        match self {
            Self::Start { mark } => {
                let Some(&first) = chunk.first() else { return 0 };
                if first == BYTE_ORDER_MARK[*mark] {
                    *mark = (*mark + 1) % BYTE_ORDER_MARK.len();
                    return 1;
                }
                if *mark > 0 {
                    // No mark after all: these bytes are the first of a line.
                    draft.add(&BYTE_ORDER_MARK[..*mark], false);
                    *self = Self::Lines;
                    return self.feed(chunk, draft);
                }
                match first {
                    b'[' => *self = Self::Array(Scanner::default()),
                    blank if is_blank(blank) => {}
                    _ => {
                        *self = Self::Lines;
                        return self.feed(chunk, draft);
                    }
                }
                1
            }
            Self::Lines => match memchr::memchr(b'\n', chunk) {
                Some(at) => {
                    draft.add(&chunk[..at], false);
                    draft.end(End::Line);
                    at + 1
                }
                None => {
                    draft.add(chunk, false);
                    chunk.len()
                }
            },
            Self::Array(scanner) => match scanner.end_of_element(chunk) {
                Some(at) => {
                    draft.add(&chunk[..at], true);
                    draft.end(End::Element);
                    if chunk[at] == b']' {
                        *self = Self::START;
                    }
                    at + 1
                }
                None => {
                    draft.add(chunk, true);
                    chunk.len()
                }
            },
        }
    }

    fn end_of_source(&mut self, draft: &mut Draft) {
        match self {
            Self::Start { mark } => {
                draft.add(&BYTE_ORDER_MARK[..*mark], false);
                draft.end(End::Line);
            }
            Self::Lines => draft.end(End::Line),
            Self::Array(_) => draft.end(End::CutOff),
        }
    }
}

/// Finds the commas between the elements of an array and its end. It knows strings and brackets and nothing else, so
/// that an element that is not JSON is one refused event, as far as its brackets are paired.
#[derive(Debug, Default)]
struct Scanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// Where in `chunk` the element ends: the place of its `,` or of the array's `]`.
    fn end_of_element(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < chunk.len() {
            if self.in_string {
                if !self.escaped {
                    at += memchr::memchr2(b'"', b'\\', &chunk[at..])?;
                    self.in_string = chunk[at] != b'"';
                    self.escaped = chunk[at] == b'\\';
                } else {
                    self.escaped = false;
                }
            } else {
                match chunk[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b',' | b']' if self.depth == 0 => return Some(at),
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader, Read, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    /// Hands out the given bytes in pieces of the given sizes, over and over.
    struct Pieces<'a>(&'a [u8], Vec<usize>, usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.2 += 1;
            let size = self.1[self.2 % self.1.len()].min(into.len());
            self.0.read(&mut into[..size])
        }
    }

    fn read(bytes: &[u8], settings: &Settings, sizes: Vec<usize>) -> Vec<RawBatch> {
        let reader = BufReader::with_capacity(7, Pieces(bytes, sizes, 0));
        RawBatches::new(reader, settings).collect::<Result<_, _>>().unwrap()
    }

    fn texts(batches: &[RawBatch]) -> Vec<String> {
        let text = |(bytes, flaw): (&[u8], Option<_>)| {
            let mark = if flaw.is_some() { "!" } else { "" };
            format!("{mark}{}", String::from_utf8_lossy(bytes))
        };
        batches.iter().flat_map(|batch| batch.iter().map(text).collect::<Vec<_>>()).collect()
    }

    fn framed(bytes: impl AsRef<[u8]>) -> Vec<String> {
        texts(&read(bytes.as_ref(), &Settings::default(), vec![3]))
    }

    #[test]
    fn lines() {
        assert_eq!(framed("{\"a\":1}\n{\"b\":2}\n"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(framed("\n {\"a\":1} \r\n\r\n\t\n{\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(framed("\u{FEFF}{}\n"), ["{}"]);
        assert_eq!(framed("garbage\n[1]\n"), ["garbage", "[1]"]);
        assert_eq!(framed(b"\xEF\xBBx\n\xEF"), ["\u{FFFD}x", "\u{FFFD}"]);
        assert_eq!(framed(b"\xEF\xBB"), ["\u{FFFD}"]);
    }

    #[test]
    fn nothing_is_no_batch() {
        for text in ["", "\n \r\n", "\u{FEFF}", "[]", " [ ] \n", "[,]"] {
            assert!(framed(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn arrays() {
        assert_eq!(
            framed("\u{FEFF} [ {\"a\":[1,2]} ,\n{\"b\":\"],\\\",\"},3 ]\n"),
            ["{\"a\":[1,2]}", "{\"b\":\"],\\\",\"}", "3"]
        );
        assert_eq!(framed("[{}] [{\"a\":1}]\n"), ["{}", "{\"a\":1}"]);
        assert_eq!(framed("[{}]\n{\"a\":1}\n{\"b\":1}"), ["{}", "{\"a\":1}", "{\"b\":1}"]);
        assert_eq!(framed("[{}}, {}]"), ["{}}", "{}"]);
    }

    #[test]
    fn an_array_cut_off_marks_its_last_element() {
        assert_eq!(framed("[{}, {\"a\":"), ["{}", "!{\"a\":"]);
        assert_eq!(framed("[{}, {\"a\":1}\n"), ["{}", "!{\"a\":1}"]);
        assert_eq!(framed("[{}, "), ["{}", "!"]);
        assert_eq!(framed(" ["), ["!"]);
        assert_eq!(framed("[] "), [] as [&str; 0]);
        assert_eq!(framed("[{\"a\":\"]}"), ["!{\"a\":\"]}"]);
    }

    #[test]
    fn an_event_that_is_too_long_does_not_hide_the_next() {
        let settings = Settings { max_event_bytes: 5, ..Settings::default() };
        let kept = |text: &str| texts(&read(text.as_bytes(), &settings, vec![4]));
        assert_eq!(kept("1\n1234567890\n2\n"), ["1", "!12345", "2"]);
        assert_eq!(kept("[1,\"234567890,]\",2]"), ["1", "!\"2345", "2"]);
        assert_eq!(kept("1234567890"), ["!12345"]);
        assert_eq!(kept("[1234567890"), ["!12345"]);
    }

    #[test]
    fn batches_are_cut_by_events_and_by_bytes() {
        let sizes = |settings: &Settings, text: &str| {
            read(text.as_bytes(), settings, vec![5]).iter().map(RawBatch::events).collect::<Vec<_>>()
        };
        let three = Settings { batch_events: 3, ..Settings::default() };
        assert_eq!(sizes(&three, "1\n2\n3\n4\n5\n6\n"), [3, 3]);
        assert_eq!(sizes(&three, "[1,2,3,4]\n\n"), [3, 1]);
        let six = Settings { batch_bytes: 6, ..Settings::default() };
        assert_eq!(sizes(&six, "1\n2\n3\n4\n12345678\n6\n"), [3, 2, 1]);
    }

    #[test]
    fn an_error_is_the_last_item() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(ErrorKind::Interrupted.into()),
                    2..5 => {
                        into[..2].copy_from_slice(b"1\n");
                        Ok(2)
                    }
                    _ => Err(io::Error::other("broken")),
                }
            }
        }
        let settings = Settings { batch_events: 2, ..Settings::default() };
        let mut batches = RawBatches::new(BufReader::new(Breaks(0)), &settings);
        assert_eq!(batches.next().unwrap().unwrap().events(), 2);
        assert!(matches!(batches.next(), Some(Err(Error::Read(_)))));
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_source_that_is_one_object_is_one_event() {
        let pretty = "{\n  \"a\": {\n    \"b\": -1\n  }\n}";
        assert_eq!(framed(pretty), [pretty]);
        assert_eq!(framed(format!("\n {pretty} \r\n\n")), [pretty]);
        assert_eq!(framed("{\r\n\"a\":1}"), ["{\r\n\"a\":1}"]);
        assert_eq!(framed("{}\n").len(), 1);
        // What is more, or other, than one object is lines.
        assert_eq!(framed("{\n}\n{}\n"), ["{", "}", "{}"]);
        assert_eq!(framed("{\"a\":\n{\"b\":1}\n{\"c\":1}\n"), ["{\"a\":", "{\"b\":1}", "{\"c\":1}"]);
        assert_eq!(framed("{\n\"a\":1"), ["{", "\"a\":1"]);
        assert_eq!(framed("[{}]\n{\n}"), ["{}", "{", "}"]);
        let settings = |max_event_bytes| Settings { max_event_bytes, ..Settings::default() };
        let kept = |most: usize| read(pretty.as_bytes(), &settings(most), vec![4])[0].events();
        assert_eq!((kept(pretty.len()), kept(pretty.len() - 1)), (1, 5));
        let body = frame_all([pretty.as_bytes()], &Settings::default()).unwrap();
        let file = read(pretty.as_bytes(), &Settings::default(), vec![1]);
        assert_eq!(file[0].content(), body.content(), "from a file as from elsewhere");
    }

    #[test]
    fn one_event_over_several_lines_is_one_event() {
        let pretty = "{\n  \"a\": 1\n}\n";
        let settings = Settings::default();
        let framed = |text: &[u8]| texts(&[frame_all([text], &settings).unwrap()]);
        assert_eq!(framed(pretty.as_bytes()), ["{\n  \"a\": 1\n}"]);
        assert_eq!(framed(b"{}\n{}\n"), ["{}", "{}"]);
        assert_eq!(framed(b"{\n}\n{}\n").len(), 3, "lines, as in a file");
        let all = frame_all([pretty.as_bytes(), b"[1,\n2]", b"", b"{}\nx"], &settings).unwrap();
        assert_eq!(texts(&[all]), ["{\n  \"a\": 1\n}", "1", "2", "{}", "x"]);
        let damaged = frame_all([b"\x1f\x8bno gzip".as_slice(), b"{}"], &settings).unwrap();
        assert_eq!(texts(&[damaged]).len(), 2);
    }

    #[test]
    fn a_text_is_not_decompressed_again() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"{}\n{}\n{}").unwrap();
        let gzip = gzip.finish().unwrap();
        let settings = Settings::default();
        assert_eq!(texts(&[frame_all([gzip.as_slice()], &settings).unwrap()]), ["{}", "{}", "{}"]);
        assert!(!texts(&[frame_text(&gzip, &settings).unwrap()]).contains(&"{}".to_owned()));
    }

    /// Bytes out of what matters to the framing.
    fn source() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"{\"a\":[1,\"x\\\"y\"]}".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b",".to_vec()),
            Just(b"[".to_vec()),
            Just(b"]".to_vec()),
            Just(b"\\\"".to_vec()),
            Just(b"{\n\"a\":1\n}".to_vec()),
            Just(BYTE_ORDER_MARK.to_vec()),
            proptest::collection::vec(any::<u8>(), 0..12),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_depend_on_the_reader(
            bytes in source(),
            sizes in proptest::collection::vec(1usize..9, 1..4),
            (max_event_bytes, batch_bytes, batch_events) in (1usize..40, 1usize..60, 1usize..6),
        ) {
            let settings = Settings { max_event_bytes, batch_bytes, batch_events, ..Settings::default() };
            let whole: Vec<RawBatch> = RawBatches::new(&bytes[..], &settings).collect::<Result<_, _>>().unwrap();
            let pieces = read(&bytes, &settings, sizes);
            let hashes = |batches: &[RawBatch]| batches.iter().map(|batch| (batch.content(), batch.events())).collect::<Vec<_>>();
            prop_assert_eq!(hashes(&whole), hashes(&pieces));
            prop_assert_eq!(texts(&whole), texts(&pieces));
        }

        #[test]
        fn every_line_is_an_event(lines in proptest::collection::vec("[^\\[ \r\n\t\u{FEFF}][^\r\n]{0,20}[^ \r\n\t]", 0..20)) {
            prop_assert_eq!(framed(lines.join("\n")), lines.clone());
            prop_assert_eq!(framed(lines.join("\r\n\n")), lines);
        }
    }
}
