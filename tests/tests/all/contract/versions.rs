//! Versions: dense numbers, times that only grow, and the log as of each of them.

use chrono::TimeDelta;
use lakebed_log::{Ack, Error};
use lakebed_tests::batches::{at, numbered};
use lakebed_tests::lake::Lake;
use lakebed_tests::rows::rows;

over_every_store!(times_only_grow, a_version_is_a_prefix, a_long_log_is_followed);

async fn times_only_grow(lake: Lake) {
    let log = lake.open().await;
    // The clock stands, goes back and leaps.
    for (number, seconds) in [10, 10, 3, 10, 500, 20].into_iter().enumerate() {
        log.append(&numbered(&format!("b{number}"), 1), Ack::Committed, at(seconds)).await.unwrap();
    }
    let versions = log.versions(u64::MAX).await.unwrap();
    let numbers: Vec<_> = versions.iter().map(|(version, _)| *version).collect();
    assert_eq!(numbers, (0..=6).collect::<Vec<_>>());
    let times: Vec<_> = versions.iter().map(|(_, entry)| entry.time).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert_eq!((times[0], times[1], times[5]), (at(0), at(10), at(500)));
    assert_eq!(log.head().await.unwrap(), (6, at(500) + TimeDelta::milliseconds(1)));

    for (version, time) in (0..).zip(&times) {
        assert_eq!(log.version_at(*time).await.unwrap(), version);
        assert_eq!(log.version_at(*time + TimeDelta::microseconds(999)).await.unwrap(), version);
    }
    assert_eq!(log.version_at(at(100_000)).await.unwrap(), 6);
    let error = log.version_at(at(-1)).await.unwrap_err();
    assert!(matches!(error, Error::BeforeTheLog { .. }), "{error}");
}

async fn a_version_is_a_prefix(lake: Lake) {
    let log = lake.open().await;
    for number in 0..6 {
        log.append(&numbered(&format!("b{number}"), number + 1), Ack::Committed, at(number as i64 + 1)).await.unwrap();
    }
    let whole = rows(&log, &log.snapshot().await.unwrap()).await;
    let another = lake.open().await;
    let mut below = 0;
    for version in 0..=6 {
        below += version;
        let snapshot = another.snapshot_at(version).await.unwrap();
        assert_eq!((snapshot.version, snapshot.next_offset, snapshot.time), (version, below, at(version as i64)));
        assert_eq!(rows(&another, &snapshot).await, whole[..below as usize]);
    }
    let snapshot = another.snapshot().await.unwrap();
    assert_eq!(snapshot.files_from(20).count(), 1);
    assert_eq!(snapshot.files_from(21).count(), 0);
    // Version n brought n events, and nobody has brought the 22nd.
    assert_eq!(another.brought(&[0, 1, 2, 20, 21]).await.unwrap(), [(1, 1), (2, 3), (6, 21)]);
    assert_eq!(another.brought(&[3]).await.unwrap(), [(3, 6)]);
    let error = another.snapshot_at(7).await.unwrap_err();
    assert!(matches!(error, Error::NoVersion { asked: 7, head: 6 }), "{error}");
}

async fn a_long_log_is_followed(lake: Lake) {
    let (log, reader) = (lake.open().await, lake.open().await);
    for number in 0..150 {
        log.append(&numbered(&format!("b{number}"), 1), Ack::Committed, at(number)).await.unwrap();
        if number == 20 {
            assert_eq!(reader.snapshot().await.unwrap().version, 21);
        }
    }
    let snapshot = reader.snapshot().await.unwrap();
    assert_eq!((snapshot.version, snapshot.next_offset, snapshot.files.len()), (150, 150, 150));
    assert_eq!(lake.open().await.head().await.unwrap().0, 150);
}
