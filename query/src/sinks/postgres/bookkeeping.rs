//! The schema `lakebed` of a database: what its other tables hold.

use std::collections::{HashMap, HashSet};

use chrono::DateTime;
use roaring::RoaringTreemap;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::events;
use super::session::{Session, literal};
use crate::catalog::BRONZE;
use crate::error::Result;
use crate::hash::TableHash;
use crate::rows::{self, Rows};
use crate::sinks::change::Held;
use crate::sinks::{EventsImage, Image, TableImage, Watermark};

/// The columns of a table, each with its type as `format_type` spells it.
pub(super) type Columns = Vec<(String, String)>;

/// Makes the schemas and the table of watermarks where they are not there.
pub(super) async fn create(session: &mut Session, image: &Image) -> Result<()> {
    let mut schemas: Vec<&str> = image.tables.iter().map(|table| table.schema.as_str()).chain([BRONZE]).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let schemas: String = schemas
        .iter()
        .map(|schema| format!("CREATE SCHEMA IF NOT EXISTS {};\n", super::session::quoted(schema)))
        .collect();
    session
        .run(format!(
            "SET LOCAL client_min_messages = warning;
             CREATE SCHEMA IF NOT EXISTS lakebed;
             {schemas}
             CREATE TABLE IF NOT EXISTS lakebed.watermarks (
                 model text PRIMARY KEY, fingerprint text NOT NULL, version bigint NOT NULL, rows bigint NOT NULL,
                 content_hash text NOT NULL, as_of timestamp with time zone NOT NULL,
                 first bigint NOT NULL, next bigint NOT NULL, deleted bytea NOT NULL)"
        ))
        .await
        .map(drop)
}

/// What the database holds of each model, by name. The rows stay locked to the end of the transaction.
pub(super) async fn held(session: &mut Session) -> Result<HashMap<String, Held>> {
    let select = "SELECT model, fingerprint, version, rows, content_hash, \
                  (extract(epoch FROM as_of) * 1000000)::bigint, first, next, deleted \
                  FROM lakebed.watermarks ORDER BY model FOR UPDATE";
    let failed = session.failed();
    let mut held = HashMap::new();
    for row in session.rows(select.to_owned()).await? {
        // What cannot be read is not held, and made anew.
        if let Some(found) = held_of(&row).map_err(&failed)? {
            held.insert(found.watermark.model.clone(), found);
        }
    }
    Ok(held)
}

/// The watermarks, by model; none where nothing was published yet.
pub(super) async fn watermarks(session: &mut Session) -> Result<Vec<Watermark>> {
    let there = session.rows("SELECT to_regclass('lakebed.watermarks') IS NOT NULL".to_owned()).await?;
    let failed = session.failed();
    let there = there.first().map(|row| row.try_get::<bool, _>(0)).transpose().map_err(&failed)?;
    if there != Some(true) {
        return Ok(Vec::new());
    }
    let select = "SELECT model, fingerprint, version, rows, content_hash, \
                  (extract(epoch FROM as_of) * 1000000)::bigint, 0::bigint, 0::bigint, ''::bytea \
                  FROM lakebed.watermarks ORDER BY model";
    let mut watermarks = Vec::new();
    for row in session.rows(select.to_owned()).await? {
        watermarks.extend(watermark_of(&row).map_err(&failed)?);
    }
    Ok(watermarks)
}

fn watermark_of(row: &PgRow) -> sqlx::Result<Option<Watermark>> {
    let hash: String = row.try_get(4)?;
    let (Ok(content_hash), Some(as_of)) = (hash.parse(), DateTime::from_timestamp_micros(row.try_get(5)?)) else {
        return Ok(None);
    };
    Ok(Some(Watermark {
        model: row.try_get(0)?,
        fingerprint: row.try_get(1)?,
        version: row.try_get::<i64, _>(2)?.unsigned_abs(),
        rows: row.try_get::<i64, _>(3)?.unsigned_abs(),
        content_hash,
        as_of,
    }))
}

fn held_of(row: &PgRow) -> sqlx::Result<Option<Held>> {
    let Some(watermark) = watermark_of(row)? else { return Ok(None) };
    let addresses = row.try_get::<i64, _>(6)?.unsigned_abs()..row.try_get::<i64, _>(7)?.unsigned_abs();
    let deleted: Option<RoaringTreemap> = rows::from_bytes(row.try_get(8)?);
    Ok(deleted.map(|deleted| Held { watermark, addresses, deleted }))
}

/// Says that the tables are those of the image, and where the log stands that is one of them.
pub(super) async fn record(
    session: &mut Session,
    image: &Image,
    events: Option<(&EventsImage, TableHash)>,
) -> Result<()> {
    let log = events.map(|(events, hash)| TableImage {
        rows: Rows { addresses: 0..events.next_offset, ..Rows::default() },
        content_hash: hash,
        ..events::table(events, false)
    });
    let lines = image.tables.iter().chain(&log).map(|table| {
        let deleted: String = rows::to_bytes(&table.rows.deleted).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "({}, {}, {}, {}, {}, to_timestamp({}::numeric / 1000000), {}, {}, decode('{deleted}', 'hex'))",
            literal(&table.model()),
            literal(&table.fingerprint),
            image.version,
            table.rows.count(),
            literal(&table.content_hash.to_string()),
            image.as_of.timestamp_micros(),
            table.rows.addresses.start,
            table.rows.addresses.end,
        )
    });
    let lines = lines.collect::<Vec<_>>().join(",\n");
    session.run("DELETE FROM lakebed.watermarks".to_owned()).await?;
    session.run(format!("INSERT INTO lakebed.watermarks VALUES {lines}")).await.map(drop)
}

/// The tables and views that are there in the schemas of the image, with their columns.
pub(super) async fn tables(session: &mut Session, image: &Image) -> Result<HashMap<String, Columns>> {
    let schemas = image.tables.iter().map(|table| table.schema.as_str()).chain([BRONZE]);
    let schemas = schemas.map(literal).collect::<Vec<_>>().join(", ");
    let select = format!(
        "SELECT n.nspname || '.' || c.relname, a.attname::text, format_type(a.atttypid, a.atttypmod)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE n.nspname IN ({schemas}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.oid, a.attnum"
    );
    let failed = session.failed();
    let mut tables: HashMap<String, Columns> = HashMap::new();
    for row in session.rows(select).await? {
        let read = || -> sqlx::Result<(String, Option<String>, Option<String>)> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (model, name, kind) = read().map_err(&failed)?;
        tables.entry(model).or_default().extend(name.zip(kind));
    }
    Ok(tables)
}

/// The names of the indexes in the schemas of the image.
pub(super) async fn indexes(session: &mut Session, image: &Image) -> Result<HashSet<String>> {
    let schemas = image.tables.iter().map(|table| literal(&table.schema)).collect::<Vec<_>>().join(", ");
    let select = format!("SELECT indexname::text FROM pg_indexes WHERE schemaname IN ({schemas})");
    let failed = session.failed();
    let names = session.rows(select).await?;
    names.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>().map_err(failed)
}
