//! What stands on each line of a block: an event, an earlier one again, or something broken.

use crate::draw::{Draw, Purpose};
use crate::{BLOCK_EVENTS, Settings};

/// How many events back a repeated line reaches at most.
const REPEAT_WITHIN: u32 = 200;

/// One line of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line {
    /// The event with this number in the block, for the first time or again.
    Event(u32),
    /// A broken copy of the event with this number.
    Broken {
        /// The event it is a copy of.
        of: u32,
        /// What is wrong with it.
        fault: Fault,
        /// Random bits: where a line is cut, which wrong value it shows.
        salt: u32,
    },
}

/// What is wrong with a malformed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The line ends too early.
    Truncated,
    /// There is no `event_id`.
    NoId,
    /// There is no `event_type`.
    NoType,
    /// There is no `event_time`.
    NoTime,
    /// `event_time` is no time.
    BadTime,
    /// The event's id holds bytes that are no UTF-8.
    NotUtf8,
    /// The line is JSON, but no object.
    NotAnObject,
}

/// Every fault, in the order they are drawn from.
pub(crate) const FAULTS: [Fault; 7] =
    [Fault::Truncated, Fault::NoId, Fault::NoType, Fault::NoTime, Fault::BadTime, Fault::NotUtf8, Fault::NotAnObject];

/// What `event_time` says where it is bad.
pub(crate) const BAD_TIMES: [&str; 4] = ["yesterday", "2026-13-41T25:61:00.000Z", "12:30", ""];

/// Lines that are JSON, but no object. No array, because a whole input may be an array of events.
pub(crate) const NOT_OBJECTS: [&str; 4] = ["42", "null", "true", "\"page_view\""];

/// The lines of block `block`, always [`BLOCK_EVENTS`], and how many events of its own the block needs for them.
pub(crate) fn lines(settings: &Settings, block: u64) -> (Vec<Line>, u32) {
    let mut lines = Vec::with_capacity(BLOCK_EVENTS as usize);
    if settings.duplicates == 0.0 && settings.malformed == 0.0 {
        lines.extend((0..BLOCK_EVENTS as u32).map(Line::Event));
        return (lines, BLOCK_EVENTS as u32);
    }
    let mut draw = Draw::new(settings.seed, Purpose::Faults, block);
    let mut events = 0;
    for _ in 0..BLOCK_EVENTS {
        let broken = draw.share(settings.malformed);
        let again = draw.share(settings.duplicates);
        lines.push(if broken {
            Line::Broken { of: events, fault: *draw.pick(&FAULTS), salt: draw.word() }
        } else if again && events > 0 {
            Line::Event(events - 1 - draw.below(events.min(REPEAT_WITHIN)))
        } else {
            events += 1;
            Line::Event(events - 1)
        });
    }
    // A broken line shows the event that comes next; after the last one there is none, so it shows the last.
    let events = events.max(1);
    for line in &mut lines {
        if let Line::Broken { of, .. } = line {
            *of = (*of).min(events - 1);
        }
    }
    (lines, events)
}
