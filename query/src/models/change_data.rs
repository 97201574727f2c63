//! Models over change data: a header that says which rows are of one thing, in which order they happened and which delete it,
//! and the query that makes a table of them.
//!
//! ```sql
//! -- key: id
//! -- sequence: lsn
//! -- delete: op = 'd'
//! -- history: 2
//! SELECT id, name, op, lsn FROM bronze.events WHERE event_type = 'customers'
//! ```
//! Of one key the row with the greatest sequence counts, and of equal sequences the one that came last. A delete is such a row
//! as well, and hidden: what is older and comes later stays deleted. `history: 1`, which may be left out, keeps that row;
//! `history: 2` keeps every row, with the sequences from and up to which it held: `valid_from`, `valid_to`, `is_current`.

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, ObjectName, Query, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    TableFactor, TableWithJoins, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::sql::grammar::put_right;

/// The offset of the log, by which changes of one sequence are told apart.
const OFFSET: &str = lakebed_log::schema::OFFSET;

/// A header over change data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChangeData {
    pub(super) key: Vec<String>,
    /// Expressions, the most significant first; none: the order of the log.
    pub(super) sequence: Vec<String>,
    /// A condition.
    pub(super) delete: Option<String>,
    /// Every row is kept, with the time that it held.
    pub(super) all_rows: bool,
}

/// What is wrong with a header: the setting that it is about, and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) setting: &'static str,
    pub(super) message: String,
}

impl ChangeData {
    /// What the settings of a header say; `None` where the model is not over change data.
    pub(super) fn of(settings: &[(String, String)], key: &[String]) -> Result<Option<Self>, Wrong> {
        let value = |name: &str| settings.iter().find(|(setting, _)| setting == name).map(|(_, value)| value.as_str());
        let (sequence, delete, history) = (value("sequence"), value("delete"), value("history"));
        let Some(setting) =
            sequence.and(Some("sequence")).or(delete.and(Some("delete"))).or(history.and(Some("history")))
        else {
            return Ok(None);
        };
        let wrong = |setting, message: &str| Err(Wrong { setting, message: message.to_owned() });
        if key.is_empty() {
            return wrong(setting, "a model over change data has to say its key");
        }
        let all_rows = match history {
            None | Some("1") => false,
            Some("2") => true,
            Some(_) => return wrong("history", "history is 1, the latest row of each key, or 2, every row"),
        };
        let sequence = sequence.map_or_else(|| Ok(Vec::new()), |text| expressions("sequence", text))?;
        if all_rows && sequence.len() != 1 {
            return wrong("history", "history 2 has to say one sequence, from and up to which a row holds");
        }
        let delete = match delete.map(|text| expressions("delete", text)).transpose()?.as_deref() {
            None => None,
            Some([condition]) => Some(condition.clone()),
            Some(_) => return wrong("delete", "a delete is told by one condition: join several by OR"),
        };
        Ok(Some(Self { key: key.to_vec(), sequence, delete, all_rows }))
    }

    /// What tells the table's rows apart.
    pub(super) fn key_of_rows(&self) -> Vec<String> {
        let from = self.all_rows.then(|| "valid_from".to_owned());
        self.key.iter().cloned().chain(from).collect()
    }

