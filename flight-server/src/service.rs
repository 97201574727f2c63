//! Dispatch: which answer belongs to which call.
//!
//! The service implements `FlightService` itself. arrow-flight's blanket implementation over `FlightSqlService`
//! answers GetSchema and PollFlightInfo with Unimplemented, shows Debug text for a body that it cannot read, and
//! asks for two methods per command where one `match` over [`Command`] says the same.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command, DoPutPreparedStatementResult, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    IpcMessage, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::admission::Admission;
use crate::calls::LONGEST_HANDLE;
use crate::connections::Connection;
use crate::gate::{Gate, Guest};
use crate::handles::{CarriedStatement, Kind};
use crate::handshake::{self, AUTHORIZATION, HandshakeStream};
use crate::messages::{Encoder, uploaded};
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::plans::Planned;
use crate::runtime::QueryThreads;
use crate::server::Served;
use crate::session_options::{Client, Sessions, keeps_cookies, set_cookie};
use crate::statements::{Redeemed, Statements};
use crate::stream::{self, Batches};
use crate::terms::Terms;
use crate::{actions, status};

/// The header that names the log version an answer was read at.
pub(crate) const VERSION_HEADER: &str = "lakebed-version";
/// Who has not logged in may take so long to.
const LONGEST_LOGIN: Duration = Duration::from_secs(30);

/// What every request of one server shares.
pub(crate) struct Shared {
    pub(crate) lake: watch::Receiver<Served>,
    pub(crate) statements: Statements,
    pub(crate) sessions: Sessions,
    pub(crate) gate: Gate,
    pub(crate) metadata: Metadata,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) threads: QueryThreads,
    pub(crate) admission: Arc<Admission>,
}

/// The Flight SQL service over the lake that `Shared` holds.
#[derive(Clone)]
pub(crate) struct LakeService(pub(crate) Arc<Shared>);

/// Who calls, and how the answer is wanted.
pub(crate) struct Caller {
    /// Empty where the server has no users.
    pub(crate) user: String,
    pub(crate) terms: Terms,
    /// The same with the connection that it came over.
    pub(crate) client: Option<Client>,
}

/// What a command asks for, before it is decided how much of the answer is sent.
enum Subject {
    /// The rows of a statement.
    Query(Arc<Planned>),
    /// A listing; its ticket is the command itself.
    Listing { command: Command, schema: arrow::datatypes::SchemaRef, version: u64 },
}

impl Subject {
    fn schema(&self) -> &Schema {
        match self {
            Self::Query(planned) => &planned.schema,
            Self::Listing { schema, .. } => schema,
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Query(planned) => planned.session.version(),
            Self::Listing { version, .. } => *version,
        }
    }
}

impl LakeService {
    /// The version that is served now.
    pub(crate) fn served(&self) -> u64 {
        self.0.lake.borrow().session.version()
    }

    /// Counts a call and sees that its answer, good or bad, names a version.
    async fn call<T>(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let served = self.served();
        let mut response = answer.await.map_err(|status| self.refused(name, served, status))?;
        name_version(response.metadata_mut(), served);
        self.0.metrics.answered(name, Code::Ok);
        Ok(response)
    }

    /// Counts a call that is not answered, and names a version there.
    pub(crate) fn refused(&self, name: &'static str, served: u64, mut status: Status) -> Status {
        name_version(status.metadata_mut(), served);
        self.0.metrics.answered(name, status.code());
        tracing::debug!(call = name, code = ?status.code(), message = status.message(), "refused");
        status
    }

    /// Answers a call of somebody who was let in.
    async fn call_of<T, R, F>(
        &self,
        name: &'static str,
        request: Request<R>,
        answer: impl FnOnce(R, Caller) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (headers, mut extensions, body) = request.into_parts();
        let (guest, connection) = (extensions.remove::<Guest>(), Connection::of(&extensions));
        let answered = async {
            let nobody = || Status::internal("nobody looked at who asks; this is a fault of the server");
            let Guest { user, bearer } = guest.ok_or_else(nobody)?;
            let (sessions, key) = (&self.0.sessions, self.0.statements.key());
            let keeps_cookies = keeps_cookies(&headers);
            let client = connection.map(|connection| Client { connection, user: user.clone(), keeps_cookies });
            let terms = Terms::of_call(&headers, sessions.terms(&headers, client.as_ref(), key))?;
            let mut response = answer(body, Caller { user, terms, client }).await?;
            // Clients take it up in the place of what they sent.
            if let Some(bearer) = bearer.and_then(|bearer| format!("Bearer {bearer}").parse().ok()) {
                response.metadata_mut().insert(AUTHORIZATION, bearer);
            }
            set_cookie(response.metadata_mut(), sessions.offered(&headers, key));
            Ok(response)
        };
        self.call(name, answered).await
    }

