//! Files that are tables: the rows of Parquet and CSV become events, one JSON object each, for whoever brings history along.
//!
//! The document of such an event is that object; [`crate::rows`] writes it of a row of Parquet. A null and an empty CSV field is
//! no value. A CSV field is a text: what it means is what `[columns]` says, so that a column does not change its type where a
//! value looks like a number.

use std::fs::File;
use std::io::{self, BufRead, Cursor, Read};
use std::path::Path;

use arrow::array::RecordBatchReader;
use csv::StringRecord;
use lakebed_project::{EventsConfig, Places};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::decompress::{PARQUET, decompress, open};
use crate::error::Error;
use crate::number::Number;
use crate::rows;
use crate::settings::Settings;

/// So many rows of a Parquet file are read at once.
const ROWS: usize = 1024;

/// About so many bytes of events are made of CSV rows at once.
const BYTES: usize = 64 << 10;

/// Opens a file as lines of events: a table's rows if its content is Parquet, or its name ends in `.csv` or `.tsv` (with `.gz` or
/// `.zst` behind it or not); else the file as it is: plain, gzip or zstd.
///
/// A pipe is read as a file is, and waited for until somebody writes to it. It must not be opened twice: what was read of it is gone.
///
/// # Errors
/// [`Error::Open`] and [`Error::Directory`]; [`Error::Table`] for a table that cannot be read, and [`Error::NoId`] for one of which
/// no row is an event; [`Error::Read`] and [`Error::Parquet`] where what it begins with says so.
pub fn open_any(path: &Path, settings: &Settings) -> Result<Box<dyn BufRead + Send>, Error> {
    open_lines(path, settings, true)
}

/// The same for who looks at rows that need not be events.
///
/// # Errors
/// As [`open_any`], without [`Error::NoId`].
pub(crate) fn open_sample(path: &Path, settings: &Settings) -> Result<Box<dyn BufRead + Send>, Error> {
    open_lines(path, settings, false)
}

/// Refuses a file that [`open_any`] refuses. What is no regular file is not opened.
///
/// # Errors
/// As [`open_any`].
pub fn check_source(path: &Path, settings: &Settings) -> Result<(), Error> {
    let about = std::fs::metadata(path).map_err(|reason| Error::Open { path: path.to_owned(), reason })?;
    match about.is_file() || about.is_dir() {
        true => open_any(path, settings).map(drop),
        false => Ok(()),
    }
}

fn open_lines(path: &Path, settings: &Settings, of_events: bool) -> Result<Box<dyn BufRead + Send>, Error> {
    let (mut file, name) = (open(path)?, path.display().to_string());
    if let Some(separator) = separator_of(path) {
        return csv_lines(path, file, separator, (settings, of_events));
    }
    let mut head = Vec::with_capacity(PARQUET.len());
    let read = file.by_ref().take(PARQUET.len() as u64).read_to_end(&mut head);
    read.map_err(|error| Error::Read(io::Error::new(error.kind(), format!("{name}: {error}"))))?;
    let wrong = |reason: &str| Err(Error::Table { path: path.to_owned(), reason: reason.to_owned() });
    match head == PARQUET {
        true if file.metadata().is_ok_and(|about| about.is_file()) => parquet_lines(path, file),
        false if is_called_parquet(path) && head.is_empty() => wrong("it is empty"),
        false if is_called_parquet(path) => wrong("it does not begin as Parquet does"),
        // Parquet in a pipe is refused with the first read.
        _ => Ok(decompress(Cursor::new(head).chain(file), &name)),
    }
}

fn csv_lines(
    path: &Path,
    file: File,
    separator: u8,
    (settings, of_events): (&Settings, bool),
) -> Result<Box<dyn BufRead + Send>, Error> {
    let wrong = |reason: String| Error::Table { path: path.to_owned(), reason };
    let name = path.display().to_string();
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(separator)
        .flexible(false)
        .from_reader(Quotes::of(decompress(file, &name), separator));
    let names = rows.headers().map_err(|error| wrong(error.to_string()))?.clone();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|n| n == *name)) {
        return Err(wrong(format!("two columns are called '{}'", twice.1)));
    }
    // A file without a first line has no rows either.
    if of_events && !names.is_empty() && !may_have_id(&names, &settings.fields) {
        let id = settings.fields.id.iter().map(Places::to_string).collect::<Vec<_>>().join(" and ");
        return Err(Error::NoId { path: path.to_owned(), id, columns: names.iter().map(str::to_owned).collect() });
    }
    let numbers = names.iter().map(|name| is_time(name, settings)).collect();
    Ok(Box::new(Lines::new(name, CsvLines { rows, names, numbers })))
}

