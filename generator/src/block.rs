//! One block: who visits in its stretch of time, and what the feed shows of it, in order.

use crate::calendar::{BLOCK_LOAD_MS, block_load, moment};
use crate::catalogue::Catalogue;
use crate::draw::{Draw, Purpose};
use crate::drift::Drift;
use crate::event::{Event, Session};
use crate::fault::{Line, lines};
use crate::json::{hexadecimal, text, time};
use crate::session::{Walker, walk};
use crate::visitor::Visitor;
use crate::writer::Writer;
use crate::{BLOCK_EVENTS, Settings};

/// How many of a block's new visitors may come back. They come first in a block, and even if each of their sessions
/// were as long as can be, all of them fit: so a later block may rely on them without looking.
const REGULARS: u32 = 60;

const HOUR_MS: u32 = 3_600_000;

/// A block of the feed, ready to be written.
pub(crate) struct Block {
    number: u64,
    drift: bool,
    lines: Vec<Line>,
    events: Vec<Event>,
    sessions: Vec<Session>,
}

impl Block {
    /// Block `number` of the feed. It depends on nothing but the settings and its number.
    pub(crate) fn new(settings: &Settings, catalogue: &Catalogue, number: u64) -> Self {
        let (lines, count) = lines(settings, number);
        let mut traffic = Traffic {
            settings,
            catalogue,
            number,
            draw: Draw::new(settings.seed, Purpose::Block, number),
            events: Vec::with_capacity(count as usize),
            sessions: Vec::new(),
            seen: Vec::new(),
            newcomers: 0,
            late: 0,
        };
        while traffic.events.len() < count as usize {
            traffic.visit(count as usize);
        }
        let Traffic { mut events, sessions, .. } = traffic;
        events.sort_unstable_by_key(|event| (event.time_ms, event.session, event.sequence));
        Self { number, drift: settings.drift, lines, events, sessions }
    }

    /// Appends line `place` of the block, 0 to [`BLOCK_EVENTS`] − 1, with its end.
    pub(crate) fn write(&self, catalogue: &Catalogue, place: u64, out: &mut Vec<u8>) {
        let line = self.lines[place as usize];
        let (Line::Event(of) | Line::Broken { of, .. }) = line;
        let event = &self.events[of as usize];
        // By the event's number and not the line's, so that a repeated line is the same bytes.
        let position = self.number.saturating_mul(BLOCK_EVENTS).saturating_add(u64::from(of));
        let drift = if self.drift { Drift::at(position, event.id) } else { Drift::default() };
        let writer = Writer { catalogue, session: &self.sessions[event.session as usize], drift };
        match line {
            Line::Event(_) => writer.write(event, out),
            Line::Broken { fault, salt, .. } => writer.write_broken(event, fault, salt, out),
        }
    }
}

/// A block while its sessions come together.
struct Traffic<'a> {
    settings: &'a Settings,
    catalogue: &'a Catalogue,
    number: u64,
    draw: Draw,
    events: Vec<Event>,
    sessions: Vec<Session>,
    /// Visitors who came back in this block: nobody does so twice, because their sessions could overlap.
    seen: Vec<u64>,
    /// Visitors whose first session is in this block.
    newcomers: u32,
    /// Events that arrive late.
    late: u64,
}

