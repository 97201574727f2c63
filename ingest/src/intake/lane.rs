//! Stretches of an ordered source that others read: each comes into the log once, and with it where the source stands.

use lakebed_log::{Ack, Batch, BatchId, ContentHash, Events, LaneStep};

use super::{Intake, Prepared, Tally};
use crate::error::Error;
use crate::frame::frame_events;

impl Intake {
    /// Appends the events of a stretch of a lane as one batch, whole and committed, and moves the lane. `ends` says where each event
    /// ends in `text`. A stretch without an event moves the lane, too.
    ///
    /// # Errors
    /// [`lakebed_log::Error::LaneConflict`] where the lane does not stand at the step's beginning, and as [`Intake::append`].
    pub async fn append_in_lane(
        &self,
        step: LaneStep,
        source: &'static str,
        (text, ends): (Vec<u8>, Vec<usize>),
    ) -> Result<Tally, Error> {
        let settings = self.settings().uncut();
        let id = BatchId::new(format!("{}/{}-{}", step.lane, step.from.as_deref().unwrap_or_default(), step.to));
        let preparing = move || {
            let mut start = 0;
            let events = ends.iter().map(|&end| &text[std::mem::replace(&mut start, end)..end]);
            match frame_events(events, &settings) {
                Some(raw) => Prepared::in_lane(&raw, id, source, Some(step), &settings),
                None => Prepared::empty(id, source, step),
            }
        };
        let prepared = tokio::task::spawn_blocking(preparing).await?;
        self.append_anyhow(&prepared, Ack::Committed).await
    }
}

impl Prepared {
    /// A batch without an event, which moves a lane.
    fn empty(id: BatchId, source: &str, step: LaneStep) -> Self {
        let batch = Batch {
            content: ContentHash::of(id.to_string().as_bytes()),
            id,
            source: source.to_owned(),
            lane: Some(step),
            events: Events::default(),
            quarantine: Vec::new(),
        };
        Self { batch: batch.into(), bytes: 0, only_in_doc: 0, no_json: 0, cut_off: false }
    }
}