fn parquet_lines(path: &Path, file: File) -> Result<Box<dyn BufRead + Send>, Error> {
    let rows = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|reader| reader.with_batch_size(ROWS).build());
    let rows = rows.map_err(|error| Error::Table { path: path.to_owned(), reason: error.to_string() })?;
    Ok(Box::new(Lines::new(path.display().to_string(), ParquetLines(rows))))
}

/// Whether a row with these columns may have an id, by where the project says that it is.
fn may_have_id(names: &StringRecord, fields: &EventsConfig) -> bool {
    let may = |place: &lakebed_project::Place| match place {
        lakebed_project::Place::Path(path) => {
            matches!(path.as_slice(), [only] if names.iter().any(|name| name == only))
        }
        lakebed_project::Place::ContentHash(_) => true,
        // Files have none.
        lakebed_project::Place::Header(_) | lakebed_project::Place::Arrival => false,
    };
    fields.id.iter().all(|part| part.0.iter().any(may))
}

/// Whether the values of a file are texts whatever they mean.
pub(crate) fn has_texts_alone(path: &Path) -> bool {
    separator_of(path).is_some()
}

fn separator_of(path: &Path) -> Option<u8> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    match () {
        () if name.ends_with(".csv") => Some(b','),
        () if name.ends_with(".tsv") => Some(b'\t'),
        () => None,
    }
}

fn is_called_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Whether the column is that of the event's time, of which a number may be the text.
fn is_time(name: &str, settings: &Settings) -> bool {
    settings.fields.event_time.0.iter().any(|place| match place {
        lakebed_project::Place::Path(path) => matches!(path.as_slice(), [only] if only == name),
        _ => false,
    })
}

/// Gives lines of events, some at a time; `None` at the end.
trait NextLines: Send {
    fn next_lines(&mut self) -> io::Result<Option<Vec<u8>>>;
}

/// Lines as a reader.
struct Lines<N> {
    name: String,
    lines: N,
    part: Cursor<Vec<u8>>,
}

impl<N> Lines<N> {
    fn new(name: String, lines: N) -> Self {
        Self { name, lines, part: Cursor::default() }
    }
}

impl<N: NextLines> BufRead for Lines<N> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.part.fill_buf()?.is_empty() {
            let lines = self.lines.next_lines();
            match lines.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))? {
                Some(lines) => self.part = Cursor::new(lines),
                None => return Ok(&[]),
            }
        }
        self.part.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.part.consume(amount);
    }
}

impl<N: NextLines> Read for Lines<N> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// A CSV file's bytes, which are cut off where they end inside quotes: a reader of CSV takes all that is left for one text there.
struct Quotes<R> {
    bytes: R,
    separator: u8,
    place: Place,
}

/// Where in a CSV file a byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldBegins,
    Bare,
    Quoted,
    /// Behind a quote in quotes: it ends them, or is the first of two.
    BehindQuote,
}

impl<R> Quotes<R> {
    fn of(bytes: R, separator: u8) -> Self {
        Self { bytes, separator, place: Place::FieldBegins }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.place == Place::Quoted {
            let reason = "it ends inside quotes: a quote is not closed, or the file is cut off";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        for byte in &buffer[..read] {
            self.place = match (self.place, *byte) {
                (Place::Quoted, b'"') => Place::BehindQuote,
                (Place::Quoted, _) | (Place::FieldBegins | Place::BehindQuote, b'"') => Place::Quoted,
                (_, b'\n' | b'\r') => Place::FieldBegins,
                // A byte order mark, which is no part of the first field.
                (Place::FieldBegins, 0xEF | 0xBB | 0xBF) => Place::FieldBegins,
                (_, byte) if byte == self.separator => Place::FieldBegins,
                _ => Place::Bare,
            };
        }
        Ok(read)
    }
}

struct CsvLines<R> {
    rows: csv::Reader<R>,
    names: StringRecord,
    /// Which columns are numbers where their text is one.
    numbers: Vec<bool>,
}

impl<R: Read + Send> NextLines for CsvLines<R> {
    fn next_lines(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut lines, mut row) = (Vec::new(), StringRecord::new());
        while lines.len() < BYTES && self.rows.read_record(&mut row).map_err(io::Error::other)? {
            let fields = self.names.iter().zip(row.iter()).zip(&self.numbers).filter(|((_, text), _)| !text.is_empty());
            let value = |text: &str, number: bool| match number && is_json_number(text) {
                true => text.to_owned(),
                false => Value::from(text).to_string(),
            };
            let fields = fields.map(|((name, text), number)| format!("{}:{}", Value::from(name), value(text, *number)));
            lines.extend_from_slice(format!("{{{}}}\n", fields.collect::<Vec<_>>().join(",")).as_bytes());
        }
        Ok(Some(lines).filter(|lines| !lines.is_empty()))
    }
}

