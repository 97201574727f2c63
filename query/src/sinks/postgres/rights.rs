//! The project's policies as PostgreSQL has them: roles, grants and row security, in the transaction that brings the tables up.
//!
//! They are written where they or the tables have changed, and from nothing: what was written before is taken back first, from the
//! roles that were written, and from nobody else. PostgreSQL has no masks. A column with one is granted to no role of whose
//! members one may be masked.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::LOG;
use super::session::{Session, literal, quoted};
use super::tables::qualified;
use crate::error::{Error, Result};
use crate::models::TableName;
use crate::policies::{Role, Rules};
use crate::sinks::{EventsImage, Image};

/// The columns of each table that is published, as the project names them.
type Published = BTreeMap<TableName, Vec<String>>;

/// What says that a row policy is ours.
const OURS: &str = "of lakebed, from the files of the project";

/// Between a role and its member: in no name that people write.
const OF: char = '\u{1f}';

/// Whom PostgreSQL knows without a role.
const PUBLIC: &str = "PUBLIC";

/// Writes what the policies say, where it is not written, and says whether anything was. Tables that were made `anew` have lost it,
/// and have what is granted by default instead.
///
/// # Errors
/// [`Error::Postgres`] for whatever the server says, [`Error::PostgresRole`] for a role that is not there and cannot be made, and
/// [`Error::Policy`] for a column that is not there.
pub(super) async fn bring_up(
    session: &mut Session,
    rules: Option<&Rules>,
    (image, events): (&Image, Option<&EventsImage>),
    anew: &BTreeSet<String>,
    server: &str,
) -> Result<bool> {
    let published = published(image, events);
    if let Some(rules) = rules {
        rules.check_columns(|table| published.get(table).cloned())?;
    }
    let wanted = rules.map(|rules| statements(rules, &published)).unwrap_or_default();
    let said = wanted.text();
    let written = written(session).await?;
    let stands = match &written {
        None => rules.is_none(),
        Some(written) => rules.is_some() && written.said == said,
    };
    if stands {
        // Others are not touched: a statement about a table waits for whoever reads it.
        let fresh: Vec<&TableName> = published.keys().filter(|table| anew.contains(&table.to_string())).collect();
        if rules.is_some() && !fresh.is_empty() {
            let there = there(session, wanted.roles.iter().map(String::as_str)).await?;
            revoke(session, &fresh, &losing(&there)).await?;
        }
        let lost =
            wanted.statements.iter().filter(|(table, _)| table.as_ref().is_some_and(|table| anew.contains(table)));
        for (_, statement) in lost {
            session.run(statement.clone()).await?;
        }
        return Ok(!anew.is_empty());
    }
    take_back(session, written.as_ref(), &wanted.roles, &published).await?;
    make_roles(session, &wanted.roles, server).await?;
    for (_, statement) in &wanted.statements {
        session.run(statement.clone()).await?;
    }
    let record = match rules {
        None => "DROP TABLE IF EXISTS lakebed.rights".to_owned(),
        Some(_) => format!(
            "CREATE TABLE IF NOT EXISTS lakebed.rights (said text NOT NULL, roles text[] NOT NULL, members text[] NOT NULL);
             DELETE FROM lakebed.rights; INSERT INTO lakebed.rights VALUES ({}, {}, {})",
            literal(&said),
            array(wanted.roles.iter().map(String::as_str)),
            array(wanted.members.iter().map(String::as_str)),
        ),
    };
    session.run(record).await?;
    Ok(true)
}

/// What is to be written.
#[derive(Default)]
struct Wanted {
    roles: BTreeSet<String>,
    /// A role, [`OF`], and its member.
    members: BTreeSet<String>,
    /// Each with the table that it is about, if it is about one.
    statements: Vec<(Option<String>, String)>,
}

