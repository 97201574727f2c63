//! Lakes that are not ours to write: another project's, a later format's, one with a foreign commit, and none at all.

use std::sync::Arc;

use lakebed_log::{Ack, Error, LAKE_FORMAT, Log, layout};
use lakebed_tests::batches::{at, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::storm::{Gate, Storm};

over_every_store!(
    another_projects_lake_is_refused,
    a_later_format_is_refused,
    a_foreign_commit_is_named,
    no_lake_is_no_log,
    a_lake_is_made_once,
    a_lake_that_another_makes_meanwhile_is_opened,
);

async fn another_projects_lake_is_refused(lake: Lake) {
    lake.open().await;
    for error in [
        Log::open_or_create(lake.store(), "other", at(1)).await.unwrap_err(),
        Log::open(lake.store(), "other").await.unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(matches!(error, Error::OtherProject { .. }), "{said}");
        assert!(said.contains(PROJECT) && said.contains("other") && error.hint().is_some(), "{said}");
    }
}

async fn a_later_format_is_refused(lake: Lake) {
    lake.open().await;
    let later = format!(r#"{{"format":{},"name":"what was the project"}}"#, LAKE_FORMAT + 1);
    lake.store().put(&layout::lake(), later.clone()).await.unwrap();
    let error = Log::open_or_create(lake.store(), PROJECT, at(1)).await.unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found, .. } if found == LAKE_FORMAT + 1), "{error}");
    assert_eq!(lake.store().get(&layout::lake()).await.unwrap().unwrap(), later.as_bytes());
}

async fn a_foreign_commit_is_named(lake: Lake) {
    let log = lake.open().await;
    log.append(&numbered("a", 1), Ack::Committed, at(1)).await.unwrap();
    let foreign = r#"{"commitInfo":{"timestamp":1793491300000,"operation":"WRITE","engineInfo":"another"}}"#;
    lake.store().put(&layout::commit(2), foreign).await.unwrap();
    for error in [
        log.append(&numbered("b", 1), Ack::Committed, at(2)).await.unwrap_err(),
        log.snapshot().await.unwrap_err(),
        Log::open(lake.store(), PROJECT).await.unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(matches!(error, Error::Corrupt { .. }) && said.contains(layout::commit(2).as_ref()), "{said}");
        assert!(said.contains("another writer"), "{said}");
    }
}

async fn no_lake_is_no_log(lake: Lake) {
    let error = Log::open(lake.store(), PROJECT).await.unwrap_err();
    assert!(matches!(error, Error::NoLog { .. }) && error.hint().is_some(), "{error}");
    assert!(lake.store().list(&"".into()).await.unwrap().is_empty(), "asking makes nothing");
}

async fn a_lake_is_made_once(lake: Lake) {
    let opened = futures::future::join_all((0..8).map(|_| lake.open())).await;
    for (number, log) in opened.iter().enumerate() {
        log.append(&numbered(&format!("b{number}"), 1), Ack::Committed, at(1)).await.unwrap();
    }
    let (version, _) = opened[0].head().await.unwrap();
    assert_eq!(version, 8);
}

/// An opener is told that there is no lake, and another makes it before the opener's next request.
async fn a_lake_that_another_makes_meanwhile_is_opened(lake: Lake) {
    let gate = Arc::new(Gate::default());
    let store = lake.behind(|inner| Storm::late_answer(inner, "lake.json", &gate));
    let opening = tokio::spawn(async move { Log::open_or_create(store, PROJECT, at(0)).await });
    gate.reached().await;
    let made = lake.open().await;
    gate.open();
    assert_eq!(opening.await.unwrap().unwrap().table_id().await, made.table_id().await);
}
