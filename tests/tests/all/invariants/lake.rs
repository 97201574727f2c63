//! A lake of a case: what can be done to it, and what its tables are.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{TimeDelta, Utc};
use futures::TryStreamExt;
use lakebed_log::{Ack, Compaction};
use lakebed_project::{Config, Flags, Secret, SinkKind};
use lakebed_query::{AsOf, Lakehouse, Project, Refreshed, TableHash, Thinning, epoch, fold_runs, thin, vacuum_runs};
use lakebed_tests::batches::at;
use lakebed_tests::postgres::Database;
use lakebed_tests::s3::Bucket;
use tempfile::TempDir;

use super::case::{Case, Step, Upkeep};

/// Rows, and their hash.
pub(super) type Content = (u64, String);

/// How many batches had come when a refresh ended, and the version that it ended at.
pub(super) type Stop = (usize, u64);

/// A project in a directory of its own, with its lake in it.
pub(super) struct Lake<'a> {
    case: &'a Case,
    directory: TempDir,
    /// Where the lake is, if not in the directory.
    bucket: Option<&'a Bucket>,
    /// What its models are kept in beside DuckDB.
    database: Option<Database>,
    /// Always there, but while the project is opened again.
    house: Option<Lakehouse>,
    appended: usize,
    /// Where refreshes ended.
    pub(super) stops: Vec<Stop>,
}

impl<'a> Lake<'a> {
    pub(super) async fn new(case: &'a Case) -> Self {
        Self::at(case, None, None).await
    }

    /// With its lake on an S3 server.
    pub(super) async fn in_bucket(case: &'a Case, bucket: &'a Bucket) -> Self {
        Self::at(case, Some(bucket), None).await
    }

    async fn at(case: &'a Case, bucket: Option<&'a Bucket>, database: Option<Database>) -> Self {
        let directory = TempDir::new().unwrap();
        // Where the events lie is nobody's business.
        let partition_by = if case.seed.is_multiple_of(2) { "event_date" } else { "none" };
        let settings = format!("{}\n[log]\npartition_by = \"{partition_by}\"\n", case.settings);
        std::fs::write(directory.path().join("lakebed.toml"), settings).unwrap();
        let mut lake = Self { case, directory, bucket, database, house: None, appended: 0, stops: Vec::new() };
        lake.edit(case).await;
        lake
    }

    /// Its SQL files are now those of another case.
    pub(super) async fn edit(&mut self, case: &'a Case) {
        self.case = case;
        for query in &case.queries {
            let file = self.directory.path().join("sql").join(query.file());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            if let Some(text) = query.text() {
                std::fs::write(file, text).unwrap();
            }
        }
        self.reopen(false).await;
    }

    /// A lake that has gone these steps, with its models in every sink.
    pub(super) async fn in_every_sink_after(case: &'a Case, steps: &[Step]) -> Self {
        Self::at(case, None, Some(Database::new())).await.gone(steps).await
    }

    /// A lake that has gone these steps.
    pub(super) async fn after(case: &'a Case, steps: &[Step]) -> Self {
        Self::new(case).await.gone(steps).await
    }

    async fn gone(self, steps: &[Step]) -> Self {
        let mut lake = self;
        for step in steps {
            lake.step(*step).await;
        }
        lake
    }

    pub(super) fn house(&self) -> &Lakehouse {
        self.house.as_ref().unwrap()
    }

    pub(super) async fn step(&mut self, step: Step) {
        self.try_step(step).await.unwrap();
    }

