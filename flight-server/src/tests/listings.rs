//! Metadata calls, with and without a catalog.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use arrow_flight::{FlightInfo, IpcMessage};

use super::lake::lake;
use super::{Client, Running, announced, read};

/// Reads a listing and holds it against what its FlightInfo announced.
async fn listed(client: &mut Client, info: FlightInfo) -> Vec<RecordBatch> {
    assert_eq!(info.app_metadata, "1", "the version");
    assert_eq!(info.total_records, -1);
    assert_eq!(info.endpoint.len(), 1);
    let (schema, batches) = read(client, &info).await;
    assert_eq!(*schema, announced(&info));
    assert!(batches.len() <= 1, "ADBC reads the first batch only");
    batches
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let columns = batches.iter().map(|batch| batch.column_by_name(name).unwrap().as_string::<i32>());
    columns.flat_map(|column| column.iter().map(|value| value.unwrap().to_owned())).collect()
}

fn tables_like(pattern: &str) -> CommandGetTables {
    CommandGetTables { table_name_filter_pattern: Some(pattern.to_owned()), ..CommandGetTables::default() }
}

async fn table_names(client: &mut Client, command: CommandGetTables) -> Vec<String> {
    let info = client.get_tables(command).await.unwrap();
    column(&listed(client, info).await, "table_name")
}

#[tokio::test]
async fn catalogs_schemas_and_table_types() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(column(&listed(&mut client, info).await, "catalog_name"), ["lakebed"]);
    for (catalog, expected) in [(None, 3), (Some("lakebed"), 3), (Some(""), 0), (Some("other"), 0)] {
        let command = CommandGetDbSchemas { catalog: catalog.map(str::to_owned), ..CommandGetDbSchemas::default() };
        let info = client.get_db_schemas(command).await.unwrap();
        let names = column(&listed(&mut client, info).await, "db_schema_name");
        assert_eq!(names, ["bronze", "gold", "silver"][..expected], "catalog {catalog:?}");
    }
    let pattern = CommandGetDbSchemas { db_schema_filter_pattern: Some("%o_d".into()), ..Default::default() };
    let info = client.get_db_schemas(pattern).await.unwrap();
    assert_eq!(column(&listed(&mut client, info).await, "db_schema_name"), ["gold"]);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(column(&listed(&mut client, info).await, "table_type"), ["TABLE", "VIEW"]);
}

#[tokio::test]
async fn tables_by_catalog_pattern_and_type() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let all = table_names(&mut client, CommandGetTables::default()).await;
    assert_eq!(all, ["events", "a_b", "axb", "daily", "endless", "numbers", "types", "orders"]);
    let in_catalog = |catalog: &str| CommandGetTables { catalog: Some(catalog.to_owned()), ..Default::default() };
    assert_eq!(table_names(&mut client, in_catalog("lakebed")).await, all);
    assert!(table_names(&mut client, in_catalog("")).await.is_empty());
    assert_eq!(table_names(&mut client, tables_like("a_b")).await, ["a_b", "axb"]);
    assert_eq!(table_names(&mut client, tables_like("a\\_b")).await, ["a_b"]);
    assert_eq!(table_names(&mut client, tables_like("%a%l%")).await, ["daily"]);
    assert!(table_names(&mut client, tables_like("")).await.is_empty());
    for (asked, answered) in [("TABLE", "TABLE"), ("BASE TABLE", "BASE TABLE"), ("table", "table")] {
        let command = CommandGetTables { table_types: vec!["VIEW".into(), asked.into()], ..tables_like("daily") };
        let info = client.get_tables(command).await.unwrap();
        assert_eq!(column(&listed(&mut client, info).await, "table_type"), [answered]);
    }
    let views = CommandGetTables { table_types: vec!["VIEW".into()], ..Default::default() };
    assert!(table_names(&mut client, views).await.is_empty());
}

