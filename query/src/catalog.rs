//! What SQL sees: a session with `bronze.events` over the log and the models over their runs, at one version.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
pub(crate) use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, Session, TableProvider,
};
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, col, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakebed_log::{ColumnType, DataFile, Snapshot, Store, layout, schema};

use crate::error::Result;
use crate::long_joins::LongJoins;
use crate::parquet_table::{ParquetTable, Place, TableFile};
use crate::rows::Rows;
use crate::seeds::SEEDS;
use crate::session::{TableInfo, TableKind};
use crate::sql::coercions::SqlTypes;
use crate::sql::exact;
use crate::sql::integers::IntegersRule;
use crate::sql::lengths;
use crate::sql::one_zero::OneZeroRule;
use crate::sql::projections::physical_rules;
use crate::sql::rounding::round_by_literals;
use crate::sql::set_comparisons::{NameCompared, ThreeValued};
use crate::sql::total_order::{RelationsForget, TotalOrder, optimizer_rules, string_agg};
use crate::system_tables;

/// The catalog's name, in every session.
pub const CATALOG: &str = "lakebed";
/// The schema of a table that is named without one.
pub const DEFAULT_SCHEMA: &str = "gold";
/// The schema of the log.
pub const BRONZE: &str = "bronze";
/// The log's table in it.
pub const EVENTS: &str = "events";
/// The offset of the first event of a file's batch or unit, as a column that no user sees.
const BASE: &str = "_base";

/// A session with the functions that models may use and no table; `runs` is the lake's store, or a replay's own.
///
/// # Errors
/// Where a function cannot be registered.
pub fn session(lake: &Store, runs: &Store) -> Result<SessionContext> {
    let mut config =
        SessionConfig::new().with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA).with_information_schema(true);
    // A text column keeps one type from the model's plan to every sink.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config.options_mut().execution.time_zone = Some("UTC".to_owned());
    config.options_mut().execution.parquet.pushdown_filters = true;
    // It takes the columns of a union's inputs apart in different orders (`_doc ->> 'x'` over staged and compacted files).
    config.options_mut().optimizer.enable_leaf_expression_pushdown = false;
    // Of several extremes it takes none for "all others pass": files are left out that have no value in one column, and the greatest of
    // another.
    config.options_mut().optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config.options_mut().catalog.create_default_catalog_and_schema = false;
    let context = SessionContext::new_with_config(config);
    let catalog = MemoryCatalogProvider::new();
    for schema in [BRONZE, "silver", DEFAULT_SCHEMA, system_tables::SCHEMA] {
        catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
    }
    context.register_catalog(CATALOG, Arc::new(catalog));
    context.register_object_store(Place::Log.url()?.as_ref(), lake.objects());
    context.register_object_store(Place::Runs.url()?.as_ref(), runs.objects());
    let state = SessionStateBuilder::new_from_existing(context.state()).with_optimizer_rules(optimizer_rules());
    let state = state.with_physical_optimizer_rules(physical_rules());
    let mut state = state.with_physical_optimizer_rule(Arc::new(LongJoins)).build();
    state.register_relation_planner(Arc::new(RelationsForget))?;
    // Before those of the functions for JSON, which have arrows of their own.
    state.register_expr_planner(Arc::new(SqlTypes))?;
    datafusion_functions_json::register_all(&mut state)?;
    state.register_function_rewrite(Arc::new(SqlTypes))?;
    lengths::bound(&mut state)?;
    round_by_literals(&mut state)?;
    for aggregate in exact::aggregates() {
        state.register_udaf(Arc::new(aggregate))?;
    }
    state.register_udaf(Arc::new(string_agg()))?;
    state.add_analyzer_rule(Arc::new(NameCompared));
    state.add_analyzer_rule(Arc::new(ThreeValued));
    state.add_analyzer_rule(Arc::new(OneZeroRule));
    state.add_analyzer_rule(Arc::new(IntegersRule));
    // After the rules that are there: what is appended to an order needs no type coercion, and has to see that of others.
    state.add_analyzer_rule(Arc::new(TotalOrder));
    Ok(SessionContext::new_with_state(state))
}

