//! A bucket on a bad day: its server refuses requests, loses answers, hangs up and is late. What the client library repeats by
//! itself, put-if-absent among it, is part of what is tested here.

use futures::future::try_join_all;
use lakebed_log::{Ack, Appended, Log};
use lakebed_tests::batches::{at, numbered};
use lakebed_tests::lake::Lake;
use lakebed_tests::rows::rows;
use lakebed_tests::s3::Faults;

use super::faults::{assert_once_after_a_retry, odd_batch};

/// Sweeps one fault over every request of an append, reads included.
async fn every_request_meets(fault: Faults) {
    for number in 0.. {
        let lake = Lake::s3();
        let log = lake.open().await;
        log.append(&numbered("first", 1), Ack::Committed, at(0)).await.unwrap();
        let bucket = lake.bucket().unwrap();
        let before = bucket.requests();
        bucket.set_faults(Faults { only: Some(number), ..fault });
        let first = log.append(&odd_batch(), Ack::Committed, at(1)).await;
        let struck = bucket.requests() - before > number;
        bucket.set_faults(Faults::default());
        let what = format!("{fault:?} at request {number}: {first:?}");
        // The same handle goes on, as a server's would.
        log.append(&odd_batch(), Ack::Committed, at(2)).await.unwrap_or_else(|error| panic!("{what}, then {error}"));
        assert_once_after_a_retry(&lake, &what).await;
        if !struck {
            assert!(number > 8, "an append makes more than {number} requests");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_may_be_refused() {
    every_request_meets(Faults { fail: 1.0, ..Faults::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_may_be_lost() {
    every_request_meets(Faults { lose: 1.0, ..Faults::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_may_end_before_its_answer() {
    every_request_meets(Faults { cut: 1.0, ..Faults::default() }).await;
}

/// Appenders that share batches; whoever meets an error sends again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_appenders_get_through() {
    const APPENDERS: usize = 6;
    const BATCHES: usize = 4;
    let lake = Lake::s3();
    lake.open().await;
    let handles: Vec<Log> = futures::future::join_all((0..APPENDERS).map(|_| lake.open())).await;
    let bucket = lake.bucket().unwrap();
    bucket.set_faults(Faults { seed: 7, fail: 0.05, lose: 0.05, cut: 0.03, delay_ms: 20, only: None });
    let append = |appender: usize, log: Log| async move {
        let (mut committed, mut failed) = (0, 0);
        // Its own, and then its neighbour's.
        let own = appender * BATCHES..(appender + 1) * BATCHES;
        let next = own.clone().map(|batch| (batch + BATCHES) % (APPENDERS * BATCHES));
        for batch in own.chain(next) {
            loop {
                match log.append(&numbered(&format!("b{batch}"), 2), Ack::Committed, at(1)).await {
                    Ok(Appended::Committed { .. }) => committed += 1,
                    Ok(Appended::Duplicate { .. }) => {}
                    Ok(Appended::Durable) => panic!("it was to be committed"),
                    Err(lakebed_log::Error::Store { .. }) => {
                        failed += 1;
                        assert!(failed < 100, "it gets through some day");
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                break;
            }
        }
        (committed, failed)
    };
    let tasks = handles.into_iter().enumerate().map(|(appender, log)| tokio::spawn(append(appender, log)));
    let told = try_join_all(tasks).await.unwrap();
    bucket.set_faults(Faults::default());
    let failed: usize = told.iter().map(|(_, failed)| failed).sum();
    let new: usize = told.iter().map(|(new, _)| new).sum();
    // Who met an error and sends again is told that it is a duplicate, if it was not lost.
    assert!(
        new <= APPENDERS * BATCHES && new + failed >= APPENDERS * BATCHES,
        "{new} were told to be new, {failed} failed"
    );
    let log = lake.open().await;
    assert_eq!(log.drain(at(9)).await.unwrap().left, [""; 0]);
    let read = rows(&log, &log.snapshot().await.unwrap()).await;
    assert_eq!(read.iter().map(|row| row.offset).collect::<Vec<_>>(), (0..read.len() as u64).collect::<Vec<_>>());
    let mut ids: Vec<_> = read.iter().map(|row| row.event_id.clone()).collect();
    ids.sort();
    let mut sent: Vec<_> =
        (0..APPENDERS * BATCHES).flat_map(|batch| [0, 1].map(|row| format!("b{batch}-{row}"))).collect();
    sent.sort();
    assert_eq!(ids, sent);
}
