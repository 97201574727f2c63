//! Read-only SQL over one version of the lake, or several: what `lakebed query` and the servers run statements on.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::prelude::SessionContext;
use lakebed_log::Store;

use crate::catalog::{self, CATALOG};
use crate::error::{Error, Result};
use crate::lakehouse::AsOf;
use crate::models::TableName;
use crate::parquet_table::Place;
use crate::statement::{Statement, schema_at};

mod running;

pub use self::running::BoundPlan;

/// A table as people see it in a catalog.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// `bronze`, `silver` or `gold`.
    pub schema: String,
    /// The table's name, without its schema.
    pub name: String,
    /// What kind of table it is.
    pub kind: TableKind,
    /// The first sentence of the model's header, if it has one.
    pub description: Option<String>,
    /// The key columns, empty where the table has none.
    pub key: Vec<String>,
    /// Columns whose values are those of another table's column.
    pub foreign_keys: Vec<ForeignKey>,
    /// Names and types as DataFusion gives them.
    pub columns: SchemaRef,
}

/// What kind of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// The log, or a model.
    Table,
    /// What the lake says of itself.
    System,
}

/// A column whose values are those of another table's column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The column.
    pub column: String,
    /// The schema of the other table.
    pub to_schema: String,
    /// The other table's name in it.
    pub to_table: String,
    /// The column there.
    pub to_column: String,
}

/// Where a session finds the versions that a statement asks for by itself.
#[async_trait]
pub trait Versions: Send + Sync {
    /// The lake as of a version.
    ///
    /// # Errors
    /// Where there is no such version, or it cannot be read.
    async fn as_of(&self, as_of: AsOf) -> Result<Arc<ReadSession>>;
}

/// The lake at one version, open for SELECT.
pub struct ReadSession {
    version: u64,
    now: DateTime<Utc>,
    tables: Arc<[TableInfo]>,
    context: SessionContext,
    /// What plans are made with: the context's own, and the time.
    state: OnceLock<SessionState>,
    /// Where runs are that the lake does not keep.
    store: Option<(ObjectStoreUrl, Store)>,
}

impl ReadSession {
    /// A session over `context`, whose catalog already holds `tables` as of `version`; its `now()` is `now`.
    pub fn new(version: u64, now: DateTime<Utc>, tables: Vec<TableInfo>, context: SessionContext) -> Self {
        Self { version, now, tables: tables.into(), context, state: OnceLock::new(), store: None }
    }

    /// The same with another store for some of its tables' files.
    pub(crate) fn with_store(self, url: ObjectStoreUrl, store: Store) -> Self {
        self.context.register_object_store(url.as_ref(), store.objects());
        Self { store: Some((url, store)), ..self }
    }

    /// The session that a statement is planned on: this one, or one that has the versions as well that the statement asks for
    /// by itself. Where all of its tables are asked for at one and the same, the answer is of that version.
    ///
    /// # Errors
    /// As [`Versions::as_of`].
    pub async fn for_statement(self: &Arc<Self>, statement: &Statement, versions: &dyn Versions) -> Result<Arc<Self>> {
        if statement.versions().is_empty() {
            return Ok(Arc::clone(self));
        }
        let mut others = Vec::new();
        for as_of in statement.versions() {
            others.push((*as_of, versions.as_of(*as_of).await?));
        }
        let of_all = statement.version_of_all().and_then(|_| others.first()).map(|(_, session)| session);
        let (version, now) = of_all.map_or((self.version, self.now), |session| (session.version, session.now));
        let context = self.context_with(&others)?;
        let (tables, state) = (Arc::clone(&self.tables), OnceLock::new());
        Ok(Arc::new(Self { version, now, tables, context, state, store: None }))
    }

    /// The same session with another schema for names that have none.
    #[must_use]
    pub fn in_schema(&self, schema: &str) -> Self {
        let mut state = self.context.state();
        state.config_mut().options_mut().catalog.default_schema = schema.to_owned();
        let (tables, store) = (Arc::clone(&self.tables), self.store.clone());
        let context = SessionContext::new_with_state(state);
        Self { version: self.version, now: self.now, tables, context, state: OnceLock::new(), store }
    }

    /// The same session for plans that sort all that they read within so many bytes: one sort of one stream, where each of several would
    /// keep its share of the memory to itself.
    pub(crate) fn for_sorting_within(&self, bytes: usize) -> Self {
        let mut state = self.context.state();
        let options = state.config_mut().options_mut();
        options.optimizer.repartition_sorts = false;
        let execution = &mut options.execution;
        execution.target_partitions = 1;
        // What a sort keeps for merging what it has put on disk.
        execution.sort_spill_reservation_bytes = execution.sort_spill_reservation_bytes.min(bytes / 16);
        let (tables, store) = (Arc::clone(&self.tables), self.store.clone());
        let context = SessionContext::new_with_state(state);
        Self { version: self.version, now: self.now, tables, context, state: OnceLock::new(), store }
    }

