//! The first reading: the tables as they are where the slot begins, in the order of their keys, so that one that was stopped goes on
//! behind the last row that is in the log.
//!
//! A reading that goes on, or begins with a slot that was there, sees the tables as they are now, later than where the slot begins.
//! That is right in the end: every change since then comes from the slot, with a greater sequence than any row that was read.

use futures::StreamExt;
use pgwire_replication::Lsn;

use crate::Step;
use crate::catalog::{Catalog, Published, literal, quoted};
use crate::error::Result;
use crate::event::{Cell, Column, Event, Moment, Op, Table, Writer};
use crate::lane::{Lane, Stretch};
use crate::position::Position;
use crate::source::Source;

/// Reads what is missing of the tables of a capture, and appends it. `exported` is the server's snapshot where the slot begins, while
/// it has one. `begun` is told once it is not needed any more.
pub(crate) async fn read(
    (source, writer): (&Source, &Writer),
    lane: &mut Lane<'_>,
    (lsn, exported): (Lsn, Option<String>),
    report: &mut (dyn FnMut(Step) + Send),
    begun: impl FnOnce() + Send,
) -> Result<()> {
    let mut catalog = Catalog::open(source).await?;
    catalog.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    if let Some(snapshot) = exported {
        catalog.run(&format!("SET TRANSACTION SNAPSHOT {}", literal(&snapshot))).await?;
    }
    let micros = catalog.now().await?;
    let tables = catalog.tables(source).await?;
    begun();
    report(Step::Reads { tables: tables.len() });
    let last = match &lane.stands {
        Some(Position::Snapshot { last, .. }) => last.clone(),
        _ => Vec::new(),
    };
    let moment = Moment { micros, transaction: None, commit: lsn, lsn, place: 0 };
    let mut reading = Reading { writer, lane, lsn, moment, stretch: Stretch::default(), report };
    if reading.lane.stands.is_none() {
        reading.empty(&tables).await?;
    }
    let mut after = last.get(2..).filter(|key| !key.is_empty()).map(<[String]>::to_vec);
    for published in tables {
        let place = [published.schema.as_str(), published.table.as_str()];
        if last.len() > 2 && place < [last[0].as_str(), last[1].as_str()] {
            continue;
        }
        let goes_on = last.len() > 2 && place == [last[0].as_str(), last[1].as_str()];
        let after = if goes_on { after.take() } else { None };
        reading.table(&mut catalog, &published, after).await?;
    }
    reading.append(Position::at(lsn)).await?;
    catalog.run("COMMIT").await
}

struct Reading<'r, 'l> {
    writer: &'r Writer,
    lane: &'r mut Lane<'l>,
    lsn: Lsn,
    moment: Moment,
    stretch: Stretch,
    report: &'r mut (dyn FnMut(Step) + Send),
}

impl Reading<'_, '_> {
    async fn append(&mut self, to: Position) -> Result<()> {
        let tally = self.lane.append(&mut self.stretch, to).await?;
        (self.report)(Step::Appended(tally));
        Ok(())
    }

    /// Says of each table that it begins anew: what an earlier slot told of its rows may have gone since.
    async fn empty(&mut self, tables: &[Published]) -> Result<()> {
        // Just before the rows that are read, and after all that came before.
        let moment = Moment { commit: Lsn(self.lsn.as_u64().saturating_sub(1)), ..self.moment.clone() };
        for Published { schema, table, .. } in tables {
            let table = Table { schema: schema.clone(), name: table.clone(), columns: Vec::new(), key: Vec::new() };
            let id = format!("{}/snapshot/{}.{}", self.lsn, table.schema, table.name);
            let event = Event { id, op: Op::Truncate, table: &table, before: None, after: None };
            self.writer.write(&event, &moment, &mut self.stretch.text);
            self.stretch.end();
        }
        self.append(Position::Snapshot { lsn: self.lsn, last: Vec::new() }).await
    }

