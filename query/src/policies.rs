//! Policies: who reads which tables, which of their rows and which values, as SQL files under `sql/policies/`.
//!
//! Where there are none, whoever is let in reads everything. Where there is one, a reader sees what is granted and nothing else:
//! a table that is not granted is not there for it, in no listing and in no error.

mod guarded;
mod parse;
mod quarantines;
mod readers;
mod summary;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use self::readers::{OfReader, Reader};
pub use self::summary::{Part, Seen};
use crate::catalog::{BRONZE, EVENTS};
use crate::error::{Error, Result};
use crate::models::{self, LAYERS, Stamp, TableName};
use crate::seeds::{self, SEEDS};
use crate::session::ReadSession;
use crate::system_tables;

/// The folder of `sql/` that they are in.
pub const FOLDER: &str = "policies";

/// Bytes of a role's name: PostgreSQL's NAMEDATALEN, without the end.
const LONGEST_ROLE: usize = 63;

/// The policies of a project, read again when a file has changed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies {
    directory: PathBuf,
    read: Arc<Mutex<Option<Read>>>,
    /// There were some: files that are gone since open nothing to anybody.
    were_there: Arc<AtomicBool>,
}

/// The files as they were read last, and what they looked like from outside.
#[derive(Debug)]
struct Read {
    stamp: Stamp,
    rules: Arc<Rules>,
}

impl Policies {
    /// Those of the project in a directory.
    pub fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), read: Arc::default(), were_there: Arc::default() }
    }

    /// What they say now; `None` where there are none and never were while this process ran.
    ///
    /// # Errors
    /// [`Error::Policy`] for a file that is wrong, [`Error::File`] for one that cannot be read: then nobody is to read anything.
    pub fn rules(&self) -> Result<Option<Arc<Rules>>> {
        let folder = self.directory.join("sql").join(FOLDER);
        if !folder.exists() && !self.were_there.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let stamp = models::stamp(&self.directory);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = match read.as_ref().filter(|read| read.stamp == stamp) {
            Some(read) => Arc::clone(&read.rules),
            None => {
                let rules = Arc::new(self.load(&folder)?);
                *read = Some(Read { stamp, rules: Arc::clone(&rules) });
                rules
            }
        };
        if !rules.is_empty() {
            self.were_there.store(true, Ordering::Relaxed);
        }
        Ok(self.were_there.load(Ordering::Relaxed).then_some(rules))
    }

    fn load(&self, folder: &Path) -> Result<Rules> {
        let mut rules = Rules::default();
        if let Some(path) = unread(folder)? {
            let message = "it is not read: policies are the files in sql/policies that end in .sql".to_owned();
            return Err(Error::Policy { path, line: 1, message, hint: Some("rename it, or move it away".to_owned()) });
        }
        for path in models::sql_files(folder)? {
            let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
            parse::parse(&path, &text, &mut rules)?;
        }
        let tables = self.tables()?;
        rules.check(&tables)?;
        rules.hold_for_quarantines(&tables);
        Ok(rules)
    }

    /// Every table that a lake of this project may have.
    fn tables(&self) -> Result<BTreeSet<TableName>> {
        let named = |schema: &str, name: &str| TableName { schema: schema.to_owned(), name: name.to_owned() };
        let mut tables = BTreeSet::from([named(BRONZE, EVENTS)]);
        tables.extend(system_tables::names().map(|name| named(system_tables::SCHEMA, name)));
        for layer in LAYERS {
            let files = models::sql_files(&self.directory.join("sql").join(layer))?;
            tables.extend(files.iter().filter_map(|file| file.file_stem()?.to_str()).map(|name| named(layer, name)));
        }
        tables.extend(seeds::names(&self.directory)?.iter().map(|name| named(SEEDS, name)));
        Ok(tables)
    }
}

/// What somebody may take for a file of policies, and is none: a folder, or `X.SQL`.
fn unread(folder: &Path) -> Result<Option<PathBuf>> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let is_sql =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql") && extension != "sql");
        // Editors, and what mounts files into containers, keep things of their own there.
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if (is_sql || path.is_dir()) && !is_hidden {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What the files say, statement by statement, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub(crate) members: Vec<Membership>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) rows: Vec<RowPolicy>,
    pub(crate) masks: Vec<Mask>,
    /// How many of these are written nowhere, but follow from what is said of another table.
    following: usize,
}

/// `GRANT role TO member`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) role: String,
    /// A role, or a user.
    pub(crate) member: String,
    at: At,
}

/// `GRANT SELECT (columns) ON on TO to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) on: On,
    /// None for all of them.
    pub(crate) columns: Vec<String>,
    pub(crate) to: Vec<Role>,
    at: At,
}

/// What is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Table(TableName),
    /// All tables of a schema, whenever they come.
    Schema(String),
}

impl On {
    /// Whether a table is among what is granted.
    pub(crate) fn covers(&self, table: &TableName) -> bool {
        match self {
            Self::Table(name) => name == table,
            Self::Schema(schema) => *schema == table.schema,
        }
    }
}

/// `CREATE POLICY name ON table AS … TO to USING (using)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowPolicy {
    pub(crate) name: String,
    pub(crate) table: TableName,
    /// It narrows what the others let through.
    pub(crate) restrictive: bool,
    pub(crate) to: Vec<Role>,
    pub(crate) using: String,
    at: At,
}

/// `CREATE MASK ON table (column) TO to USING (using)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) table: TableName,
    pub(crate) column: String,
    pub(crate) to: Vec<Role>,
    pub(crate) using: String,
    at: At,
}

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Everybody.
    Public,
    /// A role, or a user, which is the role of itself.
    Named(String),
}

/// Where a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct At {
    file: PathBuf,
    line: usize,
}

