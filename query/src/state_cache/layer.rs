//! Layers: entries in a file, ascending by key, in blocks of about four kilobytes behind each other and an index of them.
//!
//! | block | |
//! |---|---|
//! | 4 bytes | CRC-32 of what follows |
//! | 4 bytes | how many entries |
//! | 16 bytes for each | the key |
//! | 4 bytes for each | where its payload ends, from the beginning of the first one |
//! | payloads | twice the length of the rest of the key, and 1 more where nothing is kept (LEB128); the rest; the value |
//!
//! The index is such a block too, of the first entry of each block, whose value is where the block begins (8 bytes), from the
//! beginning of the layer; after it a last entry without rest, whose value is where the last block ends. All integers but LEB128 are big
//! endian.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::merging::{Ascending, Entry, merge};

/// The least that an entry takes.
pub(super) const HEAD: usize = 21;

/// A block is closed when it has so many bytes: about what one read of a disk gives.
const BLOCK_BYTES: usize = 4096;

/// A file with layers, deleted with its last handle unless it is listed.
#[derive(Debug)]
pub(super) struct LayerFile {
    path: PathBuf,
    listed: AtomicBool,
}

impl LayerFile {
    pub(super) fn new(path: PathBuf, listed: bool) -> Self {
        Self { path, listed: AtomicBool::new(listed) }
    }

    /// Says whether the cache lists it.
    pub(super) fn set_listed(&self, listed: bool) {
        self.listed.store(listed, Ordering::Relaxed);
    }
}

impl Drop for LayerFile {
    fn drop(&mut self) {
        if !*self.listed.get_mut() {
            // What is left here goes when the cache is opened again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a layer is in the files of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The number of the file.
    pub(super) file: u64,
    /// Its first byte.
    pub(super) start: u64,
    /// The first byte of the index.
    pub(super) index: u64,
    /// The first byte behind it.
    pub(super) end: u64,
}

/// Entries of one shelf.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) place: Place,
    file: Arc<LayerFile>,
    index: OnceLock<Arc<Block>>,
}

impl Layer {
    pub(super) fn new(place: Place, file: Arc<LayerFile>) -> Self {
        Self { place, file, index: OnceLock::new() }
    }

    pub(super) fn file(&self) -> &LayerFile {
        &self.file
    }

    pub(super) fn bytes(&self) -> u64 {
        self.place.end - self.place.start
    }

    fn index(&self, file: &File) -> io::Result<Arc<Block>> {
        if let Some(index) = self.index.get() {
            return Ok(Arc::clone(index));
        }
        let mut index = Block::default();
        index.read(file, self.place.index, self.place.end)?;
        Ok(Arc::clone(self.index.get_or_init(|| Arc::new(index))))
    }
}

/// Reads a layer: by key, or from one on.
#[derive(Debug)]
pub(super) struct Cursor {
    layer: Arc<Layer>,
    file: File,
    index: Arc<Block>,
    /// The number of the block that is read.
    number: Option<usize>,
    block: Block,
    at: usize,
}

impl Cursor {
    /// # Errors
    /// What the file system says; [`ErrorKind::InvalidData`] for a file that is not what was written.
    pub(super) fn open(layer: &Arc<Layer>) -> io::Result<Self> {
        let file = File::open(&layer.file.path)?;
        let index = layer.index(&file)?;
        Ok(Self { layer: Arc::clone(layer), file, index, number: None, block: Block::default(), at: 0 })
    }

    /// Goes to the first entry that is not before a key.
    pub(super) fn seek(&mut self, key: u128, rest: &[u8]) -> io::Result<()> {
        let blocks = self.index.count().saturating_sub(1);
        let number = self.index.first_after(blocks, key, rest).saturating_sub(1);
        self.read(number)?;
        self.at = self.block.first_not_before(key, rest);
        self.over_the_end()
    }

    /// Whether this layer says something of a key; [`Self::value`] is then what.
    pub(super) fn finds(&mut self, key: u128, rest: &[u8]) -> io::Result<bool> {
        self.seek(key, rest)?;
        Ok(self.head().is_some_and(|entry| (entry.key, entry.rest) == (key, rest)))
    }

    /// What is kept where it stands.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.head()?.value
    }

    fn read(&mut self, number: usize) -> io::Result<()> {
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = None;
        let begin = |number: usize| {
            let place = self.index.entry(number).and_then(|entry| entry.value?.try_into().ok());
            place.map(u64::from_be_bytes).ok_or_else(damaged)
        };
        let start = self.layer.place.start;
        self.block.read(&self.file, start + begin(number)?, start + begin(number + 1)?)?;
        self.number = Some(number);
        Ok(())
    }

    fn over_the_end(&mut self) -> io::Result<()> {
        let last = self.index.count().saturating_sub(2);
        if let Some(number) = self.number.filter(|number| self.at >= self.block.count() && *number < last) {
            self.read(number + 1)?;
            self.at = 0;
        }
        Ok(())
    }
}

impl Ascending for Cursor {
    fn head(&self) -> Option<Entry<'_>> {
        self.block.entry(self.at)
    }

    fn advance(&mut self) -> io::Result<()> {
        self.at += 1;
        self.over_the_end()
    }
}

/// A block as it is stored. Whoever reads one knows it to be whole: its checksum says so.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
}

/// What is before the keys.
const BEGIN: usize = 8;
const KEY: usize = 16;
const END: usize = 4;

