//! A slot's lane in the log, and the stretch of events that is gathered for it.

use std::time::Instant;

use lakebed_ingest::{Intake, Tally};
use lakebed_log::LaneStep;

use crate::error::{Error, Result};
use crate::position::Position;

/// The source of captured events.
const SOURCE: &str = "capture";

/// Events that are no batch yet.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) text: Vec<u8>,
    ends: Vec<usize>,
    /// When its first event came.
    pub(crate) begun: Option<Instant>,
}

impl Stretch {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Ends the event that was written into the text.
    pub(crate) fn end(&mut self) {
        self.ends.push(self.text.len());
        self.begun.get_or_insert_with(Instant::now);
    }
}

/// The lane of a slot.
pub(crate) struct Lane<'i> {
    intake: &'i Intake,
    name: String,
    /// Where it stands; `None` before the first batch.
    pub(crate) stands: Option<Position>,
    /// A batch has so many events at most, and about so many bytes.
    most: (usize, usize),
}

impl<'i> Lane<'i> {
    /// The lane of a slot, where it stands now. `slot` is with its cluster.
    pub(crate) async fn open(intake: &'i Intake, slot: &str) -> Result<Self> {
        let name = format!("postgres/{slot}");
        let stands = intake.log().lane(&name).await?;
        let stands = stands.map(|text| text.parse().map_err(Error::Position)).transpose()?;
        let settings = intake.settings();
        Ok(Self { intake, name, stands, most: (settings.batch_events, settings.batch_bytes) })
    }

    /// Whether a stretch is as long as a batch may be.
    pub(crate) fn is_full(&self, stretch: &Stretch) -> bool {
        let (events, bytes) = self.most;
        stretch.ends.len() >= events || stretch.text.len() >= bytes
    }

    /// Appends a stretch, and stands behind it.
    pub(crate) async fn append(&mut self, stretch: &mut Stretch, to: Position) -> Result<Tally> {
        let from = self.stands.as_ref().map(Position::to_string);
        let step = LaneStep { lane: self.name.clone(), from, to: to.to_string() };
        let Stretch { text, ends, .. } = std::mem::take(stretch);
        // The next one will be about as long.
        stretch.text.reserve(text.len().min(1 << 20));
        let tally = self.intake.append_in_lane(step, SOURCE, (text, ends)).await?;
        self.stands = Some(to);
        Ok(tally)
    }
}
