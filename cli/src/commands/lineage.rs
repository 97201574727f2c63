//! `lakebed lineage`: where the columns of models come from.

use std::collections::BTreeMap;
use std::fmt::Write;

use lakebed_query::Lineage;
use lakebed_query::lineage::{self, How, Source};

use crate::arguments::LineageArguments;
use crate::error::Result;
use crate::invocation::Invocation;

/// Tells it to people as text, and as rows where a format is asked for.
pub(crate) async fn lineage(invocation: &Invocation, arguments: &LineageArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse_to_ask().await?;
    let lineages = lakehouse.lineage(&arguments.names).await?;
    if invocation.output.wants_rows() {
        return invocation.output.rows(&lineage::table(&lineages)?);
    }
    let texts: Vec<String> = lineages.iter().map(in_words).collect();
    invocation.output.text(&texts.join("\n"))
}

fn in_words(lineage: &Lineage) -> String {
    let mut text = format!("{}\n", lineage.model);
    let mut line = |name: &str, value: String| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {name:10} {value}");
    };
    let or_nothing = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    line("reads", or_nothing(&lineage.reads));
    line("read by", or_nothing(&lineage.read_by));
    if !lineage.rows.is_empty() {
        line("rows", of_how(&lineage.rows, How::Chosen).unwrap_or_default());
    }
    for column in &lineage.columns {
        let ways = [How::Taken, How::Computed, How::Chosen];
        let said: Vec<String> = ways.into_iter().filter_map(|how| of_how(&column.from, how)).collect();
        let from = if said.is_empty() { "from no column".to_owned() } else { said.join("; ") };
        line("column", format!("{}: {from}", column.column));
    }
    text
}

/// What is read in one way: `computed from silver.purchases (price, quantity)`.
fn of_how(sources: &[Source], how: How) -> Option<String> {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.how == how) {
        tables.entry(&source.table).or_default().push(&source.column);
    }
    let of_table = |(table, columns): (&&str, &Vec<&str>)| match columns.as_slice() {
        [column] => format!("{table}.{column}"),
        columns => format!("{table} ({})", columns.join(", ")),
    };
    let listed = tables.iter().map(of_table).collect::<Vec<_>>().join(", ");
    let said = match how {
        How::Taken => listed,
        How::Computed => format!("computed from {listed}"),
        How::Chosen => format!("chosen by {listed}"),
    };
    (!tables.is_empty()).then_some(said)
}