impl Block {
    fn read(&mut self, file: &File, start: u64, end: u64) -> io::Result<()> {
        let length = end.checked_sub(start).and_then(|length| usize::try_from(length).ok()).ok_or_else(damaged)?;
        self.bytes.clear();
        self.bytes.resize(length, 0);
        file.read_exact_at(&mut self.bytes, start)?;
        let whole =
            self.bytes.split_first_chunk().is_some_and(|(sum, rest)| *sum == crc32fast::hash(rest).to_be_bytes());
        if whole { Ok(()) } else { Err(damaged()) }
    }

    fn number<const BYTES: usize>(&self, at: usize) -> [u8; BYTES] {
        self.bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; BYTES])
    }

    fn count(&self) -> usize {
        u32::from_be_bytes(self.number(4)) as usize
    }

    fn key(&self, at: usize) -> u128 {
        u128::from_be_bytes(self.number(BEGIN + at * KEY))
    }

    fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let count = self.count();
        if at >= count {
            return None;
        }
        let end = |at: usize| u32::from_be_bytes(self.number(BEGIN + count * KEY + at * END)) as usize;
        let payloads = BEGIN + count * (KEY + END);
        let start = if at == 0 { 0 } else { end(at - 1) };
        let (length, payload) = read_leb128(self.bytes.get(payloads + start..payloads + end(at))?)?;
        let (rest, value) = payload.split_at_checked(length >> 1)?;
        Some(Entry { key: self.key(at), rest, value: (length & 1 == 0).then_some(value) })
    }

    fn place(&self, at: usize) -> (u128, &[u8]) {
        self.entry(at).map_or((u128::MAX, &[]), |entry| (entry.key, entry.rest))
    }

    fn first_not_before(&self, key: u128, rest: &[u8]) -> usize {
        let mut at = partition_point(self.count(), |at| self.key(at) < key);
        while at < self.count() && self.place(at) < (key, rest) {
            at += 1;
        }
        at
    }

    /// The first of `count` entries that is behind a key.
    fn first_after(&self, count: usize, key: u128, rest: &[u8]) -> usize {
        partition_point(count, |at| match self.key(at) {
            first if first == key => self.place(at) <= (key, rest),
            first => first < key,
        })
    }
}

fn partition_point(count: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match is_before(middle) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a layer is not what was written")
}

/// A block that is put together.
#[derive(Default)]
struct Building {
    keys: Vec<u8>,
    ends: Vec<u8>,
    payloads: Vec<u8>,
}

impl Building {
    fn count(&self) -> usize {
        self.keys.len() / KEY
    }

    fn size(&self) -> usize {
        BEGIN + self.keys.len() + self.ends.len() + self.payloads.len()
    }

    fn add(&mut self, entry: Entry<'_>) -> io::Result<()> {
        self.keys.extend(entry.key.to_be_bytes());
        write_leb128(entry.rest.len() << 1 | usize::from(entry.value.is_none()), &mut self.payloads);
        self.payloads.extend_from_slice(entry.rest);
        self.payloads.extend_from_slice(entry.value.unwrap_or_default());
        let end = u32::try_from(self.payloads.len()).map_err(|_| io::Error::other("a block of 4 GiB"))?;
        self.ends.extend(end.to_be_bytes());
        Ok(())
    }

    /// Writes it and is empty then; gives its length.
    fn write(&mut self, out: &mut impl Write) -> io::Result<u64> {
        let size = self.size() as u64;
        let count = (self.count() as u32).to_be_bytes();
        let mut sum = crc32fast::Hasher::new();
        for part in [&count[..], &self.keys, &self.ends, &self.payloads] {
            sum.update(part);
        }
        out.write_all(&sum.finalize().to_be_bytes())?;
        out.write_all(&count)?;
        for part in [&mut self.keys, &mut self.ends, &mut self.payloads] {
            out.write_all(part)?;
            part.clear();
        }
        Ok(size)
    }
}

/// Writes layers into a new file.
pub(super) struct Writer {
    number: u64,
    file: Arc<LayerFile>,
    out: BufWriter<File>,
    position: u64,
}

impl Writer {
    /// # Errors
    /// What the file system says.
    pub(super) fn create(path: &Path, number: u64) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 18, File::create_new(path)?);
        Ok(Self { number, file: Arc::new(LayerFile::new(path.to_owned(), false)), out, position: 0 })
    }

    /// Writes what the sources come to, the newest first; without entries that say that nothing is kept, where nothing older
    /// is below them. `None`: nothing is left.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn layer<S: Ascending>(&mut self, sources: &mut [S], is_lowest: bool) -> io::Result<Option<Layer>> {
        let (start, mut block, mut index) = (self.position, Building::default(), Building::default());
        let Self { out, position, .. } = self;
        merge(sources, |entry| {
            if is_lowest && entry.value.is_none() {
                return Ok(true);
            }
            if block.size() >= BLOCK_BYTES {
                *position += block.write(out)?;
            }
            if block.count() == 0 {
                index.add(Entry { value: Some(&(*position - start).to_be_bytes()), ..entry })?;
            }
            block.add(entry)?;
            Ok(true)
        })?;
        if index.count() == 0 {
            return Ok(None);
        }
        *position += block.write(out)?;
        let end = (*position - start).to_be_bytes();
        index.add(Entry { key: u128::MAX, rest: &[], value: Some(&end) })?;
        let begin = *position;
        *position += index.write(out)?;
        let place = Place { file: self.number, start, index: begin, end: *position };
        Ok(Some(Layer::new(place, Arc::clone(&self.file))))
    }

    /// Closes the file.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}
