//! `bronze.events` in a database: the log as a table, to which events are only ever added.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Schema};
use lakebed_log::schema::{DOC, OFFSET};

use super::bookkeeping::Columns;
use super::sending::Sending;
use super::session::{Session, quoted, sql_name};
use super::types::{Stored, Way, stored};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::sinks::change::Held;
use crate::sinks::{EventsImage, TableImage};

/// The table.
const PLACE: &str = "bronze.events";

/// More digits than this, before the point or after it, no number of PostgreSQL's has.
const MOST_DIGITS: usize = 10_000;

/// Adds the events that the table lacks, and makes it where it is not there.
pub(super) async fn bring_up(
    session: &mut Session,
    events: &EventsImage,
    held: Option<&Held>,
    there: Option<&Columns>,
) -> Result<Stands> {
    if there.is_some() && held.is_none() {
        return Err(Error::TableTaken { table: PLACE.to_owned() });
    }
    let columns = columns(events)?;
    let held = held.filter(|held| held.watermark.fingerprint == events.table_id);
    let missing = held.and(there).and_then(|there| missing(&columns, there));
    let (first, hash, is_new) = match (held, missing) {
        (Some(held), Some(missing)) => {
            for (name, kept) in missing {
                session.run(format!("ALTER TABLE {PLACE} ADD COLUMN {} {}", quoted(name), kept.sql)).await?;
            }
            (held.addresses.end, held.watermark.content_hash, false)
        }
        // Not there, another lake's, or of other columns: changed by hand, or by a pin that no event has used.
        _ => {
            let declared = columns.iter().map(|(name, kept)| format!("{} {}", quoted(name), kept.sql));
            let declared = declared.collect::<Vec<_>>().join(", ");
            session
                .run(format!(
                    "DROP TABLE IF EXISTS {PLACE};
                     CREATE TABLE {PLACE} ({declared}, PRIMARY KEY ({OFFSET}));
                     COMMENT ON TABLE {PLACE} IS 'Every event as it came, in the order of the log.'"
                ))
                .await?;
            (0, TableHash::EMPTY, true)
        }
    };
    if first >= events.next_offset {
        return Ok(Stands { added: 0, next_offset: first, hash, is_new });
    }
    let hash = hash.add(copy(session, events, first, &columns).await?);
    Ok(Stands { added: events.next_offset - first, next_offset: events.next_offset, hash, is_new })
}

/// Where the table stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stands {
    pub(super) added: u64,
    pub(super) next_offset: u64,
    pub(super) hash: TableHash,
    /// It is another table than before, or the first, without what was granted on the one before.
    pub(super) is_new: bool,
}

/// The columns that the table lacks, if it has no others and those it has are the same.
fn missing<'c>(columns: &'c [(String, Stored)], there: &Columns) -> Option<Vec<&'c (String, Stored)>> {
    let known = |(name, kind): &(String, String)| {
        columns.iter().any(|(of, kept)| sql_name(of) == name.as_str() && kept.sql == *kind)
    };
    let lacks = |(name, _): &&(String, Stored)| there.iter().all(|(of, _)| sql_name(name) != of.as_str());
    there.iter().all(known).then(|| columns.iter().filter(lacks).collect())
}

/// The log's columns as PostgreSQL keeps them; the document is jsonb.
fn columns(events: &EventsImage) -> Result<Vec<(String, Stored)>> {
    let mut columns = table(events, true).kept(stored)?;
    for (_, kept) in columns.iter_mut().filter(|(name, _)| name == DOC) {
        *kept = Stored { sql: "jsonb".to_owned(), wire: DataType::Utf8, way: Way::Document };
    }
    Ok(columns)
}

/// The log as a table of a sink, with the document or without: jsonb does not keep its bytes.
pub(super) fn table(events: &EventsImage, document: bool) -> TableImage {
    let fields = events.columns.fields().iter().filter(|field| document || field.name() != DOC).cloned();
    TableImage {
        schema: "bronze".to_owned(),
        name: "events".to_owned(),
        description: None,
        columns: Schema::new(fields.collect::<Vec<_>>()).into(),
        fingerprint: events.table_id.clone(),
        key: Vec::new(),
        rows: Default::default(),
        content_hash: TableHash::EMPTY,
    }
}

