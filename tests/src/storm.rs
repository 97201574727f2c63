//! A store in a storm: any request, or one write that is chosen, may come late, fail, lose its answer, or be the last that its
//! process makes; and everything that was done is written down, for the rules of the protocol to be checked afterwards.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
use tokio::sync::Notify;

/// How bad it is: probabilities for each request, and how late each may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The request is not done, and fails.
    pub fail: f64,
    /// The request is done, and its answer says that it failed.
    pub lose: f64,
    /// The request is done, its answer is lost, and the client library makes it again a while later.
    pub again: f64,
    /// The process is killed before the request is done, or after.
    pub die: f64,
    /// Each way takes up to so many milliseconds of the test's clock.
    pub delay_ms: u64,
}

/// A client library waits at least so long before it makes a request again.
const AGAIN: Duration = Duration::from_millis(100);

/// What happens at the one write that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The write is not done, and fails.
    NotDone,
    /// The write is done, and its answer says that it failed.
    AnswerLost,
}

/// When requests go wrong.
#[derive(Debug)]
enum Plan {
    /// Any of them, by dice.
    Weather(Weather, Box<Mutex<ChaCha8Rng>>),
    /// One write, counted from 0 among those to a path that holds `only`; it is the last request where it `kills`.
    Strike { strike: Strike, at: usize, only: &'static str, kills: bool, writes: AtomicUsize },
    /// One write, counted from 0 among those to a path that holds `only`, waits at a gate: before it is done, or done already and
    /// to be done `again`.
    Gate { gate: Arc<Gate>, at: usize, only: &'static str, again: bool, writes: AtomicUsize },
    /// The answer to the first read of a path that holds `only` waits at a gate.
    LateAnswer { gate: Arc<Gate>, only: &'static str, reads: AtomicUsize },
}

/// The object that a request is about, where it is about one.
#[derive(Clone, Copy, Debug)]
enum Access<'a> {
    Read(&'a Path),
    Write(&'a Path),
    Listing,
}

impl Access<'_> {
    /// Whether it is a write to a path that holds `only`.
    fn writes(self, only: &str) -> bool {
        matches!(self, Self::Write(path) if path.as_ref().contains(only))
    }

    /// Whether it is a read of one.
    fn reads(self, only: &str) -> bool {
        matches!(self, Self::Read(path) if path.as_ref().contains(only))
    }
}

/// Where a request waits until the test lets it go on.
#[derive(Debug, Default)]
pub struct Gate {
    reached: Notify,
    opened: Notify,
}

impl Gate {
    /// Returns once the request waits.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets it go on.
    pub fn open(&self) {
        self.opened.notify_one();
    }

    async fn pass(&self) {
        self.reached.notify_one();
        self.opened.notified().await;
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    NotDone,
    AnswerLost,
    Again,
    Held,
    HeldAnswer,
    KilledBefore,
    KilledAfter,
}

/// A request's fate, and how long it takes to get there and back.
type Way = (Fate, Duration, Duration);

impl Plan {
    fn way(&self, access: Access<'_>) -> Way {
        match self {
            Self::Weather(weather, dice) => {
                let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
                let mut delay = || Duration::from_millis(dice.random_range(0..=weather.delay_ms));
                let (there, back) = (delay(), delay());
                (weather.fate(dice.random()), there, back)
            }
            Self::Strike { strike, at, only, kills, writes } => {
                let struck = access.writes(only) && writes.fetch_add(1, Ordering::SeqCst) == *at;
                let fate = match (struck, strike, kills) {
                    (false, ..) => Fate::Done,
                    (true, Strike::NotDone, false) => Fate::NotDone,
                    (true, Strike::AnswerLost, false) => Fate::AnswerLost,
                    (true, Strike::NotDone, true) => Fate::KilledBefore,
                    (true, Strike::AnswerLost, true) => Fate::KilledAfter,
                };
                (fate, Duration::ZERO, Duration::ZERO)
            }
            Self::Gate { at, only, again, writes, .. } => {
                let fate = match (access.writes(only) && writes.fetch_add(1, Ordering::SeqCst) == *at, again) {
                    (false, _) => Fate::Done,
                    (true, false) => Fate::Held,
                    (true, true) => Fate::Again,
                };
                (fate, Duration::ZERO, Duration::ZERO)
            }
            Self::LateAnswer { only, reads, .. } => {
                let is_first = access.reads(only) && reads.fetch_add(1, Ordering::SeqCst) == 0;
                (if is_first { Fate::HeldAnswer } else { Fate::Done }, Duration::ZERO, Duration::ZERO)
            }
        }
    }

    /// Waits where the plan has a gate, and else for a while.
    async fn wait(&self, time: Duration) {
        match self {
            Self::Gate { gate, .. } | Self::LateAnswer { gate, .. } => gate.pass().await,
            _ => sleep(time).await,
        }
    }
}

impl Weather {
    /// The fate that a throw between 0 and 1 stands for.
    fn fate(&self, thrown: f64) -> Fate {
        let Self { fail, lose, again, die, .. } = *self;
        match thrown {
            thrown if thrown < die / 2.0 => Fate::KilledBefore,
            thrown if thrown < die => Fate::KilledAfter,
            thrown if thrown < die + fail => Fate::NotDone,
            thrown if thrown < die + fail + lose => Fate::AnswerLost,
            thrown if thrown < die + fail + lose + again => Fate::Again,
            _ => Fate::Done,
        }
    }
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
pub struct Trace {
    done: Mutex<Vec<Done>>,
    requests: AtomicUsize,
}

impl Trace {
    fn write(&self, process: usize, deed: Deed) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(Done { process, deed });
    }

    /// What was done so far.
    pub fn read(&self) -> Vec<Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests were made, whatever became of them.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The store as one process sees it.
#[derive(Clone, Debug)]
pub struct Storm(Arc<View>);

#[derive(Debug)]
struct View {
    inner: Arc<dyn ObjectStore>,
    process: usize,
    plan: Plan,
    trace: Arc<Trace>,
    dead: Arc<AtomicBool>,
}

impl Storm {
    /// A process's view in fair weather, whose requests the trace counts.
    pub fn calm(inner: Arc<dyn ObjectStore>, trace: Arc<Trace>) -> Self {
        Self::new(inner, 0, Weather::default(), 0, trace, Arc::default())
    }

    /// A process's view; `dead` tells whether it was killed.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        process: usize,
        weather: Weather,
        seed: u64,
        trace: Arc<Trace>,
        dead: Arc<AtomicBool>,
    ) -> Self {
        let plan = Plan::Weather(weather, Box::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))));
        Self(Arc::new(View { inner, process, plan, trace, dead }))
    }

    /// Strikes at the `at`-th write to a path that holds `only`, and works again.
    pub fn strike_once(inner: Arc<dyn ObjectStore>, strike: Strike, at: usize, only: &'static str) -> Self {
        Self::striking(inner, Plan::Strike { strike, at, only, kills: false, writes: AtomicUsize::new(0) })
    }

    /// Strikes at the `at`-th write and never answers again.
    pub fn strike_dead(inner: Arc<dyn ObjectStore>, strike: Strike, at: usize) -> Self {
        Self::striking(inner, Plan::Strike { strike, at, only: "", kills: true, writes: AtomicUsize::new(0) })
    }

    /// Holds the `at`-th write to a path that holds `only` at the gate. Where it is to be done `again`, it is done before that
    /// too: as by a client library that got no answer.
    pub fn held(inner: Arc<dyn ObjectStore>, at: usize, only: &'static str, again: bool, gate: &Arc<Gate>) -> Self {
        Self::striking(inner, Plan::Gate { gate: Arc::clone(gate), at, only, again, writes: AtomicUsize::new(0) })
    }

    /// Holds the answer to the first read of a path that holds `only` at the gate.
    pub fn late_answer(inner: Arc<dyn ObjectStore>, only: &'static str, gate: &Arc<Gate>) -> Self {
        Self::striking(inner, Plan::LateAnswer { gate: Arc::clone(gate), only, reads: AtomicUsize::new(0) })
    }

    fn striking(inner: Arc<dyn ObjectStore>, plan: Plan) -> Self {
        Self(Arc::new(View { inner, process: 0, plan, trace: Arc::default(), dead: Arc::default() }))
    }
}

impl View {
    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(failure("killed")) } else { Ok(()) }
    }

    fn die(&self) -> Error {
        self.dead.store(true, Ordering::SeqCst);
        failure("killed")
    }

    fn noted<T>(&self, answer: Result<T>, deed: &impl Fn(&Result<T>) -> Option<Deed>) -> Result<T> {
        if let Some(deed) = deed(&answer) {
            self.trace.write(self.process, deed);
        }
        answer
    }

    /// Does a request as its fate has it.
    async fn pass<T, F: Future<Output = Result<T>>>(
        &self,
        access: Access<'_>,
        request: impl Fn() -> F,
        deed: impl Fn(&Result<T>) -> Option<Deed>,
    ) -> Result<T> {
        self.alive()?;
        self.trace.requests.fetch_add(1, Ordering::Relaxed);
        let (fate, there, back) = self.plan.way(access);
        sleep(there).await;
        self.alive()?;
        match fate {
            Fate::KilledBefore => return Err(self.die()),
            Fate::NotDone => return Err(failure("the request was not done")),
            Fate::Held => self.plan.wait(Duration::ZERO).await,
            _ => {}
        }
        let mut answer = self.noted(request().await, &deed);
        sleep(back).await;
        if fate == Fate::HeldAnswer {
            self.plan.wait(Duration::ZERO).await;
        }
        self.alive()?;
        if fate == Fate::Again {
            self.plan.wait(AGAIN * (1 + back.subsec_millis() % 4)).await;
            self.alive()?;
            answer = self.noted(request().await, &deed);
        }
        match fate {
            Fate::KilledAfter => Err(self.die()),
            Fate::AnswerLost => Err(failure("the answer was lost")),
            _ => answer,
        }
    }
}