impl At {
    fn wrong(&self, message: String, hint: Option<String>) -> Error {
        Error::Policy { path: self.file.clone(), line: self.line, message, hint }
    }
}

impl Rules {
    /// The first statement that names a role.
    fn at_of(&self, name: &str) -> At {
        let is_it = |role: &Role| matches!(role, Role::Named(named) if named == name);
        let members = self.members.iter().filter(|of| of.role == name || of.member == name).map(|of| &of.at);
        let grants = self.grants.iter().filter(|grant| grant.to.iter().any(is_it)).map(|grant| &grant.at);
        let rows = self.rows.iter().filter(|policy| policy.to.iter().any(is_it)).map(|policy| &policy.at);
        let masks = self.masks.iter().filter(|mask| mask.to.iter().any(is_it)).map(|mask| &mask.at);
        let at = members.chain(grants).chain(rows).chain(masks).next();
        at.cloned().unwrap_or_else(|| At { file: PathBuf::new(), line: 1 })
    }

    /// How many statements are written.
    pub fn count(&self) -> usize {
        self.members.len() + self.grants.len() + self.rows.len() + self.masks.len() - self.following
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Every role that is named, users among them.
    pub fn roles(&self) -> BTreeSet<&str> {
        let members = self.members.iter().flat_map(|membership| [&membership.role, &membership.member]);
        let to = self.grants.iter().flat_map(|grant| &grant.to);
        let to = to.chain(self.rows.iter().flat_map(|policy| &policy.to));
        let to = to.chain(self.masks.iter().flat_map(|mask| &mask.to)).filter_map(|role| match role {
            Role::Public => None,
            Role::Named(name) => Some(name),
        });
        members.chain(to).map(String::as_str).collect()
    }

    /// A misspelled table would be one without its policy: every one that is named has to be there. And a role is one that
    /// PostgreSQL can have, too.
    fn check(&self, known: &BTreeSet<TableName>) -> Result<()> {
        let wrong_name =
            |name: &&str| name.is_empty() || name.len() > LONGEST_ROLE || name.eq_ignore_ascii_case("public");
        if let Some(name) = self.roles().into_iter().find(wrong_name) {
            let message = format!("'{name}' is no name of a role: it has 1 to {LONGEST_ROLE} bytes, and is not public");
            return Err(self.at_of(name).wrong(message, None));
        }
        for membership in &self.members {
            if membership.role == membership.member || self.reader(&membership.role).has(&membership.member) {
                let message = format!("'{}' would be in itself, by way of '{}'", membership.role, membership.member);
                return Err(membership.at.wrong(message, None));
            }
        }
        let granted = self.grants.iter().map(|grant| (&grant.at, &grant.on));
        for (at, on) in granted {
            match on {
                On::Table(table) => check_table(at, table, known)?,
                On::Schema(schema) if known.iter().all(|table| table.schema != *schema) => {
                    let nearest = crate::error::nearest(schema, known.iter().map(|table| table.schema.clone()));
                    return Err(at.wrong(format!("there is no schema '{schema}'"), did_you_mean(nearest)));
                }
                On::Schema(_) => {}
            }
        }
        for policy in &self.rows {
            check_table(&policy.at, &policy.table, known)?;
            let same = |other: &&RowPolicy| other.name == policy.name && other.table == policy.table;
            if self.rows.iter().filter(same).count() > 1 {
                let message = format!("there are two policies '{}' on {}", policy.name, policy.table);
                return Err(policy.at.wrong(message, None));
            }
        }
        self.masks.iter().try_for_each(|mask| check_table(&mask.at, &mask.table, known))
    }
}

impl Rules {
    /// A misspelled column would be one without its mask.
    ///
    /// # Errors
    /// [`Error::Policy`] for the first that is not among the columns of its table, as far as there is one.
    pub(crate) fn check_columns(&self, columns_of: impl Fn(&TableName) -> Option<Vec<String>>) -> Result<()> {
        let granted = self.grants.iter().filter_map(|grant| match &grant.on {
            On::Table(table) => Some(grant.columns.iter().map(move |column| (&grant.at, table, column))),
            On::Schema(_) => None,
        });
        let masked = self.masks.iter().map(|mask| (&mask.at, &mask.table, &mask.column));
        for (at, name, column) in granted.flatten().chain(masked) {
            // A table that is not there yet hides nothing.
            let Some(columns) = columns_of(name).filter(|columns| !columns.contains(column)) else { continue };
            let nearest = crate::error::nearest(column, columns);
            return Err(at.wrong(format!("there is no column '{column}' in {name}"), did_you_mean(nearest)));
        }
        Ok(())
    }

    /// Makes sure that all of it can be applied to a lake, whoever reads.
    ///
    /// # Errors
    /// [`Error::Policy`] for what cannot.
    pub async fn check_over(&self, lake: &ReadSession) -> Result<()> {
        for name in self.roles().into_iter().chain([""]) {
            lake.for_reader(self, &self.reader(name)).await?;
        }
        Ok(())
    }
}

fn check_table(at: &At, table: &TableName, known: &BTreeSet<TableName>) -> Result<()> {
    if known.contains(table) {
        return Ok(());
    }
    if let Some(model) = quarantines::model_of(table, known) {
        let hint = format!("write it of {model}: it holds for its quarantine too");
        return Err(at.wrong(format!("who reads {table} is said of {model}"), Some(hint)));
    }
    let nearest = crate::error::nearest(&table.to_string(), known.iter().map(ToString::to_string));
    Err(at.wrong(format!("there is no table '{table}'"), did_you_mean(nearest)))
}

fn did_you_mean(nearest: Option<String>) -> Option<String> {
    nearest.map(|name| format!("did you mean '{name}'?"))
}