/// Whether a text is a number as JSON writes it: one with a zero before it is a name.
pub(crate) fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let begins = digits.as_bytes();
    Number::parse(text).is_some() && !text.starts_with('+') && !matches!(begins, [b'0', b'0'..=b'9', ..])
}

struct ParquetLines<B>(B);

impl<B: RecordBatchReader + Send> NextLines for ParquetLines<B> {
    fn next_lines(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(batch) = self.0.next() else { return Ok(None) };
        batch.and_then(|batch| rows::lines(&batch)).map(Some).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn lines(name: &str, bytes: &[u8]) -> Result<String, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut text = String::new();
        open_any(&path, &Settings::default())?.read_to_string(&mut text).map_err(Error::Read)?;
        Ok(text)
    }

    #[test]
    fn a_csv_file_that_ends_inside_quotes_is_cut_off() {
        let head = "event_id,v\n";
        for cut in ["u1,\"5 inch\nu2,2\nu3,3\n", "u1,\"a \"\"b\"\"\n", "u1,\""] {
            let said = lines("a.csv", format!("{head}{cut}").as_bytes()).unwrap_err().to_string();
            assert!(said.contains("a quote is not closed"), "{cut}: {said}");
        }
        let marked = "\u{feff}\"a,\"\"\",event_id\n1,2\n";
        assert_eq!(lines("a.csv", marked.as_bytes()).unwrap(), "{\"a,\\\"\":\"1\",\"event_id\":\"2\"}\n");
        for whole in ["u1,5\" inch\nu2,2\n", "u1,\"a\nb\"\"\"\nu2,\"\"\n", "u1,\"a\""] {
            let rows = lines("a.csv", format!("{head}{whole}").as_bytes()).unwrap();
            assert_eq!(rows.lines().count(), whole.matches('u').count(), "{whole}: {rows}");
        }
    }

