//! S3 → log: the objects that a notification names, read as they come.

use std::io::{self, BufReader, Read};

use aws_lambda_events::s3::{S3Event, S3EventRecord};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use lakebed_log::{Ack, BatchId, S3Settings, Store};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;

use crate::decompress::decompress;
use crate::error::{Error, Result};
use crate::frame::refused;
use crate::intake::{Intake, Outlet, Prepared, Tally};

/// The source of events that do not name theirs.
const SOURCE: &str = "s3";

/// An object is cut after this many bytes, so that one of any size fits a small function, …
const BATCH_BYTES: usize = 8 << 20;
/// … or after this many events.
const BATCH_EVENTS: usize = 65_536;

/// Appends the events of every object that a notification names.
///
/// # Errors
/// As [`take`].
pub(super) async fn take_all(intake: &Intake, settings: &S3Settings, event: &S3Event, ack: Ack) -> Result<Tally> {
    // At the same places whenever it comes again, whatever was set meanwhile.
    let intake = intake.with_cuts(BATCH_BYTES, BATCH_EVENTS);
    let mut tally = Tally::default();
    for record in &event.records {
        tally.add(&take(&intake, settings, record, ack).await?);
    }
    Ok(tally)
}

/// Appends the events of an object. One that is gone, or that cannot be read to its end, is in quarantine.
///
/// # Errors
/// Where the store or the log may do it later.
async fn take(intake: &Intake, settings: &S3Settings, record: &S3EventRecord, ack: Ack) -> Result<Tally> {
    let made = record.event_name.as_deref().is_none_or(|name| name.contains("ObjectCreated"));
    let (bucket, object) = (record.s3.bucket.name.as_deref().unwrap_or_default(), &record.s3.object);
    if !made {
        return Ok(Tally::default());
    }
    // A notification writes a key as a form does: + is a blank.
    let key = object.key.as_deref().unwrap_or_default().replace('+', " ");
    let key = percent_decode_str(&key).decode_utf8_lossy().into_owned();
    let written = object.version_id.as_deref().or(object.e_tag.as_deref()).unwrap_or_default();
    let id = format!("s3/{bucket}/{key}@{written}");
    let poison = async |why: String| {
        let settings = intake.settings();
        let Some(raw) = refused(format!("s3://{bucket}/{key}").as_bytes(), why, &settings) else {
            return Ok(Tally::default());
        };
        let prepared = Prepared::new(&raw, BatchId::new(format!("{id} refused")), SOURCE, &settings);
        intake.append_anyhow(&prepared, ack).await
    };
    let store = Store::s3(&format!("s3://{bucket}"), settings)?;
    let path = match Path::parse(&key) {
        Ok(path) => path,
        Err(error) => return poison(format!("the object cannot be read: {error}")).await,
    };
    // What was notified is read, and not what has come to its place since.
    let options = GetOptions {
        version: object.version_id.clone(),
        if_match: object.e_tag.as_ref().filter(|_| object.version_id.is_none()).map(|tag| format!("\"{tag}\"")),
        ..GetOptions::default()
    };
    let found = match store.objects().get_opts(&path, options).await {
        Ok(found) => found,
        Err(object_store::Error::Precondition { .. }) => {
            return poison("the object was written over before it was read".to_owned()).await;
        }
        Err(object_store::Error::NotFound { .. }) => return poison("the object is gone".to_owned()).await,
        Err(source) => return Err(failed(&store, &path, source)),
    };
    let (chunks, received) = mpsc::channel(4);
    let reading = async {
        let mut stream = found.into_stream();
        while let Some(chunk) = stream.next().await {
            let broken = chunk.as_ref().err().map(ToString::to_string);
            if chunks.send(chunk.map_err(|error| io::Error::new(LINE, error))).await.is_err() || broken.is_some() {
                break;
            }
        }
        drop(chunks);
    };
    let name = format!("s3://{bucket}/{key}");
    let of_it = id.clone();
    let produce = move |outlet: &Outlet| {
        let reader = BufReader::new(decompress(Chunks { received, current: Bytes::new() }, &name));
        outlet.put_all(reader, Some(&of_it), SOURCE).map(drop)
    };
    let (tally, ()) = futures::join!(intake.take::<_, Error>(ack, |_| (), produce), reading);
    match tally {
        Err(Error::Read(error)) if error.kind() != LINE => poison(error.to_string()).await,
        Err(error @ Error::Parquet { .. }) => poison(error.to_string()).await,
        tally => tally,
    }
}

/// What is wrong with the way to an object, and not with the object.
const LINE: io::ErrorKind = io::ErrorKind::ConnectionAborted;

fn failed(store: &Store, path: &Path, source: object_store::Error) -> Error {
    Error::Log(lakebed_log::Error::Store { path: path.clone(), place: store.place().to_owned(), source })
}

/// The bytes of a stream, for a reader on a thread of its own.
struct Chunks {
    received: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.received.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let read = self.current.len().min(into.len());
        into[..read].copy_from_slice(&self.current[..read]);
        self.current.advance(read);
        Ok(read)
    }
}
