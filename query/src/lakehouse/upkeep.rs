//! The upkeep of what refreshes leave: old epochs, and the runs that only those list.

use chrono::{DateTime, TimeDelta, Utc};
use lakebed_log::Vacuumed;

use super::Lakehouse;
use crate::epoch::{self, Thinned, Thinning};
use crate::error::Result;
use crate::folding::vacuum_runs;

impl Lakehouse {
    /// Thins old epochs and deletes the runs that none lists any more, where the time has come; by the lake's clock, where the one
    /// that says `at` is fast.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn tidy(&self, at: DateTime<Utc>) -> Result<(Thinned, Vacuumed)> {
        if !self.chain().wants_look() || !epoch::wants_thinning(self.log().store(), at).await? {
            return Ok(Default::default());
        }
        let at = at.min(self.log().store_time().await?);
        // Before epochs go: who has looked one up reads its runs until the next time.
        let vacuumed = vacuum_runs(self.log().store(), TimeDelta::zero(), at).await?;
        Ok((epoch::thin(self.log().store(), &Thinning::default(), at).await?, vacuumed))
    }
}