/// The session's state, with a clock that stands still: `now()` is `time`, however often and whenever it is asked.
pub fn at(context: &SessionContext, time: DateTime<Utc>) -> SessionState {
    let mut state = context.state();
    state.execution_props_mut().query_execution_start_time = Some(time);
    state
}

/// The tables that list the others, as they are listed themselves.
///
/// # Errors
/// None for a session of [`session`].
pub(crate) async fn information_schema(context: &SessionContext) -> Result<Vec<TableInfo>> {
    let provider = InformationSchemaProvider::new(Arc::clone(context.state().catalog_list()));
    let mut tables = Vec::new();
    for name in ["columns", "schemata", "tables", "views"] {
        if let Some(table) = provider.table(name).await? {
            tables.push(TableInfo {
                schema: INFORMATION_SCHEMA.to_owned(),
                name: name.to_owned(),
                kind: TableKind::System,
                description: Some(format!("The {name} of the lake, as SQL's standard lists them.")),
                key: Vec::new(),
                foreign_keys: Vec::new(),
                columns: table.schema(),
            });
        }
    }
    Ok(tables)
}

/// Puts a table into a session's catalog, over one of the same name.
///
/// # Errors
/// Where the schema is not there.
pub fn register(context: &SessionContext, schema: &str, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
    let Some(catalog) = context.catalog(CATALOG) else { return Ok(()) };
    // Where there are no seeds, there is no schema for them.
    if schema == SEEDS && catalog.schema(schema).is_none() {
        catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
    }
    if let Some(in_schema) = catalog.schema(schema) {
        if in_schema.table_exist(name) {
            in_schema.deregister_table(name)?;
        }
        in_schema.register_table(name.to_owned(), table)?;
    }
    Ok(())
}

/// A model's rows.
pub fn rows(columns: SchemaRef, rows: &Rows) -> Arc<dyn TableProvider> {
    rows_at(Place::Runs, columns, rows)
}

/// A model's rows, whose runs are in one of the session's stores.
pub(crate) fn rows_at(place: Place, columns: SchemaRef, rows: &Rows) -> Arc<dyn TableProvider> {
    let files = rows.in_runs().map(|(run, rows)| TableFile {
        path: run.path.clone(),
        bytes: run.bytes,
        constants: Vec::new(),
        rows,
    });
    Arc::new(ParquetTable::new(place, columns, Vec::new(), files))
}

/// `bronze.events`: the log's events with an offset in the range, and the pinned columns whether they came or not.
///
/// # Errors
/// Where DataFusion refuses the view, which it does not for a snapshot of ours.
pub fn events(
    snapshot: &Snapshot,
    pinned: &[(String, ColumnType)],
    offsets: Range<u64>,
) -> Result<Arc<dyn TableProvider>> {
    events_in_files(snapshot, pinned, offsets, &|_, _| true)
}

/// The same of some files alone: those of which `wanted` says so, by their first and last offset.
///
/// # Errors
/// As [`events`].
pub(crate) fn events_in_files(
    snapshot: &Snapshot,
    pinned: &[(String, ColumnType)],
    offsets: Range<u64>,
    wanted: &dyn Fn(u64, u64) -> bool,
) -> Result<Arc<dyn TableProvider>> {
    let table = events_schema(snapshot, pinned);
    let is_touched = |file: &&Arc<DataFile>| {
        let (first, last) = file.offset_range();
        first < offsets.end && wanted(first, last)
    };
    let touched = snapshot.files_from(offsets.start).filter(is_touched);
    let mut files: BTreeMap<&str, Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in touched {
        files.entry(file.numbers().0).or_default().push(file);
    }
    let mut plan: Option<LogicalPlanBuilder> = None;
    for (numbers, files) in &files {
        let of_these = log_files(&table, numbers, files, &offsets)?;
        plan = Some(match plan {
            Some(plan) => plan.union(of_these.build()?)?,
            None => of_these,
        });
    }
    let plan = plan.map_or_else(|| log_files(&table, schema::OFFSET, &[], &offsets), Ok)?;
    Ok(Arc::new(EventsTable(ViewTable::new(plan.build()?, None))))
}

