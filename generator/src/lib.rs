//! Mock events: a seeded feed of shop visits as NDJSON, byte-identical for a seed, readable from any position.
//!
//! The feed is cut into blocks of [`BLOCK_EVENTS`] lines. A block depends on the seed and its own number alone, so
//! that any stretch of the feed can be written without what comes before it, by any number of threads, in any chunks.

mod block;
mod calendar;
mod catalogue;
mod draw;
mod drift;
mod event;
mod fault;
mod feed;
mod json;
mod session;
mod visitor;
mod writer;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Datelike, Utc};

pub use feed::Generator;

/// Lines in a block: the unit that is generated at once. 200,000 of them are 50 blocks, which are two weeks.
pub const BLOCK_EVENTS: u64 = 4_000;

/// 2026-11-01T00:00:00Z, in seconds since 1970.
const DEFAULT_START_SECONDS: i64 = 1_793_491_200;

/// What decides every byte of a feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Two feeds with the same seed and otherwise the same settings are the same bytes.
    pub seed: u64,
    /// When the first block begins. The daily rhythm of traffic counts its hours from here.
    pub start: DateTime<Utc>,
    /// Share of events, 0 to 1, whose `event_time` lies one hour to a week before their place in the feed. Whole first
    /// sessions are late, so that a visitor's history stays in order.
    pub late: f64,
    /// Share of lines, 0 to 1, that repeat an earlier line of the last few hundred, byte for byte.
    pub duplicates: f64,
    /// Share of lines, 0 to 1, that no event can be read from. They are extra, broken copies under an id of their own:
    /// the sessions around them stay whole.
    pub malformed: f64,
    /// New fields from the 500th event on, changed JSON kinds from the 1,500th, deeper nesting from the 2,500th.
    pub drift: bool,
}

impl Default for Settings {
    /// Seed 7, from 2026-11-01T00:00:00Z, nothing late, repeated, malformed or drifting.
    fn default() -> Self {
        let start = DateTime::from_timestamp(DEFAULT_START_SECONDS, 0).unwrap_or_default();
        Self { seed: 7, start, late: 0.0, duplicates: 0.0, malformed: 0.0, drift: false }
    }
}

impl Settings {
    /// Checks the settings without building anything.
    ///
    /// # Errors
    /// [`Error::Fraction`] for a share outside 0 to 1, [`Error::Start`] for a start that leaves no room for four-digit
    /// years.
    pub fn validate(&self) -> Result<(), Error> {
        let shares = [("late", self.late), ("duplicates", self.duplicates), ("malformed", self.malformed)];
        for (setting, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Fraction { setting, value });
            }
        }
        if !(1970..=9000).contains(&self.start.year()) {
            return Err(Error::Start { start: self.start });
        }
        Ok(())
    }
}

/// Why a feed cannot be generated. Always the caller's settings; trying again changes nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A share of events is no share.
    #[error("`{setting}` is {value}, which is not a fraction\nhint: give a number from 0 to 1, such as 0.05 for 5%")]
    Fraction {
        /// The name of the setting.
        setting: &'static str,
        /// What was given.
        value: f64,
    },
    /// The feed would begin in a year that its timestamps cannot hold.
    #[error("the feed cannot start at {start}\nhint: give a start between the years 1970 and 9000")]
    Start {
        /// What was given.
        start: DateTime<Utc>,
    },
}
