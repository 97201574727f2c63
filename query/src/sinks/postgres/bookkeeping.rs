//! The schema `lakebed` of a database: what its other tables hold.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use chrono::DateTime;
use roaring::RoaringTreemap;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::events::{self, Stands};
use super::session::{Session, literal, quoted, sql_name};
use crate::catalog::BRONZE;
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{self, Rows};
use crate::sinks::change::Held;
use crate::sinks::{EventsImage, Image, TableImage, Watermark};

/// The columns of a table, each with its type as `format_type` spells it.
pub(super) type Columns = Vec<(String, String)>;

/// The columns that [`watermark_of`] reads, and others follow.
const WATERMARK: &str =
    "model, fingerprint, version, rows, content_hash, (extract(epoch FROM as_of) * 1000000)::bigint";

/// Where the watermarks are.
pub(super) const SCHEMA: &str = "lakebed";

/// The schemas that are wanted and not there.
pub(super) async fn missing_schemas(session: &mut Session, image: &Image, events: bool) -> Result<Vec<String>> {
    let mut schemas: Vec<&str> = image.tables.iter().map(|table| table.schema.as_str()).collect();
    schemas.extend(events.then_some(BRONZE));
    schemas.push(SCHEMA);
    schemas.sort_unstable();
    schemas.dedup();
    let names = schemas.iter().map(|schema| literal(schema)).collect::<Vec<_>>().join(", ");
    // Asked for first: to make a schema if it is not there needs the right to make one, even where it is.
    let there = texts(session, format!("SELECT nspname::text FROM pg_namespace WHERE nspname IN ({names})")).await?;
    Ok(schemas.into_iter().filter(|schema| !there.contains(*schema)).map(str::to_owned).collect())
}

/// Makes the schemas, and the table of watermarks where it is not there.
pub(super) async fn create(session: &mut Session, missing: &[String]) -> Result<()> {
    for schema in missing {
        session.run(format!("CREATE SCHEMA {}", quoted(schema))).await?;
    }
    session
        .run(
            "SET LOCAL client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS lakebed.watermarks (
                 model text PRIMARY KEY, fingerprint text NOT NULL, version bigint NOT NULL, rows bigint NOT NULL,
                 content_hash text NOT NULL, as_of timestamp with time zone NOT NULL,
                 first bigint NOT NULL, next bigint NOT NULL, deleted bytea NOT NULL, lake text NOT NULL)"
                .to_owned(),
        )
        .await
        .map(drop)
}

/// The first column of a SELECT.
async fn texts(session: &mut Session, select: String) -> Result<HashSet<String>> {
    let failed = session.failed();
    let rows = session.rows(select).await?;
    rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>().map_err(failed)
}

/// Makes sure that the tables are this lake's.
///
/// # Errors
/// [`Error::DatabaseTaken`] where another lake's are there.
pub(super) async fn check_owner(session: &mut Session, image: &Image, server: &str) -> Result<()> {
    let lakes = texts(session, "SELECT DISTINCT lake FROM lakebed.watermarks".to_owned()).await?;
    match lakes.iter().any(|lake| *lake != image.lake) {
        true => Err(Error::DatabaseTaken { server: server.to_owned() }),
        false => Ok(()),
    }
}

