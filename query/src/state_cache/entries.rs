//! What is to be kept and what is to be taken away, collected without an allocation for each entry.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::merging::{Ascending, Entry};

/// One kind of a model's entries: each operator of its query has shelves of its own.
pub(crate) type Shelf = u8;

/// Changes of what a model's shelves hold, in any order; of two for one key the one that was said last counts.
#[derive(Debug, Default)]
pub(crate) struct Entries(BTreeMap<Shelf, Pile>);

impl Entries {
    /// What is said of a shelf so far, to be added to.
    pub(crate) fn on(&mut self, shelf: Shelf) -> &mut Pile {
        self.0.entry(shelf).or_default()
    }

    /// Takes up what others say, as said after its own.
    pub(crate) fn extend(&mut self, later: Self) {
        for (shelf, pile) in later.0 {
            self.on(shelf).extend(pile);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|pile| pile.heads.len()).sum()
    }

    /// What is said of each shelf, in the order of the keys.
    pub(super) fn sorted(self) -> Vec<(Shelf, Sorted)> {
        let said = self.0.into_iter().filter(|(_, pile)| !pile.heads.is_empty());
        said.map(|(shelf, pile)| (shelf, pile.sorted())).collect()
    }
}

/// Changes of what one shelf holds.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    heads: Vec<Head>,
    /// The rest of each key, and the value, one behind the other.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    key: u128,
    start: usize,
    rest: u32,
    /// The length of the value; `GONE`: there is none any more.
    value: u32,
}

const GONE: u32 = u32::MAX;

/// So many entries are sorted and written at once: they fit a processor's cache.
const PART: usize = 4096;

/// Parts are told apart by so many bits of their keys at most.
const MOST_BITS: u32 = 12;

impl Pile {
    /// To be kept for a key: 128 bits, which spread evenly, as hashes do, and what tells apart those that share them.
    pub(crate) fn keep(&mut self, key: u128, rest: &[u8], value: &[u8]) {
        self.say(key, rest, length(value));
        self.bytes.extend_from_slice(value);
    }

    /// To be kept no more.
    pub(crate) fn take_away(&mut self, key: u128, rest: &[u8]) {
        self.say(key, rest, GONE);
    }

    fn say(&mut self, key: u128, rest: &[u8], value: u32) {
        self.heads.push(Head { key, start: self.bytes.len(), rest: length(rest), value });
        self.bytes.extend_from_slice(rest);
    }

    fn extend(&mut self, later: Self) {
        let before = self.bytes.len();
        self.heads.extend(later.heads.into_iter().map(|head| Head { start: before + head.start, ..head }));
        self.bytes.extend(later.bytes);
    }

    fn entry(&self, head: &Head) -> Entry<'_> {
        let (start, end) = (head.start, head.start + head.rest as usize);
        let value = (head.value != GONE).then(|| &self.bytes[end..end + head.value as usize]);
        Entry { key: head.key, rest: &self.bytes[start..end], value }
    }

    /// In the order of their keys, each key once.
    fn sorted(self) -> Sorted {
        let mut parts = self.parts();
        parts.iter_mut().for_each(Self::sort);
        Sorted { parts, part: 0, at: 0 }
    }

    /// The same in parts, each of keys before those of the next: what one entry after the other is taken of has to lie together,
    /// for a processor that looks for each at another end of its memory waits for it.
    fn parts(self) -> Vec<Self> {
        let bits = (self.heads.len() / PART).checked_ilog2().map_or(0, |bits| (bits + 1).min(MOST_BITS));
        if bits == 0 || self.heads.is_sorted_by_key(|head| head.key) {
            return vec![self];
        }
        let part = |head: &Head| (head.key >> (u128::BITS - bits)) as usize;
        let mut sizes = vec![(0, 0); 1 << bits];
        for head in &self.heads {
            let (heads, bytes) = &mut sizes[part(head)];
            (*heads, *bytes) = (*heads + 1, *bytes + head.bytes().len());
        }
        let part_of = |(heads, bytes)| Self { heads: Vec::with_capacity(heads), bytes: Vec::with_capacity(bytes) };
        let mut parts: Vec<Self> = sizes.into_iter().map(part_of).collect();
        for head in &self.heads {
            let to = &mut parts[part(head)];
            to.heads.push(Head { start: to.bytes.len(), ..*head });
            to.bytes.extend_from_slice(&self.bytes[head.bytes()]);
        }
        parts.retain(|part| !part.heads.is_empty());
        parts
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let rest = |head: &Head| &bytes[head.start..head.start + head.rest as usize];
        let same = |left: &Head, right: &Head| left.key == right.key && rest(left) == rest(right);
        // Stable, so that of two for one key the later one comes last, and is the one that stays.
        self.heads.sort_by(|left, right| match left.key.cmp(&right.key) {
            Ordering::Equal => rest(left).cmp(rest(right)),
            other => other,
        });
        let mut kept = 0;
        for at in 0..self.heads.len() {
            if self.heads.get(at + 1).is_none_or(|next| !same(&self.heads[at], next)) {
                self.heads[kept] = self.heads[at];
                kept += 1;
            }
        }
        self.heads.truncate(kept);
    }
}

