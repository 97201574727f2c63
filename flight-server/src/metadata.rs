//! What clients ask about the lake before they query it: catalogs, schemas, tables, columns, keys, types.
//!
//! There is one catalog, [`CATALOG`]. A filter that is absent means all; an empty catalog means the tables
//! without one, of which there are none. Patterns know `%`, `_` and the escape `\`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::{Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use lakebed_query::catalog::CATALOG;
use lakebed_query::{ForeignKey, ReadSession, TableInfo, TableKind};
use tonic::Status;

use crate::error::Result;
use crate::wire::{Wire, wire_schema};
use crate::{sql_info, status, type_info};

/// What the log and the models are.
const TABLE: &str = "TABLE";
/// What the lake says of itself is computed when it is asked.
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
            Command::CommandGetExportedKeys(command) => {
                let to = Place::new(command.catalog, command.db_schema, command.table);
                foreign_keys(session.tables(), |_, to_table| to.is(to_table))
            }
            Command::CommandGetImportedKeys(command) => {
                let of = Place::new(command.catalog, command.db_schema, command.table);
                foreign_keys(session.tables(), |of_table, _| of.is(of_table))
            }
            Command::CommandGetCrossReference(command) => {
                let to = Place::new(command.pk_catalog, command.pk_db_schema, command.pk_table);
                let of = Place::new(command.fk_catalog, command.fk_db_schema, command.fk_table);
                foreign_keys(session.tables(), |of_table, to_table| to.is(to_table) && of.is(of_table))
            }
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
    let asked = |is_it: fn(&str) -> bool, otherwise: &str| match command.table_types.is_empty() {
        true => Some(otherwise.to_owned()),
        false => command.table_types.iter().find(|word| is_it(word)).cloned(),
    };
    let words = (asked(is_table_word, TABLE), asked(|word| word.eq_ignore_ascii_case(VIEW), VIEW));
    let with_columns = command.include_schema;
    let mut builder = command.into_builder();
    let no_columns = Schema::empty();
    for table in tables {
        let word = match table.kind {
            TableKind::Table => &words.0,
            TableKind::System => &words.1,
        };
        let Some(word) = word else { continue };
        let columns = if with_columns { table_columns(table) } else { no_columns.clone() };
        builder.append(CATALOG, &table.schema, &table.name, word, &columns)?;
    }
    builder.build()
}

fn is_table_word(word: &str) -> bool {
    word.eq_ignore_ascii_case(TABLE) || word.eq_ignore_ascii_case("BASE TABLE")
}

/// The columns as a query over the table would send them, and where they are.
fn table_columns(table: &TableInfo) -> Schema {
    let wire = wire_schema(&table.columns, Wire::Compat);
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

/// A table as a call names it: by all of its name or a part.
struct Place {
    catalog: Option<String>,
    schema: Option<String>,
    table: String,
}

impl Place {
    fn new(catalog: Option<String>, schema: Option<String>, table: String) -> Self {
        Self { catalog, schema, table }
    }

    fn is(&self, (schema, table): (&str, &str)) -> bool {
        self.catalog.as_deref().is_none_or(|catalog| catalog == CATALOG)
            && self.schema.as_deref().is_none_or(|asked| asked == schema)
            && self.table == table
    }
}

/// The foreign keys that are asked for, by the names of both tables.
fn foreign_keys(
    tables: &[TableInfo],
    is_asked: impl Fn((&str, &str), (&str, &str)) -> bool,
) -> Result<RecordBatch, FlightError> {
    let keys = tables.iter().flat_map(|table| table.foreign_keys.iter().map(move |key| (table, key)));
    let mut keys: Vec<(&TableInfo, &ForeignKey)> =
        keys.filter(|(of, to)| is_asked((&of.schema, &of.name), (&to.to_schema, &to.to_table))).collect();
    keys.sort_by_key(|(of, to)| (&to.to_schema, &to.to_table, &of.schema, &of.name, &to.column));
    let text = |of: &dyn Fn(&TableInfo, &ForeignKey) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(keys.iter().map(|(table, key)| of(table, key))))
    };
    let rows = keys.len();
    // The key that it refers to has a name where it is the other table's own.
    let primary = keys.iter().map(|(_, key)| {
        let to = tables.iter().find(|table| table.schema == key.to_schema && table.name == key.to_table);
        to.filter(|to| to.key == [key.to_column.clone()]).map(key_name)
    });
    let columns = vec![
        text(&|_, _| CATALOG.to_owned()),
        text(&|_, to| to.to_schema.clone()),
        text(&|_, to| to.to_table.clone()),
        text(&|_, to| to.to_column.clone()),
        text(&|_, _| CATALOG.to_owned()),
        text(&|of, _| of.schema.clone()),
        text(&|of, _| of.name.clone()),
        text(&|_, to| to.column.clone()),
        Arc::new(Int32Array::from(vec![1; rows])),
        text(&|of, to| format!("{}_{}_fkey", of.name, to.column)),
        Arc::new(primary.collect::<StringArray>()),
        Arc::new(UInt8Array::from(vec![NO_ACTION; rows])),
        Arc::new(UInt8Array::from(vec![NO_ACTION; rows])),
    ];
    Ok(RecordBatch::try_new(foreign_key_schema(), columns)?)
}

/// What a change of the other table does: nothing, for a check only tells. The protocol's `UpdateDeleteRules.NO_ACTION`.
const NO_ACTION: u8 = 3;

fn key_name(table: &TableInfo) -> String {
    format!("{}_key", table.name)
}

fn primary_keys(command: &CommandGetPrimaryKeys, tables: &[TableInfo]) -> Result<RecordBatch, FlightError> {
    let place = Place::new(command.catalog.clone(), command.db_schema.clone(), command.table.clone());
    let asked = |table: &&TableInfo| place.is((&table.schema, &table.name));
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
        text(&|table, _| key_name(table)),
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
