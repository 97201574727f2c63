//! Thinning: of old epochs a few stay as landmarks, and the others go. A table as of a version where none stands any more is
//! computed, as it is where none ever stood.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use lakebed_log::{Store, layout};
use object_store::ObjectMeta;

use super::chain::{landmarks, number_of};
use crate::error::Result;

/// Which epochs all stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thinning {
    /// Those that are younger …
    pub recent: TimeDelta,
    /// … and so many of the newest, two at least, however old they are.
    pub least: usize,
}

impl Default for Thinning {
    fn default() -> Self {
        Self { recent: TimeDelta::minutes(10), least: 100 }
    }
}

/// The last of each such span of seconds stays, up to an age; then that of the next longer span.
const SPANS: [(TimeDelta, i64); 3] =
    [(TimeDelta::days(1), 60), (TimeDelta::days(30), 60 * 60), (TimeDelta::MAX, 24 * 60 * 60)];

/// Between two thinnings. Who reads as of an old version has so long to read what only an epoch lists that went: a vacuum of
/// runs comes before a thinning.
const BETWEEN: TimeDelta = TimeDelta::hours(1);

/// So many epochs are listed to see whether there are old ones.
const LISTED: usize = 1_000;

/// What a thinning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Epochs that are not there any more.
    pub gone: u64,
    /// Epochs that became landmarks.
    pub landmarks: u64,
}

/// Whether there are many old epochs. `at` is the store's time.
///
/// # Errors
/// Any failure of the store.
pub async fn wants_thinning(store: &Store, at: DateTime<Utc>) -> Result<bool> {
    let listed = store.list_some(&layout::epochs(None), LISTED).await?;
    let Thinning { recent, least } = Thinning::default();
    let is_old = |object: &ObjectMeta| object.last_modified <= at - recent - BETWEEN;
    Ok(listed.len() > 2 * least && listed.iter().any(is_old))
}

/// Thins the lake's epochs. `at` is the store's time.
///
/// # Errors
/// Any failure of the store; what was done until then stays done, and the next thinning goes on from there.
pub async fn thin(store: &Store, thinning: &Thinning, at: DateTime<Utc>) -> Result<Thinned> {
    let marks = landmarks(store).await?;
    let listed = store.list(&layout::epochs(None)).await?;
    let epochs: Vec<_> = listed.into_iter().filter_map(|object| Some((number_of(&object)?, object))).collect();
    let old = epochs[..epochs.len().saturating_sub(thinning.least.max(2))].iter();
    let old: BTreeMap<_, _> =
        old.take_while(|(_, object)| object.last_modified <= at - thinning.recent).cloned().collect();
    // A landmark's name says when its epoch was put, for the object may have been copied.
    let put = marks.values().filter_map(|mark| layout::epoch_of(&mark.location));
    let put = put.filter_map(|(number, put)| Some((number, put?)));
    let put: BTreeMap<_, _> = put.chain(old.iter().map(|(number, object)| (*number, object.last_modified))).collect();
    let stays = staying(&put, at);
    let mut thinned = Thinned::default();
    // Each in its turn, the oldest first: those that are left have no gap, wherever a kill ends this.
    for (number, object) in &old {
        if stays.contains(number) && !marks.contains_key(number) {
            let Some(bytes) = store.get(&object.location).await? else { continue };
            store.put_if_absent(&layout::landmark(*number, object.last_modified), bytes).await?;
            thinned.landmarks += 1;
        }
        store.delete(&object.location).await?;
        thinned.gone += u64::from(!stays.contains(number));
    }
    for mark in marks.iter().filter(|(number, _)| put.contains_key(number) && !stays.contains(number)) {
        store.delete(&mark.1.location).await?;
        thinned.gone += u64::from(!old.contains_key(mark.0));
    }
    Ok(thinned)
}

/// Which of these epochs stay, by when each was put: the last one of each span.
fn staying(put: &BTreeMap<u64, DateTime<Utc>>, at: DateTime<Utc>) -> BTreeSet<u64> {
    let mut last = BTreeMap::new();
    for (number, time) in put {
        let span = SPANS.iter().find(|(age, _)| at - *time < *age).map_or(SPANS[SPANS.len() - 1].1, |(_, span)| *span);
        last.insert((span, time.timestamp().div_euclid(span)), *number);
    }
    last.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_minute_hour_and_day_stays() {
        let at = DateTime::UNIX_EPOCH + TimeDelta::days(100);
        let stays = |ages: &[TimeDelta]| {
            let put = ages.iter().enumerate().map(|(number, age)| (number as u64, at - *age)).collect();
            staying(&put, at).into_iter().collect::<Vec<_>>()
        };
        let (days, hours, minutes, seconds) =
            (TimeDelta::days, TimeDelta::hours, TimeDelta::minutes, TimeDelta::seconds);
        assert_eq!(stays(&[minutes(5), minutes(5) - seconds(59), minutes(4)]), [1, 2], "a minute");
        assert_eq!(stays(&[days(2), days(2) - minutes(59), days(2) - hours(1)]), [1, 2], "an hour");
        assert_eq!(stays(&[days(40), days(40) - hours(23), days(39)]), [1, 2], "a day");
        assert!(stays(&[]).is_empty());
        // What stays once stays until it comes to a longer span, and what has gone would not have stayed.
        let every: Vec<_> = (0..3_000).rev().map(|number| minutes(number * 20)).collect();
        let once = stays(&every);
        let again: Vec<_> = once.iter().map(|number| every[*number as usize]).collect();
        assert_eq!(stays(&again).len(), again.len());
        assert_eq!(once.len(), 72 + (29 * 24 + 1) + 13);
    }
}
