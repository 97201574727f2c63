//! What clients ask about the lake before they query it: catalogs, schemas, tables, columns, keys, types.
//!
//! There is one catalog, [`CATALOG`]. A filter that is absent means all; an empty catalog means the tables
//! without one, of which there are none. Patterns know `%`, `_` and the escape `\`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::{Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use lakebed_query::{ReadSession, TableInfo};
use tonic::Status;

use crate::error::Result;
use crate::wire::wire_schema;
use crate::{sql_info, status, type_info};

/// The name of the one catalog.
pub(crate) const CATALOG: &str = "lakebed";

/// The one type that tables of the lake have.
const TABLE: &str = "TABLE";
/// Listed for clients that show a folder for it.
const VIEW: &str = "VIEW";

/// Answers about one server: what does not change with the log is built once.
pub(crate) struct Metadata {
    sql_info: SqlInfoData,
    types: XdbcTypeInfoData,
}

impl Metadata {
    /// # Errors
    /// Where arrow-flight cannot build its own tables.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { sql_info: sql_info::describe()?, types: type_info::xdbc_types()? })
    }

    /// The columns of the answer to `command`, or `None` where it is no metadata call.
    pub(crate) fn schema(&self, command: &Command) -> Option<SchemaRef> {
        Some(match command {
            Command::CommandGetCatalogs(command) => command.into_builder().schema(),
            Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
            Command::CommandGetTables(command) => command.clone().into_builder().schema(),
            Command::CommandGetTableTypes(command) => command.into_builder().schema(),
            Command::CommandGetSqlInfo(_) => self.sql_info.schema(),
            Command::CommandGetXdbcTypeInfo(_) => self.types.schema(),
            Command::CommandGetPrimaryKeys(_) => primary_key_schema(),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => foreign_key_schema(),
            _ => return None,
        })
    }

    /// The whole answer to `command` in one batch, or `None` where it is no metadata call.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a pattern that cannot be read.
    pub(crate) fn rows(&self, command: Command, session: &ReadSession) -> Result<Option<RecordBatch>, Status> {
        let batch = match command {
            Command::CommandGetCatalogs(command) => {
                let mut catalogs = command.into_builder();
                catalogs.append(CATALOG);
                catalogs.build()
            }
            Command::CommandGetDbSchemas(command) => schemas(command, session.tables()),
            Command::CommandGetTables(command) => tables(command, session.tables()),
            Command::CommandGetTableTypes(command) => {
                let mut types = command.into_builder();
                types.append(TABLE);
                types.append(VIEW);
                types.build()
            }
            Command::CommandGetSqlInfo(command) => command.into_builder(&self.sql_info).build(),
            Command::CommandGetXdbcTypeInfo(command) => command.into_builder(&self.types).build(),
            Command::CommandGetPrimaryKeys(command) => primary_keys(&command, session.tables()),
            // No table of the lake refers to another one.
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(foreign_key_schema())),
            _ => return Ok(None),
        };
        batch.map(Some).map_err(|error| match error {
            FlightError::Arrow(error) => status::of_arrow(&error),
            other => Status::internal(other.to_string()),
        })
    }
}

fn schemas(command: CommandGetDbSchemas, tables: &[TableInfo]) -> Result<RecordBatch, FlightError> {
    let mut builder = command.into_builder();
    for schema in tables.iter().map(|table| table.schema.as_str()).collect::<BTreeSet<_>>() {
        builder.append(CATALOG, schema);
    }
    builder.build()
}

fn tables(command: CommandGetTables, tables: &[TableInfo]) -> Result<RecordBatch, FlightError> {
    // Answered in the word that was asked: JDBC tools compare it with their own.
    let asked = command.table_types.iter().find(|word| is_table_word(word)).cloned();
    let word = match command.table_types.is_empty() {
        true => Some(TABLE.to_owned()),
        false => asked,
    };
    let with_columns = command.include_schema;
    let mut builder = command.into_builder();
    let Some(word) = word else { return builder.build() };
    let no_columns = Schema::empty();
    for table in tables {
        let columns = if with_columns { table_columns(table) } else { no_columns.clone() };
        builder.append(CATALOG, &table.schema, &table.name, &word, &columns)?;
    }
    builder.build()
}

fn is_table_word(word: &str) -> bool {
    word.eq_ignore_ascii_case(TABLE) || word.eq_ignore_ascii_case("BASE TABLE")
}

/// The columns as a query over the table would send them, and where they are.
fn table_columns(table: &TableInfo) -> Schema {
    let wire = wire_schema(&table.columns);
    let fields = wire.fields().iter().map(|field| {
        let mut metadata = field.metadata().clone();
        metadata.insert("ARROW:FLIGHT:SQL:CATALOG_NAME".to_owned(), CATALOG.to_owned());
        metadata.insert("ARROW:FLIGHT:SQL:SCHEMA_NAME".to_owned(), table.schema.clone());
        metadata.insert("ARROW:FLIGHT:SQL:TABLE_NAME".to_owned(), table.name.clone());
        field.as_ref().clone().with_metadata(metadata)
    });
    Schema::new(fields.collect::<Vec<_>>()).with_metadata(table_metadata(table))
}

fn table_metadata(table: &TableInfo) -> HashMap<String, String> {
    let description = table.description.iter();
    description.map(|description| ("ARROW:FLIGHT:SQL:REMARKS".to_owned(), description.clone())).collect()
}

fn primary_keys(command: &CommandGetPrimaryKeys, tables: &[TableInfo]) -> Result<RecordBatch, FlightError> {
    let in_catalog = command.catalog.as_deref().is_none_or(|catalog| catalog == CATALOG);
    let asked = |table: &&TableInfo| {
        in_catalog
            && table.name == command.table
            && command.db_schema.as_deref().is_none_or(|schema| schema == table.schema)
    };
    let mut found: Vec<&TableInfo> = tables.iter().filter(asked).collect();
    found.sort_by(|left, right| left.schema.cmp(&right.schema));
    let keys: Vec<(&TableInfo, &String, i32)> = found
        .into_iter()
        .flat_map(|table| table.key.iter().zip(1..).map(move |(column, place)| (table, column, place)))
        .collect();
    let text = |of: &dyn Fn(&TableInfo, &str) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(keys.iter().map(|(table, column, _)| of(table, column))))
    };
    let columns = vec![
        text(&|_, _| CATALOG.to_owned()),
        text(&|table, _| table.schema.clone()),
        text(&|table, _| table.name.clone()),
        text(&|_, column| column.to_owned()),
        text(&|table, _| format!("{}_key", table.name)),
        Arc::new(Int32Array::from_iter_values(keys.iter().map(|(_, _, place)| *place))),
    ];
    Ok(RecordBatch::try_new(primary_key_schema(), columns)?)
}

fn primary_key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// One shape for imported and exported keys and the cross reference.
fn foreign_key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
