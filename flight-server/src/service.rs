//! Dispatch: which answer belongs to which call.
//!
//! The service implements `FlightService` itself. arrow-flight's blanket implementation over `FlightSqlService`
//! answers GetSchema and PollFlightInfo with Unimplemented, shows Debug text for a body that it cannot read, and
//! asks for two methods per command where one `match` over [`Command`] says the same.

use std::future::Future;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    IpcMessage, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use lakebed_query::ReadSession;
use prost::Message;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::handshake::{self, HandshakeStream};
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::runtime::QueryThreads;
use crate::statements::{Planned, Statements};
use crate::stream::{self, FlightDataStream};
use crate::{actions, status};

/// The header that names the log version an answer was read at.
pub(crate) const VERSION_HEADER: &str = "lakebed-version";

/// What every request of one server shares.
pub(crate) struct Shared {
    pub(crate) lake: watch::Receiver<Arc<ReadSession>>,
    pub(crate) statements: Statements,
    pub(crate) metadata: Metadata,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) threads: QueryThreads,
}

/// The Flight SQL service over the lake that `Shared` holds.
#[derive(Clone)]
pub(crate) struct LakeService(pub(crate) Arc<Shared>);

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
    /// Counts the call and sees that its answer, good or bad, names a version.
    async fn call<T>(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let served = self.0.lake.borrow().version();
        let mut answer = answer.await;
        let headers = match &mut answer {
            Ok(response) => response.metadata_mut(),
            Err(status) => status.metadata_mut(),
        };
        if !headers.contains_key(VERSION_HEADER) {
            headers.insert(VERSION_HEADER, MetadataValue::from(served));
        }
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.0.metrics.answered(name, code);
        if let Err(status) = &answer {
            tracing::debug!(call = name, code = ?code, message = status.message(), "refused");
        }
        answer
    }

    async fn subject(&self, descriptor: &FlightDescriptor) -> Result<Subject, Status> {
        if descriptor.r#type() != DescriptorType::Cmd {
            return Err(Status::invalid_argument("a flight is named by a Flight SQL command here, not by a path"));
        }
        match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                Ok(Subject::Query(self.0.statements.plan(&query.query).await?))
            }
            Command::CommandPreparedStatementQuery(query) => {
                Ok(Subject::Query(self.0.statements.prepared(&query.prepared_statement_handle).await?))
            }
            other => match self.0.metadata.schema(&other) {
                Some(schema) => {
                    Ok(Subject::Listing { command: other, schema, version: self.0.lake.borrow().version() })
                }
                None => Err(refusal(&other)),
            },
        }
    }

    /// Where the rows of a command are, without reading any.
    async fn info(&self, descriptor: FlightDescriptor) -> Result<(FlightInfo, u64), Status> {
        let subject = self.subject(&descriptor).await?;
        let version = subject.version();
        let info = FlightInfo::new().try_with_schema(subject.schema()).map_err(|error| status::of_arrow(&error))?;
        let ticket = match subject {
            Subject::Query(planned) => {
                TicketStatementQuery { statement_handle: self.0.statements.announce(&planned) }.as_any()
            }
            Subject::Listing { command, .. } => command.into_any(),
        };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
        let info = info.with_endpoint(endpoint).with_descriptor(descriptor).with_app_metadata(version.to_string());
        Ok((info.with_total_records(-1).with_total_bytes(-1), version))
    }

    async fn rows(&self, ticket: &Ticket) -> Result<Response<FlightDataStream>, Status> {
        let shared = &self.0;
        let planned = match command(&ticket.ticket)? {
            Command::TicketStatementQuery(ticket) => shared.statements.redeem(&ticket.statement_handle).await?,
            Command::CommandPreparedStatementQuery(query) => {
                shared.statements.prepared(&query.prepared_statement_handle).await?
            }
            other => {
                let refused = refusal(&other);
                let session = Arc::clone(&shared.lake.borrow());
                let rows = shared.metadata.rows(other, &session)?.ok_or(refused)?;
                return Ok(versioned(stream::listing(&rows, &shared.metrics)?, session.version()));
            }
        };
        let version = planned.session.version();
        Ok(versioned(stream::results(planned, &shared.threads, &shared.metrics).await?, version))
    }
}