    /// The query over the changes that a model's own query gives.
    pub(super) fn over(&self, changes: Query) -> Result<String, Wrong> {
        let (changes, hidden) = with_offset(changes)?;
        let quoted = |names: &[String]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let (key, offset) = (quoted(&self.key), if hidden { format!(", \"{OFFSET}\"") } else { String::new() });
        let kept =
            self.delete.as_ref().map_or_else(|| "true".to_owned(), |delete| format!("NOT coalesce({delete}, false)"));
        if self.all_rows {
            let sequence = self.sequence.join(", ");
            return Ok(format!(
                "SELECT * EXCEPT (_lakebed_last{offset}), valid_to IS NULL AS is_current FROM (
                     SELECT *, {sequence} AS valid_from,
                         lead({sequence}) OVER (PARTITION BY {key} ORDER BY {sequence} NULLS FIRST, \"{OFFSET}\") AS valid_to,
                         row_number() OVER (PARTITION BY {key}, {sequence} ORDER BY \"{OFFSET}\" DESC) AS _lakebed_last
                     FROM ({changes}) AS changes
                 ) AS held WHERE _lakebed_last = 1 AND {kept}"
            ));
        }
        let order = self.sequence.iter().map(|part| format!("{part} DESC NULLS LAST, ")).collect::<String>();
        Ok(format!(
            "SELECT * EXCEPT (_lakebed_place{offset}) FROM (
                 SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}\"{OFFSET}\" DESC) AS _lakebed_place
                 FROM ({changes}) AS changes
             ) AS ranked WHERE _lakebed_place = 1 AND {kept}"
        ))
    }
}

/// The expressions of a setting, which have commas between them, as they are meant.
fn expressions(setting: &'static str, text: &str) -> Result<Vec<String>, Wrong> {
    let wrong = |error: ParserError| Wrong { setting, message: format!("'{text}' cannot be read: {error}") };
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(wrong)?;
    let mut expressions = parser.parse_comma_separated(Parser::parse_expr).map_err(wrong)?;
    parser.expect_token(&Token::EOF).map_err(wrong)?;
    expressions.iter_mut().for_each(put_right);
    Ok(expressions.iter().map(ToString::to_string).collect())
}

/// The query with the offset among its columns, and whether it was not there before.
fn with_offset(mut query: Query) -> Result<(Query, bool), Wrong> {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Ok((query, false));
    };
    let from: Vec<_> = select.from.iter().flat_map(tables_of).collect();
    let is_offset = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.value == OFFSET,
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => {
            names.last().is_some_and(|name| name.value == OFFSET)
        }
        SelectItem::ExprWithAlias { alias, .. } => alias.value == OFFSET,
        SelectItem::Wildcard(options) => has_offset(options),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(of), options) => {
            from.iter().any(|(table, alias)| is_log(table, alias.as_ref(), of)) && has_offset(options)
        }
        _ => false,
    };
    if select.projection.iter().any(is_offset) {
        return Ok((query, false));
    }
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    if grouped || matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_))) {
        let message = format!("changes are rows of the log: without GROUP BY and DISTINCT, or with a column {OFFSET}");
        return Err(Wrong { setting: "key", message });
    }
    select.projection.push(SelectItem::UnnamedExpr(Expr::Identifier(Ident::new(OFFSET))));
    Ok((query, true))
}

/// The tables that a query reads by name, each with what it is called there.
fn tables_of(from: &TableWithJoins) -> Vec<(ObjectName, Option<Ident>)> {
    let relations = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    let named = |relation: &TableFactor| match relation {
        TableFactor::Table { name, alias, .. } => Some((name.clone(), alias.as_ref().map(|alias| alias.name.clone()))),
        _ => None,
    };
    relations.filter_map(named).collect()
}

/// Whether a table is the log, and what stands before a `.*`.
fn is_log(table: &ObjectName, alias: Option<&Ident>, of: &ObjectName) -> bool {
    let called = alias.map_or_else(|| table.to_string(), ToString::to_string);
    let (called, of) = (called.to_lowercase(), of.to_string().to_lowercase());
    let is_of = called == of || alias.is_none() && called.rsplit('.').next() == Some(of.as_str());
    table.to_string().eq_ignore_ascii_case("bronze.events") && is_of
}

/// Whether the columns of a `*` keep the offset.
fn has_offset(options: &WildcardAdditionalOptions) -> bool {
    let without =
        [options.opt_exclude.as_ref().map(ToString::to_string), options.opt_except.as_ref().map(ToString::to_string)];
    let is_named = |text: &String| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == OFFSET);
    !without.iter().flatten().any(is_named)
}
