//! Seeded draws: the same numbers on every machine, from a stream that can be opened at any place.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of draws is for. Each purpose has streams of its own, so that none shifts another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The pools of names and words, once a seed.
    Catalogue = 0,
    /// The lasting traits of one visitor.
    Visitor = 1,
    /// The sessions of one block.
    Block = 2,
    /// Which lines of one block are repeated or broken.
    Faults = 3,
}

/// A stream of draws. The arithmetic is whole numbers and written here, because a library may change how it maps bits
/// to ranges from one release to the next, and the feed may not.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream number `number` of `purpose` under `seed`.
    pub(crate) fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let mut bits = ChaCha8Rng::seed_from_u64(seed);
        bits.set_stream(number.wrapping_shl(2) | purpose as u64);
        Self(bits)
    }

    /// The generator itself, for the pools of the crate `fake`.
    pub(crate) fn bits(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// A number from 0 to `bound - 1`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// True `percent` times in a hundred.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// True with a probability of `share`: never at 0, always at 1.
    pub(crate) fn share(&mut self, share: f64) -> bool {
        ((self.0.next_u64() >> 11) as f64) / ((1_u64 << 53) as f64) < share
    }

    /// 32 bits, each 0 or 1 with the same probability.
    pub(crate) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 64 bits.
    pub(crate) fn long(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 128 bits.
    pub(crate) fn wide(&mut self) -> u128 {
        (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64())
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u32) as usize]
    }
}
