//! Unit tests of models: what a model's table is over given rows, compared with what it is expected to be.
//!
//! A test has a lake of its own in memory, where the engine refreshes the model and what it reads. Of a table whose rows are given,
//! these stand in the place of its SQL. Events come twice, into two lakes: all in one append, and every one as an epoch of its own, so
//! that each test is one of the incremental upkeep, too.

mod comparing;
mod constants;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lakebed_log::Batch;
use lakebed_project::UnitTest;

pub use self::comparing::Difference;
use self::comparing::difference;
use self::trial::Trial;
use crate::catalog::{BRONZE, EVENTS};
use crate::error::{Error, Result, nearest};
use crate::lakehouse::{AsOf, Project};
use crate::models::Model;

/// The events of a test, decoded: the same ones twice.
#[derive(Clone, Debug, Default)]
pub struct GivenEvents {
    /// All of them.
    pub together: Vec<Arc<Batch>>,
    /// Each by itself.
    pub apart: Vec<Arc<Batch>>,
}

/// How the events of a test came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// There is one way alone, or both came to the same.
    Any,
    /// In one append.
    Together,
    /// Every one as an epoch of its own.
    Apart,
}

/// What was not as it is expected.
#[derive(Debug)]
pub struct Failure {
    /// How the events came.
    pub way: Way,
    /// What the model has instead.
    pub instead: Instead,
}

/// What a model has instead of the rows that are expected.
#[derive(Debug)]
pub enum Instead {
    /// Other rows.
    Rows(Difference),
    /// None, because this is in the way.
    Error(Error),
}

impl Failure {
    /// Whether another one comes to the same.
    fn is_like(&self, other: &Self) -> bool {
        match (&self.instead, &other.instead) {
            (Instead::Rows(one), Instead::Rows(other)) => {
                difference(&one.rows, &other.rows).is_ok_and(|difference| difference.is_none())
            }
            (Instead::Error(one), Instead::Error(other)) => one.to_string() == other.to_string(),
            _ => false,
        }
    }
}

impl Project {
    /// The unit tests of the models that are named, or of all, file by file.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a name that is no model's; what is wrong with the first file that is.
    pub fn unit_tests(&self, only: &[String]) -> Result<Vec<UnitTest>> {
        self.check_names(only)?;
        let mut tests = lakebed_project::unit_tests(&self.directory)?;
        tests.retain(|test| only.is_empty() || only.contains(&test.model.text));
        Ok(tests)
    }

    /// Tries a test; gives in which ways the model's table is not what is expected. The project's own lake is not looked at.
    ///
    /// # Errors
    /// [`Error::UnitTest`] for a test that cannot hold, or would hold and say nothing: a table or a column that is not there, rows
    /// of a table that the model does not read, values that are none of their column's type. Any failure of the system.
    pub async fn try_out(&self, test: &UnitTest, events: &GivenEvents) -> Result<Vec<Failure>> {
        let trial = Trial::new(self, test, &events.together).await?;
        let mut together = trial.failure(None).await?;
        if events.apart.len() < 2 {
            return Ok(together.into_iter().collect());
        }
        let apart = trial.failure(Some(&events.apart)).await?;
        if let (Some(one), Some(other)) = (&together, &apart)
            && one.is_like(other)
        {
            return Ok(together.into_iter().collect());
        }
        if let Some(together) = &mut together {
            together.way = Way::Together;
        }
        Ok(together.into_iter().chain(apart).collect())
    }
}

/// The time of a test that says none and has no event.
pub fn no_time() -> DateTime<Utc> {
    DateTime::from_timestamp(946_684_800, 0).unwrap_or_default()
}

/// The time that a test says.
///
/// # Errors
/// [`Error::UnitTest`] for a text that is none.
pub fn time_of(test: &UnitTest) -> Result<Option<DateTime<Utc>>> {
    let Some(now) = &test.now else { return Ok(None) };
    match now.text.parse() {
        Ok(AsOf::Time(time)) => Ok(Some(time)),
        _ => {
            let hint = "write now = \"2026-11-23T18:30:00Z\"".to_owned();
            Err(wrong(test, now.line, format!("'{}' is no time", now.text), Some(hint)))
        }
    }
}

/// The models that a test computes, parents before children: the one that it is about, and what that reads and is not given.
///
/// # Errors
/// [`Error::UnitTest`] for a model or a table that is not there, and for rows of one that is not read.
fn computed(models: &[Arc<Model>], test: &UnitTest) -> Result<Vec<Arc<Model>>> {
    let names = || models.iter().map(|model| model.name.to_string());
    let did_you_mean = |name: &str, known: &mut dyn Iterator<Item = String>| {
        nearest(name, known).map(|nearest| format!("did you mean '{nearest}'?"))
    };
    let model = &test.model;
    if !names().any(|name| name == model.text) {
        let hint = did_you_mean(&model.text, &mut names());
        return Err(wrong(test, model.line, format!("there is no model '{}'", model.text), hint));
    }
    let (mut read, mut computed) = (BTreeSet::new(), Vec::new());
    for one in models.iter().rev() {
        let name = one.name.to_string();
        let is_given = test.given.iter().any(|table| table.name == name);
        if name == model.text || (read.contains(&name) && !is_given) {
            read.extend(one.references.iter().map(ToString::to_string));
            computed.push(Arc::clone(one));
        }
    }
    computed.reverse();
    let Some(unread) = test.given.iter().find(|table| !read.contains(&table.name)) else { return Ok(computed) };
    let mut known = names().chain([format!("{BRONZE}.{EVENTS}")]);
    let (message, hint) = match unread.name.as_str() {
        name if !known.any(|known| known == name) => {
            let mut known = names().chain([format!("{BRONZE}.{EVENTS}")]);
            (format!("there is no table '{name}'"), did_you_mean(name, &mut known))
        }
        name if name == model.text => {
            (format!("the rows of '{name}' are what is tested"), Some("they are written under expect".to_owned()))
        }
        name => {
            let read = read.into_iter().collect::<Vec<_>>().join(", ");
            let hint = format!("what is read here is {read}; leave the rows of '{name}' out");
            (format!("'{}' does not read '{name}' in this test", model.text), Some(hint))
        }
    };
    Err(wrong(test, unread.line, message, hint))
}

fn wrong(test: &UnitTest, line: usize, message: String, hint: Option<String>) -> Error {
    Error::UnitTest { path: test.file.clone(), line, message, hint }
}
