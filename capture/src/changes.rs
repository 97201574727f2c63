//! The changes of a slot, transaction by transaction, gathered into batches of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pgwire_replication::{Lsn, PgWireError, ReplicationClient, ReplicationEvent};

use crate::Step;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::event::{Cell, Column, Event, Moment, Op, Table, Writer};
use crate::lane::{Lane, Stretch};
use crate::pgoutput::{self, Datum, Message, Old, Relation, Row};
use crate::position::{Part, Position};
use crate::source::Source;

/// Transactions that come at once share a batch: it ends when nothing came for so long, …
const QUIET: Duration = Duration::from_millis(100);

/// … or so long after its first event.
const LONGEST: Duration = Duration::from_secs(1);

/// Where nothing comes for us, the lane is moved after so many bytes of the server's log that others wrote, so that the server
/// need not keep them: a segment of it.
const IDLE: u64 = 16 << 20;

/// From 1970 to 2000, where the server's time begins, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// Follows a slot.
pub(crate) struct Changes<'c, 'i> {
    source: &'c Source,
    writer: &'c Writer,
    catalog: &'c mut Catalog,
    lane: &'c mut Lane<'i>,
    client: ReplicationClient,
    /// Tables by their ids; `None` for one that is not captured.
    tables: HashMap<u32, Option<Arc<Table>>>,
    /// Every transaction that ends here or before has come.
    reached: Lsn,
    open: Option<Transaction>,
    stretch: Stretch,
    /// What the server was told last that it need not keep, if it was told here.
    told: Option<Lsn>,
    /// The server asks how far we are: it may not end before all that it sent is confirmed.
    is_asked: bool,
}

/// A transaction that has not come to its end.
struct Transaction {
    id: u32,
    commit: Lsn,
    micros: i64,
    /// So many of its changes have come.
    changes: u64,
    /// So many of them are in the log already.
    known: u64,
}

impl<'c, 'i> Changes<'c, 'i> {
    /// Begins where the lane stands.
    pub(crate) async fn begin(
        (source, writer): (&'c Source, &'c Writer),
        catalog: &'c mut Catalog,
        lane: &'c mut Lane<'i>,
    ) -> Result<Self> {
        let reached = lane.stands.as_ref().map_or(Lsn(0), Position::lsn);
        let failed = failed_at(source);
        let mut client = ReplicationClient::connect(source.replication(reached).await?).await.map_err(&failed)?;
        client.wait_started().await.map_err(failed)?;
        let (tables, stretch) = (HashMap::new(), Stretch::default());
        let (open, told, is_asked) = (None, None, false);
        Ok(Self { source, writer, catalog, lane, client, tables, reached, open, stretch, told, is_asked })
    }

    /// Every transaction that ends here or before has come.
    pub(crate) fn reached(&self) -> Lsn {
        self.reached
    }

