//! The queries that every property is held over: each a model, with what it may be compared with.

use std::collections::BTreeSet;

mod checks;
mod groups;
mod joins;
mod keys;
mod layers;
mod ranks;
mod rows;
mod seeds;

/// A model of the catalogue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    /// `schema.name`.
    pub(super) name: &'static str,
    /// Runs as it is wherever it may be compared.
    pub(super) sql: &'static str,
    /// Where the model is.
    file: File,
    /// Its rows hang on the order in which events came: it reads `_offset`, or leaves ties to it.
    pub(super) in_log_order: bool,
    /// It leaves ties to the order of the log without a word, which only models do.
    pub(super) tied: bool,
    /// Why DataFusion without the product's functions cannot say what it should be.
    pub(super) not_in_datafusion: Option<&'static str>,
    /// The same of DuckDB.
    pub(super) not_in_duckdb: Option<&'static str>,
}

/// Where a model of the catalogue is.
#[derive(Clone, Copy, Debug)]
enum File {
    /// In a file of its SQL.
    Sql,
    /// In a file of another text, of which the product makes what the SQL says.
    Text(&'static str),
    /// In that of another model, whose quarantine it is.
    Of(&'static str),
    /// It is a seed, in a file of the rows that the SQL says.
    Rows(&'static str),
}

const fn query(name: &'static str, sql: &'static str) -> Query {
    Query { name, sql, file: File::Sql, in_log_order: false, tied: false, not_in_datafusion: None, not_in_duckdb: None }
}

const fn seed(name: &'static str, csv: &'static str, sql: &'static str) -> Query {
    Query { file: File::Rows(csv), ..query(name, sql) }
}

impl Query {
    const fn in_log_order(mut self) -> Self {
        self.in_log_order = true;
        self
    }

    const fn tied(mut self) -> Self {
        self.tied = true;
        self.in_log_order().in_neither("ties are broken by nothing there")
    }

    const fn not_in_datafusion(mut self, because: &'static str) -> Self {
        self.not_in_datafusion = Some(because);
        self
    }

    const fn not_in_duckdb(mut self, because: &'static str) -> Self {
        self.not_in_duckdb = Some(because);
        self
    }

    const fn in_neither(self, because: &'static str) -> Self {
        self.not_in_datafusion(because).not_in_duckdb(because)
    }

    const fn of_text(mut self, text: &'static str) -> Self {
        self.file = File::Text(text);
        self
    }

    const fn made_by(mut self, model: &'static str) -> Self {
        self.file = File::Of(model);
        self
    }

    /// What is written into its file; `None` for what has none.
    pub(super) fn text(&self) -> Option<&'static str> {
        match self.file {
            File::Sql => Some(self.sql),
            File::Text(text) | File::Rows(text) => Some(text),
            File::Of(_) => None,
        }
    }

    pub(super) fn is_seed(&self) -> bool {
        matches!(self.file, File::Rows(_))
    }

    /// The same with another text.
    pub(super) fn edited(self, edit: impl Fn(&str) -> String) -> Self {
        match self.file {
            File::Sql => Self { sql: edit(self.sql).leak(), ..self },
            File::Text(text) => Self { file: File::Text(edit(text).leak()), ..self },
            File::Rows(text) => Self { file: File::Rows(edit(text).leak()), ..self },
            File::Of(_) => self,
        }
    }

    /// A model of a file, for as long as the tests run.
    pub(super) fn of_file(name: String, sql: String) -> Self {
        query(name.leak(), sql.leak())
    }

    /// Whether its SQL names a table, or it is made of that table's file.
    fn reads(&self, name: &str) -> bool {
        if matches!(self.file, File::Of(model) if model == name) {
            return true;
        }
        let mut places = self.sql.match_indices(name).map(|(at, _)| at + name.len());
        places.any(|end| !self.sql[end..].starts_with(|next: char| next.is_alphanumeric() || next == '_'))
    }

    pub(super) fn reads_any(&self, names: &BTreeSet<&str>) -> bool {
        names.iter().any(|name| self.reads(name))
    }

    /// Its file under `sql/`.
    pub(super) fn file(&self) -> String {
        self.name.replace('.', "/") + if self.is_seed() { ".csv" } else { ".sql" }
    }
}

/// Queries of one shape.
pub(super) struct Shape {
    /// What they have in common.
    pub(super) name: &'static str,
    pub(super) queries: &'static [Query],
}

const SHAPES: &[&Shape] = &[
    &seeds::SEEDS,
    &rows::SILVER,
    &rows::ROWS,
    &keys::FIRST,
    &keys::LATEST,
    &groups::GROUPS,
    &groups::VALUES,
    &groups::SETS,
    &ranks::TOP,
    &ranks::WINDOWS,
    &ranks::TIES,
    &joins::JOINS,
    &joins::SUBQUERIES,
    &joins::SET_OPERATIONS,
    &layers::LAYERS,
    &checks::CHECKS,
    &checks::CHECKED_IN_LOG_ORDER,
    &checks::ABOVE_CHECKS,
    &seeds::SEEDED,
];

/// A query that is no function of the log, and a word of what is said about it.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("SELECT random() AS x FROM bronze.events", "random"),
    ("SELECT uuid() AS x, event_id FROM bronze.events", "uuid"),
    ("SELECT event_id FROM bronze.events LIMIT 3", "LIMIT"),
    ("SELECT kind FROM bronze.events WHERE who IN (SELECT who FROM bronze.events WHERE random() < 0.5)", "random"),
    ("SELECT kind FROM (SELECT kind FROM bronze.events LIMIT 10) GROUP BY kind", "LIMIT"),
];

/// The models of a case, parents first: all, or those that `LAKEBED_TEST_MODELS=name,shape` names by themselves or by
/// their shape, and what they read; without those that it names behind a minus, and what reads them.
pub(super) fn catalogue() -> Vec<Query> {
    let asked = std::env::var("LAKEBED_TEST_MODELS").unwrap_or_default();
    let (out, asked): (Vec<_>, Vec<_>) = asked.split(',').partition(|word| word.starts_with('-'));
    let everything = asked.iter().all(|word| word.is_empty());
    let named =
        |words: &[&str], shape: &Shape, query: &Query| words.contains(&shape.name) || words.contains(&query.name);
    let mut models: Vec<(Query, bool)> = Vec::new();
    let out: Vec<_> = out.iter().map(|word| &word[1..]).collect();
    let mut left_out = BTreeSet::new();
    for (shape, query) in SHAPES.iter().flat_map(|shape| shape.queries.iter().map(move |query| (shape, query))) {
        if named(&out, shape, query) || query.reads_any(&left_out) {
            left_out.insert(query.name);
        } else {
            models.push((*query, everything || named(&asked, shape, query)));
        }
    }
    // Children come after their parents.
    for child in (0..models.len()).rev().filter(|_| !everything) {
        let (query, wanted) = models[child];
        for (parent, is_wanted) in &mut models[..child] {
            *is_wanted |= wanted && query.reads(parent.name);
        }
    }
    models.into_iter().filter(|(_, wanted)| *wanted).map(|(query, _)| query).collect()
}

/// Those whose rows hang on the order of the log, or on models whose rows do.
pub(super) fn in_log_order(queries: &[Query]) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for query in queries {
        if query.in_log_order || query.reads_any(&found) {
            found.insert(query.name);
        }
    }
    found
}

/// A model and those that hang on its rows.
pub(super) fn readers(queries: &[Query], name: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for query in queries {
        if query.name == name || query.reads_any(&found) {
            found.insert(query.name);
        }
    }
    found
}

#[test]
fn every_query_has_a_name_and_its_parents_before_it() {
    let all: Vec<Query> = SHAPES.iter().flat_map(|shape| shape.queries).copied().collect();
    let gold = all.iter().filter(|query| query.name.starts_with("gold.")).count();
    assert!(gold >= 100, "{gold} queries");
    for (at, query) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other.name != query.name), "{} is there twice", query.name);
        assert!(all[at..].iter().all(|later| !query.reads(later.name)), "{} reads a later model", query.name);
    }
}
