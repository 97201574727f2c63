//! What keeps whoever refreshes again and again from the end of it: how far that was told, and when it is tried again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::LOOK_EVERY;
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// How long what is away is left alone: a store, or a sink.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What fails again and again is left alone for longer and longer, but not for longer than this.
const AT_THE_LATEST: Duration = Duration::from_secs(60);

/// What is away or fails, as far as it was told.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// The last refresh, if it did not come to its end.
    models: Option<Failed>,
    /// A sink.
    sinks: Option<String>,
    /// What was told of refreshes since one came to its end.
    said: BTreeSet<String>,
    /// Whether it was told that it goes on.
    told: bool,
}

/// A refresh that did not come to its end.
#[derive(Debug)]
struct Failed {
    /// By what, in a sentence.
    what: String,
    at: Instant,
    /// How often it was tried in vain, but for what was away.
    times: u32,
    again: Again,
}

/// When a refresh that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Every second: what it needs is away.
    Soon,
    /// After pauses that grow.
    Later,
    /// The same, and only once events came: what a query says of the rows that there are, it says again.
    WithNews,
}

impl Again {
    fn after(error: &Error) -> Self {
        match error {
            error if error.may_pass() => Self::Soon,
            Error::Query(error) if matches!(error.as_ref(), lakebed_query::Error::Model { .. }) => Self::WithNews,
            _ => Self::Later,
        }
    }

    /// How it goes on, where that is not told with what is away.
    fn in_words(self) -> Option<&'static str> {
        match self {
            Self::Soon => None,
            Self::Later => Some("it goes on with the tables as they are, and tries again"),
            Self::WithNews => {
                Some("it goes on with the tables as they are, and tries again when events come or a model is edited")
            }
        }
    }
}

impl Failed {
    fn has_rested(&self, now: Instant) -> bool {
        let pause = AGAIN_AFTER.saturating_mul(1 << self.times.saturating_sub(1).min(6));
        now.duration_since(self.at) >= pause.min(AT_THE_LATEST)
    }
}

impl Behind {
    /// Takes in what became of a refresh; where this process does not publish beside it, that is all there is to it.
    ///
    /// # Errors
    /// What kept it from its end, if nobody can go on with it.
    pub(crate) fn refreshed(&mut self, invocation: &Invocation, worked: Result<()>, publishes: bool) -> Result<()> {
        match worked {
            Ok(()) => {
                self.models = None;
                self.said.clear();
            }
            Err(error) if error.ends_all() => return Err(error),
            Err(error) => {
                let again = Again::after(&error);
                if self.note(&error, again, Instant::now()) {
                    invocation.output.fail(&error);
                    if let Some(words) = again.in_words() {
                        invocation.output.say(words);
                        self.told = true;
                    }
                }
            }
        }
        self.tell(invocation, !publishes);
        Ok(())
    }

    /// Takes in what became of a publication. Nothing that a sink says keeps anybody from being served.
    pub(crate) fn published(&mut self, invocation: &Invocation, published: Result<()>) {
        let is_up = published.is_ok();
        let away = published.err();
        if let Some(away) = away.as_ref().filter(|_| self.sinks.is_none()) {
            invocation.output.fail(away);
        }
        self.sinks = away.map(|away| away.to_string());
        self.tell(invocation, is_up);
    }

    /// What is away or fails, in a sentence.
    pub(crate) fn what(&self) -> Option<&String> {
        self.models.as_ref().map(|failed| &failed.what).or(self.sinks.as_ref())
    }

    /// Whether what a refresh needs is away.
    pub(crate) fn is_away(&self) -> bool {
        self.models.as_ref().is_some_and(|failed| failed.again == Again::Soon)
    }

    /// Whether a refresh failed by something that is there.
    pub(crate) fn is_stuck(&self) -> bool {
        self.models.as_ref().is_some_and(|failed| failed.again != Again::Soon)
    }