    /// Appends changes as they come: without end, or up to a place in the server's log.
    pub(crate) async fn follow(&mut self, until: Option<Lsn>, report: &mut (dyn FnMut(Step) + Send)) -> Result<()> {
        let failed = failed_at(self.source);
        let mut came = Instant::now();
        loop {
            if until.is_some_and(|until| self.open.is_none() && self.reached >= until) {
                return self.end(report).await;
            }
            let begun = self.stretch.begun.filter(|_| self.open.is_none());
            let due = begun.map(|begun| (begun + LONGEST).min(came + QUIET));
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = self.client.recv() => event.map_err(&failed)?,
                () = wait => {
                    self.append(report).await?;
                    continue;
                }
            };
            let Some(event) = event else {
                let gone = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ended the connection");
                return Err(failed(PgWireError::from(gone)));
            };
            if !matches!(event, ReplicationEvent::KeepAlive { .. }) {
                came = Instant::now();
            }
            self.take(event).await?;
            let is_due = begun.is_some_and(|begun| begun.elapsed() >= LONGEST) && self.open.is_none();
            let is_idle = self.open.is_none() && self.stretch.is_empty() && self.is_behind();
            self.is_asked = false;
            if is_due || is_idle || self.lane.is_full(&self.stretch) {
                self.append(report).await?;
            }
        }
    }

    /// Whether the server keeps much that is none of ours, or asks for the rest.
    fn is_behind(&self) -> bool {
        let stands = self.lane.stands.as_ref().map_or(0, |position| position.lsn().as_u64());
        let behind = self.reached.as_u64().saturating_sub(stands);
        behind >= IDLE || behind > 0 && self.is_asked
    }

    /// Whether the log has a transaction in part that has not come again yet: nothing may go past it.
    fn waits_for_the_rest(&self) -> bool {
        let part = match &self.lane.stands {
            Some(Position::Changes { part, .. }) => *part,
            _ => None,
        };
        part.is_some_and(|part| part.commit >= self.reached)
    }

    async fn append(&mut self, report: &mut (dyn FnMut(Step) + Send)) -> Result<()> {
        let part = self.open.as_ref().filter(|open| open.changes > 0);
        let part = part.map(|open| Part { commit: open.commit, changes: open.changes });
        let tally = self.lane.append(&mut self.stretch, Position::Changes { lsn: self.reached, part }).await?;
        // What is in the log the server need not keep.
        self.client.update_applied_lsn(self.reached);
        self.told = Some(self.reached);
        report(Step::Appended(tally));
        Ok(())
    }

    /// Appends what is left, and gives the server a moment to hear of it.
    async fn end(&mut self, report: &mut (dyn FnMut(Step) + Send)) -> Result<()> {
        if !self.stretch.is_empty() {
            self.append(report).await?;
        }
        let metrics = self.client.metrics();
        for _ in 0..40 {
            if self.told.is_none_or(|told| metrics.last_applied_lsn() >= told) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.client.stop();
        Ok(())
    }

    async fn take(&mut self, event: ReplicationEvent) -> Result<()> {
        match event {
            ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
                let known = match &self.lane.stands {
                    Some(Position::Changes { part: Some(part), .. }) if part.commit == final_lsn => part.changes,
                    _ => 0,
                };
                let micros = commit_time_micros.saturating_add(EPOCH);
                self.open = Some(Transaction { id: xid, commit: final_lsn, micros, changes: 0, known });
            }
            ReplicationEvent::Commit { end_lsn, .. } => {
                self.reached = self.reached.max(end_lsn);
                self.open = None;
            }
            // What was committed before it has come.
            ReplicationEvent::KeepAlive { wal_end, reply_requested, .. }
                if self.open.is_none() && !self.waits_for_the_rest() =>
            {
                self.reached = self.reached.max(wal_end);
                self.is_asked = reply_requested;
            }
            ReplicationEvent::XLogData { wal_start, data, .. } => self.message(wal_start, data).await?,
            _ => {}
        }
        Ok(())
    }

    async fn message(&mut self, lsn: Lsn, data: Bytes) -> Result<()> {
        let message = pgoutput::message(data)?;
        if let Message::Relation(relation) = message {
            let taken = self.source.takes(&relation.schema, &relation.name);
            let (id, table) = (relation.id, if taken { Some(Arc::new(self.table(relation).await?)) } else { None });
            self.tables.insert(id, table);
            return Ok(());
        }
        if message == Message::Other {
            return Ok(());
        }
        let Some(open) = &mut self.open else {
            return Err(Error::Stream { reason: "a change is in no transaction".to_owned() });
        };
        open.changes += 1;
        if open.changes <= open.known {
            return Ok(());
        }
        let Transaction { id, commit, micros, changes: place, .. } = *open;
        let moment = Moment { micros, transaction: Some(id), commit, lsn, place };
        self.write(&message, &moment)
    }

    /// Writes the events of a change: one, or two where a row gets another key, or one a table that is emptied.
    fn write(&mut self, message: &Message, moment: &Moment) -> Result<()> {
        let id = format!("{}/{}", moment.commit, moment.place);
        let Self { tables, writer, stretch, .. } = self;
        let table_of = |id: &u32| {
            let unknown = || Error::Stream { reason: format!("a change is of the table {id}, which was not told of") };
            tables.get(id).ok_or_else(unknown).map(Option::as_deref)
        };
        let mut put = |event: Event<'_>| {
            writer.write(&event, moment, &mut stretch.text);
            stretch.end();
        };
        match message {
            Message::Insert { table, new } => {
                let Some(table) = table_of(table)? else { return Ok(()) };
                put(Event { id, op: Op::Create, table, before: None, after: Some(&cells(new, None)) });
            }
            Message::Update { table, old, new } => {
                let Some(table) = table_of(table)? else { return Ok(()) };
                let before = old.as_ref().map(|old| before(table, old));
                let after = cells(new, old.as_ref());
                if before.as_ref().is_some_and(|before| has_another_key(table, before, &after)) {
                    put(Event { id: id.clone(), op: Op::Delete, table, before: before.as_deref(), after: None });
                    put(Event { id: format!("{id}.1"), op: Op::Create, table, before: None, after: Some(&after) });
                } else {
                    put(Event { id, op: Op::Update, table, before: before.as_deref(), after: Some(&after) });
                }
            }
            Message::Delete { table, old } => {
                let Some(table) = table_of(table)? else { return Ok(()) };
                put(Event { id, op: Op::Delete, table, before: Some(&before(table, old)), after: None });
            }
            Message::Truncate { tables } => {
                for (number, table) in tables.iter().enumerate() {
                    let Some(table) = table_of(table)? else { continue };
                    let id = if number == 0 { id.clone() } else { format!("{id}.{number}") };
                    put(Event { id, op: Op::Truncate, table, before: None, after: None });
                }
            }
            Message::Relation(_) | Message::Other => {}
        }
        Ok(())
    }

    async fn table(&mut self, relation: Relation) -> Result<Table> {
        // Where the whole row is its identity, every column is said to be part of it.
        let key = match relation.identity {
            b'f' => self.catalog.primary_key(relation.id).await?,
            _ => {
                relation.columns.iter().filter(|column| column.in_identity).map(|column| column.name.clone()).collect()
            }
        };
        let places = relation.columns.iter().enumerate();
        let key = places.filter(|(_, column)| key.contains(&column.name)).map(|(place, _)| place).collect();
        let mut columns = Vec::with_capacity(relation.columns.len());
        for column in relation.columns {
            columns.push(Column { kind: self.catalog.kind(column.kind).await?, name: column.name });
        }
        Ok(Table { schema: relation.schema, name: relation.name, columns, key })
    }
}