    async fn subject(&self, descriptor: &FlightDescriptor, caller: Caller) -> Result<Subject, Status> {
        if descriptor.r#type() != DescriptorType::Cmd {
            return Err(Status::invalid_argument("a flight is named by a Flight SQL command here, not by a path"));
        }
        let statements = &self.0.statements;
        match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(query) => {
                let terms = statements.within(query.transaction_id.as_ref(), caller.terms)?;
                Ok(Subject::Query(statements.plans.plan(&query.query, &terms, &Bytes::new(), &caller.user).await?))
            }
            Command::CommandPreparedStatementQuery(query) => {
                Ok(Subject::Query(statements.prepared_plan(&query.prepared_statement_handle, &caller.user).await?))
            }
            other => match self.0.metadata.schema(&other) {
                Some(schema) => {
                    let version = statements.plans.readers.seen(&caller.terms, &caller.user).await?.session.version();
                    Ok(Subject::Listing { command: other, schema, version })
                }
                None => Err(refusal(&other)),
            },
        }
    }

    /// Where the rows of a command are, without reading any.
    async fn info(&self, descriptor: FlightDescriptor, caller: Caller) -> Result<(FlightInfo, u64), Status> {
        let user = caller.user.clone();
        let subject = self.subject(&descriptor, caller).await?;
        let version = subject.version();
        let info = FlightInfo::new().try_with_schema(subject.schema()).map_err(|error| status::of_arrow(&error))?;
        let ticket = match subject {
            Subject::Query(planned) => {
                TicketStatementQuery { statement_handle: self.0.statements.announce(&planned, &user) }.as_any()
            }
            Subject::Listing { command, .. } => command.into_any(),
        };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
        let info = info.with_endpoint(endpoint).with_descriptor(descriptor).with_app_metadata(version.to_string());
        Ok((info.with_total_records(-1).with_total_bytes(-1), version))
    }

    async fn rows(&self, ticket: Ticket, Caller { user, terms, .. }: Caller) -> Result<Response<Batches>, Status> {
        let shared = &self.0;
        let redeemed = match command(&ticket.ticket)? {
            Command::TicketStatementQuery(ticket) => shared.statements.redeem(&ticket.statement_handle, &user).await?,
            // Some clients read a prepared statement without asking where its rows are.
            Command::CommandPreparedStatementQuery(query) => {
                Redeemed::at_once(shared.statements.prepared_plan(&query.prepared_statement_handle, &user).await?)
            }
            other => {
                let refused = refusal(&other);
                let session = shared.statements.plans.readers.seen(&terms, &user).await?.session;
                let rows = shared.metadata.rows(other, &session)?.ok_or(refused)?;
                return Ok(versioned(stream::listing(&rows, &shared.metrics)?, session.version()));
            }
        };
        let version = redeemed.planned.session.version();
        let encoder = |schema: &_| Encoder::new(Arc::clone(schema)).map_err(|error| status::of_arrow(&error));
        Ok(versioned(stream::results(redeemed, shared, encoder).await?, version))
    }

    /// What DoGet is answered, before it is put into messages of gRPC.
    pub(crate) async fn get(&self, request: Request<Ticket>) -> Result<Response<Batches>, Status> {
        self.call_of("DoGet", request, |ticket, caller| self.rows(ticket, caller)).await
    }

    /// Takes values for the parameters of a prepared statement; the answer is the handle of the statement with them.
    async fn put(&self, messages: Streaming<FlightData>, caller: Caller) -> Result<PutResult, Status> {
        let mut messages = messages.peekable();
        let first = match std::pin::Pin::new(&mut messages).peek().await {
            Some(Ok(first)) => first.flight_descriptor.clone().unwrap_or_default(),
            Some(Err(status)) => return Err(status.clone()),
            None => return Err(status::of_body("upload")),
        };
        let query = match command(&first.cmd)? {
            Command::CommandPreparedStatementQuery(query) => query,
            other => return Err(refusal(&other)),
        };
        // What is uploaded for a statement of nobody's is not worth reading.
        let _: CarriedStatement = self.0.statements.key().open(Kind::Prepared, &query.prepared_statement_handle)?;
        let values = uploaded(messages).await?;
        let handle = self.0.statements.bind(&query.prepared_statement_handle, &values, &caller.user).await?;
        if handle.len() > LONGEST_HANDLE {
            let message = format!("a statement has {LONGEST_HANDLE} bytes at most, its parameters included");
            return Err(Status::invalid_argument(message));
        }
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
        Ok(PutResult { app_metadata: result.encode_to_vec().into() })
    }
}

