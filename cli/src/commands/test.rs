//! `lakebed test`: the checks of the models, asked of the tables as they are.

use arrow::array::RecordBatch;

use crate::arguments::TestArguments;
use crate::columns::{numbers, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Shows every check, and fails if one does that is to fail.
pub(crate) async fn test(invocation: &Invocation, arguments: &TestArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse().await?;
    let (mut checked, mut wrong) = (Vec::new(), 0);
    for of in lakehouse.check(&arguments.models).await? {
        match of.failures {
            Ok(failures) => checked.push((of.model, of.check, of.fails, failures)),
            Err(error) => {
                wrong += 1;
                invocation.output.say(&format!("{}: the check '{}' cannot be asked: {error}", of.model, of.check));
            }
        }
    }
    let state = |failures: u64, fails: bool| match (failures, fails) {
        (0, _) => "holds",
        (_, true) => "fails",
        (_, false) => "warns",
    };
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("model", texts(checked.iter().map(|(model, ..)| model.as_str()))),
        ("check", texts(checked.iter().map(|(_, check, ..)| check.as_str()))),
        ("state", texts(checked.iter().map(|(_, _, fails, failures)| state(*failures, *fails)))),
        ("rows_that_fail", numbers(checked.iter().map(|(.., failures)| *failures))),
    ])?)?;
    let failed = wrong + checked.iter().filter(|(_, _, fails, failures)| *fails && *failures > 0).count();
    if checked.is_empty() && wrong == 0 {
        invocation.output.say("no model has a check: write `-- check: not_null(day)` in its header");
    }
    match failed {
        0 => Ok(()),
        failed => Err(Error::ChecksFailed { failed }),
    }
}
