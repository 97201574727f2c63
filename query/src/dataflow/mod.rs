//! A query kept up to date at the cost of what changed: taken apart into operators, each of which turns the rows that came and
//! went below it into rows that come and go above it.
//!
//! Between two operators lies a *segment*: a part of the query that goes row by row (projection, filter, unnest, union), which
//! DataFusion runs over the rows that came, and again over those that went. An *operator* knows the history it needs from the
//! model's shelves in the state cache, and says what is to be kept there. Which operator stands for which part of a query, and
//! what is in the way of one, is decided in [`cut`]; what is said about it to people is in [`crate::strategy`].

mod arrangement;
mod bag;
mod changes;
pub(crate) mod constant;
pub(crate) mod cut;
mod first;
mod grouped;
mod grouping;
mod keyed;
mod named;
pub(crate) mod ranked;
pub(crate) mod run;
mod states;
pub(crate) mod whole;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::LogicalPlan;

use self::grouped::Grouped;
use self::keyed::Keyed;
use crate::state_cache::Shelf;

/// A query as operators, those below before those above.
#[derive(Debug)]
pub(crate) struct Dataflow {
    pub(crate) operators: Vec<Operator>,
    /// What is made of the last ones' rows: the query's.
    top: Segment,
    /// Rows of the query never go.
    pub(crate) only_adds: bool,
}

/// So many rows of a table are taken up at once where no history is there yet: where operators hold the rows …
const ROWS_AT_ONCE: usize = 250_000;

/// … and where they hold no more of them than states.
const STATES_AT_ONCE: usize = 2_000_000;

impl Dataflow {
    /// The query as it goes row by row, where it does so whole, and over rows that only come: then it needs no history.
    pub(crate) fn rows(&self) -> Option<&LogicalPlan> {
        (self.operators.is_empty() && self.only_adds).then_some(&self.top.plan)
    }

    /// How many rows of a table fit memory with all that its operators make of them.
    pub(crate) fn at_once(&self) -> usize {
        let holds_rows = self.operators.iter().any(|operator| matches!(operator.kind, Kind::Keyed(_)));
        if holds_rows { ROWS_AT_ONCE } else { STATES_AT_ONCE }
    }
}

/// A part of a query that goes row by row.
#[derive(Debug)]
struct Segment {
    plan: LogicalPlan,
    /// The slots that it reads, but for those of all rows of seeds, to which nothing comes.
    reads: BTreeSet<String>,
}

/// A part of a query that needs its history.
#[derive(Debug)]
pub(crate) struct Operator {
    kind: Kind,
    /// What it reads.
    feeds: Vec<Segment>,
    /// The columns that it gives, as the rest of the query calls them.
    schema: DFSchemaRef,
    /// What people are told that it does.
    pub(crate) said: Said,
}

/// What an operator is, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// How it is kept up to date.
    pub(crate) by: By,
    /// The part of the query, in the words of SQL.
    pub(crate) node: String,
    /// By what its rows are told apart; empty: they are not.
    pub(crate) keys: Vec<String>,
    /// Its aggregates, and what is kept of each.
    pub(crate) aggregates: Vec<(String, String)>,
}

/// How an operator is kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A key that was seen is left out.
    First,
    /// The first few rows of each key, in an order, are kept.
    Ranking {
        /// One row of each key, of many keys.
        one: bool,
    },
    /// The states of touched groups take rows in and give them up.
    Merging,
    /// What touched keys give is computed again from their rows.
    Recomputing,
}

#[derive(Debug)]
enum Kind {
    First {
        columns: usize,
        keys: usize,
        shelf: Shelf,
    },
    Grouped {
        grouped: Arc<Grouped>,
        /// The columns that feed it.
        fed: SchemaRef,
    },
    Keyed(Keyed),
}

/// The slot that an operator's rows are put into.
fn slot_of_operator(number: usize) -> String {
    format!("lakebed_operator.o{number}")
}

/// The slot of a keyed operator's plan that its rows are put into.
fn slot_of_input(number: usize) -> String {
    format!("lakebed_input.i{number}")
}