impl Traffic<'_> {
    /// Adds a session; the block ends at `count` events.
    fn visit(&mut self, count: usize) {
        let first = self.events.len();
        let late = self.is_late_turn();
        let returning = if late { None } else { self.returning_visitor() };
        let number = returning.unwrap_or_else(|| self.new_visitor());
        let visitor = Visitor::new(self.settings.seed, number, self.catalogue);
        let walker = Walker { is_new: returning.is_none(), registers: visitor.registers };
        let session = self.sessions.len() as u32;
        walk(walker, session, count - first, (self.catalogue, &mut self.draw), &mut self.events);

        let duration_ms = self.events.last().map_or(0, |event| event.time_ms);
        let start_ms = self.start_ms(duration_ms);
        for event in &mut self.events[first..] {
            event.time_ms += start_ms;
        }
        let lateness_ms = if late { self.lateness_ms() } else { 0 };
        if late {
            self.late += (self.events.len() - first) as u64;
        }
        let session = self.session(&visitor, walker.is_new, start_ms, lateness_ms);
        self.sessions.push(session);
    }

    /// Whether the next session is late. Keeps the share of late events as close to the setting as whole sessions
    /// allow: late ones follow when half a session is missing.
    fn is_late_turn(&self) -> bool {
        let target = self.settings.late * (self.events.len() as f64 + 10.0);
        self.settings.late > 0.0 && self.late as f64 + 5.0 <= target
    }

    /// The number of somebody whose first session is in an earlier block, unless it is a new visitor's turn.
    fn returning_visitor(&mut self) -> Option<u64> {
        let regulars = regulars(self.settings);
        if self.newcomers < regulars || self.number == 0 || regulars == 0 || self.draw.percent(30) {
            return None;
        }
        // In blocks, of which 25 are a week: most come back soon, some after months.
        let lag = match self.draw.below(100) {
            0..35 => 1 + self.draw.below(7),
            35..65 => 8 + self.draw.below(18),
            65..85 => 26 + self.draw.below(50),
            _ => 76 + self.draw.below(175),
        };
        let blocks = u32::try_from(self.number).unwrap_or(u32::MAX);
        let lag = if lag > blocks { 1 + self.draw.below(blocks) } else { lag };
        // Some are more faithful than others.
        let regular = self.draw.below(regulars).min(self.draw.below(regulars));
        let number = visitor_number(self.number - u64::from(lag), regular);
        if self.seen.contains(&number) {
            return None;
        }
        self.seen.push(number);
        Some(number)
    }

    fn new_visitor(&mut self) -> u64 {
        self.newcomers += 1;
        visitor_number(self.number, self.newcomers - 1)
    }

    /// A start for a session of this length, in milliseconds since 1970, that lets it end within the block: so blocks
    /// do not overlap, and neither do two sessions of a visitor.
    fn start_ms(&mut self, duration_ms: i64) -> i64 {
        let load = block_load(self.number);
        let (first, end) = (moment(load), moment(load + BLOCK_LOAD_MS));
        let drawn = moment(load + u64::from(self.draw.below(BLOCK_LOAD_MS as u32)));
        let start = if drawn + duration_ms < end {
            drawn
        } else {
            let room = (end - first - duration_ms).max(0);
            first + i64::from(self.draw.below(u32::try_from(room).unwrap_or(u32::MAX)))
        };
        self.settings.start.timestamp_millis() + start
    }

    /// Hours for most, days for some, up to a week.
    fn lateness_ms(&mut self) -> i64 {
        let (least, most) = match self.draw.below(10) {
            0..6 => (1, 12),
            6..9 => (12, 72),
            _ => (72, 168),
        };
        i64::from(least * HOUR_MS + self.draw.below((most - least) * HOUR_MS))
    }

    fn session(&mut self, visitor: &Visitor, is_new: bool, start_ms: i64, lateness_ms: i64) -> Session {
        let mut before_sequence = Vec::with_capacity(192);
        text(&mut before_sequence, ",\"user\":");
        visitor.write_user(is_new, &mut before_sequence);
        text(&mut before_sequence, ",\"session\":{\"session_id\":\"");
        hexadecimal(&mut before_sequence, self.draw.wide(), 32);
        text(&mut before_sequence, "\",\"sequence\":");

        let mut after_sequence = Vec::with_capacity(640);
        text(&mut after_sequence, ",\"started_at\":\"");
        time(&mut after_sequence, start_ms - lateness_ms);
        text(&mut after_sequence, "\"},\"user_agent\":");
        visitor.write_user_agent(&mut after_sequence);
        text(&mut after_sequence, ",\"location\":");
        visitor.write_location(&mut after_sequence);
        text(&mut after_sequence, ",\"page\":");
        Session {
            source: visitor.source,
            before_sequence,
            after_sequence,
            lateness_ms,
            campaign: self.draw.below(100) as u8,
            experiment: visitor.experiment,
        }
    }
}

/// Of the new visitors of each block, how many may come back: fewer where lines that are no new event leave less room.
fn regulars(settings: &Settings) -> u32 {
    (f64::from(REGULARS) * (1.0 - settings.malformed) * (1.0 - settings.duplicates)) as u32
}

/// The number of the newcomer `newcomer` of a block, unique over the feed: a block has fewer visitors than events.
fn visitor_number(block: u64, newcomer: u32) -> u64 {
    block.saturating_mul(BLOCK_EVENTS) + u64::from(newcomer)
}
