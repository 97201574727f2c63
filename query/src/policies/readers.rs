//! Readers, and the lake as each of them sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility, create_udf, lit,
};

use super::guarded::Guarded;
use super::{At, Role, Rules};
use crate::error::{Error, Result};
use crate::lakehouse::AsOf;
use crate::models::TableName;
use crate::session::{ReadSession, TableInfo, Versions};
use crate::sql::conditions::cannot_fail;

/// Somebody who asks, with all roles that are theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Empty for whoever has not logged in.
    name: String,
    /// The reader's own name among them.
    roles: BTreeSet<String>,
}

impl Reader {
    /// Whether a role is the reader's.
    pub(super) fn has(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    fn is_in(&self, to: &[Role]) -> bool {
        to.iter().any(|role| match role {
            Role::Public => true,
            Role::Named(name) => self.roles.contains(name),
        })
    }
}

/// What of a table is a reader's.
#[derive(Clone, Debug)]
pub(crate) struct Access<'r> {
    /// `None` for all of them.
    pub(super) columns: Option<BTreeSet<&'r str>>,
    /// `None` where no policy is on the table.
    rows: Option<RowAccess<'r>>,
    pub(super) masks: Vec<(&'r str, Rule<'r>)>,
}

impl Access<'_> {
    /// Which rows are the reader's, as SQL; `None` for all of them.
    pub(super) fn condition(&self) -> Option<String> {
        let RowAccess { any, all } = self.rows.as_ref()?;
        let written = |rules: &[Rule<'_>]| rules.iter().map(|(text, _)| format!("({text})")).collect::<Vec<_>>();
        let any = match written(any).as_slice() {
            [] => "false".to_owned(),
            several if several.len() > 1 && !all.is_empty() => format!("({})", several.join(" OR ")),
            any => any.join(" OR "),
        };
        Some(std::iter::once(any).chain(written(all)).collect::<Vec<_>>().join(" AND "))
    }
}

/// An expression of a policy, and where it is written.
type Rule<'r> = (&'r str, &'r At);

/// Rows that one of some expressions lets through, and all of others.
#[derive(Clone, Debug, Default)]
struct RowAccess<'r> {
    any: Vec<Rule<'r>>,
    all: Vec<Rule<'r>>,
}

impl Rules {
    /// Who has a name, with the roles that were granted to it, and to those in turn.
    pub fn reader(&self, name: &str) -> Reader {
        let mut roles = BTreeSet::from([name.to_owned()]);
        roles.remove("");
        loop {
            let more: Vec<String> = self
                .members
                .iter()
                .filter(|membership| roles.contains(&membership.member) && !roles.contains(&membership.role))
                .map(|membership| membership.role.clone())
                .collect();
            if more.is_empty() {
                return Reader { name: name.to_owned(), roles };
            }
            roles.extend(more);
        }
    }

    /// Whether somebody who is in a role may be among some others.
    pub(crate) fn meets(&self, role: &Role, others: &[Role]) -> bool {
        let Role::Named(role) = role else { return !others.is_empty() };
        let members = self.roles().into_iter().map(|name| self.reader(name));
        members.filter(|member| member.roles.contains(role)).any(|member| member.is_in(others))
    }

    /// What of a table is a reader's; `None` where nothing is.
    pub(super) fn access(&self, reader: &Reader, table: &TableName) -> Option<Access<'_>> {
        let mut columns = Some(BTreeSet::new());
        let mut granted = false;
        for grant in self.grants.iter().filter(|grant| grant.on.covers(table) && reader.is_in(&grant.to)) {
            granted = true;
            match &mut columns {
                Some(some) if !grant.columns.is_empty() => some.extend(grant.columns.iter().map(String::as_str)),
                _ => columns = None,
            }
        }
        if !granted {
            return None;
        }
        // As in PostgreSQL: of a table with policies, a row is seen that one of the reader's lets through; without one, none is.
        let on_table = || self.rows.iter().filter(|policy| policy.table == *table);
        let rows = on_table().next().is_some().then(|| {
            let mut rows = RowAccess::default();
            for policy in on_table().filter(|policy| reader.is_in(&policy.to)) {
                let of = if policy.restrictive { &mut rows.all } else { &mut rows.any };
                of.push((policy.using.as_str(), &policy.at));
            }
            rows
        });
        let mut masks: Vec<(&str, Rule<'_>)> = Vec::new();
        for mask in self.masks.iter().filter(|mask| mask.table == *table && reader.is_in(&mask.to)) {
            // The first that is written is the one that counts.
            if masks.iter().all(|(column, _)| *column != mask.column) {
                masks.push((&mask.column, (&mask.using, &mask.at)));
            }
        }
        Some(Access { columns, rows, masks })
    }
}

