//! The feed: any stretch of it, as one buffer or chunk by chunk.

use crate::block::Block;
use crate::catalogue::Catalogue;
use crate::{BLOCK_EVENTS, Error, Settings};

/// A chunk is handed on as soon as it has this many bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// More than the longest line, so that the last line of a chunk does not make its buffer grow.
const LINE_BYTES: usize = 4 << 10;

/// A usual line, with room to spare.
const USUAL_LINE_BYTES: usize = 1_280;

/// A feed of events without an end, the same bytes every time. Threads may share it.
pub struct Generator {
    settings: Settings,
    catalogue: Catalogue,
}

impl Generator {
    /// A feed with these settings.
    ///
    /// # Errors
    /// Those of [`Settings::validate`].
    pub fn new(settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let catalogue = Catalogue::new(settings.seed);
        Ok(Self { settings, catalogue })
    }

    /// Appends the lines `first` to `first + count - 1` to `out`: NDJSON, each ended by `\n`, about 1.1 KB long.
    pub fn write(&self, first: u64, count: u64, out: &mut Vec<u8>) {
        // No more than a block ahead: who asks for billions of events must not be refused before the first.
        out.reserve(count.min(BLOCK_EVENTS) as usize * USUAL_LINE_BYTES);
        let mut lines = self.lines(first, count);
        while lines.write_next(out) {}
    }

    /// The same bytes as [`write`](Self::write) in chunks of whole lines, a little over 1 MiB each but the last.
    /// Holds one block and one chunk in memory.
    pub fn chunks(&self, first: u64, count: u64) -> impl Iterator<Item = Vec<u8>> + '_ {
        let mut lines = self.lines(first, count);
        std::iter::from_fn(move || {
            if lines.next == lines.end {
                return None;
            }
            let expected = (lines.end - lines.next).saturating_mul(USUAL_LINE_BYTES as u64);
            let capacity = usize::try_from(expected).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let mut chunk = Vec::with_capacity(capacity + LINE_BYTES);
            while chunk.len() < CHUNK_BYTES && lines.write_next(&mut chunk) {}
            Some(chunk)
        })
    }

    fn lines(&self, first: u64, count: u64) -> Lines<'_> {
        Lines { feed: self, next: first, end: first.saturating_add(count), block: None }
    }
}

/// A stretch of the feed that is being written.
struct Lines<'a> {
    feed: &'a Generator,
    next: u64,
    end: u64,
    /// The block of the last line written, with its number.
    block: Option<(u64, Block)>,
}

impl Lines<'_> {
    /// Appends the next line; false at the end of the stretch.
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.next == self.end {
            return false;
        }
        let Generator { settings, catalogue } = self.feed;
        let number = self.next / BLOCK_EVENTS;
        let block = match self.block.take() {
            Some((held, block)) if held == number => block,
            _ => Block::new(settings, catalogue, number),
        };
        block.write(catalogue, self.next % BLOCK_EVENTS, out);
        self.block = Some((number, block));
        self.next += 1;
        true
    }
}
