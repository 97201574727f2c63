//! Models over change data: rows that replace others, deletes, and changes that come in any order.

use lakebed_log::Ack;
use lakebed_query::Lakehouse;
use lakebed_tests::batches::{at, batch, event};
use tempfile::TempDir;

use crate::grouped::shown;
use crate::models::lake_of;
use crate::pipeline::tables;

const MODELS: &[(&str, &str)] = &[
    (
        "silver/customers.sql",
        "-- The customers as they are.\n-- key: id\n-- sequence: lsn\n-- delete: op = 'd'\n\
         SELECT id, name, op, CAST(lsn AS BIGINT) AS lsn FROM bronze.events",
    ),
    (
        "silver/customer_history.sql",
        "-- key: id\n-- sequence: lsn\n-- delete: op = 'd'\n-- history: 2\n\
         SELECT id, name, op, CAST(lsn AS BIGINT) AS lsn FROM bronze.events",
    ),
    ("gold/names.sql", "SELECT name, count(*) AS customers, sum(lsn) AS lsns FROM silver.customers GROUP BY name"),
];

/// Appends changes `id name op lsn` as a batch.
async fn append(lake: &Lakehouse, number: i64, changes: &[&str]) {
    let line = |(at, change): (usize, &&str)| {
        let words: Vec<_> = change.split(' ').collect();
        let fields = format!(r#","id":"{}","name":"{}","op":"{}","lsn":{}"#, words[0], words[1], words[2], words[3]);
        event(&format!("{number}-{at}"), &fields)
    };
    let lines: Vec<_> = changes.iter().enumerate().map(line).collect();
    lake.log().append(&batch(&format!("b{number}"), &lines), Ack::Committed, at(number)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greatest_sequence_counts_whenever_it_comes() {
    let (steps, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (stepped, at_once) = (lake_of(steps.path(), MODELS).await, lake_of(whole.path(), MODELS).await);
    let batches: [&[&str]; 4] = [
        &["1 Ann c 10", "2 Bob c 11", "3 Cid d 30"],
        // An older change that comes late, an insert that is older than its delete, and a delete.
        &["1 Anna u 12", "1 An u 9", "3 Cid c 29", "2 Bob d 13"],
        // Of two with one sequence the one that came last.
        &["1 Anne u 14", "1 Annie u 14"],
        &["2 Rob c 15", "3 Sid c 31"],
    ];
    for (changes, step) in batches.iter().zip(1..) {
        append(&stepped, step, changes).await;
        append(&at_once, step, changes).await;
        stepped.refresh(&[], &()).await.unwrap();
        let customers = shown(&stepped, None, "SELECT id, name, lsn FROM silver.customers").await;
        let expected: &[&str] = match step {
            1 => &["1|Ann|10", "2|Bob|11"],
            2 => &["1|Anna|12"],
            3 => &["1|Annie|14"],
            _ => &["1|Annie|14", "2|Rob|15", "3|Sid|31"],
        };
        assert_eq!(customers, expected, "after batch {step}");
    }
    at_once.refresh(&[], &()).await.unwrap();
    assert_eq!(tables(&stepped).await, tables(&at_once).await);
    let history = "SELECT id, name, valid_from, valid_to, is_current FROM silver.customer_history";
    assert_eq!(
        shown(&stepped, None, history).await,
        [
            "1|Anna|12|14|false",
            "1|Annie|14|∅|true",
            "1|Ann|10|12|false",
            "1|An|9|10|false",
            "2|Bob|11|13|false",
            "2|Rob|15|∅|true",
            "3|Cid|29|30|false",
            "3|Sid|31|∅|true",
        ]
    );
    assert_eq!(shown(&stepped, None, "SELECT name, customers, lsns FROM gold.names").await.len(), 3);
    let explained = stepped.explain(&[]).await.unwrap();
    let strategies: Vec<_> = explained.iter().map(|model| (model.model.as_str(), model.strategy)).collect();
    let expected = [("silver.customer_history", "recompute"), ("silver.customers", "latest"), ("gold.names", "merge")];
    assert_eq!(strategies, expected);
    for verified in stepped.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}
