//! Columns that writers invent at the same moment: every file agrees with the claims and with the table's schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, Float64Array, StringArray};
use futures::future::try_join_all;
use lakebed_ingest::Settings;
use lakebed_log::{Ack, Claim, ColumnType, Log, layout, schema};
use lakebed_tests::batches::{at, batch, decoded, event};
use lakebed_tests::lake::Lake;
use lakebed_tests::rows::{column, file};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

over_every_store!(
    inventions_at_the_same_moment_agree,
    a_second_kind_gets_a_column_of_its_own,
    a_number_goes_where_numbers_go
);

/// The fields of every file stand in the table's schema with the same name, type and field id, and the ids are claims.
async fn assert_files_agree(log: &Log) {
    let snapshot = log.snapshot().await.unwrap();
    let table = snapshot.schema();
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for field in table.fields() {
        assert!(names.insert(field.name().clone()), "'{}' stands twice in the schema", field.name());
        assert!(ids.insert(field.metadata()[PARQUET_FIELD_ID_META_KEY].clone()), "{field} has another's id");
    }
    for claim in snapshot.claims.iter() {
        let stored: Option<Claim> = log.store().get_json(&layout::claim(claim.id)).await.unwrap();
        assert_eq!(stored.as_ref(), Some(claim), "the table's schema is what was claimed");
    }
    for data in &snapshot.files {
        for field in file(log, data).await.schema().fields() {
            let (_, of_table) = table.column_with_name(field.name()).expect("every column of a file is the table's");
            assert_eq!(field.data_type(), of_table.data_type(), "{}", field.name());
            assert_eq!(field.metadata(), of_table.metadata(), "the field id of {}", field.name());
        }
    }
}

/// 12 tasks on 4 handles: the same path with four kinds of value, paths of one name, and paths of their own.
async fn inventions_at_the_same_moment_agree(lake: Lake) {
    let mut handles = Vec::new();
    for _ in 0..4 {
        handles.push(lake.open().await);
    }
    let kinds = ["1.5", r#""text""#, "true", "[1,2]"];
    let task = |task: usize| {
        let log = handles[task % handles.len()].clone();
        let rest = format!(
            r#","value":{},"own{task}":1,"a":{{"b":{}}},"a_b":{}"#,
            kinds[task / 3],
            kinds[(task + 1) % 4],
            kinds[task % 4]
        );
        let batch = batch(&format!("b{task}"), &[event(&format!("e{task}"), &rest)]);
        tokio::spawn(async move { log.append(&batch, Ack::Committed, at(1)).await.map(drop) })
    };
    for outcome in try_join_all((0..12).map(task)).await.unwrap() {
        outcome.unwrap();
    }
    let log = lake.open().await;
    assert_files_agree(&log).await;
    let snapshot = log.snapshot().await.unwrap();
    let of = |path: &[&str]| {
        let of_path =
            snapshot.claims.iter().filter(|claim| claim.path.iter().map(String::as_str).eq(path.iter().copied()));
        of_path.map(|claim| claim.kind).collect::<BTreeSet<_>>()
    };
    let every = BTreeSet::from([ColumnType::Double, ColumnType::Varchar, ColumnType::Boolean, ColumnType::Json]);
    assert_eq!((of(&["value"]), of(&["a", "b"]), of(&["a_b"])), (every.clone(), every.clone(), every));
    assert_eq!(snapshot.claims.iter().count(), 3 * 4 + 12);

    // Each value lies in the column of its own kind, and in no other.
    let name = |path: &str, kind| {
        let claim = snapshot.claims.iter().find(|claim| *claim.path == [path.to_owned()] && claim.kind == kind);
        claim.unwrap().name.clone()
    };
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for data in &snapshot.files {
        let read = file(&log, data).await;
        for kind in [ColumnType::Double, ColumnType::Varchar, ColumnType::Boolean, ColumnType::Json] {
            let values = read.column_by_name(&name("value", kind));
            *found.entry(kind.to_string()).or_default() += values.map_or(0, |all| all.len() - all.null_count());
        }
    }
    let expected = ["BOOLEAN", "DOUBLE", "JSON", "VARCHAR"].map(|kind| (kind.to_owned(), 3));
    assert_eq!(found, BTreeMap::from(expected));
}

async fn a_second_kind_gets_a_column_of_its_own(lake: Lake) {
    let log = lake.open().await;
    let lines = [event("a", r#","value":7"#), event("b", r#","value":"seven""#), event("c", r#","_row":1"#)];
    log.append(&batch("b", &lines), Ack::Committed, at(1)).await.unwrap();
    assert_files_agree(&log).await;
    let read = file(&log, &log.snapshot().await.unwrap().files[0]).await;
    let numbers: &Float64Array = column(&read, "value");
    let texts: &StringArray = column(&read, "value_string");
    assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(7.0), None, None]);
    assert_eq!(texts.iter().collect::<Vec<_>>(), [None, Some("seven"), None]);
    assert_eq!(column::<Float64Array>(&read, "_row_double").value(2), 1.0, "the log's own names are taken");
    assert!(read.column_by_name(schema::ROW).is_some());
}

/// Two writers pin the same path differently: the first claim holds for both, and what does not fit it is null.
async fn a_number_goes_where_numbers_go(lake: Lake) {
    let pinned = |kind: ColumnType| Settings { declared: [("n".to_owned(), kind)].into(), ..Settings::default() };
    let (one, two) = (lake.open().await, lake.open().await);
    let first = decoded("whole", event("a", r#","n":3"#).as_bytes(), &pinned(ColumnType::BigInt));
    one.append(&Arc::new(first), Ack::Committed, at(1)).await.unwrap();
    let text = format!("{}\n{}", event("b", r#","n":4"#), event("c", r#","n":1e300"#));
    let second = decoded("float", text.as_bytes(), &pinned(ColumnType::Double));
    two.append(&Arc::new(second), Ack::Committed, at(2)).await.unwrap();
    assert_files_agree(&two).await;
    let snapshot = two.snapshot().await.unwrap();
    assert_eq!(snapshot.claims.iter().map(|claim| claim.kind).collect::<Vec<_>>(), [ColumnType::BigInt]);
    let read = file(&two, &snapshot.files[1]).await;
    let numbers: &arrow::array::Int64Array = column(&read, "n");
    assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(4), None]);
}
