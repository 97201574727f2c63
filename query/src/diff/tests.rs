//! What differs between two tables, against rows that are counted one by one.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::Float64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Utc};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use lakebed_log::Store;
use proptest::prelude::*;

use super::*;
use crate::catalog;

/// Rows of a key, a number and a list of one float.
type Row = (Option<i64>, Option<f64>, Option<f64>);

fn table(rows: &[Row]) -> RecordBatch {
    let lists = rows.iter().map(|row| Some(vec![row.2]));
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)))),
        ("x", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1)))),
        ("change", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0.map(|key| format!("text {key}")))))),
        ("l", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

async fn differing(
    before: &RecordBatch,
    after: &RecordBatch,
    key: &[&str],
    memory: usize,
) -> (Vec<String>, DiffCounts) {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context: SessionContext = catalog::session(&lake, &runs).unwrap();
    for (name, rows) in [("before", before), ("after", after)] {
        // Two partitions, in small batches.
        let mut partitions = vec![Vec::new(), Vec::new()];
        for from in (0..rows.num_rows()).step_by(7) {
            partitions[from % 2].push(rows.slice(from, 7.min(rows.num_rows() - from)));
        }
        let table = Arc::new(MemTable::try_new(rows.schema(), partitions).unwrap());
        catalog::register(&context, "gold", name, table).unwrap();
    }
    let session = ReadSession::new(0, DateTime::<Utc>::UNIX_EPOCH, Vec::new(), context);
    let plans =
        [session.plan("SELECT * FROM before").await.unwrap(), session.plan("SELECT * FROM after").await.unwrap()];
    let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    let mut rows = compare(&session, plans, &key, memory).await.unwrap();
    let mut told = Vec::new();
    while let Some(batch) = rows.try_next().await.unwrap() {
        let options = FormatOptions::default().with_null("null");
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            told.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" "));
        }
    }
    (told, rows.counts())
}

const PLENTY: usize = 1 << 30;

#[tokio::test]
async fn a_row_whose_key_is_on_both_sides_is_one_change() {
    let before = table(&[
        (Some(1), Some(1.0), None),
        (Some(2), Some(2.0), None),
        (Some(3), None, None),
        (None, Some(9.0), None),
    ]);
    let after = table(&[
        (Some(3), Some(3.0), None),
        (None, Some(8.0), None),
        (Some(4), Some(4.0), None),
        (Some(1), Some(1.0), None),
    ]);
    let (told, counts) = differing(&before, &after, &["k"], PLENTY).await;
    assert_eq!(
        told,
        [
            "removed 2 2.0 text 2 [null]",
            "before 3 null text 3 [null]",
            "after 3 3.0 text 3 [null]",
            "added 4 4.0 text 4 [null]",
            "before null 9.0 null [null]",
            "after null 8.0 null [null]",
        ]
    );
    assert_eq!(counts, DiffCounts { added: 1, removed: 1, changed: 2 });
    let (told, counts) = differing(&before, &before, &["k"], PLENTY).await;
    assert_eq!((told.len(), counts), (0, DiffCounts::default()));
}

