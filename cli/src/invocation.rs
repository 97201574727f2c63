//! One call of the binary: its flags, its clock, and the project and lake they name.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use lakebed_ingest::Intake;
use lakebed_log::Log;
use lakebed_project::{Config, Flags};
use lakebed_query::{Lakehouse, Project};

use crate::arguments::Global;
use crate::error::Result;
use crate::output::Output;

/// What every command is given.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// The project's directory.
    pub(crate) directory: PathBuf,
    /// `--lake`, relative to the working directory, and `--target`.
    flags: Flags,
    /// Whether the environment's settings count.
    environment: bool,
    /// Where words and rows go.
    pub(crate) output: Output,
    clock: fn() -> DateTime<Utc>,
}

impl Invocation {
    pub(crate) fn new(global: &Global, output: Output, clock: fn() -> DateTime<Utc>) -> Self {
        // The lake of lakebed.toml is relative to the project, the one of the flag to where it was typed.
        let lake = global.lake.as_ref().map(|lake| match std::path::absolute(lake) {
            Ok(absolute) if !lake.contains("://") => absolute.to_string_lossy().into_owned(),
            _ => lake.clone(),
        });
        let flags = Flags { lake, target: global.target.clone() };
        Self { directory: global.project.clone(), flags, environment: true, output, clock }
    }

    /// The same call for a project elsewhere, which is what its lakebed.toml says and nothing else.
    pub(crate) fn in_project(&self, directory: PathBuf) -> Self {
        Self { directory, flags: Flags::default(), environment: false, ..self.clone() }
    }

    /// Whether no project and no lake was named.
    pub(crate) fn is_anywhere(&self) -> bool {
        self.directory == Path::new(".") && self.flags == Flags::default()
    }

    /// The time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The clock.
    pub(crate) fn clock(&self) -> fn() -> DateTime<Utc> {
        self.clock
    }

    /// The project's settings.
    pub(crate) fn config(&self) -> Result<Config> {
        let environment = |name: &str| std::env::var(name).ok().filter(|_| self.environment);
        Ok(Config::load(&self.directory, &environment, &self.flags)?)
    }

    /// The log alone, made if it is not there: events come in whatever state the models are in.
    pub(crate) async fn log_or_new(&self, config: &Config) -> Result<Log> {
        Ok(config.log_or_new(&self.directory, self.now()).await?)
    }

    /// The way into a log.
    pub(crate) fn intake(&self, log: &Log, config: &Config) -> Intake {
        Intake::new(log.clone(), config, self.clock)
    }

    /// The log alone, as it is.
    pub(crate) async fn log(&self, config: &Config) -> Result<Log> {
        Ok(Log::open(config.store(&self.directory, false)?, &config.owner()).await?)
    }

    /// The lake with its models, made if it is not there, and with whatever waited in its inbox committed.
    pub(crate) async fn lakehouse_or_new(&self) -> Result<Lakehouse> {
        let project = Project::load(&self.directory, self.config()?)?;
        let lakehouse = Lakehouse::open_or_create(project, self.now()).await?;
        let drained = lakehouse.log().drain(self.now()).await?;
        if drained.committed > 0 {
            self.output.say(&format!("committed what was waiting: {} batches", drained.committed));
        }
        for left in drained.left {
            self.output.say(&format!("left in the inbox: {left}"));
        }
        Ok(lakehouse)
    }

    /// The lake as it is, to be asked: a model whose file is wrong is said, and in no other table's way.
    pub(crate) async fn lakehouse_to_ask(&self) -> Result<Lakehouse> {
        let (project, wrong) = Project::load_right(&self.directory, self.config()?)?;
        for error in wrong {
            self.output.say(&format!("left out: {error}"));
        }
        Ok(Lakehouse::open(project).await?)
    }

    /// The lake with its models, as it is.
    pub(crate) async fn lakehouse(&self) -> Result<Lakehouse> {
        Ok(Lakehouse::open(Project::load(&self.directory, self.config()?)?).await?)
    }
}
