//! `lakebed plan`: what a run would do now.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use lakebed_query::{Action, Planned};

use crate::error::Result;
use crate::invocation::Invocation;

/// Shows each model with what would be done to it and why.
pub(crate) async fn plan(invocation: &Invocation) -> Result<()> {
    let lakehouse = invocation.lakehouse().await?;
    let planned = lakehouse.plan().await?;
    invocation.output.rows(&table(&planned)?)?;
    let count = |action| planned.iter().filter(|model| model.action == action).count();
    let (rebuilt, updated) = (count(Action::Rebuild), count(Action::Update));
    invocation.output.say(&match (rebuilt, updated, count(Action::Drop)) {
        (0, 0, 0) => "a run would change nothing".to_owned(),
        (_, _, 0) => format!("a run would rebuild {rebuilt} models and update {updated}"),
        (_, _, gone) => format!("a run would rebuild {rebuilt} models, update {updated} and drop {gone}"),
    });
    Ok(())
}

fn table(planned: &[Planned]) -> Result<RecordBatch> {
    let texts = |text: &dyn Fn(&Planned) -> Option<String>| -> ArrayRef {
        Arc::new(planned.iter().map(text).collect::<StringArray>())
    };
    let numbers = |number: &dyn Fn(&Planned) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(planned.iter().map(number)))
    };
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("model", texts(&|model| Some(model.model.clone())), false),
        ("action", texts(&|model| Some(model.action.name().to_owned())), false),
        ("because", texts(&|model| Some(model.because.clone())), false),
        ("strategy_now", texts(&|model| model.strategy.0.clone()), true),
        ("strategy_then", texts(&|model| model.strategy.1.map(str::to_owned)), true),
        ("rows", numbers(&|model| model.reads.rows), false),
        ("bytes", numbers(&|model| model.reads.bytes), false),
    ])?)
}
