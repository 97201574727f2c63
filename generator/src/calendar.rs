//! Which stretch of time a block covers, and the daily rhythm of the traffic in it.

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How much of a day's traffic falls into each of its hours, in parts of the sum.
const HOURS: [u64; 24] = [3, 2, 2, 2, 2, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 8, 8, 7, 6, 5, 4];

/// A block's share of traffic, in milliseconds of an even day: 50 blocks fill 14 days.
pub(crate) const BLOCK_LOAD_MS: u64 = 24_192_000;

/// Where time stops, in milliseconds after the start: some 900 years, so that a position that nobody reaches
/// cannot overflow.
const LAST_LOAD_MS: u64 = 365 * 900 * DAY_MS;

/// When block `number` begins, in milliseconds of even traffic.
pub(crate) fn block_load(number: u64) -> u64 {
    number.saturating_mul(BLOCK_LOAD_MS).min(LAST_LOAD_MS)
}

/// Turns a place in even traffic into time, both in milliseconds after the start: busy hours pass slowly through
/// the feed, quiet ones quickly. Grows with its argument, and whole days stay whole days.
pub(crate) fn moment(load_ms: u64) -> i64 {
    let parts: u64 = HOURS.iter().sum();
    let mut rest = load_ms % DAY_MS * parts;
    let mut time = load_ms / DAY_MS * DAY_MS;
    for hour in HOURS {
        let load = hour * DAY_MS;
        if rest < load {
            return (time + rest * HOUR_MS / load) as i64;
        }
        rest -= load;
        time += HOUR_MS;
    }
    time as i64
}
