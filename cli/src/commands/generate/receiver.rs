//! Who takes generated events over the network, and what became of them there.

use std::fmt;
use std::time::Duration;

use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_sdk_lambda::primitives::Blob;
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Where the token of a server is looked for: never on the command line.
const TOKEN: &str = "LAKEBED_TOKEN";

/// How often a server is asked that has no room at the moment.
const TRIES: u32 = 20;

/// A server's or a function's word on the events that it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Answer {
    pub(super) accepted: u64,
    pub(super) quarantined: u64,
    pub(super) duplicate: u64,
}

impl Answer {
    pub(super) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.quarantined += other.quarantined;
        self.duplicate += other.duplicate;
    }
}

/// Somebody who takes events.
pub(super) enum Receiver {
    Server { client: reqwest::Client, url: Url, token: Option<String> },
    Function { client: aws_sdk_lambda::Client, name: String },
    Stream { client: aws_sdk_kinesis::Client, name: String },
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { url, .. } => write!(f, "{url}"),
            Self::Function { name, .. } => write!(f, "the function {name}"),
            Self::Stream { name, .. } => write!(f, "the stream {name}"),
        }
    }
}

impl Receiver {
    /// The one that `to` names: an `http://` or `https://` URL, `lambda:NAME` or `kinesis:NAME`; `None` for a file.
    pub(super) async fn of(to: &str) -> Result<Option<Self>> {
        if let Some(name) = to.strip_prefix("lambda:") {
            // Region, credentials and endpoint are those of every AWS tool.
            let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
            return Ok(Some(Self::Function { client: aws_sdk_lambda::Client::new(&config), name: name.to_owned() }));
        }
        if let Some(name) = to.strip_prefix("kinesis:") {
            let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
            return Ok(Some(Self::Stream { client: aws_sdk_kinesis::Client::new(&config), name: name.to_owned() }));
        }
        if !to.starts_with("http://") && !to.starts_with("https://") {
            return Ok(None);
        }
        let mut url = Url::parse(to).map_err(|error| Error::Usage {
            message: format!("'{to}' is no URL: {error}"),
            hint: "such as http://127.0.0.1:8080".to_owned(),
        })?;
        if url.path() == "/" {
            url.set_path(lakebed_ingest::http::PATH);
        }
        let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).build();
        let client = client.map_err(|error| failed(to, &error))?;
        Ok(Some(Self::Server { client, url, token: std::env::var(TOKEN).ok() }))
    }

    /// Sends lines of events; waits for a server that has no room.
    pub(super) async fn send(&self, events: Vec<u8>) -> Result<Answer> {
        match self {
            Self::Server { client, url, token } => post(client, url, token.as_deref(), events).await,
            Self::Function { client, name } => invoke(client, name, &events).await,
            Self::Stream { client, name } => put(client, name, &events).await,
        }
    }
}

fn failed(to: impl fmt::Display, error: &dyn std::error::Error) -> Error {
    let mut message = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        message = format!("{message}: {error}");
        inner = error.source();
    }
    Error::Send { to: to.to_string(), message }
}

async fn post(client: &reqwest::Client, url: &Url, token: Option<&str>, events: Vec<u8>) -> Result<Answer> {
    let events = bytes::Bytes::from(events);
    let mut tries = 0;
    loop {
        tries += 1;
        let request = client.post(url.clone()).body(events.clone());
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.map_err(|error| failed(url, &error))?;
        let status = answer.status();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) && tries < TRIES {
            let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(after.unwrap_or(1))).await;
            continue;
        }
        let said = answer.text().await.map_err(|error| failed(url, &error))?;
        if !status.is_success() {
            return Err(Error::Send { to: url.to_string(), message: format!("{status}: {}", said.trim()) });
        }
        return read(url, &said);
    }
}

/// The lines go as one JSON text, which may hold what is no JSON itself.
async fn invoke(client: &aws_sdk_lambda::Client, name: &str, events: &[u8]) -> Result<Answer> {
    let lines = serde_json::Value::from(String::from_utf8_lossy(events)).to_string();
    let invoked = client.invoke().function_name(name).payload(Blob::new(lines)).send().await;
    let answer = invoked.map_err(|error| failed(name, &error))?;
    let said =
        answer.payload().map(|payload| String::from_utf8_lossy(payload.as_ref()).into_owned()).unwrap_or_default();
    match answer.function_error() {
        Some(error) => Err(Error::Send { to: name.to_owned(), message: format!("{error}: {said}") }),
        None => read(name, &said),
    }
}

/// Kinesis takes so many records at once.
const RECORDS: usize = 500;

/// Puts each line as a record. Those that a shard has no room for at the moment are put again.
async fn put(client: &aws_sdk_kinesis::Client, name: &str, events: &[u8]) -> Result<Answer> {
    let lines: Vec<&[u8]> = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for some in lines.chunks(RECORDS) {
        let mut left = some.to_vec();
        let mut tries = 0;
        while !left.is_empty() {
            tries += 1;
            let record = |line: &&[u8]| {
                // Spread over the shards by what is in it, the same each time.
                let key = blake3::hash(line).to_hex()[..32].to_owned();
                PutRecordsRequestEntry::builder()
                    .data(aws_sdk_kinesis::primitives::Blob::new(*line))
                    .partition_key(key)
                    .build()
            };
            let records =
                left.iter().map(record).collect::<Result<Vec<_>, _>>().map_err(|error| failed(name, &error))?;
            let put = client.put_records().stream_name(name).set_records(Some(records)).send().await;
            let put = put.map_err(|error| failed(name, &error))?;
            let refused = put.records().iter().map(|record| record.error_code().is_some());
            let mut refused = refused.chain(std::iter::repeat(false));
            left.retain(|_| refused.next().unwrap_or(false));
            if !left.is_empty() {
                if tries == TRIES {
                    let message = format!("{} records found no room in {TRIES} tries", left.len());
                    return Err(Error::Send { to: name.to_owned(), message });
                }
                tokio::time::sleep(Duration::from_millis(200) * tries).await;
            }
        }
    }
    Ok(Answer { accepted: lines.len() as u64, ..Answer::default() })
}

fn read(to: impl fmt::Display, said: &str) -> Result<Answer> {
    let wrong = |_| Error::Send { to: to.to_string(), message: format!("it answers something else: {}", said.trim()) };
    serde_json::from_str(said).map_err(wrong)
}