fn failed_at(source: &Source) -> impl Fn(PgWireError) -> Error + use<> {
    let (server, slot) = (Arc::clone(&source.server), source.slot.clone());
    move |error| failed(&server, &slot, error)
}

/// What went wrong on the replication connection; a slot that another reads is a case of its own.
pub(crate) fn failed(server: &Arc<str>, slot: &str, source: PgWireError) -> Error {
    let error = Error::Replication { server: Arc::clone(server), source };
    match error.code().as_deref() {
        Some("55006") => Error::SlotInUse { slot: slot.to_owned() },
        _ => error,
    }
}

/// A row as it is. A value that did not change and was not sent is that of the old row, where that is known, and else left out.
fn cells<'v>(new: &'v Row, old: Option<&'v Old>) -> Vec<Cell<'v>> {
    let cell = |(place, datum): (usize, &'v Datum)| match datum {
        Datum::Null => Cell::Null,
        Datum::Text(text) => Cell::Text(text),
        Datum::Unchanged => match old.and_then(|old| old.row.get(place)) {
            Some(Datum::Text(text)) => Cell::Text(text),
            _ => Cell::LeftOut,
        },
    };
    new.iter().enumerate().map(cell).collect()
}

/// A row as it was: all of it, or its key.
fn before<'v>(table: &Table, old: &'v Old) -> Vec<Cell<'v>> {
    let cell = |(place, datum): (usize, &'v Datum)| match datum {
        Datum::Text(text) => Cell::Text(text),
        Datum::Null if old.whole || table.key.contains(&place) => Cell::Null,
        Datum::Null | Datum::Unchanged => Cell::LeftOut,
    };
    old.row.iter().enumerate().map(cell).collect()
}

fn has_another_key(table: &Table, before: &[Cell<'_>], after: &[Cell<'_>]) -> bool {
    table.key.iter().any(|&place| before.get(place) != after.get(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Datum {
        Datum::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn what_was_not_sent_is_of_the_old_row_or_left_out() {
        let column = |name: &str| Column { name: name.to_owned(), kind: crate::values::Kind::Text };
        let columns = ["id", "note", "big"].map(column).to_vec();
        let table = Table { schema: "public".to_owned(), name: "t".to_owned(), columns, key: vec![0] };
        let new = vec![text("1"), Datum::Null, Datum::Unchanged];
        assert_eq!(cells(&new, None), [Cell::Text(b"1"), Cell::Null, Cell::LeftOut]);
        let whole = Old { whole: true, row: vec![text("1"), Datum::Null, text("long")] };
        assert_eq!(cells(&new, Some(&whole))[2], Cell::Text(b"long"));
        assert_eq!(before(&table, &whole), [Cell::Text(b"1"), Cell::Null, Cell::Text(b"long")]);
        let of_key = Old { whole: false, row: vec![text("2"), Datum::Null, Datum::Null] };
        assert_eq!(cells(&new, Some(&of_key))[2], Cell::LeftOut);
        assert_eq!(before(&table, &of_key), [Cell::Text(b"2"), Cell::LeftOut, Cell::LeftOut]);
        assert!(has_another_key(&table, &before(&table, &of_key), &cells(&new, None)));
        assert!(!has_another_key(&table, &before(&table, &whole), &cells(&new, None)));
    }
}