    /// For how long nobody looks at the log.
    pub(crate) fn pause(&self) -> Duration {
        if self.is_away() { AGAIN_AFTER } else { LOOK_EVERY }
    }

    /// Whether it is time for a refresh: the log has news, or one failed and is to be tried again.
    pub(crate) fn is_due(&self, has_news: bool, now: Instant) -> bool {
        self.models.as_ref().map_or(has_news, |failed| match failed.again {
            // Whoever looks has made that pause.
            Again::Soon => true,
            Again::Later => failed.has_rested(now),
            Again::WithNews => has_news && failed.has_rested(now),
        })
    }

    /// Takes in what a refresh failed by; gives whether that is still to be told.
    fn note(&mut self, error: &Error, again: Again, now: Instant) -> bool {
        let what = error.to_string();
        let is_new = match again {
            // A store that is away says it of one object after the other.
            Again::Soon => !self.is_away(),
            Again::Later | Again::WithNews => self.said.insert(what.clone()),
        };
        let before = self.models.as_ref().map_or(0, |failed| failed.times);
        let times = before + u32::from(again != Again::Soon);
        self.models = Some(Failed { what, at: now, times, again });
        is_new
    }

    /// Says once that something is away, and once that nothing is any more, when the sinks are up, too.
    fn tell(&mut self, invocation: &Invocation, are_sinks_up: bool) {
        match (self.what().is_some(), self.told) {
            (true, false) => {
                invocation.output.say("it goes on, and tries again every second");
                self.told = true;
            }
            (false, true) if are_sinks_up => {
                invocation.output.say("everything is up to date");
                self.told = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(message: &str) -> Error {
        let path = "sql/gold/x.sql".into();
        Error::from(lakebed_query::Error::Model { path, line: 1, message: message.to_owned(), hint: None })
    }

    fn away() -> Error {
        Error::from(lakebed_query::Error::Overtaken { tries: 5 })
    }

    fn noted(behind: &mut Behind, error: &Error, now: Instant) -> bool {
        behind.note(error, Again::after(error), now)
    }

    #[test]
    fn a_model_that_fails_is_told_once_and_tried_again_with_news_after_pauses_that_grow() {
        let (mut behind, mut now) = (Behind::default(), Instant::now());
        assert!(behind.is_due(true, now) && !behind.is_due(false, now), "nothing failed");
        for (message, is_told, pause) in
            [("one", true, 1), ("other", true, 2), ("one", false, 4), ("other", false, 8), ("third", true, 16)]
        {
            assert_eq!(noted(&mut behind, &model(message), now), is_told, "{message}");
            assert!(behind.is_stuck() && !behind.is_away());
            assert!(!behind.is_due(true, now), "it would spin");
            now += Duration::from_secs(pause);
            assert!(behind.is_due(true, now) && !behind.is_due(false, now), "the same rows give the same failure");
        }
        for _ in 0..100 {
            noted(&mut behind, &model("one"), now);
        }
        assert!(behind.is_due(true, now + AT_THE_LATEST));
    }

    #[test]
    fn what_is_away_is_told_once_and_tried_again_every_second() {
        let (mut behind, now) = (Behind::default(), Instant::now());
        assert!(noted(&mut behind, &away(), now) && !noted(&mut behind, &away(), now));
        assert!(behind.is_away() && behind.is_due(false, now));
        assert_eq!(behind.pause(), AGAIN_AFTER);
        let other = Error::from(lakebed_query::Error::CacheBroken);
        assert!(noted(&mut behind, &other, now));
        assert!(!behind.is_due(false, now) && behind.is_due(false, now + AGAIN_AFTER), "that may be over by itself");
    }

    #[test]
    fn a_server_ends_for_a_lake_that_is_not_its_own() {
        let gone = || lakebed_log::Error::NoLog { place: "there".to_owned() };
        assert!(Error::from(gone()).ends_all() && Error::from(lakebed_query::Error::from(gone())).ends_all());
        assert!(!model("a").ends_all() && !away().ends_all());
    }
}