impl Head {
    /// Where the rest of its key and its value are.
    fn bytes(&self) -> Range<usize> {
        let value = if self.value == GONE { 0 } else { self.value as usize };
        self.start..self.start + self.rest as usize + value
    }
}

/// # Panics
/// At 2 GiB, which Arrow's rows and strings do not reach.
fn length(bytes: &[u8]) -> u32 {
    assert!(i32::try_from(bytes.len()).is_ok(), "an entry of 2 GiB");
    bytes.len() as u32
}

/// Changes in the order of their keys.
#[derive(Debug)]
pub(super) struct Sorted {
    parts: Vec<Pile>,
    part: usize,
    /// In that part.
    at: usize,
}

impl Sorted {
    /// About how many bytes they take in a layer.
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().map(|pile| (pile.heads.len() * super::layer::HEAD + pile.bytes.len()) as u64).sum()
    }
}

impl Ascending for Sorted {
    fn head(&self) -> Option<Entry<'_>> {
        let pile = self.parts.get(self.part)?;
        pile.heads.get(self.at).map(|head| pile.entry(head))
    }

    fn advance(&mut self) -> io::Result<()> {
        self.at += 1;
        while self.parts.get(self.part).is_some_and(|pile| self.at >= pile.heads.len()) {
            (self.part, self.at) = (self.part + 1, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many keys, spread evenly or few, each said of several times, in an order of their own.
    #[test]
    fn what_is_said_of_a_key_comes_once_and_in_order_however_many_there_are() {
        for (keys, each) in [(1, 20_000), (2, 10_000), (3, 9_000), (100, 300), (30_000, 2), (200_000, 1), (10, 2)] {
            let key = |number: u64| {
                let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                u128::from(mixed) << 64 | u128::from(number)
            };
            let mut pile = Pile::default();
            let mut expected = std::collections::BTreeMap::new();
            for round in 0..each {
                for number in (0..keys).rev() {
                    let rest = [(round % 3) as u8];
                    match (round + number) % 5 {
                        0 => pile.take_away(key(number), &rest),
                        _ => pile.keep(key(number), &rest, &round.to_be_bytes()),
                    }
                    let said = ((round + number) % 5 > 0).then(|| round.to_be_bytes().to_vec());
                    expected.insert((key(number), rest.to_vec()), said);
                }
            }
            let mut sorted = pile.sorted();
            let mut found = Vec::new();
            while let Some(Entry { key, rest, value }) = sorted.head() {
                found.push(((key, rest.to_vec()), value.map(<[u8]>::to_vec)));
                sorted.advance().unwrap();
            }
            assert!(found == expected.into_iter().collect::<Vec<_>>(), "{keys} keys, {each} times");
        }
    }
}
