//! Where the columns of models come from: which columns of the tables that a model reads, and how. It is derived from the query as it is
//! written; what is appended to an order that ties is left out, for that is every other column.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use self::sources::{Sources, trace};
use crate::catalog::{BRONZE, EVENTS};
use crate::error::{Error, Result, nearest};
use crate::lakehouse::Lakehouse;
use crate::models::Model;
use crate::refresh::Inputs;
use crate::refresh::shape::{Look, Shape, as_written, shapes};

/// How a column of a table is read, what says least of a value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// Only rows are chosen by it: by a condition, a join, a group, an order.
    Chosen,
    /// As it is.
    Taken,
    /// Something is made of it.
    Computed,
}

impl How {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Taken => "taken",
            Self::Computed => "computed",
        }
    }
}

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The table, `schema.name`.
    pub table: String,
    /// Its column.
    pub column: String,
    /// How it is read.
    pub how: How,
}

/// Where a column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnLineage {
    /// The model's column.
    pub column: String,
    /// What this column comes from, by table and column; none for a constant, and for a count of rows.
    pub from: Vec<Source>,
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// `schema.name`.
    pub model: String,
    /// The tables that it reads.
    pub reads: Vec<String>,
    /// The models that read it.
    pub read_by: Vec<String>,
    /// The columns that all of its rows are chosen by.
    pub rows: Vec<Source>,
    /// Its columns, in their order.
    pub columns: Vec<ColumnLineage>,
}

/// A column of a model beside one that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link<'l> {
    /// The model's column.
    pub column: &'l str,
    /// The table and its column; `None` once for a column that comes from none.
    pub from: Option<(&'l str, &'l str)>,
    /// How.
    pub how: How,
}

impl Lineage {
    /// Every column beside each that it comes from, those that its row is chosen by among them.
    fn links(&self) -> Vec<Link<'_>> {
        let mut links = Vec::new();
        for ColumnLineage { column, from } in &self.columns {
            let is_own = |row: &&Source| from.iter().any(|own| own.table == row.table && own.column == row.column);
            let rows = self.rows.iter().filter(|row| !is_own(row));
            let mut sources: Vec<&Source> = from.iter().chain(rows).collect();
            sources.sort_by_key(|source| (&source.table, &source.column));
            if sources.is_empty() {
                links.push(Link { column, from: None, how: How::Computed });
            }
            links.extend(sources.into_iter().map(|Source { table, column: name, how }| Link {
                column,
                from: Some((table, name)),
                how: *how,
            }));
        }
        links
    }
}

impl Lakehouse {
    /// Where the columns of models come from: of those that are named, as `gold.revenue` or one column of it as
    /// `gold.revenue.day`, or of all models.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] and [`Error::UnknownColumn`] for a name that is none, [`Error::Model`] for a query that does not plan.
    pub async fn lineage(&self, only: &[String]) -> Result<Vec<Lineage>> {
        let wanted = wanted(only, &self.project().models)?;
        let snapshot = self.log().snapshot().await?;
        let mut inputs = self.inputs(&snapshot, None, None, self.log().store());
        // Of others it does not matter whether they plan.
        inputs.models = self.with_ancestors(&wanted.keys().cloned().collect::<Vec<_>>());
        let mut lineages = of(&inputs, &shapes(&inputs, Look::Plan).await?).await?;
        if !only.is_empty() {
            lineages.retain(|lineage| wanted.contains_key(&lineage.model));
        }
        for lineage in &mut lineages {
            let reads_it = |model: &&Arc<Model>| model.references.iter().any(|read| read.to_string() == lineage.model);
            lineage.read_by =
                self.project().models.iter().filter(reads_it).map(|model| model.name.to_string()).collect();
            if let Some(Wanted::Columns(names)) = wanted.get(&lineage.model) {
                keep_columns(lineage, names)?;
            }
        }
        Ok(lineages)
    }
}

