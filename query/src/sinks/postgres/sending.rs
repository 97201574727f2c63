//! Rows into a table: a binary COPY whose batches are encoded on other threads while earlier ones are sent.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::BytesMut;
use datafusion::error::DataFusionError;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use pgpq::error::ErrorKind;
use sqlx::postgres::{PgConnection, PgCopyIn};

use super::session::Session;
use super::types::{Stored, encoder, to_wire, wire_schema};
use crate::error::{Error, Result};
use crate::hash::TableHash;

/// How many batches are encoded beside the one that is sent.
const AHEAD: usize = 2;

/// How a batch is hashed on its way, if it is.
pub(super) type Hashing = Option<fn(&RecordBatch) -> Result<TableHash>>;

/// A COPY that is under way.
pub(super) struct Sending<'s> {
    copy: PgCopyIn<&'s mut PgConnection>,
    failed: Box<dyn Fn(sqlx::Error) -> Error + Send + Sync>,
    encoding: Arc<Encoding>,
    hash: TableHash,
}

/// What each batch is encoded by.
struct Encoding {
    table: String,
    columns: Vec<(String, Stored)>,
    hashing: Hashing,
}

impl<'s> Sending<'s> {
    /// Begins a COPY of these columns of a model's table `into` a table of the database and its columns.
    ///
    /// # Errors
    /// [`Error::Postgres`], and [`Error::PostgresRow`] for columns that cannot be encoded.
    pub(super) async fn begin(
        session: &'s mut Session,
        into: &str,
        table: &str,
        columns: &[(String, Stored)],
        hashing: Hashing,
    ) -> Result<Self> {
        let failed = Box::new(session.failed());
        let encoding = Encoding { table: table.to_owned(), columns: columns.to_vec(), hashing };
        let mut header = BytesMut::new();
        encoder(columns).and_then(|mut encoder| encoder.write_header(&mut header)).map_err(|e| encoding.refused(e))?;
        let statement = format!("COPY {into} FROM STDIN (FORMAT binary)");
        let mut copy = session.connection.copy_in_raw(&statement).await.map_err(&failed)?;
        copy.send(&header[..]).await.map_err(&failed)?;
        Ok(Self { copy, failed, encoding: Arc::new(encoding), hash: TableHash::EMPTY })
    }

    /// Sends batches; gives how many rows they have.
    ///
    /// # Errors
    /// What the stream says, [`Error::Column`] and [`Error::PostgresRow`] for rows that cannot be kept, [`Error::Postgres`].
    pub(super) async fn send(&mut self, batches: BoxStream<'static, Result<RecordBatch>>) -> Result<u64> {
        let encoding = Arc::clone(&self.encoding);
        let encoded = batches.map(move |batch| {
            let encoding = Arc::clone(&encoding);
            async move {
                let batch = batch?;
                tokio::task::spawn_blocking(move || encoding.encode(&batch)).await?
            }
        });
        let mut encoded = encoded.buffered(AHEAD);
        let mut rows = 0;
        while let Some((read, hash, bytes)) = encoded.try_next().await? {
            self.copy.send(&bytes[..]).await.map_err(&self.failed)?;
            rows += read;
            self.hash = self.hash.add(hash);
        }
        Ok(rows)
    }

    /// Ends the COPY; gives the hash over all rows, if it was asked for.
    ///
    /// # Errors
    /// [`Error::Postgres`]: most of what PostgreSQL has to say of the rows comes here.
    pub(super) async fn finish(mut self) -> Result<TableHash> {
        // What every binary COPY ends with: a row of -1 columns.
        self.copy.send(&(-1i16).to_be_bytes()[..]).await.map_err(&self.failed)?;
        self.copy.finish().await.map_err(&self.failed)?;
        Ok(self.hash)
    }
}

impl Encoding {
    fn encode(&self, batch: &RecordBatch) -> Result<(u64, TableHash, BytesMut)> {
        let hash = self.hashing.map_or(Ok(TableHash::EMPTY), |hash| hash(batch))?;
        let wire = self.columns.iter().map(|(name, kept)| -> Result<ArrayRef> {
            let failed = |source| Error::Column { table: self.table.clone(), column: name.clone(), source };
            let at = batch.schema_ref().index_of(name).map_err(failed)?;
            to_wire(batch.column(at), kept).map_err(failed)
        });
        let wire = RecordBatch::try_new(wire_schema(&self.columns), wire.collect::<Result<_>>()?)
            .map_err(|error| Error::Execution(DataFusionError::from(error)))?;
        let mut encoder = encoder(&self.columns).map_err(|error| self.refused(error))?;
        let mut bytes = BytesMut::new();
        // Its header was sent at the beginning.
        encoder.write_header(&mut bytes).map_err(|error| self.refused(error))?;
        bytes.clear();
        encoder.write_batch(&wire, &mut bytes).map_err(|error| self.refused(error))?;
        Ok((batch.num_rows() as u64, hash, bytes))
    }

    fn refused(&self, error: ErrorKind) -> Error {
        Error::PostgresRow { table: self.table.clone(), reason: error.to_string() }
    }
}
