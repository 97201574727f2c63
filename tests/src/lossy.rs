//! A store that strikes once, at its n-th write: the write is not done, or it is done and its answer is lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens at the strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The write is not done, and fails.
    NotDone,
    /// The write is done, and its answer says that it failed.
    AnswerLost,
}

/// The store.
#[derive(Debug)]
pub struct Lossy {
    inner: Arc<dyn ObjectStore>,
    strike: Strike,
    /// The write to strike at, from 0, among those whose path holds `only`.
    at: usize,
    only: &'static str,
    /// Whether nothing is answered any more after the strike: what a killed process leaves behind.
    dies: bool,
    writes: AtomicUsize,
    dead: AtomicBool,
}

impl Lossy {
    /// Strikes at the `at`-th write to a path that holds `only`, and works again.
    pub fn once(inner: Arc<dyn ObjectStore>, strike: Strike, at: usize, only: &'static str) -> Self {
        Self { inner, strike, at, only, dies: false, writes: AtomicUsize::new(0), dead: AtomicBool::new(false) }
    }

    /// Strikes at the `at`-th write and never answers again.
    pub fn for_good(inner: Arc<dyn ObjectStore>, strike: Strike, at: usize) -> Self {
        Self { dies: true, ..Self::once(inner, strike, at, "") }
    }

    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(failure("no connection")) } else { Ok(()) }
    }

    /// Whether this write is the one.
    fn strikes(&self, path: &str) -> bool {
        let struck = path.contains(self.only) && self.writes.fetch_add(1, Ordering::SeqCst) == self.at;
        if struck && self.dies {
            self.dead.store(true, Ordering::SeqCst);
        }
        struck
    }
}

fn failure(what: &str) -> Error {
    Error::Generic { store: "lossy", source: what.into() }
}

impl fmt::Display for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lossy {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Lossy {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.alive()?;
        let struck = self.strikes(location.as_ref());
        if struck && self.strike == Strike::NotDone {
            return Err(failure("the write was not done"));
        }
        let answer = self.inner.put_opts(location, payload, options).await;
        if struck { Err(failure("the answer was lost")) } else { answer }
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
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if let Err(error) = self.alive() {
            return stream::once(async { Err(error) }).boxed();
        }
        // A stream's paths are not known yet; the log deletes one object at a time.
        match (self.only.is_empty() && self.strikes(""), self.strike) {
            (false, _) => self.inner.delete_stream(locations),
            (true, Strike::NotDone) => stream::once(async { Err(failure("the delete was not done")) }).boxed(),
            (true, Strike::AnswerLost) => {
                let lost = |answer: Result<Path>| answer.and(Err(failure("the answer was lost")));
                self.inner.delete_stream(locations).map(lost).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.alive()?;
        self.inner.copy_opts(from, to, options).await
    }
}