/// A batch of events without their documents.
pub(super) fn without_documents(batch: &RecordBatch) -> Result<RecordBatch> {
    let plain = (0..batch.num_columns()).filter(|at| batch.schema_ref().field(*at).name() != DOC).collect::<Vec<_>>();
    Ok(batch.project(&plain)?)
}

/// The hash over a batch of events, without their documents.
fn hash(batch: &RecordBatch) -> Result<TableHash> {
    Ok(TableHash::of_batch(&without_documents(batch)?)?)
}

async fn copy(
    session: &mut Session,
    events: &EventsImage,
    first: u64,
    columns: &[(String, Stored)],
) -> Result<TableHash> {
    let names = columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
    let into = format!("{PLACE} ({names})");
    let mut sending = Sending::begin(session, &into, PLACE, columns, Some(hash)).await?;
    let read = sending.send(events.source.read(first..events.next_offset)).await?;
    let hash = sending.finish().await?;
    match read == events.next_offset - first {
        true => Ok(hash),
        false => {
            let reason = format!("the log gave {read} events from offset {first} on, and has more or fewer");
            Err(Error::PostgresRow { table: PLACE.to_owned(), reason })
        }
    }
}

/// Documents as jsonb takes them.
pub(super) fn documents(texts: &ArrayRef) -> ArrayRef {
    let texts: &StringArray = texts.as_string::<i32>();
    let mut kept = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for text in texts {
        kept.append_option(text.map(document));
    }
    std::sync::Arc::new(kept.finish())
}

/// A valid JSON text without what jsonb cannot hold: U+0000 and halves of surrogate pairs become U+FFFD, and a number of more
/// digits than PostgreSQL's have is a text.
pub(super) fn document(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut written, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        let (end, instead) = match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    let (length, bad) = escape(&bytes[at..]);
                    if bad {
                        written += &text[copied..at];
                        written.push('\u{FFFD}');
                        copied = at + length;
                    }
                    at += length;
                }
                at += 1;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
                let end = at + length.count();
                (end, !fits(&text[at..end]))
            }
            _ => (at + 1, false),
        };
        if instead {
            written += &text[copied..at];
            written.push('"');
            written += &text[at..end];
            written.push('"');
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    written += &text[copied..];
    Cow::Owned(written)
}

/// How long the character at the beginning of a string's rest is as it is written, and whether jsonb refuses it.
fn escape(rest: &[u8]) -> (usize, bool) {
    let unit = |at: usize| {
        let hex = rest.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(&hex[2..]).ok()?, 16).ok()
    };
    if rest[0] != b'\\' {
        return (1, false);
    }
    match (unit(0), unit(6)) {
        (None, _) => (2, false),
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, false),
        (Some(0 | 0xD800..=0xDFFF), _) => (6, true),
        (Some(_), _) => (6, false),
    }
}

/// Whether PostgreSQL's numbers are wide enough for a JSON number.
fn fits(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent = exponent
        .trim_start_matches('+')
        .parse::<i64>()
        .map_or(usize::MAX, |exponent| usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX));
    digits.len().saturating_add(exponent) <= MOST_DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_jsonb_takes() {
        for same in [r#"{"a":1.5e300,"b":"\\u0000","c":"\ud83d\ude00","d":[null,true,-0]}"#, "{}", r#"{"ä":"\"\\"}"#] {
            assert!(matches!(document(same), Cow::Borrowed(text) if text == same), "{same}");
        }
        assert_eq!(document(r#"{"a":"x\u0000y\u0000"}"#), "{\"a\":\"x\u{FFFD}y\u{FFFD}\"}");
        assert_eq!(
            document(r#"{"\ud800":"\udc00\ud83d\ude00\ud83d"}"#),
            "{\"\u{FFFD}\":\"\u{FFFD}\\ud83d\\ude00\u{FFFD}\"}"
        );
        assert_eq!(
            document(r#"[1e999999,-2.5E+20000,1e-99999999999999999999]"#),
            r#"["1e999999","-2.5E+20000","1e-99999999999999999999"]"#
        );
        assert_eq!(document(r#"{"a":"1e999999\\"}"#), r#"{"a":"1e999999\\"}"#);
    }
}
