//! Opens a source and takes the compression off: plain, gzip or zstd, told apart by the first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use crate::error::Error;

/// How much is read and decompressed at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// What a Parquet file begins with.
pub(crate) const PARQUET: &[u8] = b"PAR1";

/// Opens a file; nothing of it is read. A pipe is waited for until somebody writes to it.
///
/// # Errors
/// [`Error::Open`] if the file is not there or may not be read, [`Error::Directory`] if it is a directory.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let failed = |reason| Error::Open { path: path.to_owned(), reason };
    let file = File::open(path).map_err(failed)?;
    match file.metadata().map_err(failed)?.is_dir() {
        true => Err(Error::Directory { path: path.to_owned() }),
        false => Ok(file),
    }
}

/// The events on stdin: plain, gzip or zstd. Nothing is read before the first read.
pub fn stdin() -> Box<dyn BufRead + Send> {
    decompress(io::stdin(), "stdin")
}

/// Takes the compression off any source of bytes, also of several compressed members one after the other. `name` is what an error
/// calls it. The first bytes are read with the first read.
///
/// Parquet is refused with the first read, for it is read from its end: [`Error::Parquet`] is within that error.
pub fn decompress(source: impl Read + Send + 'static, name: &str) -> Box<dyn BufRead + Send> {
    Box::new(Source { name: name.to_owned(), state: State::Unread(Box::new(source)) })
}

/// The text of a body that is held whole, which is the body itself where it is plain; `None` where it has more than `limit` bytes.
///
/// # Errors
/// Where the compression is damaged or cut off.
pub(crate) fn text_of(body: Bytes, name: &str, limit: usize) -> io::Result<Option<Bytes>> {
    let text = match Compression::of(body.get(..4).unwrap_or(&body)) {
        Compression::Plain => body,
        Compression::Gzip | Compression::Zstd => {
            // One byte more than may be there tells whether there is more.
            let mut text = Vec::new();
            decompress(Cursor::new(body), name).take(limit as u64 + 1).read_to_end(&mut text)?;
            text.into()
        }
    };
    Ok(Some(text).filter(|text| text.len() <= limit))
}

/// A source whose compression is found out at the first read.
struct Source {
    name: String,
    state: State,
}

enum State {
    Unread(Box<dyn Read + Send>),
    Open(Box<dyn BufRead + Send>, Compression),
    /// The first bytes could not be read, and the source is gone with them.
    Broken,
}

#[derive(Clone, Copy)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// Gzip: RFC 1952, 2.3.1. Zstandard: RFC 8878, 3.1.1 (frame) and 3.1.2 (skippable frame).
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    fn explain(self, name: &str, error: io::Error) -> io::Error {
        let kind = error.kind();
        match self {
            Self::Plain => io::Error::new(kind, format!("{name}: {error}")),
            Self::Gzip => io::Error::new(kind, format!("{name}: its gzip data is damaged or cut off ({error})")),
            Self::Zstd => io::Error::new(kind, format!("{name}: its zstd data is damaged or cut off ({error})")),
        }
    }
}

impl State {
    /// The decompressed bytes; finds out the compression if that was not done yet. An error names the source.
    fn opened(&mut self, name: &str) -> io::Result<(&mut (dyn BufRead + Send), Compression)> {
        if matches!(self, Self::Unread(_))
            && let Self::Unread(source) = std::mem::replace(self, Self::Broken)
        {
            *self = Self::open(source, name)?;
        }
        match self {
            Self::Open(reader, compression) => Ok((reader.as_mut(), *compression)),
            _ => Err(Compression::Plain.explain(name, io::Error::other("an earlier read failed"))),
        }
    }

