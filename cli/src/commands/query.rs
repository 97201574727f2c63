//! `lakebed query`: one SELECT, over the lake as it is or as it was.

use std::sync::Arc;

use lakebed_query::Statement;

use crate::arguments::QueryArguments;
use crate::error::Result;
use crate::invocation::Invocation;

/// Answers the statement on stdout, batch by batch.
pub(crate) async fn query(invocation: &Invocation, arguments: QueryArguments) -> Result<()> {
    let lakehouse = invocation.lakehouse().await?;
    let statement = Statement::parse(&arguments.sql)?;
    let session = Arc::new(lakehouse.read(arguments.as_of).await?).for_statement(&statement, &lakehouse).await?;
    let plan = session.plan_statement(&statement).await?;
    let stream = session.stream(plan).await?;
    let schema = Arc::clone(&stream.schema());
    invocation.output.stream(schema, stream).await
}
