//! The lake as each reader sees it: made once for the version that is served, and again when the policies change.

use std::sync::{Arc, Mutex};

use lakebed_query::{AsOf, OfReader, Policies, ReadSession, Rules, Versions};
use tokio::sync::watch;
use tonic::Status;

use crate::bounded::{Bounded, locked};
use crate::runtime::QueryThreads;
use crate::server::Served;
use crate::status;
use crate::terms::Terms;

/// Readers whose session is kept.
const KEPT_READERS: usize = 1_024;

/// What a statement is asked of.
#[derive(Clone)]
pub(crate) struct Seen {
    /// The lake as its reader sees it; while it is held, no other has its address.
    pub(crate) session: Arc<ReadSession>,
    /// Where the reader finds other versions.
    pub(crate) versions: Arc<dyn Versions>,
    /// The lake as nobody's policies narrow it.
    whole: Arc<ReadSession>,
    /// `None` where there are no policies.
    rules: Option<Arc<Rules>>,
}

impl Seen {
    /// Whether it is of this session.
    pub(crate) fn is_of(&self, whole: &Arc<ReadSession>) -> bool {
        Arc::ptr_eq(&self.whole, whole)
    }
}

/// All readers of one server.
pub(crate) struct Readers {
    lake: watch::Receiver<Served>,
    policies: Policies,
    threads: QueryThreads,
    kept: Mutex<Bounded<String, Seen>>,
}

impl Readers {
    pub(crate) fn new(lake: watch::Receiver<Served>, policies: Policies, threads: QueryThreads) -> Self {
        Self { lake, policies, threads, kept: Mutex::new(Bounded::new(KEPT_READERS)) }
    }

    /// The lake as of the version that is asked for, by default the newest, as a user sees it.
    ///
    /// # Errors
    /// The status of a version that is not there, or cannot be read; UNAVAILABLE where the policies are wrong.
    pub(crate) async fn seen(&self, terms: &Terms, user: &str) -> Result<Seen, Status> {
        let rules = self.rules()?;
        let Served { session, versions } = self.lake.borrow().clone();
        let newest = session.version();
        let whole = match terms.as_of {
            None => session,
            Some(AsOf::Version(version)) if version == newest => session,
            Some(as_of) => {
                let versions = Arc::clone(&versions);
                let session = self.threads.run(async move { versions.as_of(as_of).await }).await?;
                session.map_err(|error| status::of_query(&error))?
            }
        };
        let Some(rules) = rules else {
            return Ok(Seen { session: Arc::clone(&whole), versions, whole, rules: None });
        };
        let kept = locked(&self.kept).get(&user.to_owned()).cloned();
        if let Some(seen) = kept.filter(|seen| seen.is_of(&whole) && is_same(seen.rules.as_ref(), Some(&rules))) {
            return Ok(seen);
        }
        let (of, by, reader) = (Arc::clone(&whole), Arc::clone(&rules), rules.reader(user));
        let versions = Arc::new(OfReader { versions, rules: Arc::clone(&rules), reader: reader.clone() });
        let is_newest = whole.version() == newest;
        let narrowed = self.threads.run(async move {
            match is_newest {
                true => of.for_reader(&by, &reader).await,
                false => of.earlier_for_reader(&by, &reader).await,
            }
        });
        let narrowed = narrowed.await?;
        let session = Arc::new(narrowed.map_err(|error| status::of_query(&error))?);
        let seen = Seen { session, versions, whole, rules: Some(rules) };
        // An earlier version would be held with what was computed for it.
        if self.is_served(&seen) {
            locked(&self.kept).insert(user.to_owned(), seen.clone());
        }
        Ok(seen)
    }

    /// Whether it is the newest that is served.
    pub(crate) fn is_served(&self, seen: &Seen) -> bool {
        seen.is_of(&self.lake.borrow().session)
    }

    /// Whether the policies are still those by which it was made.
    ///
    /// # Errors
    /// UNAVAILABLE where they are wrong.
    pub(crate) fn is_by_todays_rules(&self, seen: &Seen) -> Result<bool, Status> {
        Ok(is_same(seen.rules.as_ref(), self.rules()?.as_ref()))
    }

    /// Lets go of what is of a session before the one served.
    pub(crate) fn forget_before(&self, served: &Arc<ReadSession>) {
        locked(&self.kept).retain(|seen| seen.is_of(served));
    }

    fn rules(&self) -> Result<Option<Arc<Rules>>, Status> {
        self.policies.rules().map_err(|error| status::of_policies(&error))
    }
}

fn is_same(one: Option<&Arc<Rules>>, other: Option<&Arc<Rules>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}
