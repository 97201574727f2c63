//! A change as an event: the envelope that Debezium's connector for PostgreSQL writes, with an id, a type and a time.

use std::io::Write;

use chrono::{DateTime, SecondsFormat};
use pgwire_replication::Lsn;

use crate::values::{Kind, string};

/// A table whose rows become events.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The columns by which its rows are told apart, by their places; none where nothing does.
    pub(crate) key: Vec<usize>,
}

/// A column of it.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'v> {
    /// It is not known, and not in the event.
    LeftOut,
    Null,
    Text(&'v [u8]),
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// It was read, when the capture began.
    Read,
    Create,
    Update,
    Delete,
    /// All rows of the table went.
    Truncate,
}

impl Op {
    fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
        }
    }
}

/// Where and when something happened.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Of the commit, in microseconds since 1970.
    pub(crate) micros: i64,
    /// The transaction; none where the tables were read.
    pub(crate) transaction: Option<u32>,
    /// The commit's place in the server's log.
    pub(crate) commit: Lsn,
    /// The change's own.
    pub(crate) lsn: Lsn,
    /// Which change of the transaction it is, from 1.
    pub(crate) place: u64,
}

impl Moment {
    /// A text that is greater the later a change was committed, and within a transaction the later it was made. Changes' own places
    /// in the server's log are in no such order: transactions run beside each other.
    fn sequence(&self) -> String {
        format!("{:016X}-{:010X}", self.commit.as_u64(), self.place)
    }
}

/// A change.
#[derive(Clone, Debug)]
pub(crate) struct Event<'v> {
    /// What tells it from every other of the slot.
    pub(crate) id: String,
    pub(crate) op: Op,
    pub(crate) table: &'v Table,
    pub(crate) before: Option<&'v [Cell<'v>]>,
    pub(crate) after: Option<&'v [Cell<'v>]>,
}

/// Who writes events: what is the same in all of them.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    /// Before the id: the cluster and the slot.
    prefix: String,
    /// The beginning of every `source`.
    source: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(system: &str, slot: &str, (name, database): (&str, &str)) -> Self {
        let mut source = br#""source":{"connector":"postgresql","name":"#.to_vec();
        string(name.as_bytes(), &mut source);
        source.extend_from_slice(br#","db":"#);
        string(database.as_bytes(), &mut source);
        Self { prefix: format!("{system}/{slot}/"), source }
    }

    /// Writes an event, as one line without its end.
    pub(crate) fn write(&self, event: &Event<'_>, moment: &Moment, to: &mut Vec<u8>) {
        let Event { id, op, table, before, after } = event;
        to.extend_from_slice(br#"{"event_id":"#);
        string(format!("{}{id}", self.prefix).as_bytes(), to);
        to.extend_from_slice(br#","event_type":"#);
        string(table.name.as_bytes(), to);
        let time = DateTime::from_timestamp_micros(moment.micros).unwrap_or_default();
        // Writing into memory does not fail.
        let _ = write!(
            to,
            r#","event_time":"{}","op":"{}","#,
            time.to_rfc3339_opts(SecondsFormat::Micros, true),
            op.letter()
        );
        to.extend_from_slice(&self.source);
        to.extend_from_slice(br#","schema":"#);
        string(table.schema.as_bytes(), to);
        to.extend_from_slice(br#","table":"#);
        string(table.name.as_bytes(), to);
        let transaction = moment.transaction.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let _ = write!(
            to,
            r#","txId":{transaction},"lsn":{},"sequence":"{}","ts_ms":{},"snapshot":{}}},"before":"#,
            moment.lsn.as_u64(),
            moment.sequence(),
            moment.micros.div_euclid(1_000),
            moment.transaction.is_none()
        );
        row(table, *before, to);
        to.extend_from_slice(br#","after":"#);
        row(table, *after, to);
        to.push(b'}');
    }
}

fn row(table: &Table, cells: Option<&[Cell<'_>]>, to: &mut Vec<u8>) {
    let Some(cells) = cells else { return to.extend_from_slice(b"null") };
    let start = to.len();
    for (column, cell) in table.columns.iter().zip(cells) {
        if *cell == Cell::LeftOut {
            continue;
        }
        to.push(if to.len() == start { b'{' } else { b',' });
        string(column.name.as_bytes(), to);
        to.push(b':');
        match cell {
            Cell::Text(text) => column.kind.write(text, to),
            Cell::Null | Cell::LeftOut => to.extend_from_slice(b"null"),
        }
    }
    if to.len() == start {
        to.push(b'{');
    }
    to.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json() {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        let columns = vec![column("id", Kind::Number), column("a\"b", Kind::Text), column("big", Kind::Text)];
        let table = Table { schema: "public".to_owned(), name: "orders".to_owned(), columns, key: vec![0] };
        let after = [Cell::Text(b"7"), Cell::Null, Cell::LeftOut];
        let event = Event { id: "0/A/1".to_owned(), op: Op::Update, table: &table, before: None, after: Some(&after) };
        let (commit, lsn) = (Lsn(0x1_0000_0020), Lsn(0x1_0000_0000));
        let moment = Moment { micros: 1_767_323_045_678_901, transaction: Some(9), commit, lsn, place: 31 };
        let mut line = Vec::new();
        Writer::new("42", "s", ("shop", "db")).write(&event, &moment, &mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"event_id":"42/s/0/A/1","event_type":"orders","event_time":"2026-01-02T03:04:05.678901Z","op":"u","#,
                r#""source":{"connector":"postgresql","name":"shop","db":"db","schema":"public","table":"orders","txId":9,"#,
                r#""lsn":4294967296,"sequence":"0000000100000020-000000001F","ts_ms":1767323045678,"snapshot":false},"#,
                r#""before":null,"after":{"id":7,"a\"b":null}}"#
            )
        );
        let mut nothing = Vec::new();
        row(&table, Some(&[Cell::LeftOut; 3]), &mut nothing);
        assert_eq!(nothing, b"{}");
    }
}
