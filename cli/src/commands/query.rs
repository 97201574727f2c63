//! `lakebed query`: one SELECT, over the lake as it is or as it was.

use std::sync::Arc;

use lakebed_query::{OfReader, Policies, Statement};

use crate::arguments::QueryArguments;
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Answers the statement on stdout, batch by batch.
pub(crate) async fn query(invocation: &Invocation, arguments: QueryArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse_to_ask().await?;
    let statement = Statement::parse(&arguments.sql)?;
    let whole = Arc::new(lakehouse.read(arguments.as_of).await?);
    let session = match arguments.reader {
        None => whole.for_statement(&statement, &lakehouse).await?,
        Some(name) => {
            let rules = Policies::of(&invocation.directory).rules()?.ok_or(Error::NoPolicies)?;
            let reader = rules.reader(&name);
            let seen = match arguments.as_of {
                None => whole.for_reader(&rules, &reader).await?,
                Some(_) => whole.earlier_for_reader(&rules, &reader).await?,
            };
            let seen = Arc::new(seen);
            let versions = OfReader { versions: Arc::new(lakehouse), rules, reader };
            seen.for_statement(&statement, &versions).await?
        }
    };
    let plan = session.plan_statement(&statement).await?;
    let stream = session.stream(plan).await?;
    let schema = Arc::clone(&stream.schema());
    invocation.output.stream(schema, stream).await
}
