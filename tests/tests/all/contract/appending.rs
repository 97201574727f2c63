//! What is appended comes back: byte for byte, once, in dense offsets, however many append at the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use lakebed_ingest::Settings;
use lakebed_log::{Ack, Appended};
use lakebed_tests::batches::{at, batch, decoded, event, generated, numbered};
use lakebed_tests::lake::Lake;
use lakebed_tests::rows::rows;

over_every_store!(
    a_batch_comes_back_byte_for_byte,
    an_empty_batch_is_a_version,
    many_writers_lose_nothing,
    a_durable_batch_is_committed_by_another,
    sent_is_log_and_quarantine_and_duplicates,
);

async fn a_batch_comes_back_byte_for_byte(lake: Lake) {
    let log = lake.open().await;
    let odd = [
        event("a", r#","text":"ÄÖÜ \u0000 \"q\"","big":12345678901234567890,"n":1.50"#),
        format!("  {}", event("b", r#" , "x" :  [1, 2] , "x":3 "#)),
        r#"{"event_id":"c","event_type":"t","event_time":"1999-12-31T23:59:59.999999+02:00"}"#.to_owned(),
        r#"{"event_id":"d","event_type":"t","event_time":"2026-11-02T00:00:00Z"}"#.to_owned(),
    ];
    let appended = log.append(&batch("odd", &odd), Ack::Committed, at(1)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version: 1 });

    let snapshot = log.snapshot().await.unwrap();
    let read = rows(&log, &snapshot).await;
    assert_eq!((snapshot.version, snapshot.next_offset, snapshot.time), (1, 4, at(1)));
    assert_eq!(read.iter().map(|row| row.doc.as_str()).collect::<Vec<_>>(), odd.each_ref().map(|line| line.trim()));
    assert_eq!(read.iter().map(|row| row.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(read.iter().map(|row| row.row).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(read[2].event_time, 946_677_599_999_999);
    assert!(read.iter().all(|row| row.batch_id == "odd"));
    assert_eq!(snapshot.files.len(), 3, "a file for each day");

    let again = lake.open().await;
    let reread = again.snapshot().await.unwrap();
    assert_eq!(rows(&again, &reread).await, read);
}

async fn an_empty_batch_is_a_version(lake: Lake) {
    let log = lake.open().await;
    let refused = batch("refused", &["no event"]);
    assert_eq!(log.append(&refused, Ack::Committed, at(1)).await.unwrap(), Appended::Committed { version: 1 });
    let snapshot = log.snapshot().await.unwrap();
    assert_eq!((snapshot.version, snapshot.next_offset, snapshot.files.len()), (1, 0, 0));
    assert_eq!(log.append(&refused, Ack::Committed, at(2)).await.unwrap(), Appended::Duplicate { version: 1 });
}

/// 4 handles, as 4 processes would have them, with 8 tasks each; every task sends its batches, and one of its
/// neighbour's as well.
async fn many_writers_lose_nothing(lake: Lake) {
    const TASKS: usize = 32;
    const BATCHES: usize = 4;
    let mut handles = Vec::new();
    for _ in 0..4 {
        handles.push(lake.open().await);
    }
    let task = |task: usize| {
        let log = handles[task % handles.len()].clone();
        tokio::spawn(async move {
            let mut committed = 0;
            let own = (0..BATCHES).map(|number| (task, number));
            for (of, number) in own.chain([((task + 1) % TASKS, 0)]) {
                let batch = numbered(&format!("b{of}-{number}"), 1 + (of + number) % 5);
                match log.append(&batch, Ack::Committed, at(1)).await.unwrap() {
                    Appended::Committed { .. } => committed += 1,
                    Appended::Duplicate { .. } => {}
                    Appended::Durable => panic!("it was to be committed"),
                }
            }
            committed
        })
    };
    let committed: usize = try_join_all((0..TASKS).map(task)).await.unwrap().into_iter().sum();
    assert_eq!(committed, TASKS * BATCHES, "each batch is one sender's, and a duplicate to everybody else");

    let log = lake.open().await;
    let snapshot = log.snapshot().await.unwrap();
    let read = rows(&log, &snapshot).await;
    let offsets: Vec<_> = read.iter().map(|row| row.offset).collect();
    assert_eq!(offsets, (0..snapshot.next_offset).collect::<Vec<_>>(), "dense");
    let mut batches: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for row in &read {
        batches.entry(&row.batch_id).or_default().push(row.row);
    }
    for of in 0..TASKS {
        for number in 0..BATCHES {
            let rows = batches.remove(format!("b{of}-{number}").as_str()).unwrap_or_default();
            assert_eq!(rows, (0..1 + (of as u64 + number as u64) % 5).collect::<Vec<_>>(), "b{of}-{number} once");
        }
    }
    assert!(batches.is_empty());
    assert!(snapshot.version < (TASKS * BATCHES) as u64, "{} versions: nobody committed for others", snapshot.version);
    let control = log.store().list(&lakebed_log::layout::inbox()).await.unwrap();
    assert!(control.is_empty(), "the inbox is clean");
}

async fn a_durable_batch_is_committed_by_another(lake: Lake) {
    let (one, two) = (lake.open().await, lake.open().await);
    assert_eq!(one.append(&numbered("a", 2), Ack::Durable, at(1)).await.unwrap(), Appended::Durable);
    assert_eq!(one.append(&numbered("b", 3), Ack::Durable, at(2)).await.unwrap(), Appended::Durable);
    assert_eq!(one.append(&numbered("a", 2), Ack::Durable, at(2)).await.unwrap(), Appended::Durable);
    assert_eq!(one.snapshot().await.unwrap().version, 0);

    let drained = two.drain(at(3)).await.unwrap();
    assert_eq!((drained.committed, drained.left.len()), (2, 0));
    assert_eq!(two.drain(at(4)).await.unwrap().committed, 0);
    let read = rows(&one, &one.snapshot().await.unwrap()).await;
    let ids: Vec<_> = read.iter().map(|row| (row.offset, row.event_id.as_str())).collect();
    assert_eq!(ids, [(0, "a-0"), (1, "a-1"), (2, "b-0"), (3, "b-1"), (4, "b-2")], "in the order staged");
    let again = one.append(&numbered("a", 2), Ack::Committed, at(5)).await.unwrap();
    assert_eq!(again, Appended::Duplicate { version: 1 });
}

async fn sent_is_log_and_quarantine_and_duplicates(lake: Lake) {
    let log = lake.open().await;
    let feed = lakebed_generator::Settings { malformed: 0.1, ..Default::default() };
    let (mut sent, mut duplicates) = (0, 0);
    for number in [0, 1, 2, 1] {
        let text = generated(&feed, number * 200, 200);
        let batch = Arc::new(decoded(&format!("b{number}"), &text, &Settings::default()));
        let events = (batch.events.len() + batch.quarantine.len()) as u64;
        assert_eq!(events, 200);
        sent += events;
        if let Appended::Duplicate { .. } = log.append(&batch, Ack::Committed, at(1)).await.unwrap() {
            duplicates += events;
        }
    }
    let (mut logged, mut quarantined) = (0, 0);
    for (_, entry) in log.versions(u64::MAX).await.unwrap() {
        for batch in entry.record.batches {
            (logged, quarantined) = (logged + batch.rows, quarantined + batch.quarantined);
            let path = batch.quarantine.expect("a tenth of the lines is broken");
            let file = log.store().get(&lakebed_log::layout::in_table(&path)).await.unwrap().unwrap();
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            assert_eq!(reader.metadata().file_metadata().num_rows() as u64, batch.quarantined);
        }
    }
    assert_eq!(sent, logged + quarantined + duplicates);
    assert!(quarantined > 0 && duplicates == 200);
    assert_eq!(log.snapshot().await.unwrap().next_offset, logged);
}
