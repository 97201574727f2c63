//! `lakebed explain`: how models are kept up to date.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use lakebed_query::Explained;

use crate::arguments::ExplainArguments;
use crate::error::Result;
use crate::invocation::Invocation;

/// Explains to people as text, and as rows where a format is asked for.
pub(crate) async fn explain(invocation: &Invocation, arguments: &ExplainArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse().await?;
    let explained = lakehouse.explain(&arguments.models).await?;
    if invocation.output.wants_rows() {
        return invocation.output.rows(&table(&explained)?);
    }
    let mut text = String::new();
    for (at, model) in explained.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&in_words(model));
    }
    invocation.output.text(&text)
}

fn in_words(model: &Explained) -> String {
    let mut text = format!("{}\n", model.model);
    let mut line = |name: &str, value: String| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {name:10} {value}");
    };
    let comes = match (model.strategy, model.kind) {
        ("seed", _) => "its rows are those of its file",
        (_, "append") => "its rows only ever come",
        _ => "its rows come and go",
    };
    line("strategy", format!("{}, {comes}", model.strategy));
    for (number, step) in model.steps.iter().enumerate() {
        let by = if step.keys.is_empty() { "all rows".to_owned() } else { step.keys.join(", ") };
        line("step", format!("{}. {} by {by}: keeps {}", number + 1, step.node, step.keeps));
        for (aggregate, kept) in &step.aggregates {
            line("", format!("   {aggregate}: {kept}"));
        }
    }
    if let Some(fallback) = &model.fallback {
        line("because", format!("it needs all rows for {} ({})", fallback.node, fallback.code));
        line("at", place(model));
        line("instead", fallback.instead.to_owned());
    }
    if let Some((epoch, rows, work)) = &model.last {
        line("last", format!("epoch {epoch}: {} rows came, {} went, of {rows}", work.added, work.gone));
        line("", format!("{} rows and {} bytes read, {} rows taken in", work.read.rows, work.read.bytes, work.touched));
    }
    line("next", format!("{} rows in files of {} bytes", model.predicted.rows, model.predicted.bytes));
    text
}

/// Where a model's file has what it falls back for.
fn place(model: &Explained) -> String {
    let fallback = model.fallback.as_ref();
    let line = fallback.and_then(|fallback| fallback.line).map(|line| format!(":{line}"));
    fallback.map(|fallback| fallback.file.clone()).unwrap_or_default() + &line.unwrap_or_default()
}

fn table(explained: &[Explained]) -> Result<RecordBatch> {
    let texts = |text: &dyn Fn(&Explained) -> Option<String>| -> ArrayRef {
        Arc::new(explained.iter().map(text).collect::<StringArray>())
    };
    let numbers = |number: &dyn Fn(&Explained) -> Option<u64>| -> ArrayRef {
        Arc::new(explained.iter().map(number).collect::<UInt64Array>())
    };
    let steps = |model: &Explained| {
        let step = |step: &lakebed_query::explain::Step| {
            let aggregates = step.aggregates.iter().map(|(name, kept)| format!("{name}: {kept}"));
            let keys = step.keys.join(", ");
            format!("{} by ({keys}) keeps {} [{}]", step.node, step.keeps, aggregates.collect::<Vec<_>>().join("; "))
        };
        Some(model.steps.iter().map(step).collect::<Vec<_>>().join(" -> ")).filter(|steps| !steps.is_empty())
    };
    let fallback = |model: &Explained| model.fallback.clone();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("model", texts(&|model| Some(model.model.clone())), false),
        ("strategy", texts(&|model| Some(model.strategy.to_owned())), false),
        ("kind", texts(&|model| Some(model.kind.to_owned())), false),
        ("steps", texts(&steps), true),
        ("code", texts(&|model| fallback(model).map(|why| why.code.to_owned())), true),
        ("node", texts(&|model| fallback(model).map(|why| why.node)), true),
        ("at", texts(&|model| fallback(model).map(|_| place(model))), true),
        ("instead", texts(&|model| fallback(model).map(|why| why.instead.to_owned())), true),
        ("last_epoch", numbers(&|model| model.last.map(|(epoch, ..)| epoch)), true),
        ("rows", numbers(&|model| model.last.map(|(_, rows, _)| rows)), true),
        ("last_rows_came", numbers(&|model| model.last.map(|(.., work)| work.added)), true),
        ("last_rows_went", numbers(&|model| model.last.map(|(.., work)| work.gone)), true),
        ("last_rows_read", numbers(&|model| model.last.map(|(.., work)| work.read.rows)), true),
        ("last_bytes_read", numbers(&|model| model.last.map(|(.., work)| work.read.bytes)), true),
        ("last_rows_taken_in", numbers(&|model| model.last.map(|(.., work)| work.touched)), true),
        ("next_rows", numbers(&|model| Some(model.predicted.rows)), false),
        ("next_bytes", numbers(&|model| Some(model.predicted.bytes)), false),
    ])?)
}