/// Where a reader finds the versions that a statement asks for by itself.
pub struct OfReader {
    /// Where anybody would.
    pub versions: Arc<dyn Versions>,
    /// What is the reader's of them.
    pub rules: Arc<Rules>,
    /// Who asks.
    pub reader: Reader,
}

#[async_trait]
impl Versions for OfReader {
    async fn as_of(&self, as_of: AsOf) -> Result<Arc<ReadSession>> {
        let whole = self.versions.as_of(as_of).await?;
        Ok(Arc::new(whole.earlier_for_reader(&self.rules, &self.reader).await?))
    }
}

impl ReadSession {
    /// The lake as a reader sees it: what is not granted is not there, and what is left of each table is behind its policies.
    ///
    /// # Errors
    /// [`Error::Policy`] for an expression that does not plan over its table: then the reader is to see nothing at all.
    pub async fn for_reader(&self, rules: &Rules, reader: &Reader) -> Result<Self> {
        rules.check_columns(|name| {
            let table = self.tables().iter().find(|info| info.schema == name.schema && info.name == name.name);
            table.map(|table| table.columns.fields().iter().map(|field| field.name().clone()).collect())
        })?;
        self.narrowed(rules, reader, false).await
    }

    /// The same of an earlier version, which columns may be younger than: a table whose policies ask for such a one is not there.
    ///
    /// # Errors
    /// As [`Self::for_reader`], but for expressions that do not plan.
    pub async fn earlier_for_reader(&self, rules: &Rules, reader: &Reader) -> Result<Self> {
        self.narrowed(rules, reader, true).await
    }

    async fn narrowed(&self, rules: &Rules, reader: &Reader, is_earlier: bool) -> Result<Self> {
        let functions = functions(reader);
        let state = self.state_with(&functions)?;
        let catalog = Arc::new(MemoryCatalogProvider::new());
        for schema in self.schemas() {
            catalog.register_schema(&schema, Arc::new(MemorySchemaProvider::new()))?;
        }
        let mut tables = Vec::new();
        for info in self.tables() {
            if info.schema == INFORMATION_SCHEMA {
                tables.push(info.clone());
                continue;
            }
            let name = TableName { schema: info.schema.clone(), name: info.name.clone() };
            let Some(access) = rules.access(reader, &name) else { continue };
            let Some(whole) = self.table(&name).await? else { continue };
            let (info, table) = match seen(&state, info, whole, &name, &access) {
                Err(Error::Policy { .. }) if is_earlier => continue,
                seen => seen?,
            };
            if let Some(schema) = catalog.schema(&name.schema) {
                schema.register_table(name.name, table)?;
                tables.push(info);
            }
        }
        // A key to what is not seen would tell of it.
        let columns: BTreeSet<(String, String, String)> = tables
            .iter()
            .flat_map(|info| info.columns.fields().iter().map(move |field| (info, field.name())))
            .map(|(info, column)| (info.schema.clone(), info.name.clone(), column.clone()))
            .collect();
        for info in &mut tables {
            info.foreign_keys.retain(|key| {
                let to = (key.to_schema.clone(), key.to_table.clone(), key.to_column.clone());
                info.columns.field_with_name(&key.column).is_ok() && columns.contains(&to)
            });
        }
        self.with_tables(tables, catalog, &functions)
    }
}