    /// Reads the rows of a table behind a key.
    async fn table(&mut self, catalog: &mut Catalog, published: &Published, after: Option<Vec<String>>) -> Result<()> {
        let mut columns = Vec::with_capacity(published.columns.len());
        for column in &published.columns {
            columns.push(Column { name: column.name.clone(), kind: catalog.kind(column.kind).await? });
        }
        let place_of = |name: &String| published.columns.iter().position(|column| column.name == *name);
        let key: Option<Vec<usize>> = published.key.iter().map(place_of).collect();
        // Without a key, rows are told apart by where they lie.
        let key = key.filter(|key| !key.is_empty()).unwrap_or_else(|| vec![columns.len(), columns.len() + 1]);
        let table = Table { schema: published.schema.clone(), name: published.table.clone(), columns, key };
        let failed = catalog.failed();
        let statement = select(published, &table, after.as_deref());
        let mut rows = catalog.connection.copy_out_raw(&statement).await.map_err(&failed)?;
        let mut rest = Vec::new();
        while let Some(chunk) = rows.next().await {
            rest.extend_from_slice(&chunk.map_err(&failed)?);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = rest.drain(..whole).collect();
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                self.row(&table, line.strip_suffix(b"\n").unwrap_or(line)).await?;
            }
        }
        Ok(())
    }

    async fn row(&mut self, table: &Table, line: &[u8]) -> Result<()> {
        let fields: Vec<Option<Vec<u8>>> = line.split(|byte| *byte == b'\t').map(unescaped).collect();
        let cells: Vec<Cell<'_>> = fields.iter().map(|field| field.as_deref().map_or(Cell::Null, Cell::Text)).collect();
        let text = |at: &usize| {
            let field = fields.get(*at).and_then(Option::as_deref).unwrap_or_default();
            String::from_utf8_lossy(field).into_owned()
        };
        let key: Vec<String> = table.key.iter().map(text).collect();
        let id =
            format!("{}/snapshot/{}.{}/{}", self.lsn, table.schema, table.name, serde_json::Value::from(key.clone()));
        // What comes behind the columns are places of rows.
        let event = Event { id, op: Op::Read, table, before: None, after: Some(&cells) };
        self.writer.write(&event, &self.moment, &mut self.stretch.text);
        self.stretch.end();
        if self.lane.is_full(&self.stretch) {
            let last = [table.schema.clone(), table.name.clone()].into_iter().chain(key).collect();
            self.append(Position::Snapshot { lsn: self.lsn, last }).await?;
        }
        Ok(())
    }
}

/// The rows of a table in the order of their key, behind one.
fn select(published: &Published, table: &Table, after: Option<&[String]>) -> String {
    let mut names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    if table.key.iter().any(|place| *place >= names.len()) {
        names.extend(["tableoid", "ctid"].map(str::to_owned));
    }
    let key = table.key.iter().map(|place| names[*place].as_str()).collect::<Vec<_>>().join(", ");
    let behind = after.map(|after| {
        let after = after.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
        format!("({key}) > ({after})")
    });
    let conditions: Vec<String> = published.filter.iter().map(|filter| format!("({filter})")).chain(behind).collect();
    let conditions = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    // The tables that inherit from one are published by themselves.
    let only = if published.relation == "p" { "" } else { "ONLY " };
    let (schema, name) = (quoted(&published.schema), quoted(&published.table));
    format!("COPY (SELECT {} FROM {only}{schema}.{name}{conditions} ORDER BY {key}) TO STDOUT", names.join(", "))
}

/// A field of COPY's text format; `None` for a null.
fn unescaped(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let (mut text, mut bytes) = (Vec::with_capacity(field.len()), field.iter());
    while let Some(&byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(&other) => other,
                None => b'\\',
            },
            byte => byte,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PublishedColumn;
    use crate::values::Kind;

    fn table(key: &[usize]) -> Table {
        let column = |name: &str| Column { name: name.to_owned(), kind: Kind::Text };
        let columns = ["a", "b\"c"].map(column).to_vec();
        Table { schema: "s".to_owned(), name: "t".to_owned(), columns, key: key.to_vec() }
    }

    #[test]
    fn a_reading_goes_on_behind_the_last_key() {
        let column = |name: &str| PublishedColumn { name: name.to_owned(), kind: 25 };
        let mut published = Published {
            schema: "s".to_owned(),
            table: "t".to_owned(),
            relation: "r".to_owned(),
            columns: ["a", "b\"c"].map(column).to_vec(),
            key: vec!["b\"c".to_owned(), "a".to_owned()],
            filter: None,
        };
        assert_eq!(
            select(&published, &table(&[1, 0]), Some(&["x'y".to_owned(), "1".to_owned()])),
            r#"COPY (SELECT "a", "b""c" FROM ONLY "s"."t" WHERE ("b""c", "a") > (E'x''y', E'1') ORDER BY "b""c", "a") TO STDOUT"#
        );
        published.relation = "p".to_owned();
        published.filter = Some("a > 1".to_owned());
        assert_eq!(
            select(&published, &table(&[2, 3]), None),
            r#"COPY (SELECT "a", "b""c", tableoid, ctid FROM "s"."t" WHERE (a > 1) ORDER BY tableoid, ctid) TO STDOUT"#
        );
    }

    #[test]
    fn fields_are_as_they_were_before_copy_escaped_them() {
        let text = |field: &str| unescaped(field.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(text("\\N"), None);
        assert_eq!(text("\\\\N").as_deref(), Some("\\N"));
        assert_eq!(text("a\\tb\\nc\\\\d\\r\\b\\f\\v").as_deref(), Some("a\tb\nc\\d\r\u{8}\u{c}\u{b}"));
        assert_eq!(text("").as_deref(), Some(""));
    }
}