#[async_trait::async_trait]
impl FlightService for LakeService {
    type HandshakeStream = HandshakeStream;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = FlightDataStream;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.call("Handshake", async { handshake::answer(request) }).await
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let refused = "flights are not listed here\nhint: list tables with Flight SQL's GetTables";
        self.call("ListFlights", async { Err(Status::unimplemented(refused)) }).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let answer = async {
            let (info, version) = self.info(request.into_inner()).await?;
            Ok(versioned(info, version))
        };
        self.call("GetFlightInfo", answer).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let answer = async {
            let (info, version) = self.info(request.into_inner()).await?;
            // Without a descriptor to poll again: planning is all there is to wait for, and it is done.
            let poll = PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() };
            Ok(versioned(poll, version))
        };
        self.call("PollFlightInfo", answer).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let answer = async {
            let subject = self.subject(request.get_ref()).await?;
            let schema = encapsulated(subject.schema())?;
            Ok(versioned(SchemaResult { schema }, subject.version()))
        };
        self.call("GetSchema", answer).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.call("DoGet", self.rows(request.get_ref())).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let answer = async {
            let first = request.into_inner().message().await?;
            let descriptor = first.and_then(|first| first.flight_descriptor).unwrap_or_default();
            Err(refusal(&command(&descriptor.cmd)?))
        };
        self.call("DoPut", answer).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let answer = async {
            let body = actions::answer(request.get_ref(), &self.0.statements).await?;
            let results = body.map(|body| Ok(arrow_flight::Result { body }));
            Ok(Response::new(Box::pin(futures::stream::iter(results)) as Self::DoActionStream))
        };
        self.call("DoAction", answer).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let answer = async {
            let actions = futures::stream::iter(actions::list().into_iter().map(Ok));
            Ok(Response::new(Box::pin(actions) as Self::ListActionsStream))
        };
        self.call("ListActions", answer).await
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        let refused = "DoExchange has no meaning in Flight SQL";
        self.call("DoExchange", async { Err(Status::unimplemented(refused)) }).await
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
    response.metadata_mut().insert(VERSION_HEADER, MetadataValue::from(version));
    response
}

fn command(bytes: &[u8]) -> Result<Command, Status> {
    let command = Any::decode(bytes).ok().and_then(|any| Command::try_from(any).ok());
    command.ok_or_else(|| status::of_body("Flight SQL command"))
}

fn no_transaction(transaction: Option<&Bytes>) -> Result<(), Status> {
    match transaction {
        Some(id) if !id.is_empty() => Err(Status::invalid_argument("there is no transaction under this id")),
        _ => Ok(()),
    }
}

/// Why a command is not answered.
fn refusal(command: &Command) -> Status {
    match command {
        Command::CommandStatementUpdate(_)
        | Command::CommandStatementIngest(_)
        | Command::CommandPreparedStatementUpdate(_) => Status::permission_denied(format!(
            "{}\nhint: {}",
            lakebed_query::Error::ReadOnly,
            "send events with `lakebed ingest`"
        )),
        Command::CommandPreparedStatementQuery(_) => {
            Status::unimplemented("parameters of prepared statements are not understood yet")
        }
        Command::CommandStatementSubstraitPlan(_) => actions::no_substrait(),
        Command::Unknown(any) if any.type_url.is_empty() => status::of_body("Flight SQL command"),
        other => {
            let name = other.type_url().rsplit('.').next().unwrap_or_default();
            Status::invalid_argument(format!("the command {name} is not understood in this call"))
        }
    }
}
