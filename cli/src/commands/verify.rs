//! `lakebed verify`: stored = published = replayed, for every model.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use lakebed_project::SinkKind;
use lakebed_query::Verified;

use crate::arguments::VerifyArguments;
use crate::columns::{numbers, optional_texts, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Compares, shows the outcome of each model, and fails if one does not hold.
pub(crate) async fn verify(invocation: &Invocation, arguments: &VerifyArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse().await?;
    let verified = match (lakehouse.verify(&arguments.models).await, arguments.models.first()) {
        // Nothing is stored, and nothing is to be.
        (Err(lakebed_query::Error::Stale { models }), None) if models.is_empty() => Vec::new(),
        (Err(lakebed_query::Error::Stale { models }), Some(name)) if models.is_empty() => {
            return Err(lakebed_query::Error::UnknownTable { name: name.clone(), nearest: None }.into());
        }
        (verified, _) => verified?,
    };
    invocation.output.rows(&table(&verified)?)?;
    let models: Vec<String> = verified.iter().filter(|model| !model.holds()).map(|model| model.model.clone()).collect();
    if models.is_empty() {
        invocation.output.say(&format!("{} models hold", verified.len()));
        return Ok(());
    }
    Err(Error::DoesNotHold { models, sinks: wrong_sinks(&verified) })
}

/// The sinks that have other rows, where what is stored is right and replayed alike.
fn wrong_sinks(verified: &[Verified]) -> Vec<&'static str> {
    let is_wrong = |sink: SinkKind| verified.iter().any(|model| model.sinks.get(&sink) == Some(&false));
    match verified.iter().all(|model| model.stored && model.replay) {
        true => SinkKind::ALL.into_iter().filter(|sink| is_wrong(*sink)).map(SinkKind::name).collect(),
        false => Vec::new(),
    }
}

fn table(verified: &[Verified]) -> Result<RecordBatch> {
    let flags = |flag: &dyn Fn(&Verified) -> Option<bool>| {
        Arc::new(verified.iter().map(flag).collect::<BooleanArray>()) as ArrayRef
    };
    let in_sink = |sink: SinkKind| flags(&|model| model.sinks.get(&sink).copied());
    let differences = verified
        .iter()
        .map(|model| model.differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        .map(|text| Some(text).filter(|text| !text.is_empty()));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("model", texts(verified.iter().map(|model| model.model.as_str())), false),
        ("rows", numbers(verified.iter().map(|model| model.rows)), false),
        ("stored", flags(&|model| Some(model.stored)), false),
        ("duckdb", in_sink(SinkKind::DuckDb), true),
        ("postgres", in_sink(SinkKind::Postgres), true),
        ("delta", in_sink(SinkKind::Delta), true),
        ("replay", flags(&|model| Some(model.replay)), false),
        ("holds", flags(&|model| Some(model.holds())), false),
        ("difference", optional_texts(differences), true),
    ])?)
}
