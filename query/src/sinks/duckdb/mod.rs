//! The DuckDB sink: one file that people open, replaced whole at each version, and the last few versions beside it.
//!
//! A refresh never writes into a file that has a public name, so readers and refreshes never wait for each other. It takes
//! the oldest kept version out of its name, brings it up to date by the runs that it missed, and publishes it by a rename;
//! a version that a reader holds is left alone, and a copy of the newest is taken instead.

use std::fs::File;
use std::panic::resume_unwind;
use std::path::PathBuf;

use arrow::array::RecordBatch;

use self::database::{Database, Instance};
use self::feed::{Runs, feed};
use self::files::{Files, Taken};
use crate::error::{Error, Result};
use crate::sinks::change::superseding;
use crate::sinks::{Image, ReadRun, Watermark};

mod arrow_bridge;
mod bookkeeping;
mod database;
mod deletions;
mod feed;
mod files;
mod places;
mod tables;
mod types;

#[cfg(test)]
mod tests;

/// Publishes tables as a DuckDB file.
#[derive(Clone, Debug)]
pub struct DuckDbSink {
    files: Files,
}

/// What a publication came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The log version that the public file holds now: the image's, or a later one that was there already.
    pub version: u64,
    /// The public file.
    pub path: PathBuf,
    /// Rows that were written into it.
    pub rows_written: u64,
    /// Tables that were written from nothing.
    pub tables_rebuilt: usize,
    /// Tables that got the rows they lacked, and lost those that are gone.
    pub tables_changed: usize,
    /// The public file was up to date already, and was not touched.
    pub unchanged: bool,
}

/// What the public file says, and the instance that has read it.
#[derive(Default)]
struct PublicFile {
    /// Whose the tables are, if it says so.
    owner: bookkeeping::Owner,
    watermarks: Vec<Watermark>,
    instance: Option<Instance>,
}

/// The public file, open.
struct Reading {
    database: Database,
    /// Says to the publishers of this process that the file is read. Dropped after the database.
    mark: File,
}

/// The file in work, open.
struct Work {
    database: Database,
    /// Dropped after the database, see [`Taken`].
    taken: Option<Taken>,
}

impl DuckDbSink {
    /// A sink that publishes `DIRECTORY/NAME.duckdb` and keeps the last `keep` versions (at least one) in
    /// `DIRECTORY/versions`. Nothing is made before the first publication. With one version kept, each publication costs a
    /// copy of the file; with two or more it costs the change.
    pub fn new(directory: PathBuf, name: &str, keep: usize) -> Self {
        Self { files: Files::new(directory, name, keep) }
    }

