//! Plans over slots: a query is planned once over tables that have only a schema, and runs over whichever rows are put into
//! these slots: all rows of an epoch, those that came, those that went, or what an operator gave.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::seeds::ALL_OF_SEEDS;

/// A table of which only the columns are known.
#[derive(Debug)]
pub(crate) struct Slot(pub(crate) SchemaRef);

#[async_trait]
impl TableProvider for Slot {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a slot holds no rows")
    }
}

/// What is put into slots, by the name under which the plan scans them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filling(HashMap<String, Arc<dyn TableProvider>>);

impl Filling {
    /// Fills a slot.
    pub(crate) fn put(&mut self, name: impl Into<String>, table: Arc<dyn TableProvider>) {
        self.0.insert(name.into(), table);
    }

    /// Whether a slot is filled.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The slots of all rows of seeds alone.
    pub(crate) fn seeds(&self) -> Self {
        let is_seed = |name: &str| name.split_once('.').is_some_and(|(schema, _)| schema == ALL_OF_SEEDS);
        Self(
            self.0
                .iter()
                .filter(|(name, _)| is_seed(name))
                .map(|(name, table)| (name.clone(), table.clone()))
                .collect(),
        )
    }

    /// The plan over what fills its slots.
    ///
    /// # Errors
    /// Where a slot is not filled, or with other columns than it has.
    pub(crate) fn bind(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.bound(plan, false)
    }

    /// The same, where a slot that is not filled has no rows, but for those of all rows of seeds.
    ///
    /// # Errors
    /// Where a slot is filled with other columns than it has.
    pub(crate) fn bind_or_empty(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.bound(plan, true)
    }

    fn bound(&self, plan: &LogicalPlan, or_empty: bool) -> Result<LogicalPlan> {
        let bound = plan.clone().transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
            let filling = self.0.get(&slot_name(&scan.table_name)).cloned();
            let empty = || -> Arc<dyn TableProvider> { Arc::new(EmptyTable::new(scan.source.schema())) };
            // What is in no schema is a table that the query makes by itself, and a seed is never half there.
            let or_empty = or_empty && scan.table_name.schema().is_some_and(|schema| schema != ALL_OF_SEEDS);
            let Some(table) = filling.or_else(|| or_empty.then(empty)) else { return Ok(Transformed::no(node)) };
            let Some(view) = table.get_logical_plan() else {
                let scan = TableScanBuilder::new(scan.table_name.clone(), provider_as_source(Arc::clone(&table)))
                    .with_projection(scan.projection.clone())
                    .with_filters(scan.filters.clone())
                    .with_fetch(scan.fetch);
                return Ok(Transformed::yes(LogicalPlan::TableScan(scan.build()?)));
            };
            let mut rows = LogicalPlanBuilder::from(view.into_owned()).alias(scan.table_name.clone())?;
            if let Some(projection) = &scan.projection {
                let columns = rows.schema().columns();
                rows = rows.project(projection.iter().map(|at| Expr::Column(columns[*at].clone())))?;
            }
            Ok(Transformed::yes(rows.build()?))
        })?;
        Ok(bound.data)
    }
}

/// The name of a scanned table, as slots have it: with its schema, without its catalog.
pub(crate) fn slot_name(table: &TableReference) -> String {
    match table.schema() {
        Some(schema) => format!("{schema}.{}", table.table()),
        None => table.table().to_owned(),
    }
}

/// The names of all tables that a plan scans.
///
/// # Errors
/// None that a plan of DataFusion's has.
pub(crate) fn scanned(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.insert(slot_name(&scan.table_name));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}
