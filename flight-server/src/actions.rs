//! The actions of DoAction: prepared statements, session options, cancelling. What a read-only server without
//! transactions has no use for is refused in a sentence.

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, Command, ProstMessageExt,
    TicketStatementQuery,
};
use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::service::encapsulated;
use crate::statements::Statements;
use crate::{session_options, status};

/// What [`answer`] understands, for ListActions.
const ACTIONS: [(&str, &str); 7] = [
    (
        "CreatePreparedStatement",
        "Plans a statement: ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult",
    ),
    ("ClosePreparedStatement", "Forgets a prepared statement: ActionClosePreparedStatementRequest, nothing"),
    ("CancelQuery", "Lets go of a statement that was not read yet: ActionCancelQueryRequest, ActionCancelQueryResult"),
    (
        "CancelFlightInfo",
        "Lets go of a statement that was not read yet: CancelFlightInfoRequest, CancelFlightInfoResult",
    ),
    ("SetSessionOptions", "Sets options of the session: SetSessionOptionsRequest, SetSessionOptionsResult"),
    ("GetSessionOptions", "Returns the options of the session: GetSessionOptionsRequest, GetSessionOptionsResult"),
    ("CloseSession", "Ends the session: CloseSessionRequest, CloseSessionResult"),
];

/// The actions that [`answer`] understands.
pub(crate) fn list() -> Vec<ActionType> {
    let action =
        |(name, description): (&str, &str)| ActionType { r#type: name.to_owned(), description: description.to_owned() };
    ACTIONS.into_iter().map(action).collect()
}

/// The body of the one result, or `None` where the action has none.
///
/// # Errors
/// INVALID_ARGUMENT for a body of another kind, UNIMPLEMENTED for an action that is not understood, and what
/// planning says of a statement.
pub(crate) async fn answer(action: &Action, statements: &Statements) -> Result<Option<Bytes>, Status> {
    let body = &*action.body;
    let answer = match action.r#type.as_str() {
        "CreatePreparedStatement" => create_prepared(unwrap(body)?, statements).await?.as_any().encode_to_vec(),
        "ClosePreparedStatement" => {
            let request: ActionClosePreparedStatementRequest = unwrap(body)?;
            statements.close(&request.prepared_statement_handle);
            return Ok(None);
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = unwrap(body)?;
            let info = FlightInfo::decode(request.info).map_err(|_| status::of_body("FlightInfo"))?;
            let result = cancel(&info, statements) as i32;
            ActionCancelQueryResult { result }.as_any().encode_to_vec()
        }
        "CancelFlightInfo" => {
            let request =
                CancelFlightInfoRequest::decode(body).map_err(|_| status::of_body("CancelFlightInfoRequest"))?;
            let status = cancel(&request.info.unwrap_or_default(), statements) as i32;
            CancelFlightInfoResult { status }.encode_to_vec()
        }
        "SetSessionOptions" => session_options::set(body)?,
        "GetSessionOptions" => session_options::get(),
        "CloseSession" => session_options::close(),
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            return Err(Status::unimplemented("there are no transactions here; every statement reads one log version"));
        }
        "CreatePreparedSubstraitPlan" => return Err(no_substrait()),
        other => return Err(Status::unimplemented(format!("the action '{other}' is not understood here"))),
    };
    Ok(Some(answer.into()))
}

/// The status of every call with a Substrait plan.
pub(crate) fn no_substrait() -> Status {
    Status::unimplemented("Substrait plans are not understood here\nhint: send SQL")
}

async fn create_prepared(
    request: ActionCreatePreparedStatementRequest,
    statements: &Statements,
) -> Result<ActionCreatePreparedStatementResult, Status> {
    let (handle, planned) = statements.prepare(&request.query).await?;
    Ok(ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle,
        dataset_schema: encapsulated(&planned.schema)?,
        // No parameters yet: an empty schema, as clients read it.
        parameter_schema: encapsulated(&arrow::datatypes::Schema::empty())?,
    })
}

/// A plan that was not read yet is gone at once. One that is being read is stopped by closing its stream.
fn cancel(info: &FlightInfo, statements: &Statements) -> CancelStatus {
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
    let mut waited = false;
    for ticket in tickets {
        let command = Any::decode(&*ticket.ticket).ok().and_then(|any| Command::try_from(any).ok());
        if let Some(Command::TicketStatementQuery(TicketStatementQuery { statement_handle })) = command {
            waited |= statements.cancel(&statement_handle);
        }
    }
    if waited { CancelStatus::Cancelled } else { CancelStatus::NotCancellable }
}

fn unwrap<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let message = Any::decode(body).ok().and_then(|any| any.unpack().ok().flatten());
    message.ok_or_else(|| status::of_body(M::type_url().rsplit('.').next().unwrap_or_default()))
}
