//! Parquet files of the lake as a DataFusion table: the data files of the log, and the runs of a model.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, project_schema};
use lakebed_log::layout;
use parquet::arrow::arrow_reader::RowSelection;
use uuid::Uuid;

use crate::sql::conditions::in_order;

/// Which of a session's stores holds a table's files. They are one and the same, but where a replay keeps its runs away from
/// the lake.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The log's data files.
    Log,
    /// The models' runs.
    Runs,
    /// The runs of models that were computed for readers of an earlier version.
    Earlier(Uuid),
}

impl Place {
    /// The URL under which the store is registered in a session.
    pub(crate) fn url(self) -> Result<ObjectStoreUrl> {
        ObjectStoreUrl::parse(match self {
            Self::Log => "lake://log".to_owned(),
            Self::Runs => "lake://runs".to_owned(),
            Self::Earlier(id) => format!("lake://{}", id.simple()),
        })
    }
}

/// A fixed list of files. What a file lacks of the schema reads as null.
#[derive(Debug)]
pub(crate) struct ParquetTable {
    place: Place,
    schema: TableSchema,
    files: Vec<PartitionedFile>,
}

/// One of the files: its path in the lake, its size, the values of the columns that are not in it, and which of its rows
/// are the table's, if not all.
#[derive(Clone, Debug)]
pub(crate) struct TableFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) constants: Vec<ScalarValue>,
    pub(crate) rows: Option<RowSelection>,
}

impl ParquetTable {
    /// A table with the columns of the files, then those that are constant in each file.
    pub(crate) fn new(
        place: Place,
        columns: SchemaRef,
        constants: Vec<FieldRef>,
        files: impl IntoIterator<Item = TableFile>,
    ) -> Self {
        let file = |file: TableFile| {
            let location = layout::stored(&file.path);
            let mut listed = PartitionedFile::new(file.path, file.bytes).with_partition_values(file.constants);
            // Its own would be spelled a second time.
            listed.object_meta.location = location;
            match file.rows {
                Some(rows) => listed.with_extension(ParquetRowSelection::new(rows)),
                None => listed,
            }
        };
        let schema = TableSchema::builder(columns).with_table_partition_cols(constants).build();
        Self { place, schema, files: files.into_iter().map(file).collect() }
    }

    /// The files in `count` groups of about the same size, each group in the order of the files.
    fn groups(&self, count: usize) -> Vec<FileGroup> {
        let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); count.max(1)];
        for file in &self.files {
            if let Some(lightest) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                lightest.0 += file.object_meta.size;
                lightest.1.push(file.clone());
            }
        }
        groups.into_iter().filter(|(_, files)| !files.is_empty()).map(|(_, files)| FileGroup::new(files)).collect()
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A filter prunes files and row groups by their statistics; the rows are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            // A scan without files has no partition either, which DataFusion's checks do not take for one.
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema(), projection)?)));
        }
        let mut source = ParquetSource::new(self.schema.clone());
        if let Some(filter) = conjunction(in_order(filters)) {
            let columns = DFSchema::try_from(self.schema())?;
            source = source.with_predicate(state.create_physical_expr(filter, &columns)?);
        }
        let scan = FileScanConfigBuilder::new(self.place.url()?, Arc::new(source))
            .with_file_groups(self.groups(state.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}