#[async_trait::async_trait]
impl FlightService for LakeService {
    type HandshakeStream = HandshakeStream;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let cookie = self.0.sessions.offered(request.metadata(), self.0.statements.key());
        let answered = async {
            let slow = |_| Status::deadline_exceeded("the login took too long");
            let login = timeout(LONGEST_LOGIN, handshake::answer(request, &self.0.gate));
            let mut response = login.await.map_err(slow)??;
            set_cookie(response.metadata_mut(), cookie);
            Ok(response)
        };
        self.call("Handshake", answered).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let refused = "flights are not listed here\nhint: list tables with Flight SQL's GetTables";
        self.call_of("ListFlights", request, |_, _| async { Err(Status::unimplemented(refused)) }).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let answer = |descriptor, caller| async {
            let (info, version) = self.info(descriptor, caller).await?;
            Ok(versioned(info, version))
        };
        self.call_of("GetFlightInfo", request, answer).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let answer = |descriptor, caller| async {
            let (info, version) = self.info(descriptor, caller).await?;
            // Without a descriptor to poll again: planning is all there is to wait for, and it is done.
            let poll = PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() };
            Ok(versioned(poll, version))
        };
        self.call_of("PollFlightInfo", request, answer).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let answer = |descriptor, caller| async move {
            let subject = self.subject(&descriptor, caller).await?;
            let schema = encapsulated(subject.schema())?;
            Ok(versioned(SchemaResult { schema }, subject.version()))
        };
        self.call_of("GetSchema", request, answer).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let answer = self.get(request).await?;
        Ok(answer.map(|batches| batches.map_ok(FlightData::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let answer = |messages, caller| async {
            let result = self.put(messages, caller).await?;
            Ok(Response::new(Box::pin(futures::stream::iter([Ok(result)])) as Self::DoPutStream))
        };
        self.call_of("DoPut", request, answer).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let answer = |action, caller| async move {
            let actions::Answer { body, cookie } = actions::answer(&action, &self.0, caller).await?;
            let results = futures::stream::iter(body.map(|body| Ok(arrow_flight::Result { body })));
            let mut response = Response::new(Box::pin(results) as Self::DoActionStream);
            set_cookie(response.metadata_mut(), cookie);
            Ok(response)
        };
        self.call_of("DoAction", request, answer).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let answer = |_, _| async {
            let actions = futures::stream::iter(actions::list().into_iter().map(Ok));
            Ok(Response::new(Box::pin(actions) as Self::ListActionsStream))
        };
        self.call_of("ListActions", request, answer).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let refused = "DoExchange has no meaning in Flight SQL";
        self.call_of("DoExchange", request, |_, _| async { Err(Status::unimplemented(refused)) }).await
    }
}

/// A schema as an encapsulated IPC message, which is how Flight carries one outside a stream.
pub(crate) fn encapsulated(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|IpcMessage(bytes)| bytes).map_err(|error| status::of_arrow(&error))
}

fn versioned<T>(answer: T, version: u64) -> Response<T> {
    let mut response = Response::new(answer);
    name_version(response.metadata_mut(), version);
    response
}

/// Names a version where none is named.
fn name_version(headers: &mut MetadataMap, version: u64) {
    if !headers.contains_key(VERSION_HEADER) {
        headers.insert(VERSION_HEADER, MetadataValue::from(version));
    }
}

fn command(bytes: &[u8]) -> Result<Command, Status> {
    let command = Any::decode(bytes).ok().and_then(|any| Command::try_from(any).ok());
    command.ok_or_else(|| status::of_body("Flight SQL command"))
}

/// Why a command is not answered.
fn refusal(command: &Command) -> Status {
    match command {
        // A driver's `executemany` and `executeUpdate` come by this way, whatever the statement is.
        Command::CommandStatementUpdate(_)
        | Command::CommandStatementIngest(_)
        | Command::CommandPreparedStatementUpdate(_) => Status::permission_denied(
            "only queries are answered here; this call is for statements that would write\n\
             hint: ask a SELECT as a query, also with many rows of parameters; send events with `lakebed ingest`",
        ),
        Command::CommandStatementSubstraitPlan(_) => actions::no_substrait(),
        Command::Unknown(any) if any.type_url.is_empty() => status::of_body("Flight SQL command"),
        other => {
            let name = other.type_url().rsplit('.').next().unwrap_or_default();
            Status::invalid_argument(format!("the command {name} is not understood in this call"))
        }
    }
}
