//! Read-only SQL over one version of the lake: what `lakebed query` and the Flight server run statements on.

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;

use crate::catalog;
use crate::error::{Error, Result};

/// A table as people see it in a catalog.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// `bronze`, `silver` or `gold`.
    pub schema: String,
    /// The table's name, without its schema.
    pub name: String,
    /// The first sentence of the model's header, if it has one.
    pub description: Option<String>,
    /// The key columns, empty where the table has none.
    pub key: Vec<String>,
    /// Names and types as DataFusion gives them.
    pub columns: SchemaRef,
}

/// The lake at one version, open for SELECT.
pub struct ReadSession {
    version: u64,
    now: DateTime<Utc>,
    tables: Vec<TableInfo>,
    context: SessionContext,
}

impl ReadSession {
    /// A session over `context`, whose catalog already holds `tables` as of `version`; its `now()` is `now`.
    pub fn new(version: u64, now: DateTime<Utc>, tables: Vec<TableInfo>, context: SessionContext) -> Self {
        Self { version, now, tables, context }
    }

    /// The log version that every answer is read at.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every table of the lake, by schema and name.
    pub fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    /// Plans one statement. Anything but a query is refused: the lake is written by `ingest` and `run` alone.
    ///
    /// # Errors
    /// [`Error::Sql`] where the statement does not parse or plan, [`Error::UnknownTable`] and
    /// [`Error::UnknownColumn`] with the nearest name, [`Error::ReadOnly`] for a statement that writes.
    pub async fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        let state = catalog::at(&self.context, self.now);
        let plan = state.create_logical_plan(sql).await.map_err(|error| Error::planning(error, &self.tables))?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(|_| Error::ReadOnly)?;
        // Types are final only after analysis; before it, `CASE WHEN a THEN 1 ELSE 2.5 END` says Int64.
        let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ());
        analyzed.map_err(|error| Error::planning(error, &self.tables))
    }

    /// Runs a plan of [`Self::plan`]; dropping the stream stops the work.
    ///
    /// # Errors
    /// [`Error::Sql`] where the plan cannot be optimized or started.
    pub async fn stream(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let state = catalog::at(&self.context, self.now);
        let physical = state.create_physical_plan(&plan).await;
        let physical = physical.map_err(|error| Error::planning(error, &self.tables))?;
        execute_stream(physical, state.task_ctx()).map_err(|error| Error::planning(error, &self.tables))
    }
}