#[tokio::test]
async fn table_schemas_are_what_a_query_sends() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let info = client.get_tables(command).await.unwrap();
    let batches = listed(&mut client, info).await;
    assert_eq!(batches[0].num_rows(), 8);
    let names = batches[0].column_by_name("table_name").unwrap().as_string::<i32>();
    let schemas = batches[0].column_by_name("db_schema_name").unwrap().as_string::<i32>();
    let columns = batches[0].column_by_name("table_schema").unwrap().as_binary::<i32>();
    for row in 0..batches[0].num_rows() {
        let listed = Schema::try_from(IpcMessage(columns.value(row).to_vec().into())).unwrap();
        let (schema, table) = (schemas.value(row), names.value(row));
        let info = client.execute(format!("SELECT * FROM lakebed.\"{schema}\".\"{table}\""), None).await.unwrap();
        let queried = announced(&info);
        assert_eq!(listed.fields().len(), queried.fields().len());
        for (listed, queried) in listed.fields().iter().zip(queried.fields()) {
            assert_eq!((listed.name(), listed.data_type()), (queried.name(), queried.data_type()));
            assert!(listed.is_nullable());
            assert_eq!(listed.metadata()["ARROW:FLIGHT:SQL:TABLE_NAME"], table);
            assert_eq!(listed.metadata()["ARROW:FLIGHT:SQL:SCHEMA_NAME"], schema);
            assert_eq!(listed.metadata()["ARROW:FLIGHT:SQL:CATALOG_NAME"], "lakebed");
        }
    }
}

#[tokio::test]
async fn keys_and_references_are_real() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    for (catalog, schema, expected) in [(None, None, 2), (Some("lakebed"), Some("gold"), 2), (Some("x"), None, 0)] {
        let command = CommandGetPrimaryKeys {
            catalog: catalog.map(str::to_owned),
            db_schema: schema.map(str::to_owned),
            table: "daily".to_owned(),
        };
        let info = client.get_primary_keys(command).await.unwrap();
        let names = column(&listed(&mut client, info).await, "column_name");
        assert_eq!(names, ["day", "country"][..expected], "catalog {catalog:?}");
    }
    let place = |table: &str| (Some("lakebed".to_owned()), None, table.to_owned());
    for (of, to, expected) in [("daily", "orders", 1), ("orders", "daily", 0)] {
        let (catalog, db_schema, table) = place(of);
        let imported = client.get_imported_keys(CommandGetImportedKeys { catalog, db_schema, table }).await.unwrap();
        let (catalog, db_schema, table) = place(to);
        let exported = client.get_exported_keys(CommandGetExportedKeys { catalog, db_schema, table }).await.unwrap();
        let reference = CommandGetCrossReference { pk_table: to.into(), fk_table: of.into(), ..Default::default() };
        let reference = client.get_cross_reference(reference).await.unwrap();
        for info in [imported, exported, reference] {
            assert_eq!(announced(&info).fields().len(), 13);
            let keys = listed(&mut client, info).await;
            assert_eq!(keys.iter().map(RecordBatch::num_rows).sum::<usize>(), expected, "{of} to {to}");
            if expected == 1 {
                let column = |name: &str| column(&keys, name).remove(0);
                assert_eq!((column("pk_table_name"), column("pk_column_name")), ("orders".into(), "id".into()));
                assert_eq!((column("fk_table_name"), column("fk_column_name")), ("daily".into(), "country".into()));
                assert_eq!(
                    (column("pk_key_name"), column("fk_key_name")),
                    ("orders_key".into(), "daily_country_fkey".into())
                );
            }
        }
    }
}

#[tokio::test]
async fn the_server_describes_itself_and_its_types() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let info = client.get_sql_info(vec![]).await.unwrap();
    let everything = listed(&mut client, info).await;
    assert!(everything[0].num_rows() > 80);
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    let one = listed(&mut client, info).await;
    let name = one[0].column(1).as_union().value(0);
    assert_eq!(name.as_string::<i32>().value(0), "lakebed");
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    assert_eq!(listed(&mut client, info).await[0].num_rows(), 13);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(12) }).await.unwrap();
    let text = listed(&mut client, info).await;
    assert_eq!(column(&text, "type_name"), ["VARCHAR"]);
    assert_eq!(
        text[0].column_by_name("create_params").unwrap().data_type(),
        &DataType::new_list(DataType::Utf8, false)
    );
}
