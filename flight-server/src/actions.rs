//! The actions of DoAction: prepared statements, transactions, session options, cancelling. What a read-only server has no use
//! for is refused in a sentence.

use std::collections::BTreeSet;

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndTransactionRequest, Any, Command, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::service::{Caller, Shared, encapsulated};
use crate::statements::Statements;
use crate::terms::Terms;
use crate::{session_options, status};

/// What [`answer`] understands, for ListActions.
const ACTIONS: [(&str, &str); 9] = [
    (
        "CreatePreparedStatement",
        "Plans a statement: ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult",
    ),
    ("ClosePreparedStatement", "Forgets a prepared statement: ActionClosePreparedStatementRequest, nothing"),
    ("BeginTransaction", "Holds a version for reading: ActionBeginTransactionRequest, ActionBeginTransactionResult"),
    ("EndTransaction", "Lets go of a version: ActionEndTransactionRequest, nothing"),
    ("CancelQuery", "Stops a statement: ActionCancelQueryRequest, ActionCancelQueryResult"),
    ("CancelFlightInfo", "Stops a statement: CancelFlightInfoRequest, CancelFlightInfoResult"),
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

/// What an action is answered with.
#[derive(Default)]
pub(crate) struct Answer {
    /// The body of the one result, if the action has one.
    pub(crate) body: Option<Bytes>,
    /// The cookie that the client is to keep.
    pub(crate) cookie: Option<String>,
}

impl Answer {
    fn of(body: Vec<u8>) -> Self {
        Self { body: Some(body.into()), cookie: None }
    }

    fn with_cookie((body, cookie): (Vec<u8>, String)) -> Self {
        Self { body: Some(body.into()), cookie: Some(cookie) }
    }
}

/// Does what an action asks for.
///
/// # Errors
/// INVALID_ARGUMENT for a body of another kind, UNIMPLEMENTED for an action that is not understood, and what
/// planning says of a statement.
pub(crate) async fn answer(action: &Action, shared: &Shared, caller: Caller) -> Result<Answer, Status> {
    let Caller { user, terms, client } = caller;
    let (body, statements) = (&*action.body, &shared.statements);
    Ok(match action.r#type.as_str() {
        "CreatePreparedStatement" => Answer::of(create_prepared(unwrap(body)?, statements, terms, &user).await?),
        "ClosePreparedStatement" => {
            // Its handle carries all there is of it; what was planned for it may serve others.
            let _: ActionClosePreparedStatementRequest = unwrap(body)?;
            Answer::default()
        }
        "BeginTransaction" => {
            let _: ActionBeginTransactionRequest = unwrap(body)?;
            let transaction_id = statements.begin(&terms, &user).await?;
            Answer::of(ActionBeginTransactionResult { transaction_id }.as_any().encode_to_vec())
        }
        "EndTransaction" => {
            let request: ActionEndTransactionRequest = unwrap(body)?;
            statements.within(Some(&request.transaction_id), terms)?;
            Answer::default()
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = unwrap(body)?;
            let info = FlightInfo::decode(request.info).map_err(|_| status::of_body("FlightInfo"))?;
            let result = cancel(&info, statements, &user) as i32;
            Answer::of(ActionCancelQueryResult { result }.as_any().encode_to_vec())
        }
        "CancelFlightInfo" => {
            let request =
                CancelFlightInfoRequest::decode(body).map_err(|_| status::of_body("CancelFlightInfoRequest"))?;
            let status = cancel(&request.info.unwrap_or_default(), statements, &user) as i32;
            Answer::of(CancelFlightInfoResult { status }.encode_to_vec())
        }
        "SetSessionOptions" => {
            let session = statements.plans.readers.seen(&Terms::default(), &user).await?.session;
            let schemas: BTreeSet<&str> = session.tables().iter().map(|table| table.schema.as_str()).collect();
            let schemas: Vec<String> = schemas.into_iter().map(str::to_owned).collect();
            Answer::with_cookie(shared.sessions.set(body, terms, client, &schemas, statements.key())?)
        }
        "GetSessionOptions" => Answer::of(session_options::get(&terms)),
        "CloseSession" => Answer::with_cookie(shared.sessions.close(client.as_ref())),
        "BeginSavepoint" | "EndSavepoint" => {
            return Err(Status::unimplemented("there are no savepoints here; a transaction reads one log version"));
        }
        "CreatePreparedSubstraitPlan" => return Err(no_substrait()),
        other => return Err(Status::unimplemented(format!("the action '{other}' is not understood here"))),
    })
}

/// The status of every call with a Substrait plan.
pub(crate) fn no_substrait() -> Status {
    Status::unimplemented("Substrait plans are not understood here\nhint: send SQL")
}

async fn create_prepared(
    request: ActionCreatePreparedStatementRequest,
    statements: &Statements,
    terms: Terms,
    user: &str,
) -> Result<Vec<u8>, Status> {
    let terms = statements.within(request.transaction_id.as_ref(), terms)?;
    let (prepared_statement_handle, prepared) = statements.prepare(&request.query, &terms, user).await?;
    let created = ActionCreatePreparedStatementResult {
        prepared_statement_handle,
        dataset_schema: encapsulated(&prepared.schema())?,
        parameter_schema: encapsulated(&prepared.parameters())?,
    };
    Ok(created.as_any().encode_to_vec())
}

/// What is read of it stops, as if the stream had been closed; what was not read yet is not read any more.
fn cancel(info: &FlightInfo, statements: &Statements, user: &str) -> CancelStatus {
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
    let mut waited = false;
    for ticket in tickets {
        let command = Any::decode(&*ticket.ticket).ok().and_then(|any| Command::try_from(any).ok());
        if let Some(Command::TicketStatementQuery(TicketStatementQuery { statement_handle })) = command {
            waited |= statements.cancel(&statement_handle, user);
        }
    }
    if waited { CancelStatus::Cancelled } else { CancelStatus::NotCancellable }
}

fn unwrap<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let message = Any::decode(body).ok().and_then(|any| any.unpack().ok().flatten());
    message.ok_or_else(|| status::of_body(M::type_url().rsplit('.').next().unwrap_or_default()))
}