/// Where the columns of planned models come from, in their order.
///
/// # Errors
/// [`Error::Model`] for a query that does not plan, which one that was planned does.
pub(crate) async fn of(inputs: &Inputs, shapes: &[Shape]) -> Result<Vec<Lineage>> {
    let mut lineages = Vec::with_capacity(shapes.len());
    for (shape, plan) in shapes.iter().zip(as_written(inputs, shapes).await?) {
        let traced = trace(&plan)?;
        let names = plan.schema().fields().iter().map(|field| field.name().clone());
        let columns = names.zip(traced.columns);
        let columns = columns.map(|(column, sources)| ColumnLineage { column, from: listed(sources) }).collect();
        lineages.push(Lineage {
            model: shape.model.name.to_string(),
            reads: shape.model.references.iter().map(ToString::to_string).collect(),
            read_by: Vec::new(),
            rows: listed(traced.rows),
            columns,
        });
    }
    Ok(lineages)
}

/// A row for each column and each that it comes from: `model`, `column`, `from_table`, `from_column`, `how`.
///
/// # Errors
/// None: the columns are of one length.
pub fn table(lineages: &[Lineage]) -> Result<RecordBatch> {
    let links = || lineages.iter().flat_map(|of| of.links().into_iter().map(|link| (of.model.as_str(), link)));
    let texts = |text: fn(&str, &Link<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(links().map(|(model, link)| text(model, &link)).collect::<StringArray>())
    };
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("model", texts(|model, _| Some(model.to_owned())), false),
        ("column", texts(|_, link| Some(link.column.to_owned())), false),
        ("from_table", texts(|_, link| Some(link.from?.0.to_owned())), true),
        ("from_column", texts(|_, link| Some(link.from?.1.to_owned())), true),
        ("how", texts(|_, link| Some(link.how.name().to_owned())), false),
    ])?)
}

fn listed(sources: Sources) -> Vec<Source> {
    sources.into_iter().map(|((table, column), how)| Source { table, column, how }).collect()
}

/// What is asked of a model.
enum Wanted<'n> {
    Whole,
    Columns(BTreeSet<&'n str>),
}

/// What is asked of each model that is named.
fn wanted<'n>(only: &'n [String], models: &[Arc<Model>]) -> Result<BTreeMap<String, Wanted<'n>>> {
    let known: Vec<String> = models.iter().map(|model| model.name.to_string()).collect();
    let mut wanted = BTreeMap::new();
    for name in only {
        if known.contains(name) {
            wanted.insert(name.clone(), Wanted::Whole);
            continue;
        }
        let column_of = |model: &str| name.strip_prefix(model).and_then(|rest| rest.strip_prefix('.'));
        let Some((model, column)) = known.iter().find_map(|model| Some((model, column_of(model)?))) else {
            return Err(no_model(name, known));
        };
        match wanted.entry(model.clone()).or_insert_with(|| Wanted::Columns(BTreeSet::new())) {
            Wanted::Whole => {}
            Wanted::Columns(names) => _ = names.insert(column),
        }
    }
    Ok(wanted)
}

fn no_model(name: &str, known: Vec<String>) -> Error {
    let log = format!("{BRONZE}.{EVENTS}");
    if name == log || name.strip_prefix(&log).is_some_and(|rest| rest.starts_with('.')) {
        return Error::Unanswered {
            message: format!("{log} is the log: it comes from no other table"),
            hint: format!("what reads it is in lakebed.column_lineage, WHERE from_table = '{log}'"),
        };
    }
    // What comes after a schema and a table is a column.
    let table = name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    Error::UnknownTable { nearest: nearest(&table, known), name: table }
}

fn keep_columns(lineage: &mut Lineage, names: &BTreeSet<&str>) -> Result<()> {
    let full = |column: &str| format!("{}.{column}", lineage.model);
    let is_there = |name: &&&str| lineage.columns.iter().any(|column| column.column == ***name);
    if let Some(name) = names.iter().find(|name| !is_there(name)) {
        let known = lineage.columns.iter().map(|column| full(&column.column));
        return Err(Error::UnknownColumn { nearest: nearest(&full(name), known), name: full(name) });
    }
    lineage.columns.retain(|column| names.contains(column.column.as_str()));
    Ok(())
}

#[cfg(test)]
mod tests;