#[tokio::test]
async fn zeros_and_nans_are_one_value_in_keys_and_in_rows_and_in_lists() {
    let (zero, nan) = (Some(0.0), Some(f64::NAN));
    let other_nan = Some(f64::from_bits(f64::NAN.to_bits() | 1));
    let before = table(&[(Some(1), zero, nan), (Some(2), nan, zero), (Some(3), zero, None)]);
    let after =
        table(&[(Some(1), Some(-0.0), other_nan), (Some(2), other_nan, Some(-0.0)), (Some(3), Some(-0.0), zero)]);
    let expected = ["before 3 0.0 text 3 [null]", "after 3 -0.0 text 3 [0.0]"];
    assert_eq!(differing(&before, &after, &["k"], PLENTY).await.0, expected);
    assert_eq!(differing(&before, &after, &["x", "k"], PLENTY).await.0, expected);
    let expected = ["removed 3 0.0 text 3 [null]", "added 3 -0.0 text 3 [0.0]"];
    let mut told = differing(&before, &after, &[], PLENTY).await.0;
    told.sort_by_key(|row| row.starts_with("added"));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn without_a_key_copies_count_and_a_key_that_is_none_pairs_nothing() {
    let (one, two) = ((Some(1), Some(1.0), None), (Some(1), Some(2.0), None));
    let (before, after) = (table(&[one, one, one, two]), table(&[one, two, two, two]));
    let (told, counts) = differing(&before, &after, &[], PLENTY).await;
    let copies = |text: &str| told.iter().filter(|row| *row == text).count();
    assert_eq!((copies("removed 1 1.0 text 1 [null]"), copies("added 1 2.0 text 1 [null]"), told.len()), (2, 2, 4));
    assert_eq!(counts, DiffCounts { added: 2, removed: 2, changed: 0 });
    assert_eq!(differing(&before, &after, &["k"], PLENTY).await.1, counts);
    // One row left on each side is a change, whatever cancelled out beside it.
    let (before, after) = (table(&[one, one]), table(&[one, two]));
    assert_eq!(differing(&before, &after, &["k"], PLENTY).await.1, DiffCounts { added: 0, removed: 0, changed: 1 });
    let (told, _) = differing(&table(&[]), &after, &["k"], PLENTY).await;
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn more_rows_than_memory_are_told_all_the_same() {
    let rows = |of: f64| (0..100_000).map(|key| (Some(key * 7_919 % 100_000), Some(of), None)).collect::<Vec<Row>>();
    let (before, after) = (table(&rows(1.0)), table(&rows(2.0)));
    let (told, counts) = differing(&before, &after, &["k"], 16 << 20).await;
    assert_eq!(counts, DiffCounts { added: 0, removed: 0, changed: 100_000 });
    let keys = told.iter().map(|row| row.split(' ').nth(1).unwrap().parse::<i64>().unwrap());
    assert!(keys.eq((0..100_000).flat_map(|key| [key, key])), "by their keys, each before and after");
}

/// A few keys and values, so that there are copies and keys on both sides.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let float = || prop_oneof![Just(None), Just(Some(0.0)), Just(Some(-0.0)), Just(Some(f64::NAN)), Just(Some(1.5))];
    prop::collection::vec((prop::option::of(0..4_i64), float(), float()), 0..30)
}

/// A row as the content hash sees it.
fn seen(row: &Row) -> String {
    let float = |value: Option<f64>| value.map(|value| if value == 0.0 { 0.0 } else { value });
    format!("{:?} {:?} {:?}", row.0, float(row.1), float(row.2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_rows_are_the_counts_are_those_of_two_multisets(before in rows(), after in rows()) {
        let mut more: BTreeMap<Option<i64>, BTreeMap<String, i64>> = BTreeMap::new();
        for (rows, sign) in [(&before, -1), (&after, 1)] {
            for row in rows {
                *more.entry(row.0).or_default().entry(seen(row)).or_default() += sign;
            }
        }
        let (mut whole, mut keyed) = (DiffCounts::default(), DiffCounts::default());
        for rows in more.values() {
            let came: i64 = rows.values().filter(|more| **more > 0).sum();
            let went: i64 = -rows.values().filter(|more| **more < 0).sum::<i64>();
            whole = DiffCounts { added: whole.added + came as u64, removed: whole.removed + went as u64, changed: 0 };
            match (came, went) {
                (1, 1) => keyed.changed += 1,
                _ => (keyed.added, keyed.removed) = (keyed.added + came as u64, keyed.removed + went as u64),
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (key, expected) in [(&[][..], whole), (&["k"], keyed)] {
            let (told, counts) = runtime.block_on(differing(&table(&before), &table(&after), key, PLENTY));
            prop_assert_eq!(counts, expected);
            prop_assert_eq!(told.len() as u64, expected.added + expected.removed + 2 * expected.changed);
        }
    }
}