    #[test]
    fn a_csv_row_is_an_event_of_texts() {
        let csv = "event_id,event_time,zip,name\n1,1700000000,00501,\"a \"\"b\"\", c\"\n2,2024-05-01,,\n";
        let expected = "{\"event_id\":\"1\",\"event_time\":1700000000,\"zip\":\"00501\",\"name\":\"a \\\"b\\\", c\"}\n\
                        {\"event_id\":\"2\",\"event_time\":\"2024-05-01\"}\n";
        assert_eq!(lines("a.csv", csv.as_bytes()).unwrap(), expected);
        assert_eq!(
            lines("A.TSV", csv.replace(',', "\t").replace("b\"\"\"\t", "b\"\",\t").as_bytes()).unwrap().lines().count(),
            2
        );
        let gzip = {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut gzip, csv.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        assert_eq!(lines("a.csv.gz", &gzip).unwrap(), expected);
        assert_eq!(lines("a.ndjson", csv.as_bytes()).unwrap(), csv, "the name says what it is");
    }

    #[test]
    fn a_csv_that_is_none_is_told() {
        let error = lines("a.csv", b"event_id,b\n1,2\n3\n").unwrap_err().to_string();
        assert!(error.contains("a.csv: CSV error: record 2 (line: 3") && error.contains("2 fields"), "{error}");
        let error = lines("a.csv", b"a,b,a\n").unwrap_err().to_string();
        assert!(error.ends_with("two columns are called 'a'"), "{error}");
        assert_eq!(lines("a.csv", b"").unwrap(), "");
    }

    #[test]
    fn a_csv_without_a_column_for_the_id_is_told() {
        let refused = |name: &str, text: &str, settings: &Settings| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert!(open_sample(&path, settings).is_ok(), "a sample needs no events");
            open_any(&path, settings).err().map(|error| (error.to_string(), error.hint().unwrap()))
        };
        let id = |id: &str| {
            let id = vec![Places::parse(id).unwrap()];
            Settings { fields: EventsConfig { id, ..EventsConfig::default() }, ..Settings::default() }
        };
        let (said, hint) = refused("a.csv", "id,time\n1,2\n", &Settings::default()).unwrap();
        assert!(
            said.ends_with("has no column for an event's id, which is 'event_id'; its columns are 'id', 'time'"),
            "{said}"
        );
        assert!(hint.contains("[events]"), "{hint}");
        let (said, hint) = refused("a.csv", "event_id;event_time\n1;2\n", &Settings::default()).unwrap();
        assert!(
            said.ends_with("its columns are 'event_id;event_time'") && hint.contains("by commas"),
            "{said}, {hint}"
        );
        assert!(refused("a.tsv", "event_id,event_time\n", &Settings::default()).unwrap().1.contains("by tabs"));
        let many = (0..30).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
        assert!(refused("a.csv", &many, &id("x.y")).unwrap().0.ends_with("'c18', 'c19' and 10 more"));
        for places in ["id", "event_id | id", "content-hash"] {
            assert_eq!(refused("a.csv", "id,time\n1,2\n", &id(places)), None, "{places}");
        }
        assert!(refused("a.csv", "id,time\n1,2\n", &id("header:x-id")).is_some());
    }

    #[test]
    fn a_file_called_parquet_is_parquet() {
        for (bytes, why) in [(b"".as_slice(), "it is empty"), (b"{}\n".as_slice(), "it does not begin as Parquet does")]
        {
            let said = lines("a.Parquet", bytes).unwrap_err().to_string();
            assert!(said.ends_with(&format!("a.Parquet' cannot be read as a table: {why}")), "{said}");
        }
    }

    /// A pipe is opened once and read to its end, with what was looked at first; Parquet in it is refused.
    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let through = |name: &str, bytes: &'static [u8]| {
            let path = directory.path().join(name);
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            check_source(&path, &Settings::default()).unwrap();
            let to = path.clone();
            let writer = std::thread::spawn(move || std::fs::write(to, bytes));
            let mut text = String::new();
            let read = open_any(&path, &Settings::default()).unwrap().read_to_string(&mut text);
            // Nobody may have read it to its end.
            drop(writer.join().unwrap());
            read.map(|_| text).map_err(Error::reading)
        };
        assert_eq!(through("pipe", b"{\"a\":1}\n{}\n").unwrap(), "{\"a\":1}\n{}\n");
        assert_eq!(through("short", b"{}").unwrap(), "{}");
        assert_eq!(through("pipe.csv", b"event_id\n1\n").unwrap(), "{\"event_id\":\"1\"}\n");
        for name in ["table", "table.parquet"] {
            let error = through(name, b"PAR1\x15\x04\nPAR1").unwrap_err();
            assert!(matches!(error, Error::Parquet { .. }), "{error}");
        }
    }

    #[test]
    fn a_parquet_row_is_an_event() {
        let batch = RecordBatch::try_from_iter([
            ("event_id", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
            ("event_time", Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC")) as ArrayRef),
        ])
        .unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let text = lines("whatever", &writer.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"event_id\":\"a\",\"n\":1,\"event_time\":\"1970-01-01T00:00:00.000001Z\"}\n\
             {\"event_id\":\"b\",\"event_time\":\"1970-01-01T00:00:00.000002Z\"}\n"
        );
        assert!(matches!(lines("whatever", b"PAR1 and no more"), Err(Error::Table { .. })));
    }

    #[test]
    fn a_number_with_a_zero_before_it_is_a_name() {
        for number in ["0", "-1", "1.5", "1e3", "10"] {
            assert!(is_json_number(number), "{number}");
        }
        for name in ["", "007", "-01", "+1", "1.", ".5", "1a", "0x1"] {
            assert!(!is_json_number(name), "{name}");
        }
    }
}
