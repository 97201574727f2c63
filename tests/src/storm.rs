//! A store in a storm: each request may come late, fail, lose its answer, or be the last that its process makes; and
//! everything that was done is written down, for the rules of the protocol to be checked afterwards.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How bad it is: probabilities for each request, and how late each may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The request is not done, and fails.
    pub fail: f64,
    /// The request is done, and its answer says that it failed.
    pub lose: f64,
    /// The process is killed before the request is done, or after.
    pub die: f64,
    /// Each way takes up to so many milliseconds of the test's clock.
    pub delay_ms: u64,
}

/// A request that was done.
#[derive(Clone, Debug)]
pub struct Done {
    /// The process: a number of its own after each restart.
    pub process: usize,
    /// What it did.
    pub deed: Deed,
}

/// What was done to the store.
#[derive(Clone, Debug)]
pub enum Deed {
    /// An object was asked for, and there or not.
    Get(Path, bool),
    /// A prefix was listed.
    List(Path),
    /// An object was written; the flag is whether only if absent.
    Put(Path, bool, Bytes),
    /// A put-if-absent found the object there.
    Refused(Path),
    /// An object was deleted.
    Delete(Path),
}

/// All that was done by all processes, in the order done.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Vec<Done>>);

impl Trace {
    fn write(&self, process: usize, deed: Deed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Done { process, deed });
    }

    /// What was done so far.
    pub fn read(&self) -> Vec<Done> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The store as one process sees it.
#[derive(Debug)]
pub struct Storm {
    inner: Arc<dyn ObjectStore>,
    process: usize,
    weather: Weather,
    dice: Mutex<ChaCha8Rng>,
    trace: Arc<Trace>,
    dead: Arc<AtomicBool>,
}

impl Storm {
    /// A process's view; `dead` tells whether it was killed.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        process: usize,
        weather: Weather,
        seed: u64,
        trace: Arc<Trace>,
        dead: Arc<AtomicBool>,
    ) -> Self {
        Self { inner, process, weather, dice: Mutex::new(ChaCha8Rng::seed_from_u64(seed)), trace, dead }
    }

    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(failure("killed")) } else { Ok(()) }
    }

    fn die(&self) -> Error {
        self.dead.store(true, Ordering::SeqCst);
        failure("killed")
    }

    /// Does a request as the weather has it.
    async fn pass<T>(
        &self,
        request: impl Future<Output = Result<T>>,
        deed: impl FnOnce(&Result<T>) -> Option<Deed>,
    ) -> Result<T> {
        self.alive()?;
        let (there, back, fate) = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            let mut delay = || Duration::from_millis(dice.random_range(0..=self.weather.delay_ms));
            (delay(), delay(), dice.random::<f64>())
        };
        let Weather { fail, lose, die, .. } = self.weather;
        tokio::time::sleep(there).await;
        self.alive()?;
        if fate < die / 2.0 {
            return Err(self.die());
        }
        if (die..die + fail).contains(&fate) {
            return Err(failure("the request was not done"));
        }
        let answer = request.await;
        if let Some(deed) = deed(&answer) {
            self.trace.write(self.process, deed);
        }
        tokio::time::sleep(back).await;
        self.alive()?;
        if fate < die {
            return Err(self.die());
        }
        if (die + fail..die + fail + lose).contains(&fate) {
            return Err(failure("the answer was lost"));
        }
        answer
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "storm", source: what.into() }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storm over {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Storm {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let if_absent = matches!(options.mode, PutMode::Create);
        let bytes = Bytes::from(payload.clone());
        let deed = |answer: &Result<PutResult>| match answer {
            Ok(_) => Some(Deed::Put(location.clone(), if_absent, bytes)),
            Err(Error::AlreadyExists { .. }) => Some(Deed::Refused(location.clone())),
            Err(_) => None,
        };
        self.pass(self.inner.put_opts(location, payload, options), deed).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.alive()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // To be told that an object is there is not to have read it.
        let head = options.head;
        let deed = |answer: &Result<GetResult>| (!head).then(|| Deed::Get(location.clone(), answer.is_ok()));
        self.pass(self.inner.get_opts(location, options), deed).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // The log deletes one object at a time; this view of the store lives as long as the stream.
        let this = Self {
            inner: Arc::clone(&self.inner),
            process: self.process,
            weather: self.weather,
            dice: Mutex::new(self.dice.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            trace: Arc::clone(&self.trace),
            dead: Arc::clone(&self.dead),
        };
        let _ = self.dice.lock().unwrap_or_else(PoisonError::into_inner).random::<u64>();
        let this = Arc::new(this);
        let delete = move |location: Result<Path>| {
            let this = Arc::clone(&this);
            async move {
                let location = location?;
                let deed = |_: &Result<()>| Some(Deed::Delete(location.clone()));
                this.pass(this.inner.delete(&location), deed).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.alive() {
            return stream::once(async { Err(error) }).boxed();
        }
        // A listing is the store's state at one moment: that at which it is asked for.
        let listing = self.inner.list(prefix);
        self.trace.write(self.process, Deed::List(prefix.cloned().unwrap_or_default()));
        let (delay, fate) = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            (Duration::from_millis(dice.random_range(0..=self.weather.delay_ms)), dice.random::<f64>())
        };
        let failed = match fate {
            fate if fate < self.weather.die => Some(self.die()),
            fate if fate < self.weather.die + self.weather.fail => Some(failure("the listing failed")),
            _ => None,
        };
        let late = async move {
            let listed = listing.try_collect::<Vec<_>>().await;
            tokio::time::sleep(delay).await;
            stream::iter(match (failed, listed) {
                (Some(error), _) | (None, Err(error)) => vec![Err(error)],
                (None, Ok(listed)) => listed.into_iter().map(Ok).collect(),
            })
        };
        stream::once(late).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass(self.inner.list_with_delimiter(prefix), |_| None).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.alive()?;
        self.inner.copy_opts(from, to, options).await
    }
}
