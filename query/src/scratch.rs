//! A place for what is computed to be read and not to be kept.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use lakebed_log::Store;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A directory of the system's for temporary files, where nobody else looks; gone when it is dropped.
pub(crate) struct Scratch {
    directory: PathBuf,
    store: Store,
}

impl Scratch {
    /// # Errors
    /// Where the directory cannot be made.
    pub(crate) fn new() -> crate::Result<Self> {
        let directory = std::env::temp_dir().join(format!("lakebed-replay-{}", uuid::Uuid::now_v7().simple()));
        Ok(Self { store: Store::local(&directory)?, directory })
    }

    /// The directory as a store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What is in the directory, and below it what is in `lake`, to which nothing is written.
    pub(crate) fn over(&self, lake: &Store) -> Store {
        Store::of(Arc::new(Over { upper: self.store.objects(), lower: lake.objects() }), lake.place())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is a temporary directory of the system's.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Reads what is in either of two stores, and writes to one of them.
#[derive(Debug)]
struct Over {
    upper: Arc<dyn ObjectStore>,
    lower: Arc<dyn ObjectStore>,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.upper, self.lower)
    }
}

#[async_trait]
impl ObjectStore for Over {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.upper.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.upper.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.upper.get_opts(location, options.clone()).await {
            Err(Error::NotFound { .. }) => self.lower.get_opts(location, options).await,
            got => got,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.upper.delete_stream(locations)
    }

    /// What was written: nobody asks for more.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.upper.list(prefix)
    }

    /// As [`Self::list`].
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.upper.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.upper.copy_opts(from, to, options).await
    }
}