/// A table as it is seen, with what is told of it.
fn seen(
    state: &SessionState,
    info: &TableInfo,
    whole: Arc<dyn TableProvider>,
    name: &TableName,
    access: &Access<'_>,
) -> Result<(TableInfo, Arc<dyn TableProvider>)> {
    let Access { columns, rows, masks } = access;
    if columns.is_none() && rows.is_none() && masks.is_empty() {
        return Ok((info.clone(), whole));
    }
    let kind = whole.table_type();
    let mut plan = LogicalPlanBuilder::scan(name.name.as_str(), provider_as_source(whole), None)?;
    let all = Arc::clone(plan.schema());
    let mut may_fail = false;
    if let Some(RowAccess { any, all: each }) = rows {
        let conditions =
            |rules: &[Rule<'_>]| rules.iter().map(|rule| condition(state, &all, *rule)).collect::<Result<Vec<_>>>();
        let any = conditions(any)?.into_iter().reduce(Expr::or).unwrap_or_else(|| lit(false));
        let visible = conditions(each)?.into_iter().fold(any, Expr::and);
        plan = plan.filter(visible)?;
        may_fail = may_any_fail(state, plan.clone().build()?)?;
    }
    let mut shown = Vec::new();
    let mut plain = BTreeSet::new();
    for (qualifier, field) in all.iter() {
        let column = field.name().as_str();
        if columns.as_ref().is_some_and(|columns| !columns.contains(column)) {
            continue;
        }
        let value = Expr::Column(Column::new(qualifier.cloned(), column));
        match masks.iter().find(|(masked, _)| *masked == column) {
            Some((_, rule)) => shown.push(mask(state, &all, *rule, field.data_type())?.alias(column)),
            None => {
                plain.insert(column.to_owned());
                shown.push(value);
            }
        }
    }
    let plan = plan.project(shown)?.build()?;
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    let columns = plan.schema().fields().iter().map(nullable).collect::<Vec<_>>();
    let schema = Arc::new(Schema::new(columns));
    let key = if info.key.iter().all(|column| plain.contains(column)) { info.key.clone() } else { Vec::new() };
    let info = TableInfo { key, columns: Arc::clone(&schema), ..info.clone() };
    let guarded = Guarded { name: name.to_string().into(), plan, schema, plain, may_fail, kind };
    Ok((info, Arc::new(guarded)))
}

/// Whether the conditions of a plan may fail, with the casts that their types take.
fn may_any_fail(state: &SessionState, plan: LogicalPlan) -> Result<bool> {
    let settled = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ())?;
    let LogicalPlan::Filter(filter) = settled else { return Ok(true) };
    let columns = Arc::clone(filter.input.schema());
    let widened = |expr: Expr| match expr {
        Expr::Cast(cast) if widens(&cast, &columns) => Ok(Transformed::yes(*cast.expr)),
        other => Ok(Transformed::no(other)),
    };
    Ok(!cannot_fail(&filter.predicate.transform_up(widened)?.data, &|_| true))
}

/// Whether a cast gives a value for every value.
fn widens(cast: &Cast, columns: &DFSchema) -> bool {
    match (cast.expr.get_type(columns), cast.field.data_type()) {
        (Ok(from), DataType::Int64 | DataType::Float64) => from.is_signed_integer() || from == DataType::Float32,
        (Ok(from), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => from.is_string(),
        _ => false,
    }
}

/// Which rows a policy lets through.
fn condition(state: &SessionState, columns: &DFSchema, (text, at): Rule<'_>) -> Result<Expr> {
    let condition = planned(state, columns, (text, at))?;
    match condition.get_type(columns) {
        Ok(DataType::Boolean | DataType::Null) => Ok(condition),
        Ok(other) => Err(at.wrong(format!("USING ({text}) is {other}, and a condition is to be true or false"), None)),
        Err(error) => Err(wrong(at, &Error::planning(error, &[]))),
    }
}

/// What stands in the place of a column's values, of the same type.
fn mask(state: &SessionState, columns: &DFSchema, rule: Rule<'_>, kind: &DataType) -> Result<Expr> {
    planned(state, columns, rule)?.cast_to(kind, columns).map_err(|error| wrong(rule.1, &Error::planning(error, &[])))
}

fn planned(state: &SessionState, columns: &DFSchema, (text, at): Rule<'_>) -> Result<Expr> {
    // It is written for PostgreSQL too, where a subquery would be its reader's, with that one's own rights.
    let of_others = || {
        let hint = "write a condition on the row's columns, current_user and pg_has_role('role', 'member')";
        at.wrong(format!("USING ({text}) reads more than its row"), Some(hint.to_owned()))
    };
    let expression = state.create_logical_expr(text, columns).map_err(|error| match Error::planning(error, &[]) {
        Error::UnknownTable { .. } => of_others(),
        error => wrong(at, &error),
    })?;
    let is_of_others = expression.exists(|part| {
        Ok(matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
        ))
    });
    if is_of_others? { Err(of_others()) } else { Ok(expression) }
}

fn wrong(at: &At, error: &Error) -> Error {
    let hint = match error {
        Error::UnknownColumn { nearest: Some(_), .. } => error.hint(),
        _ => None,
    };
    at.wrong(error.to_string(), hint)
}

/// What a policy, and a statement, may ask of who reads.
fn functions(reader: &Reader) -> Vec<ScalarUDF> {
    let name = ScalarValue::Utf8(Some(reader.name.clone()));
    let current_user = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(name.clone()));
    let roles = reader.roles.clone();
    // As PostgreSQL's; there is no other privilege here than to be a member.
    let has_role = move |arguments: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(arguments)?;
        let names = columns[0].as_string::<i32>();
        let member: BooleanArray = names.iter().map(|name| name.map(|name| roles.contains(name))).collect();
        let is_one = arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        Ok(match is_one {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&member, 0)?),
            false => ColumnarValue::Array(Arc::new(member)),
        })
    };
    let text = DataType::Utf8;
    vec![
        create_udf("current_user", vec![], text.clone(), Volatility::Stable, Arc::new(current_user)),
        create_udf("pg_has_role", vec![text.clone(), text], DataType::Boolean, Volatility::Stable, Arc::new(has_role)),
    ]
}