impl Wanted {
    fn text(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (_, statement) in &self.statements {
            hasher.update(&statement.len().to_le_bytes()).update(statement.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// What was written before.
struct Before {
    said: String,
    roles: Vec<String>,
    members: Vec<String>,
}

fn published(image: &Image, events: Option<&EventsImage>) -> Published {
    let names =
        |columns: &arrow::datatypes::SchemaRef| columns.fields().iter().map(|field| field.name().clone()).collect();
    let tables = image
        .tables
        .iter()
        .map(|table| (TableName { schema: table.schema.clone(), name: table.name.clone() }, names(&table.columns)));
    let log = events.and_then(|events| {
        let (schema, name) = LOG.split_once('.')?;
        Some((TableName { schema: schema.to_owned(), name: name.to_owned() }, names(&events.columns)))
    });
    tables.chain(log).collect()
}

fn statements(rules: &Rules, published: &Published) -> Wanted {
    let mut wanted = Wanted { roles: rules.roles().into_iter().map(str::to_owned).collect(), ..Wanted::default() };
    for membership in &rules.members {
        let (role, member) = (&membership.role, &membership.member);
        wanted.statements.push((None, format!("GRANT {} TO {}", quoted(role), quoted(member))));
        wanted.members.insert(format!("{role}{OF}{member}"));
    }
    let to = rules.roles().into_iter().map(|name| Role::Named(name.to_owned())).chain([Role::Public]);
    for role in to {
        let mut schemas = BTreeSet::new();
        for (table, columns) in published {
            let Some(granted) = granted(rules, &role, table, columns) else { continue };
            schemas.insert(&table.schema);
            let (place, name) = (qualified(&table.schema, &table.name), name_of(&role));
            let what = match granted.as_slice() {
                // Every column is masked: of the table, that it is there.
                [] => continue,
                granted if granted.len() == columns.len() => "SELECT".to_owned(),
                granted => {
                    format!("SELECT ({})", granted.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", "))
                }
            };
            wanted.statements.push((Some(table.to_string()), format!("GRANT {what} ON {place} TO {name}")));
        }
        for schema in schemas {
            wanted.statements.push((None, format!("GRANT USAGE ON SCHEMA {} TO {}", quoted(schema), name_of(&role))));
        }
    }
    let mut secured = BTreeSet::new();
    for policy in rules.rows.iter().filter(|policy| published.contains_key(&policy.table)) {
        let place = qualified(&policy.table.schema, &policy.table.name);
        if secured.insert(&policy.table) {
            let secure = format!("ALTER TABLE {place} ENABLE ROW LEVEL SECURITY");
            wanted.statements.push((Some(policy.table.to_string()), secure));
        }
        let kind = if policy.restrictive { "RESTRICTIVE" } else { "PERMISSIVE" };
        let (name, to) = (quoted(&policy.name), policy.to.iter().map(name_of).collect::<Vec<_>>().join(", "));
        let create = format!(
            "CREATE POLICY {name} ON {place} AS {kind} FOR SELECT TO {to} USING ({});
             COMMENT ON POLICY {name} ON {place} IS {}",
            policy.using,
            literal(OURS)
        );
        wanted.statements.push((Some(policy.table.to_string()), create));
    }
    wanted
}

/// The columns of a table that a role by itself is granted; `None` where it is granted nothing.
fn granted(rules: &Rules, role: &Role, table: &TableName, columns: &[String]) -> Option<Vec<String>> {
    let grants: Vec<_> =
        rules.grants.iter().filter(|grant| grant.on.covers(table) && grant.to.contains(role)).collect();
    if grants.is_empty() {
        return None;
    }
    let is_granted =
        |column: &&String| grants.iter().any(|grant| grant.columns.is_empty() || grant.columns.contains(column));
    let is_plain = |column: &&String| {
        rules.masks.iter().all(|mask| mask.table != *table || mask.column != **column || !rules.meets(role, &mask.to))
    };
    Some(columns.iter().filter(is_granted).filter(is_plain).cloned().collect())
}

fn name_of(role: &Role) -> String {
    match role {
        Role::Public => PUBLIC.to_owned(),
        Role::Named(name) => quoted(name),
    }
}

async fn written(session: &mut Session) -> Result<Option<Before>> {
    let there = session.rows("SELECT to_regclass('lakebed.rights') IS NOT NULL".to_owned()).await?;
    let failed = session.failed();
    if there.first().map(|row| row.try_get::<bool, _>(0)).transpose().map_err(&failed)? != Some(true) {
        return Ok(None);
    }
    let rows = session.rows("SELECT said, roles, members FROM lakebed.rights".to_owned()).await?;
    let read = |row: &PgRow| -> sqlx::Result<Before> {
        Ok(Before { said: row.try_get(0)?, roles: row.try_get(1)?, members: row.try_get(2)? })
    };
    rows.first().map(read).transpose().map_err(failed)
}

/// Takes back what was written before, the row policies that are ours, and whatever roles have that are to have what the files say.
async fn take_back(
    session: &mut Session,
    written: Option<&Before>,
    roles: &BTreeSet<String>,
    published: &Published,
) -> Result<()> {
    let schemas: BTreeSet<&str> = published.keys().map(|table| table.schema.as_str()).collect();
    let ours = format!(
        "SELECT n.nspname::text, c.relname::text, p.polname::text, d.description IS NOT NULL
         FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_description d ON d.objoid = p.oid AND d.description = {} WHERE n.nspname IN ({})",
        literal(OURS),
        list(schemas.iter().copied())
    );
    let failed = session.failed();
    let mut tables: BTreeMap<String, bool> = BTreeMap::new();
    for row in session.rows(ours).await? {
        let read = || -> sqlx::Result<(String, String, String, bool)> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (schema, table, policy, is_ours) = read().map_err(&failed)?;
        let place = qualified(&schema, &table);
        let others = tables.entry(place.clone()).or_default();
        *others |= !is_ours;
        if is_ours {
            session.run(format!("DROP POLICY {} ON {place}", quoted(&policy))).await?;
        }
    }
    // What somebody secured by hand stays so.
    for (place, _) in tables.iter().filter(|(_, others)| !**others) {
        session.run(format!("ALTER TABLE {place} DISABLE ROW LEVEL SECURITY")).await?;
    }
    let before = written.iter().flat_map(|written| &written.roles);
    let there = there(session, before.chain(roles).map(String::as_str)).await?;
    let from = losing(&there);
    // Tables of others may be in the same schemas.
    let all: Vec<&TableName> = published.keys().collect();
    revoke(session, &all, &from).await?;
    for schema in schemas {
        session.run(format!("REVOKE USAGE ON SCHEMA {} FROM {from}", quoted(schema))).await?;
    }
    for membership in written.iter().flat_map(|written| &written.members) {
        let Some((role, member)) = membership.split_once(OF) else { continue };
        // With its membership our user may lose the right to give the role to others.
        if there.contains_key(role) && there.get(member) == Some(&false) {
            session.run(format!("REVOKE {} FROM {}", quoted(role), quoted(member))).await?;
        }
    }
    Ok(())
}

/// Takes everything that may be done with some tables from those who are listed.
async fn revoke(session: &mut Session, tables: &[&TableName], from: &str) -> Result<()> {
    for table in tables {
        let place = qualified(&table.schema, &table.name);
        session.run(format!("REVOKE ALL ON {place} FROM {from}")).await?;
    }
    Ok(())
}

/// From whom of these roles something is taken, and PUBLIC, as SQL lists them. Not from our own user: an owner can lose what it
/// reads and writes its tables by.
fn losing(there: &BTreeMap<String, bool>) -> String {
    let others = there.iter().filter(|(_, is_own)| !**is_own).map(|(role, _)| quoted(role));
    others.chain([PUBLIC.to_owned()]).collect::<Vec<_>>().join(", ")
}

/// Those of some roles that are there, each with whether it is the user that this session acts as.
async fn there(session: &mut Session, roles: impl Iterator<Item = &str>) -> Result<BTreeMap<String, bool>> {
    let failed = session.failed();
    let listed = list(roles);
    let asked = format!("SELECT rolname::text, rolname = current_user FROM pg_roles WHERE rolname IN ({listed})");
    let rows = session.rows(asked).await?;
    let read = |row: &PgRow| -> sqlx::Result<(String, bool)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(failed)
}

async fn make_roles(session: &mut Session, roles: &BTreeSet<String>, server: &str) -> Result<()> {
    let there = there(session, roles.iter().map(String::as_str)).await?;
    let Some(first) = roles.iter().find(|role| !there.contains_key(*role)) else { return Ok(()) };
    let asked = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user".to_owned();
    let failed = session.failed();
    let rows = session.rows(asked).await?;
    let may = rows.first().map(|row| row.try_get::<bool, _>(0)).transpose().map_err(failed)?;
    if may != Some(true) {
        return Err(Error::PostgresRole { server: server.to_owned(), role: first.clone() });
    }
    for role in roles.iter().filter(|role| !there.contains_key(*role)) {
        session.run(format!("CREATE ROLE {} NOLOGIN", quoted(role))).await?;
    }
    Ok(())
}

/// Texts, as SQL lists them; one that nothing is called where there is none.
fn list<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    texts.chain([""]).map(literal).collect::<Vec<_>>().join(", ")
}

fn array<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    format!("ARRAY[{}]::text[]", texts.map(literal).collect::<Vec<_>>().join(", "))
}