/// The log for DataFusion, which takes it for a view over its files; people see a table.
#[derive(Debug)]
struct EventsTable(ViewTable);

#[async_trait]
impl TableProvider for EventsTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.0.get_logical_plan()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Pushdown {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }
}

type Pushdown = datafusion::common::Result<Vec<TableProviderFilterPushDown>>;

/// The rows of some data files with an offset in the range; `numbers` is the column of all of them that says where they stand. A
/// staged file's offsets are computed from its base; a compacted one has them, and files and row groups are pruned by them. The day of
/// a file is a constant where it is of one, and else a column of its own.
fn log_files(
    table: &SchemaRef,
    numbers: &str,
    files: &[&Arc<DataFile>],
    offsets: &Range<u64>,
) -> Result<LogicalPlanBuilder> {
    let compacted = numbers == schema::OFFSET;
    let of_a_day = files.iter().any(|file| file.staged.event_date.is_some());
    let number = || Arc::new(Field::new(numbers, DataType::Int64, false));
    let mut fields: Vec<FieldRef> = Vec::with_capacity(table.fields().len());
    for field in table.fields() {
        match field.name().as_str() {
            schema::EVENT_DATE if of_a_day => {}
            schema::OFFSET if numbers == schema::ROW => {}
            schema::OFFSET => fields.push(number()),
            _ => fields.push(Arc::clone(field)),
        }
    }
    let columns = Arc::new(Schema::new(fields));
    let day = of_a_day.then(|| Arc::new(Field::new(schema::EVENT_DATE, DataType::Date32, false)));
    let mut constants = day.into_iter().collect::<Vec<_>>();
    let offset = match compacted {
        true => ident(numbers),
        false => {
            constants.push(Arc::new(Field::new(BASE, DataType::Int64, false)));
            col(BASE) + ident(numbers)
        }
    };
    let listed = files.iter().map(|file| {
        let day = || ScalarValue::Date32(file.staged.event_date.map(Date32Type::from_naive_date));
        let mut constants = of_a_day.then(day).into_iter().collect::<Vec<_>>();
        if let (_, Some(base)) = file.numbers() {
            constants.push(ScalarValue::Int64(i64::try_from(base).ok()));
        }
        let path = layout::in_table(&file.staged.path).to_string();
        TableFile { path, bytes: file.staged.bytes, constants, rows: None }
    });
    let source = ParquetTable::new(Place::Log, columns, constants, listed);
    let mut plan = LogicalPlanBuilder::scan("log_files", provider_as_source(Arc::new(source)), None)?;
    // A file may reach beyond a version's bound, once it was compacted with others.
    let reaches_out =
        |file: &&Arc<DataFile>| file.offset_range().0 < offsets.start || file.offset_range().1 >= offsets.end;
    if files.iter().any(reaches_out) {
        let (from, to) = (lit(offsets.start as i64), lit(offsets.end as i64));
        plan = plan.filter(offset.clone().gt_eq(from).and(offset.clone().lt(to)))?;
    }
    let visible = table.fields().iter().map(|field| match field.name().as_str() {
        // A column that is there keeps its name as it is: two names for one are ambiguous to DataFusion's optimizer.
        schema::OFFSET if !compacted => offset.clone().alias(schema::OFFSET),
        name => ident(name),
    });
    Ok(plan.project(visible.collect::<Vec<Expr>>())?)
}

/// The columns of `bronze.events`: what the log has claimed, and what the project pins and no event has brought yet.
pub fn events_schema(snapshot: &Snapshot, pinned: &[(String, ColumnType)]) -> SchemaRef {
    let claimed = snapshot.schema();
    let missing = pinned.iter().filter(|(name, _)| claimed.field_with_name(name).is_err());
    let missing = missing.map(|(name, kind)| Arc::new(Field::new(name, kind.arrow(), true)));
    let doc = claimed.index_of(schema::DOC).unwrap_or(claimed.fields().len());
    let (before, after) = claimed.fields().split_at(doc);
    let plain = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_metadata(Default::default()));
    let fields = before.iter().map(plain).chain(missing).chain(after.iter().map(plain));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