/// What the database holds of each model, by name.
pub(super) async fn held(session: &mut Session) -> Result<HashMap<String, Held>> {
    let select = format!("SELECT {WATERMARK}, first, next, deleted FROM lakebed.watermarks ORDER BY model");
    let failed = session.failed();
    let mut held = HashMap::new();
    for row in session.rows(select).await? {
        let found = held_of(&row).map_err(&failed)?;
        held.insert(found.watermark.model.clone(), found);
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
    let select = format!("SELECT {WATERMARK} FROM lakebed.watermarks ORDER BY model");
    let mut watermarks = Vec::new();
    for row in session.rows(select).await? {
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

/// What a row says that is held. What cannot be read is a table of ours that is made anew.
fn held_of(row: &PgRow) -> sqlx::Result<Held> {
    let model: String = row.try_get(0)?;
    let addresses = row.try_get::<i64, _>(6)?.unsigned_abs()..row.try_get::<i64, _>(7)?.unsigned_abs();
    let deleted: Option<RoaringTreemap> = rows::from_bytes(row.try_get(8)?);
    Ok(match (watermark_of(row)?, deleted) {
        (Some(watermark), Some(deleted)) => Held { watermark, addresses, deleted },
        _ => Held {
            watermark: Watermark {
                model,
                fingerprint: String::new(),
                version: 0,
                rows: 0,
                content_hash: TableHash::EMPTY,
                as_of: DateTime::UNIX_EPOCH,
            },
            addresses: 0..0,
            deleted: RoaringTreemap::new(),
        },
    })
}

/// Says that the tables are those of the image, and where the log stands that is one of them. Of a table that has not
/// changed, the rows that are gone are not written again.
pub(super) async fn record(
    session: &mut Session,
    image: &Image,
    unchanged: &BTreeSet<String>,
    log: Option<(&EventsImage, Stands)>,
) -> Result<()> {
    let log = log.map(|(events, stands)| TableImage {
        rows: Rows { addresses: 0..stands.next_offset, ..Rows::default() },
        content_hash: stands.hash,
        ..events::table(events, false)
    });
    let (version, as_of) =
        (image.version, format!("to_timestamp({}::numeric / 1000000)", image.as_of.timestamp_micros()));
    let lines = image.tables.iter().filter(|table| !unchanged.contains(&table.model())).chain(&log).map(|table| {
        let mut deleted = String::new();
        for byte in rows::to_bytes(&table.rows.deleted) {
            // Writing into a text does not fail.
            let _ = write!(deleted, "{byte:02x}");
        }
        format!(
            "({}, {}, {version}, {}, {}, {as_of}, {}, {}, decode('{deleted}', 'hex'), {})",
            literal(&table.model()),
            literal(&table.fingerprint),
            table.rows.count(),
            literal(&table.content_hash.to_string()),
            table.rows.addresses.start,
            table.rows.addresses.end,
            literal(&image.lake),
        )
    });
    let lines = lines.collect::<Vec<_>>();
    let same = unchanged.iter().map(|model| literal(model)).chain(["''".to_owned()]).collect::<Vec<_>>().join(", ");
    session
        .run(format!(
            "UPDATE lakebed.watermarks SET version = {version}, as_of = {as_of} WHERE model IN ({same});
             DELETE FROM lakebed.watermarks WHERE model NOT IN ({same})"
        ))
        .await?;
    if !lines.is_empty() {
        session.run(format!("INSERT INTO lakebed.watermarks VALUES {}", lines.join(",\n"))).await?;
    }
    Ok(())
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
    texts(session, format!("SELECT indexname::text FROM pg_indexes WHERE schemaname IN ({schemas})")).await
}

/// The comments on tables in the schemas of the image.
pub(super) async fn comments(session: &mut Session, image: &Image) -> Result<HashMap<String, String>> {
    let schemas = image.tables.iter().map(|table| literal(&table.schema)).collect::<Vec<_>>().join(", ");
    let select = format!(
        "SELECT n.nspname || '.' || c.relname, d.description FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
         WHERE n.nspname IN ({schemas})"
    );
    let failed = session.failed();
    let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
    session.rows(select).await?.iter().map(read).collect::<sqlx::Result<_>>().map_err(failed)
}

/// Makes sure that nobody else keeps tables where those of these models would be, before anything is published.
///
/// # Errors
/// [`Error::DatabaseTaken`] for tables of another lake, where this one's id is known; [`Error::TableTaken`] for a table
/// under a model's name that no lake keeps.
pub(super) async fn check_free(
    session: &mut Session,
    (lake, models): (Option<&str>, &[String]),
    server: &str,
) -> Result<()> {
    let watermarks = "SELECT relname::text FROM pg_class WHERE oid = to_regclass('lakebed.watermarks')".to_owned();
    let (mut lakes, mut kept) = (HashSet::new(), HashSet::new());
    if !texts(session, watermarks).await?.is_empty() {
        lakes = texts(session, "SELECT DISTINCT lake FROM lakebed.watermarks".to_owned()).await?;
        kept = texts(session, "SELECT model FROM lakebed.watermarks".to_owned()).await?;
    }
    if lake.is_some_and(|lake| lakes.iter().any(|other| other != lake)) {
        return Err(Error::DatabaseTaken { server: server.to_owned() });
    }
    let visible = |model: &String| match model.split_once('.') {
        Some((schema, name)) => format!("{schema}.{}", sql_name(name)),
        None => model.clone(),
    };
    let names = models.iter().map(|model| literal(&visible(model))).chain(["''".to_owned()]).collect::<Vec<_>>();
    let there = format!(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname || '.' || c.relname IN ({}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
        names.join(", ")
    );
    let there = texts(session, there).await?;
    match models.iter().find(|model| there.contains(&visible(model)) && !kept.contains(*model)) {
        Some(model) => Err(Error::TableTaken { table: model.clone() }),
        None => Ok(()),
    }
}
