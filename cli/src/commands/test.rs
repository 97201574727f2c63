//! `lakebed test`: the unit tests of the models, and their checks, asked of the tables as they are.

mod units;

use arrow::array::RecordBatch;
use lakebed_query::checks::Severity;
use lakebed_query::{Lakehouse, Project};

use crate::arguments::TestArguments;
use crate::columns::{optional_numbers, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// What a unit test or a check came to.
struct Outcome {
    model: String,
    /// What the check asks, or the test is called.
    name: String,
    kind: &'static str,
    state: &'static str,
    /// How many rows are not as they should be; `None` where that could not be told, or where they are nowhere.
    rows: Option<u64>,
}

/// The state of what makes the command fail.
const FAILS: &str = "fails";

/// The kinds of outcomes.
const UNIT_TEST: &str = "unit test";
const CHECK: &str = "check";

/// Shows every test and every check, and fails if one does that is to fail.
pub(crate) async fn test(invocation: &Invocation, arguments: &TestArguments) -> Result<()> {
    let project = Project::load(&invocation.directory, invocation.config()?)?;
    let mut outcomes = units::outcomes(invocation, &project, &arguments.models).await?;
    let mut wrong = 0;
    if !arguments.unit {
        match Lakehouse::open(project).await {
            Ok(lakehouse) => wrong = ask_checks(invocation, &lakehouse, &arguments.models, &mut outcomes).await?,
            Err(error) if is_without_lake(&error) && !outcomes.is_empty() => {
                invocation.output.say("there is no lake yet, so the checks had no tables to ask");
            }
            Err(error) => return Err(error.into()),
        }
    }
    invocation.output.rows(&RecordBatch::try_from_iter_with_nullable([
        ("model", texts(outcomes.iter().map(|outcome| outcome.model.as_str())), false),
        ("check", texts(outcomes.iter().map(|outcome| outcome.name.as_str())), false),
        ("state", texts(outcomes.iter().map(|outcome| outcome.state)), false),
        ("rows_that_fail", optional_numbers(outcomes.iter().map(|outcome| outcome.rows)), true),
        ("kind", texts(outcomes.iter().map(|outcome| outcome.kind)), false),
    ])?)?;
    if outcomes.is_empty() && wrong == 0 {
        let or_check = if arguments.unit { "" } else { " and no check" };
        let write = if arguments.unit { "" } else { ", or `-- check: not_null(day)` in its header" };
        invocation.output.say(&format!("no model has a unit test{or_check}: write one under sql/tests{write}"));
    }
    let failed = |kind: &str| outcomes.iter().filter(|outcome| outcome.kind == kind && outcome.state == FAILS).count();
    match (failed(UNIT_TEST), failed(CHECK) + wrong) {
        (0, 0) => Ok(()),
        (tests, checks) => Err(Error::TestsFailed { tests, checks }),
    }
}

/// Asks every check; gives how many cannot be asked, which is said.
async fn ask_checks(
    invocation: &Invocation,
    lakehouse: &Lakehouse,
    models: &[String],
    outcomes: &mut Vec<Outcome>,
) -> Result<usize> {
    let mut wrong = 0;
    for of in lakehouse.check(models).await? {
        let state = |failures: Option<u64>| match (failures, of.severity) {
            (_, Severity::Drop) => "drops",
            (Some(0), _) => "holds",
            (_, Severity::Quarantine) => "quarantines",
            (_, Severity::Fail) => FAILS,
            (_, Severity::Warn) => "warns",
        };
        match of.failures {
            Ok(rows) => {
                let (kind, state) = (CHECK, state(rows));
                outcomes.push(Outcome { model: of.model, name: of.check, kind, state, rows });
            }
            Err(error) => {
                wrong += 1;
                invocation.output.say(&format!("{}: the check '{}' cannot be asked: {error}", of.model, of.check));
            }
        }
    }
    Ok(wrong)
}

/// Whether it is all that is wrong that nobody has made the lake.
fn is_without_lake(error: &lakebed_query::Error) -> bool {
    use lakebed_log::Error::NoLog;
    use lakebed_project::Error::Log as OfItsPlace;
    matches!(error, lakebed_query::Error::Log(NoLog { .. }) | lakebed_query::Error::Project(OfItsPlace(NoLog { .. })))
}
