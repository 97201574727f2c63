//! A table whose rows are looked for when they are asked.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// Where the rows come from.
#[async_trait]
pub(crate) trait Load: Send + Sync + 'static {
    /// The table that is scanned; asked for at each scan.
    ///
    /// # Errors
    /// Whatever goes wrong on the way to the rows.
    async fn load(&self) -> crate::Result<Arc<dyn TableProvider>>;
}

/// A table of which only the columns are known.
pub(crate) struct LazyTable<L> {
    pub(crate) columns: SchemaRef,
    pub(crate) kind: TableType,
    pub(crate) rows: L,
}

impl<L> fmt::Debug for LazyTable<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyTable").field("columns", &self.columns).finish_non_exhaustive()
    }
}

#[async_trait]
impl<L: Load> TableProvider for LazyTable<L> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // What is loaded may use them, and may not: the rows are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let loaded = self.rows.load().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        loaded.scan(state, projection, filters, limit).await
    }
}