    /// In words what went wrong, where it did.
    pub(super) async fn try_step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Append(number) => {
                // A batch comes at the same time to each lake.
                let (batch, time) = (&self.case.batches[number], at(60 * (number as i64 + 1)));
                let appended = self.house().log().append(batch, Ack::Committed, time).await;
                appended.map_err(|error| error.to_string())?;
                self.appended = number + 1;
            }
            Step::Refresh => {
                let refreshed = self.house().refresh(&[], &()).await.map_err(|error| error.to_string())?;
                self.stops.push((self.appended, refreshed.version));
            }
            Step::Upkeep(upkeep) => self.keep_up(upkeep).await,
        }
        Ok(())
    }

    pub(super) async fn refresh(&mut self) -> Refreshed {
        let refreshed = self.house().refresh(&[], &()).await.unwrap();
        self.stops.push((self.appended, refreshed.version));
        refreshed
    }

    async fn keep_up(&mut self, upkeep: Upkeep) {
        let (log, time) = (self.house().log(), at(60 * self.appended as i64 + 1));
        // By the store's clock everything was written today.
        let later = Utc::now() + TimeDelta::days(3);
        match upkeep {
            Upkeep::Compact => drop(log.compact(&Compaction::default(), time).await.unwrap()),
            Upkeep::Checkpoint => drop(log.checkpoint(time).await.unwrap()),
            Upkeep::VacuumLog => drop(log.vacuum(TimeDelta::days(1), later).await.unwrap()),
            Upkeep::FoldRuns => drop(fold_runs(log.store()).await.unwrap()),
            Upkeep::VacuumRuns => drop(vacuum_runs(log.store(), TimeDelta::days(1), later).await.unwrap()),
            Upkeep::Thin => {
                let thinning = Thinning { least: 1, ..Thinning::default() };
                let _ = thin(log.store(), &thinning, later + TimeDelta::days(40)).await.unwrap();
            }
            Upkeep::ForgetCache => self.reopen(true).await,
            Upkeep::Reopen => self.reopen(false).await,
        }
    }

    pub(super) async fn reopen(&mut self, forget: bool) {
        self.house = None;
        let cache = self.directory.path().join(".lakebed").join("state-cache");
        if forget && cache.exists() {
            std::fs::remove_dir_all(cache).unwrap();
        }
        self.house = Some(open(self.directory.path(), self.bucket, self.database.as_ref()).await);
    }

    /// What the newest epoch says that each table is.
    pub(super) async fn tables(&self) -> BTreeMap<String, Content> {
        let manifest = epoch::newest(self.house().log().store()).await.unwrap().unwrap();
        let content = |(name, state): (String, epoch::ModelState)| (name, (state.rows, state.content_hash.to_string()));
        manifest.models.into_iter().map(content).collect()
    }

    /// What a query finds: in words what went wrong, where it did.
    pub(super) async fn query(&self, as_of: Option<u64>, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let session = self.house().read(as_of.map(AsOf::Version)).await.map_err(|error| error.to_string())?;
        let plan = session.plan(sql).await.map_err(|error| error.to_string())?;
        let stream = session.stream(plan).await.map_err(|error| error.to_string())?;
        stream.try_collect().await.map_err(|error| error.to_string())
    }
}

async fn open(directory: &Path, bucket: Option<&Bucket>, database: Option<&Database>) -> Lakehouse {
    let mut config = Config::load(directory, &|_| None, &Flags::default()).unwrap();
    if let Some(bucket) = bucket {
        (config.lake, config.s3) = (bucket.url(), bucket.settings());
    }
    if let Some(database) = database {
        config.postgres.url = Some(Secret::new(database.url()));
        config.sinks.extend([SinkKind::Postgres, SinkKind::Delta]);
    }
    Lakehouse::open_or_create(Project::load(directory, config).unwrap(), at(0)).await.unwrap()
}

/// The rows, and their hash.
pub(super) fn content(batches: &[RecordBatch]) -> Content {
    let hash = |sum: TableHash, batch| sum.add(TableHash::of_batch(batch).unwrap());
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    (rows, batches.iter().fold(TableHash::EMPTY, hash).to_string())
}

/// Each row as text, in order.
pub(super) fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        // As in the hash, −0 = 0.
        let value = |text: String| if text == "-0.0" { "0.0".to_owned() } else { text };
        let row = |row| columns.iter().map(|column| value(column.value(row).to_string())).collect::<Vec<_>>().join("|");
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows.sort();
    rows
}
