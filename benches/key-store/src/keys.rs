//! The keys of the measurement: 128 random-looking bits each, the same in every process and on every machine.

/// A hashed key, as the state cache holds them.
pub type Key = u128;

/// Key number `i`: two rounds of SplitMix64 (Steele, Lea, Flood 2014) over the number.
pub fn key(i: u64) -> Key {
    (u128::from(mix(i.wrapping_mul(2))) << 64) | u128::from(mix(i.wrapping_mul(2).wrapping_add(1)))
}

/// `count` entries starting at number `from`, in the order of the keys, each with its number as the value.
pub fn sorted(from: u64, count: u64) -> Vec<(Key, u64)> {
    let mut entries: Vec<_> = (from..from + count).map(|i| (key(i), i)).collect();
    entries.sort_unstable();
    entries
}

/// Probes in the order of the keys: half of them stored under a number below `stored`, half stored nowhere.
///
/// Another `round` draws other keys.
pub fn probes(stored: u64, count: u64, round: u64) -> Vec<Key> {
    let present = (0..count / 2).map(|i| key(mix(i ^ (round << 40)) % stored));
    let absent = (0..count / 2).map(|i| key((1 << 50) + (round << 40) + i));
    let mut keys: Vec<_> = present.chain(absent).collect();
    keys.sort_unstable();
    keys
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
