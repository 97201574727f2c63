//! What a line of epochs keeps to: the newest is found, old ones are thinned, and who slept meanwhile puts nothing between them.

use arrow::datatypes::TimeUnit;
use chrono::TimeDelta;
use futures::TryStreamExt;
use lakebed_log::layout;

use super::*;

#[test]
fn a_schema_survives_its_spelling() {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let kinds =
        [DataType::Utf8, DataType::Int64, DataType::Decimal128(38, 2), DataType::Date32, utc, DataType::List(item)];
    let fields = kinds.iter().enumerate().map(|(at, kind)| Field::new(format!("c{at}"), kind.clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let state = ModelState {
        fingerprint: String::new(),
        identity: String::new(),
        query: String::new(),
        strategy: "full".into(),
        changed: 1,
        mark: None,
        columns: columns_of(&schema),
        unique: Vec::new(),
        start: 0,
        runs: Vec::new(),
        deletions: Vec::new(),
        rows: 0,
        content_hash: TableHash::EMPTY,
        work: Work::default(),
    };
    assert_eq!(*state.schema().unwrap(), schema);
}

fn manifest(epoch: u64) -> Manifest {
    let time = DateTime::UNIX_EPOCH;
    Manifest { layout: LAYOUT, epoch, version: epoch, time, next_offset: epoch * 10, models: BTreeMap::new() }
}

#[tokio::test]
async fn the_newest_epoch_is_found_however_many_there_are() {
    let (store, chain) = (Store::memory(), Chain::default());
    assert_eq!(chain.newest_number(&store).await.unwrap(), None);
    for many in [1, 2, 7, 2_500] {
        let others = Chain::default();
        for epoch in others.newest_number(&store).await.unwrap().unwrap_or(0) + 1..=many {
            assert!(others.put(&store, &manifest(epoch)).await.unwrap());
        }
        for of in [&chain, &Chain::default()] {
            assert_eq!(of.newest_number(&store).await.unwrap(), Some(many));
            assert_eq!(of.newest(&store).await.unwrap(), Some(manifest(many)));
        }
    }
    assert_eq!(chain.before(&store, 12_345).await.unwrap(), Some(manifest(1_234)));
    assert_eq!(chain.before(&store, 9).await.unwrap(), None);
    assert_eq!(numbers(&chain, &store, 2_498).await, [2_499, 2_500]);
    assert_eq!(numbers(&chain, &store, 0).await.len(), 2_500);
}

/// Those after one that are there.
async fn numbers(chain: &Chain, store: &Store, epoch: u64) -> Vec<u64> {
    let manifests: Vec<_> = chain.after(store, epoch).await.unwrap().try_collect().await.unwrap();
    manifests.into_iter().map(|manifest| manifest.epoch).collect()
}

#[tokio::test]
async fn of_old_epochs_landmarks_stay_and_are_found() {
    let store = Store::memory();
    let (awake, asleep) = (Chain::default(), Chain::default());
    for epoch in 1..=1_000 {
        assert!(awake.put(&store, &manifest(epoch)).await.unwrap());
        if epoch == 700 {
            assert_eq!(asleep.newest_number(&store).await.unwrap(), Some(700));
        }
    }
    let now = store.time_of(&layout::epoch(None, 1_000)).await.unwrap();
    assert!(!wants_thinning(&store, now).await.unwrap(), "they are young");
    assert_eq!(thin(&store, &Thinning::default(), now).await.unwrap(), Thinned::default());
    let later = now + TimeDelta::days(60);
    assert!(wants_thinning(&store, later).await.unwrap());
    // All were put within a minute, or two, of one day, or two.
    let thinned = thin(&store, &Thinning::default(), later).await.unwrap();
    let landmarks = thinned.landmarks;
    assert!((1..=2).contains(&landmarks) && thinned.gone == 900 - landmarks, "{thinned:?}");
    assert!(!wants_thinning(&store, later).await.unwrap());
    assert_eq!(thin(&store, &Thinning::default(), later).await.unwrap(), Thinned::default());
    for chain in [&awake, &asleep, &Chain::default()] {
        assert_eq!(chain.newest_number(&store).await.unwrap(), Some(1_000));
        assert_eq!(chain.newest(&store).await.unwrap(), Some(manifest(1_000)));
        assert_eq!(chain.before(&store, 9_505).await.unwrap(), Some(manifest(950)));
        assert_eq!(chain.before(&store, 9_005).await.unwrap(), Some(manifest(900)), "a landmark");
        let there = numbers(chain, &store, 0).await;
        assert_eq!(there.len() as u64, 100 + landmarks);
        assert!(there.is_sorted() && there.ends_with(&(900..=1_000).collect::<Vec<_>>()));
    }
    assert!(awake.put(&store, &manifest(1_001)).await.unwrap());
    assert_eq!(asleep.newest_number(&store).await.unwrap(), Some(1_001));
}

/// Whoever reads all epochs, to know which runs they list, finds those that become landmarks meanwhile.
#[tokio::test]
async fn an_epoch_that_becomes_a_landmark_while_all_are_read_is_read() {
    let (store, chain) = (Store::memory(), Chain::default());
    for epoch in 1..=300 {
        assert!(chain.put(&store, &manifest(epoch)).await.unwrap());
    }
    let reading = chain.after(&store, 0).await.unwrap();
    let later = store.time_of(&layout::epoch(None, 300)).await.unwrap() + TimeDelta::days(60);
    thin(&store, &Thinning::default(), later).await.unwrap();
    let read: Vec<_> = reading.try_collect().await.unwrap();
    assert_eq!(read.len(), numbers(&chain, &store, 0).await.len());
}

/// Who looked for the newest epoch, slept while others went far beyond it and thinned, and wakes up.
#[tokio::test]
async fn what_is_put_where_an_epoch_was_deleted_is_no_epoch() {
    for slept_at in [0, 1, 50] {
        let (store, chain, asleep) = (Store::memory(), Chain::default(), Chain::default());
        for epoch in 1..=400 {
            assert!(chain.put(&store, &manifest(epoch)).await.unwrap());
            if epoch == slept_at {
                assert_eq!(asleep.newest_number(&store).await.unwrap(), Some(slept_at));
            }
        }
        let later = store.time_of(&layout::epoch(None, 400)).await.unwrap() + TimeDelta::days(60);
        thin(&store, &Thinning::default(), later).await.unwrap();
        let late = Manifest { version: 7, ..manifest(slept_at + 1) };
        assert!(!asleep.put(&store, &late).await.unwrap());
        assert!(!store.exists(&layout::epoch(None, slept_at + 1)).await.unwrap());
        // A kill between the two would have left it there.
        store.put_json(&layout::epoch(None, slept_at + 1), &late).await.unwrap();
        for chain in [&chain, &asleep, &Chain::default()] {
            assert_eq!(chain.newest(&store).await.unwrap(), Some(manifest(400)), "{slept_at}");
        }
    }
}

/// A thinning that is killed after any of its deletions leaves epochs without a gap.
#[tokio::test]
async fn a_thinning_may_end_anywhere() {
    let store = Store::memory();
    for epoch in 1..=300 {
        store.put_json(&layout::epoch(None, epoch), &manifest(epoch)).await.unwrap();
    }
    let slow = Chain::default();
    for gone in 1..=200 {
        assert_eq!(slow.newest_number(&store).await.unwrap(), Some(300));
        slow.seen_at(gone + 1);
        store.delete(&layout::epoch(None, gone)).await.unwrap();
        assert_eq!(slow.newest_number(&store).await.unwrap(), Some(300), "{gone}");
        assert_eq!(Chain::default().before(&store, 2_505).await.unwrap(), Some(manifest(250)));
    }
}
