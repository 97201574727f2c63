//! `lakebed verify`: stored = published = replayed, for every model.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt64Array};
use lakebed_query::Verified;

use crate::arguments::VerifyArguments;
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Compares, shows the outcome of each model, and fails if one does not hold.
pub(crate) async fn verify(invocation: &Invocation, arguments: &VerifyArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse().await?;
    let verified = lakehouse.verify(&arguments.models).await?;
    invocation.output.rows(&table(&verified)?)?;
    let models: Vec<String> = verified.iter().filter(|model| !model.holds()).map(|model| model.model.clone()).collect();
    if models.is_empty() {
        invocation.output.say(&format!("{} models hold", verified.len()));
        return Ok(());
    }
    Err(Error::DoesNotHold { models })
}

fn table(verified: &[Verified]) -> Result<RecordBatch> {
    let flags =
        |flag: fn(&Verified) -> Option<bool>| Arc::new(verified.iter().map(flag).collect::<BooleanArray>()) as ArrayRef;
    let names: StringArray = verified.iter().map(|model| Some(model.model.as_str())).collect();
    let rows: UInt64Array = verified.iter().map(|model| Some(model.rows)).collect();
    let differences: StringArray = verified
        .iter()
        .map(|model| model.differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        .map(|text| Some(text).filter(|text| !text.is_empty()))
        .collect();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("model", Arc::new(names) as ArrayRef, false),
        ("rows", Arc::new(rows) as ArrayRef, false),
        ("stored", flags(|model| Some(model.stored)), false),
        ("duckdb", flags(|model| model.duckdb), true),
        ("postgres", flags(|model| model.postgres), true),
        ("delta", flags(|model| model.delta), true),
        ("replay", flags(|model| Some(model.replay)), false),
        ("holds", flags(|model| Some(model.holds())), false),
        ("difference", Arc::new(differences) as ArrayRef, true),
    ])?)
}
