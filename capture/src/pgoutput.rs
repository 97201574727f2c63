//! The messages of PostgreSQL's output plugin `pgoutput`, protocol version 1 (PostgreSQL's documentation, "Logical Replication
//! Message Formats").

use bytes::{Buf, Bytes};

use crate::error::{Error, Result};

/// What came within a transaction. Its begin and its commit are told apart from it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// How a table looks, before its first change and after it was altered.
    Relation(Relation),
    Insert {
        table: u32,
        new: Row,
    },
    Update {
        table: u32,
        old: Option<Old>,
        new: Row,
    },
    Delete {
        table: u32,
        old: Old,
    },
    Truncate {
        tables: Vec<u32>,
    },
    /// A type's name, where a transaction comes from, and what later versions have.
    Other,
}

/// A table, as of the changes that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Its replica identity: `d`, `n`, `f` or `i`, as `pg_class.relreplident` has it.
    pub(crate) identity: u8,
    pub(crate) columns: Vec<RelationColumn>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    pub(crate) name: String,
    /// Whether it is part of the replica identity.
    pub(crate) in_identity: bool,
    pub(crate) kind: u32,
}

/// The values of a row, column by column.
pub(crate) type Row = Vec<Datum>;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datum {
    Null,
    /// It is kept out of line and did not change: it was not sent.
    Unchanged,
    Text(Bytes),
}

/// What is told of a row as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Old {
    /// All of it, and not the columns of its identity alone.
    pub(crate) whole: bool,
    pub(crate) row: Row,
}

/// Reads a message.
///
/// # Errors
/// [`Error::Stream`] for one that ends too early.
pub(crate) fn message(data: Bytes) -> Result<Message> {
    let mut from = Reader(data);
    Ok(match from.byte()? {
        b'R' => Message::Relation(from.relation()?),
        b'I' => {
            let table = from.number()?;
            from.byte()?;
            Message::Insert { table, new: from.row()? }
        }
        b'U' => {
            let table = from.number()?;
            let old = match from.byte()? {
                kind @ (b'K' | b'O') => {
                    let old = Old { whole: kind == b'O', row: from.row()? };
                    from.byte()?;
                    Some(old)
                }
                _ => None,
            };
            Message::Update { table, old, new: from.row()? }
        }
        b'D' => {
            let table = from.number()?;
            let whole = from.byte()? == b'O';
            Message::Delete { table, old: Old { whole, row: from.row()? } }
        }
        b'T' => {
            let tables = from.number()?;
            from.byte()?;
            Message::Truncate { tables: (0..tables).map(|_| from.number()).collect::<Result<_>>()? }
        }
        _ => Message::Other,
    })
}

struct Reader(Bytes);

impl Reader {
    fn has(&self, bytes: usize) -> Result<()> {
        match self.0.len() >= bytes {
            true => Ok(()),
            false => Err(Error::Stream { reason: "a message ends before its end".to_owned() }),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        self.has(1)?;
        Ok(self.0.get_u8())
    }

    fn short(&mut self) -> Result<usize> {
        self.has(2)?;
        Ok(self.0.get_u16().into())
    }

    fn number(&mut self) -> Result<u32> {
        self.has(4)?;
        Ok(self.0.get_u32())
    }

    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| Error::Stream { reason: "a name has no end".to_owned() })?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn relation(&mut self) -> Result<Relation> {
        let (id, schema, name, identity) = (self.number()?, self.text()?, self.text()?, self.byte()?);
        let columns = self.short()?;
        let mut column = || {
            let (flags, name, kind) = (self.byte()?, self.text()?, self.number()?);
            self.number()?;
            Ok(RelationColumn { name, in_identity: flags & 1 == 1, kind })
        };
        let columns = (0..columns).map(|_| column()).collect::<Result<_>>()?;
        Ok(Relation { id, schema, name, identity, columns })
    }

    fn row(&mut self) -> Result<Row> {
        let columns = self.short()?;
        (0..columns).map(|_| self.datum()).collect()
    }

    fn datum(&mut self) -> Result<Datum> {
        Ok(match self.byte()? {
            b'n' => Datum::Null,
            b'u' => Datum::Unchanged,
            b't' => {
                let bytes = self.number()? as usize;
                self.has(bytes)?;
                Datum::Text(self.0.split_to(bytes))
            }
            other => return Err(Error::Stream { reason: format!("a value is of the kind {other}") }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[&[u8]]) -> Result<Message> {
        message(Bytes::from(bytes.concat()))
    }

    fn text(text: &'static str) -> Datum {
        Datum::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn messages_are_read_as_the_documentation_has_them() {
        let relation = read(&[
            b"R\0\0\0\x07public\0orders\0d\0\x02",
            b"\x01id\0\0\0\0\x17\xff\xff\xff\xff",
            b"\0\xc3\xa4\0\0\0\0\x19\xff\xff\xff\xff",
        ]);
        let Message::Relation(relation) = relation.unwrap_or(Message::Other) else { panic!("no relation") };
        assert_eq!((relation.id, relation.schema.as_str(), relation.name.as_str()), (7, "public", "orders"));
        let columns: Vec<_> =
            relation.columns.iter().map(|column| (column.name.as_str(), column.in_identity, column.kind)).collect();
        assert_eq!(columns, [("id", true, 23), ("ä", false, 25)]);
        assert_eq!(
            read(&[b"I\0\0\0\x07N\0\x02t\0\0\0\x011n"]).unwrap(),
            Message::Insert { table: 7, new: vec![text("1"), Datum::Null] }
        );
        let old = Old { whole: false, row: vec![text("1"), Datum::Null] };
        assert_eq!(
            read(&[b"U\0\0\0\x07K\0\x02t\0\0\0\x011n", b"N\0\x02t\0\0\0\x012u"]).unwrap(),
            Message::Update { table: 7, old: Some(old.clone()), new: vec![text("2"), Datum::Unchanged] }
        );
        assert_eq!(
            read(&[b"U\0\0\0\x07N\0\x01t\0\0\0\x012"]).unwrap(),
            Message::Update { table: 7, old: None, new: vec![text("2")] }
        );
        assert_eq!(read(&[b"D\0\0\0\x07K\0\x02t\0\0\0\x011n"]).unwrap(), Message::Delete { table: 7, old });
        assert_eq!(read(&[b"T\0\0\0\x02\x01\0\0\0\x07\0\0\0\x09"]).unwrap(), Message::Truncate { tables: vec![7, 9] });
        assert_eq!(read(&[b"Y\0\0\0\x07public\0mood\0"]).unwrap(), Message::Other);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u".as_slice();
        for end in 0..whole.len() {
            assert!(message(Bytes::copy_from_slice(&whole[..end])).is_err(), "{end}");
        }
    }
}