    fn open(mut source: Box<dyn Read + Send>, name: &str) -> io::Result<Self> {
        let mut head = Vec::with_capacity(4);
        // An interruption is handled in here, so a failure is final.
        let read = source.by_ref().take(4).read_to_end(&mut head);
        read.map_err(|error| Compression::Plain.explain(name, error))?;
        let compression = Compression::of(&head);
        let explain = |error| compression.explain(name, error);
        let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(source));
        let mut plain: Box<dyn BufRead + Send> = match compression {
            Compression::Plain => Box::new(whole),
            Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole))),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(explain)?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        };
        let mut begins = Vec::with_capacity(PARQUET.len());
        plain.by_ref().take(PARQUET.len() as u64).read_to_end(&mut begins).map_err(explain)?;
        if begins == PARQUET {
            return Err(io::Error::other(Error::Parquet { name: name.to_owned() }));
        }
        Ok(Self::Open(Box::new(Cursor::new(begins).chain(plain)), compression))
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Self { name, state } = self;
        let (reader, compression) = state.opened(name)?;
        reader.fill_buf().map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => compression.explain(name, error),
        })
    }

    fn consume(&mut self, bytes: usize) {
        if let State::Open(reader, _) = &mut self.state {
            reader.consume(bytes);
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let read = ready.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 1).unwrap()
    }

    /// A pipe that gives one byte at a time.
    struct Drip(Cursor<Vec<u8>>);

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let one = into.len().min(1);
            self.0.read(&mut into[..one])
        }
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompress(Drip(Cursor::new(bytes)), "events.json").read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn every_compression_reads_the_same() {
        let text = "{\"a\":1}\n".repeat(1000).into_bytes();
        assert_eq!(read(text.clone()).unwrap(), text);
        assert_eq!(read(gzip(&text)).unwrap(), text);
        assert_eq!(read(zstd(&text)).unwrap(), text);
    }

    #[test]
    fn members_one_after_the_other_are_one_text() {
        for compress in [gzip, zstd] {
            let members = [compress(b"{\"a\":1}\n"), compress(b""), compress(b"{\"a\":2}\n")].concat();
            assert_eq!(read(members).unwrap(), b"{\"a\":1}\n{\"a\":2}\n");
        }
        let skippable = [vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(b"x\n")].concat();
        assert_eq!(read(skippable).unwrap(), b"x\n");
    }

    #[test]
    fn short_sources_are_plain() {
        for text in ["", "1", "12", "[]\n"] {
            assert_eq!(read(text.into()).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_source_cut_off_is_an_error_that_names_it() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (compressed, word) in [(gzip(&text), "gzip"), (zstd(&text), "zstd")] {
            let error = read(compressed[..compressed.len() / 2].to_vec()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("events.json: its {word} data is damaged or cut off")), "{error}");
        }
    }

    #[test]
    fn parquet_is_refused_in_whatever_it_comes() {
        let parquet = b"PAR1\x15\x04\nPAR1".to_vec();
        for bytes in [parquet.clone(), gzip(&parquet), zstd(&parquet)] {
            let error = Error::reading(read(bytes).unwrap_err());
            assert!(matches!(&error, Error::Parquet { name } if name == "events.json"), "{error}");
        }
        assert_eq!(read(b"PAR".to_vec()).unwrap(), b"PAR");
    }

    #[test]
    fn a_source_that_breaks_stays_broken() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let mut source = decompress(Broken, "pipe");
        assert_eq!(source.fill_buf().unwrap_err().to_string(), "pipe: gone");
        assert_eq!(source.fill_buf().unwrap_err().to_string(), "pipe: an earlier read failed");
    }

    #[test]
    fn what_cannot_be_opened_says_so() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(open(directory.path()), Err(Error::Directory { .. })));
        let error = open(&directory.path().join("none.json")).err().unwrap();
        assert!(error.to_string().contains("none.json") && error.hint().is_some(), "{error}");
        let path = directory.path().join("one.json.gz");
        std::fs::write(&path, gzip(b"{}\n")).unwrap();
        let mut text = String::new();
        decompress(open(&path).unwrap(), "one").read_to_string(&mut text).unwrap();
        assert_eq!(text, "{}\n");
    }
}
