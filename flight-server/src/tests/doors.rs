//! What is refused before it is read, and what nobody can hold a server up with.

use std::convert::Infallible;
use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, NullArray, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery,
    ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, HandshakeRequest};
use bytes::Bytes;
use futures::TryStreamExt;
use http_body::{Body, Frame};
use lakebed_project::Users;
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::lake::lake;
use super::{Client, Running, options};
use crate::{Limits, Options, Tls};

/// Far longer than what is to happen takes.
const LONG: Duration = Duration::from_secs(120);

/// A server for ana.
async fn started() -> (TempDir, Running) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lakebed.toml"), "").unwrap();
    Users::of(directory.path()).set_password("ana", "ana's password").unwrap();
    let server = Running::of_project(directory.path(), lake(1, 1), Limits::default(), |_| ()).await;
    (directory, server)
}

type Asked = http::Request<tonic::body::Body>;

/// The body of a request that has begun.
struct Unfinished;

impl Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn whoever_is_nobody_is_refused_by_the_headers_alone() {
    let (_directory, server) = started().await;
    for call in ["GetFlightInfo", "GetSchema", "DoGet", "DoAction", "DoPut", "ListActions"] {
        let endpoint = Channel::from_shared(format!("http://{}", server.flight)).unwrap();
        let mut channel = endpoint.connect().await.unwrap();
        poll_fn(|context| Service::<Asked>::poll_ready(&mut channel, context)).await.unwrap();
        let request = http::Request::post(format!("/arrow.flight.protocol.FlightService/{call}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(Unfinished))
            .unwrap();
        let answer = timeout(LONG, channel.call(request)).await.expect(call).unwrap();
        assert_eq!(answer.headers()["grpc-status"], "16", "{call}");
        assert_eq!(answer.headers()["lakebed-version"], "1", "{call}");
        let counted = format!("lakebed_flight_requests_total{{call=\"{call}\",code=\"UNAUTHENTICATED\"}} 1");
        assert!(server.metrics.text().unwrap().contains(&counted), "{call}");
    }
}

#[tokio::test]
async fn over_http_a_body_that_does_not_come_is_not_waited_for() {
    let (_directory, server) = started().await;
    let mut connection = TcpStream::connect(server.http).await.unwrap();
    connection.write_all(b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    timeout(LONG, connection.read_exact(&mut begin)).await.expect("it is answered").unwrap();
    assert_eq!(&begin, b"HTTP/1.1 401");
}

#[tokio::test]
async fn messages_are_bounded_by_what_a_call_has_a_use_for() {
    let (_directory, server) = started().await;
    let mut client = server.client().await;
    let login = HandshakeRequest { protocol_version: 0, payload: vec![0; 100_000].into() };
    let status = client.inner_mut().handshake(futures::stream::iter([login])).await.err().unwrap();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let descriptor = FlightDescriptor::new_cmd(vec![0; 25 << 20]);
    let status = client.inner_mut().get_flight_info(descriptor).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

/// What a server begins an HTTP/2 connection with is how many calls it may have.
#[tokio::test]
async fn a_connection_has_so_many_calls_under_way() {
    let server = Running::start(lake(1, 0)).await;
    let mut connection = TcpStream::connect(server.flight).await.unwrap();
    // The preface, and settings without a setting.
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
    let mut head = [0; 9];
    timeout(LONG, connection.read_exact(&mut head)).await.expect("it answers").unwrap();
    assert_eq!(head[3], 4, "these are its settings");
    let mut settings = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    connection.read_exact(&mut settings).await.unwrap();
    let most = settings.chunks_exact(6).find(|setting| setting[..2] == [0, 3]).map(|setting| setting[2..].to_vec());
    assert_eq!(most, Some(256_u32.to_be_bytes().to_vec()));
}

/// A certificate that signs itself.
fn self_signed(directory: &Path) -> Tls {
    let (certificate, key) = (directory.join("server.pem"), directory.join("server.key"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl starts; install it (Debian, Ubuntu: apt install openssl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Tls { certificate: fs::read(certificate).unwrap(), key: fs::read(key).unwrap(), client_ca: None }
}

#[tokio::test]
async fn who_does_not_agree_on_tls_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Some(self_signed(directory.path()));
    let options = Options { tls, ..options(Path::new("/nowhere"), Limits::default()) };
    let soon = Duration::from_millis(200);
    let server = Running::with(options, lake(1, 0), |server| server.tls_handshake = soon).await;
    let mut silent = TcpStream::connect(server.flight).await.unwrap();
    let mut byte = [0; 1];
    let read = timeout(LONG, silent.read(&mut byte)).await.expect("the connection ends");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

/// The handle of a statement with one parameter.
async fn prepared(client: &mut Client) -> Bytes {
    let request = ActionCreatePreparedStatementRequest { query: "SELECT ? AS a".to_owned(), transaction_id: None };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let results = client.inner_mut().do_action(action).await.unwrap().into_inner();
    let results: Vec<arrow_flight::Result> = results.try_collect().await.unwrap();
    let created = Any::decode(&*results[0].body).unwrap().unpack::<ActionCreatePreparedStatementResult>();
    created.unwrap().unwrap().prepared_statement_handle
}

/// The messages of a batch: its schema, its dictionaries, and itself.
fn encoded(column: ArrayRef, codec: Option<CompressionType>) -> Vec<FlightData> {
    let batch = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
    let (generator, mut dictionaries) = (IpcDataGenerator::default(), DictionaryTracker::new(false));
    let schema = generator.schema_to_bytes_with_dictionary_tracker(batch.schema_ref(), &mut dictionaries, &options);
    let (before, batch) =
        generator.encode(&batch, &mut dictionaries, &options, &mut IpcWriteContext::default()).unwrap();
    std::iter::once(schema).chain(before).chain([batch]).map(FlightData::from).collect()
}

/// Gives a statement values for its parameter.
async fn put(client: &mut Client, handle: &Bytes, mut messages: Vec<FlightData>) -> Result<(), Status> {
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()));
    let answers = client.inner_mut().do_put(futures::stream::iter(messages)).await?.into_inner();
    answers.try_collect::<Vec<_>>().await.map(drop)
}

#[tokio::test]
async fn parameters_that_are_compressed_are_refused_before_they_are_read() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let handle = prepared(&mut client).await;
    let numbers = || Arc::new(Int64Array::from(vec![7; 100])) as ArrayRef;
    let words = || Arc::new((0..100).map(|_| Some("a word")).collect::<DictionaryArray<Int32Type>>()) as ArrayRef;
    for column in [numbers(), words()] {
        put(&mut client, &handle, encoded(column, None)).await.unwrap();
    }
    let mut refused = Vec::new();
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        refused.push(encoded(numbers(), Some(codec)));
        // A dictionary alone.
        let mut with_dictionary = encoded(words(), None);
        with_dictionary[1] = encoded(words(), Some(codec)).remove(1);
        refused.push(with_dictionary);
    }
    // One that says of itself that it will be 64 TiB.
    let mut claim = encoded(numbers(), Some(CompressionType::LZ4_FRAME));
    let mut body = claim[1].data_body.to_vec();
    body[..8].copy_from_slice(&(1_u64 << 46).to_le_bytes());
    claim[1].data_body = body.into();
    refused.push(claim);
    for messages in refused {
        let status = put(&mut client, &handle, messages).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("without compression"), "{status}");
    }
}

#[tokio::test]
async fn an_upload_is_read_for_a_statement_of_ours_and_as_far_as_it_may_go() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let unreadable = || vec![FlightData { data_header: vec![1, 2, 3].into(), ..FlightData::default() }];
    let status = put(&mut client, &Bytes::from_static(b"somebody's statement"), unreadable()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("the prepared statement is none of this server's"), "{status}");
    let handle = prepared(&mut client).await;
    for (column, most) in [
        (Arc::new(NullArray::new(1 << 20)) as ArrayRef, "65536 rows"),
        (Arc::new(Int64Array::from(vec![7; 3 << 20])) as ArrayRef, "16777216 bytes"),
    ] {
        let status = put(&mut client, &handle, encoded(column, None)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(most), "{status}");
    }
    // So many values side by side are no more bytes than one below the other.
    let columns = (0..500).map(|number| format!("CAST(? AS BIGINT) AS c{number}")).collect::<Vec<_>>().join(", ");
    let mut statement = client.prepare(format!("SELECT {columns}"), None).await.unwrap();
    let row = (0..500).map(|number| (format!("c{number}"), Arc::new(Int64Array::from(vec![number])) as ArrayRef));
    statement.set_parameters(RecordBatch::try_from_iter(row).unwrap()).unwrap();
    statement.execute().await.unwrap();
}