/// Not a turn of the runtime where there is nothing to wait for.
async fn sleep(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "storm", source: what.into() }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storm over {}", self.0.inner)
    }
}

#[async_trait]
impl ObjectStore for Storm {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let if_absent = matches!(options.mode, PutMode::Create);
        let bytes = Bytes::from(payload.clone());
        let deed = |answer: &Result<PutResult>| match answer {
            Ok(_) => Some(Deed::Put(location.clone(), if_absent, bytes.clone())),
            Err(Error::AlreadyExists { .. }) => Some(Deed::Refused(location.clone())),
            Err(_) => None,
        };
        let put = || self.0.inner.put_opts(location, payload.clone(), options.clone());
        self.0.pass(Access::Write(location), put, deed).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.alive()?;
        self.0.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // To be told that an object is there is not to have read it.
        let head = options.head;
        let deed = |answer: &Result<GetResult>| (!head).then(|| Deed::Get(location.clone(), answer.is_ok()));
        self.0.pass(Access::Read(location), || self.0.inner.get_opts(location, options.clone()), deed).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let view = Arc::clone(&self.0);
        let delete = move |location: Result<Path>| {
            let view = Arc::clone(&view);
            async move {
                let location = location?;
                let deed = |_: &Result<()>| Some(Deed::Delete(location.clone()));
                view.pass(Access::Write(&location), || view.inner.delete(&location), deed).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (view, prefix) = (Arc::clone(&self.0), prefix.cloned());
        let all = async move {
            // A listing is the store's state at one moment.
            let listing = || async { view.inner.list(prefix.as_ref()).try_collect::<Vec<_>>().await };
            let deed = |_: &Result<_>| Some(Deed::List(prefix.clone().unwrap_or_default()));
            stream::iter(match view.pass(Access::Listing, listing, deed).await {
                Ok(listed) => listed.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        };
        stream::once(all).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.pass(Access::Listing, || self.0.inner.list_with_delimiter(prefix), |_| None).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.alive()?;
        self.0.inner.copy_opts(from, to, options).await
    }
}