    /// The session's context with the schemas of others beside its own.
    fn context_with(&self, others: &[(AsOf, Arc<Self>)]) -> Result<SessionContext> {
        let state = self.context.state();
        let (runtime, mut schemas) = (self.context.runtime_env(), BTreeMap::new());
        let objects = Arc::new(DefaultObjectStoreRegistry::new());
        let own = RuntimeEnvBuilder::from_runtime_env(&runtime).with_object_store_registry(objects).build_arc()?;
        for url in [Place::Log.url()?, Place::Runs.url()?] {
            if let Ok(store) = runtime.object_store(&url) {
                own.register_object_store(url.as_ref(), store);
            }
        }
        let stores = others.iter().filter_map(|(_, other)| other.store.as_ref()).chain(&self.store);
        for (url, store) in stores {
            own.register_object_store(url.as_ref(), store.objects());
        }
        for (as_of, other) in others {
            let Some(catalog) = other.context.catalog(CATALOG) else { continue };
            for name in catalog.schema_names() {
                schemas.extend(catalog.schema(&name).map(|schema| (schema_at(&name, *as_of), schema)));
            }
        }
        let catalogs = MemoryCatalogProviderList::new();
        if let Some(here) = self.context.catalog(CATALOG) {
            catalogs.register_catalog(CATALOG.to_owned(), Arc::new(WithOthers { here, schemas }));
        }
        let state = SessionStateBuilder::new_from_existing(state);
        Ok(SessionContext::new_with_state(state.with_catalog_list(Arc::new(catalogs)).with_runtime_env(own).build()))
    }

    /// Its schemas, those without a table among them.
    pub(crate) fn schemas(&self) -> Vec<String> {
        self.context.catalog(CATALOG).map(|catalog| catalog.schema_names()).unwrap_or_default()
    }

    /// One of its tables, as it is read.
    pub(crate) async fn table(&self, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.context.catalog(CATALOG).and_then(|catalog| catalog.schema(&name.schema)) {
            Some(schema) => Ok(schema.table(&name.name).await?),
            None => Ok(None),
        }
    }

    /// Its state with more functions.
    pub(crate) fn state_with(&self, functions: &[ScalarUDF]) -> Result<SessionState> {
        with_functions(self.state().clone(), functions)
    }

    /// The same version with other tables, and with more functions.
    pub(crate) fn with_tables(
        &self,
        tables: Vec<TableInfo>,
        catalog: Arc<dyn CatalogProvider>,
        functions: &[ScalarUDF],
    ) -> Result<Self> {
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), catalog);
        let state = SessionStateBuilder::new_from_existing(self.context.state()).with_catalog_list(Arc::new(catalogs));
        let context = SessionContext::new_with_state(with_functions(state.build(), functions)?);
        let (tables, state, store) = (tables.into(), OnceLock::new(), self.store.clone());
        Ok(Self { version: self.version, now: self.now, tables, context, state, store })
    }

    /// The log version that every answer is read at.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every table of the lake, by schema and name.
    pub fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    /// Plans one statement that asks for no version by itself.
    ///
    /// # Errors
    /// As [`Self::plan_statement`].
    pub async fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        self.plan_statement(&Statement::parse(sql)?).await
    }

    /// Plans one statement, of which [`Self::for_statement`] made this session. Anything but a query is refused: the lake is
    /// written by `ingest` and `run` alone.
    ///
    /// # Errors
    /// [`Error::Sql`] where the statement does not plan, [`Error::UnknownTable`] and [`Error::UnknownColumn`] with the nearest
    /// name, [`Error::ReadOnly`] for a statement that writes, [`Error::Parameters`] for one that has parameters.
    pub async fn plan_statement(&self, statement: &Statement) -> Result<LogicalPlan> {
        match statement.parameters() {
            0 => self.analyzed(self.unbound(statement).await?),
            needed => Err(Error::Parameters { needed, given: 0 }),
        }
    }

    /// A statement's plan before its types are settled, with its parameters as they are.
    pub(crate) async fn unbound(&self, statement: &Statement) -> Result<LogicalPlan> {
        let state = self.state();
        let plan = state.statement_to_plan(statement.parsed()).await;
        let plan = plan.map_err(|error| Error::planning(error, &self.tables))?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(|_| Error::ReadOnly)?;
        Ok(plan)
    }

    /// Types are final only after analysis; before it, `CASE WHEN a THEN 1 ELSE 2.5 END` says Int64.
    pub(crate) fn analyzed(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let state = self.state();
        let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ());
        analyzed.map_err(|error| Error::planning(error, &self.tables))
    }

    fn state(&self) -> &SessionState {
        self.state.get_or_init(|| catalog::at(&self.context, self.now))
    }
}

fn with_functions(mut state: SessionState, functions: &[ScalarUDF]) -> Result<SessionState> {
    for function in functions {
        state.register_udf(Arc::new(function.clone()))?;
    }
    Ok(state)
}

/// The lake's catalog with schemas of other versions, which are in no listing.
#[derive(Debug)]
struct WithOthers {
    here: Arc<dyn CatalogProvider>,
    schemas: BTreeMap<String, Arc<dyn SchemaProvider>>,
}

impl CatalogProvider for WithOthers {
    fn schema_names(&self) -> Vec<String> {
        self.here.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).cloned().or_else(|| self.here.schema(name))
    }
}