    /// A sink in the same directory under another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { files: self.files.named(name) }
    }

    /// The file that people attach.
    pub fn path(&self) -> PathBuf {
        self.files.public()
    }

    /// Brings the public file up to the image: all tables in one step, or none. Waits for another publisher of the same
    /// file. An image that is older than what is published changes nothing.
    ///
    /// # Errors
    /// Whatever the store says while a run is read; [`Error::UnsupportedColumn`], [`Error::Column`] and
    /// [`Error::RunRows`] for rows that cannot be kept; [`Error::NotADatabase`] and [`Error::NotPublished`] if something
    /// else is under the public name, [`Error::FileTaken`] for what another project or target published; [`Error::File`] and [`Error::DuckDb`] if the file cannot be written. The public file
    /// is then what it was.
    pub async fn publish(&self, image: &Image, runs: &dyn ReadRun) -> Result<Published> {
        let (asking, answering) = feed();
        let (sink, image) = (self.clone(), image.clone());
        let work = tokio::task::spawn_blocking(move || sink.publish_here(&image, asking));
        let ((), published) = futures::join!(answering.serve(runs), work);
        match published.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(published) => published,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_cancelled)) => Err(Error::Interrupted),
        }
    }

    /// The watermark of each table of the public file, by name; none if nothing was published yet. Blocks.
    ///
    /// # Errors
    /// [`Error::Held`] if someone opened the file for writing, [`Error::NotADatabase`] and [`Error::NotPublished`] if it
    /// is not ours.
    pub fn watermarks(&self) -> Result<Vec<Watermark>> {
        Ok(self.published()?.watermarks)
    }

    fn published(&self) -> Result<PublicFile> {
        let Some(public) = self.open_public()? else { return Ok(PublicFile::default()) };
        let watermarks = bookkeeping::watermarks(&public.database)?.unwrap_or_default();
        let owner = bookkeeping::Owner::of(&public.database);
        // The mark goes last: publishers leave the file alone until nothing of this process holds it.
        let Reading { database, mark: _mark } = public;
        Ok(PublicFile { owner, watermarks, instance: Some(database.detach()?) })
    }

    /// Gives every row of a table of the public file to `each`, in batches as DuckDB stores them: texts as Utf8, instants
    /// in microseconds of UTC. Blocks.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] if it was not published, what `each` says, and as [`Self::watermarks`].
    pub fn read_table(&self, schema: &str, name: &str, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let model = format!("{schema}.{name}");
        let unknown = || Error::UnknownTable { name: model.clone(), nearest: None };
        let public = self.open_public()?.ok_or_else(unknown)?;
        let published = bookkeeping::watermarks(&public.database)?.unwrap_or_default();
        if !published.iter().any(|watermark| watermark.model == model) {
            return Err(unknown());
        }
        public.database.query(&format!("SELECT * FROM {}", tables::qualified(schema, name)), each)
    }

    fn open_public(&self) -> Result<Option<Reading>> {
        let path = self.files.public();
        while let Some(mark) = files::mark_as_read(&path)? {
            let database = Database::open_for_reading(path.clone(), &self.files.spill())?;
            let reading = Reading { database, mark };
            // A publication may have come between the two: then the marked file is not the one that was opened.
            if files::still_names(&path, &reading.mark)? {
                return Ok(Some(reading));
            }
        }
        Ok(None)
    }

    fn publish_here(&self, image: &Image, mut runs: Runs) -> Result<Published> {
        let _alone = self.files.lock()?;
        self.files.recover()?;
        let (work, newest) = match self.published() {
            Ok(PublicFile { owner, watermarks, instance }) => {
                owner.check(image, self.path())?;
                match superseding(image, &watermarks) {
                    Some(version) => return Ok(self.unchanged(version)),
                    None => (self.open_work(instance)?, Some(watermarks)),
                }
            }
            // Someone opened the public file for writing, or damaged it. Only a copy of it can be looked into.
            Err(Error::Held { .. } | Error::DuckDb { .. }) => {
                let work = self.open_copy(None)?;
                if let Err(taken) = bookkeeping::Owner::of(&work.database).check(image, self.path()) {
                    drop(work);
                    self.files.discard_work()?;
                    return Err(taken);
                }
                let published = bookkeeping::watermarks(&work.database);
                match published.map(|published| superseding(image, &published.unwrap_or_default())) {
                    Ok(None) => (work, None),
                    found => {
                        drop(work);
                        self.files.discard_work()?;
                        return found.map(|version| self.unchanged(version.unwrap_or(image.version)));
                    }
                }
            }
            Err(error) => return Err(error),
        };
        let written = match self.bring_up(work, image, &mut runs, newest.as_deref())? {
            Some(written) => Some(written),
            None => self.bring_up(self.open_copy(None)?, image, &mut runs, None)?,
        };
        let written = written.ok_or(Error::Interrupted)?;
        self.files.publish(image.version)?;
        Ok(Published {
            rows_written: written.rows,
            tables_rebuilt: written.rebuilt,
            tables_changed: written.changed,
            unchanged: false,
            ..self.unchanged(image.version)
        })
    }

    fn unchanged(&self, version: u64) -> Published {
        let (path, unchanged) = (self.path(), true);
        Published { version, path, rows_written: 0, tables_rebuilt: 0, tables_changed: 0, unchanged }
    }

    /// Writes the image into the file in work and closes it. After a failure of the store the file is as it was, and the
    /// next publication starts from it; after one of DuckDB's it goes, and its space with it. `None` where it was a kept
    /// version, and a copy of the newest one is the shorter way.
    fn bring_up(
        &self,
        work: Work,
        image: &Image,
        runs: &mut Runs,
        newest: Option<&[Watermark]>,
    ) -> Result<Option<tables::Written>> {
        let Work { database, taken } = work;
        let newest = newest.filter(|_| taken.is_some());
        let written = match tables::bring_up(&database, image, runs, newest) {
            Ok(Some(written)) => database.checkpoint_and_close().map(|()| Some(written)),
            not_written => {
                drop(database);
                not_written
            }
        };
        if let Err(Error::DuckDb { .. }) = &written {
            self.files.discard_work()?;
        }
        written
    }

    /// The file to bring up to date: one that a failed publication left, else the oldest kept version, else a copy of the
    /// newest, else a new one. A kept version that turns out to be far behind makes room for a copy as well.
    fn open_work(&self, mut instance: Option<Instance>) -> Result<Work> {
        if let Some(work) = self.open_left_over(&mut instance)? {
            return Ok(work);
        }
        if let Some(taken) = self.files.take_oldest()? {
            match self.open_by(instance.take()) {
                Ok(database) => return Ok(Work { database, taken: Some(taken) }),
                Err(Error::Held { .. }) => self.files.give_back(&taken)?,
                Err(error) => {
                    tracing::warn!(%error, "a kept version cannot be brought up to date; it is made anew");
                    self.files.discard_work()?;
                }
            }
        }
        self.open_copy(instance)
    }

    /// The file in work, by an instance that is there or by another one.
    fn open_by(&self, instance: Option<Instance>) -> Result<Database> {
        match instance {
            Some(instance) => instance.open(self.files.work()),
            None => Database::open(self.files.work(), &self.files.spill()),
        }
    }

    fn open_left_over(&self, instance: &mut Option<Instance>) -> Result<Option<Work>> {
        let work = self.files.work();
        if !std::fs::exists(&work).map_err(|source| Error::File { path: work, source })? {
            return Ok(None);
        }
        let database = self.open_by(instance.take());
        match database.and_then(|database| bookkeeping::watermarks(&database).map(|_| database)) {
            Ok(database) => Ok(Some(Work { database, taken: None })),
            Err(error) => {
                tracing::warn!(%error, "what a failed publication left is of no use; it is removed");
                self.files.discard_work().map(|()| None)
            }
        }
    }

    fn open_copy(&self, instance: Option<Instance>) -> Result<Work> {
        self.files.discard_work()?;
        let copied = self.files.copy_public()?;
        let database = match self.open_by(instance) {
            Err(error) if copied => {
                tracing::warn!(%error, "the copy of the public file cannot be opened; the file is made anew");
                self.files.discard_work()?;
                self.open_by(None)?
            }
            database => database?,
        };
        Ok(Work { database, taken: None })
    }
}
