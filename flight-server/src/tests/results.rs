//! Result streams: what they hold on to, and what lets go of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Decimal128Type;
use futures::TryStreamExt;
use tokio::time::timeout;

use super::lake::{Held, Polls, lake, lake_with_another_table, lake_with_polls, served};
use super::{Running, all_rows, begun, broken_off, eventually, query, read, rows, standing, ticket};
use crate::{Limits, Served};

#[tokio::test]
async fn a_client_that_goes_away_stops_the_plan() {
    let polls = Polls::default();
    let server = Running::start(lake_with_polls(1, 0, Arc::clone(&polls))).await;
    // One plan with rows all the time, one that would never have any.
    for sql in ["SELECT n FROM gold.endless", "SELECT count(*) FROM gold.endless WHERE n % 2 = 0"] {
        let mut client = server.client().await;
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let mut stream = client.do_get(ticket(&info)).await.unwrap();
        if sql.starts_with("SELECT n") {
            assert!(stream.try_next().await.unwrap().is_some());
        }
        assert!(server.metrics.text().unwrap().contains("lakebed_flight_active_streams 1"));
        let asked = polls.load(Ordering::SeqCst);
        eventually("the plan runs", || polls.load(Ordering::SeqCst) > asked || asked > 0).await;
        drop(stream);
        eventually("the stream is over", || server.metrics.text().unwrap().contains("lakebed_flight_active_streams 0"))
            .await;
        // A thread that has a batch in hand ends with it: it looks whether it was called off between two.
        standing(sql, &polls, Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_plan_down() {
    let polls = Polls::default();
    let server = Running::start(lake_with_polls(1, 0, Arc::clone(&polls))).await;
    let mut client = server.client().await;
    let (_, _stream) = begun(&mut client, "SELECT n FROM gold.endless").await;
    let asked = standing("the plan, though nobody reads", &polls, Duration::from_millis(500)).await;
    // The queue, what gRPC buffers, and the batch in hand; each batch is half a MiB.
    assert!(asked < 100, "{asked} batches were made for a reader of one");
}

#[tokio::test]
async fn a_stream_keeps_its_version_while_the_lake_moves_on() {
    let server = Running::start(lake(1, 64)).await;
    let mut client = server.client().await;
    let sql = "SELECT version, n FROM gold.numbers";
    let waiting = client.execute(sql.to_owned(), None).await.unwrap();
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    let first = stream.try_next().await.unwrap().unwrap();
    server.lake.send_replace(served(lake(2, 1)));

    let mut batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
    batches.push(first);
    assert_eq!(rows(&batches), 64 * 65_536);
    let versions = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Decimal128Type>().values().iter());
    assert!(versions.copied().all(|version| version == 1));
    assert_eq!(stream.headers().get("lakebed-version").unwrap(), "1");

    // Planned before the move and not read yet: as it was planned. A new statement and a prepared one: as it is now.
    assert_eq!(rows(&read(&mut client, &waiting).await.1), 64 * 65_536);
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    assert_eq!(info.app_metadata, "2");
    assert_eq!(rows(&read(&mut client, &info).await.1), 65_536);
    let info = prepared.execute().await.unwrap();
    assert_eq!(info.app_metadata, "2");
    assert_eq!(rows(&read(&mut client, &info).await.1), 65_536);
    assert!(server.metrics.text().unwrap().contains("lakebed_log_version 2"));
}

#[tokio::test]
async fn a_ticket_is_good_at_its_version_whoever_has_the_key() {
    let server = Running::start(lake(1, 1)).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT version, n FROM gold.numbers".to_owned(), None).await.unwrap();
    server.lake.send_replace(served(lake(2, 1)));
    let other = Running::start(lake(3, 1)).await;
    let mut elsewhere = other.client().await;
    for client in [&mut client, &mut elsewhere] {
        for _ in 0..2 {
            let batches = read(client, &info).await.1;
            assert_eq!(batches[0].column(0).as_primitive::<Decimal128Type>().value(0), 1);
            assert_eq!(rows(&batches), 65_536);
        }
    }
}

/// A table is replaced by one of other columns between two calls.
#[tokio::test]
async fn columns_that_were_promised_are_sent_or_refused() {
    let server = Running::start(lake(1, 1)).await;
    let mut client = server.client().await;
    let sql = "SELECT x FROM gold.a_b";
    let waiting = client.execute(sql.to_owned(), None).await.unwrap();
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    // The same version, for only the SQL of the model is another.
    server.lake.send_replace(served(lake_with_another_table(1)));
    assert_eq!(rows(&read(&mut client, &waiting).await.1), 1, "a plan that waits is read as it was announced");
    let again = tonic::Status::from(client.do_get(ticket(&waiting)).await.err().unwrap());
    let executed = prepared.execute().await.unwrap_err().to_string();
    assert_eq!(again.code(), tonic::Code::FailedPrecondition, "{again}");
    for said in [again.message(), &executed] {
        assert!(said.contains("the columns of this statement changed"), "{said}");
    }
    assert_eq!(rows(&query(&mut client, sql).await), 1);
}

#[tokio::test]
async fn a_ticket_that_was_changed_is_nobodys() {
    let server = Running::start(lake(1, 1)).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT n FROM gold.numbers".to_owned(), None).await.unwrap();
    let honest = ticket(&info).ticket.to_vec();
    let from = honest.windows(6).position(|bytes| bytes == b"SELECT").unwrap();
    let mut changed = honest.clone();
    changed[from] = b'T';
    let status = client.inner_mut().do_get(arrow_flight::Ticket::new(changed)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("ticket") && status.message().contains("hint: "), "{status}");
    assert_eq!(rows(&read(&mut client, &info).await.1), 65_536);
}

#[tokio::test]
async fn a_result_that_is_being_read_can_be_cancelled() {
    let polls = Polls::default();
    let server = Running::start(lake_with_polls(1, 0, Arc::clone(&polls))).await;
    let mut client = server.client().await;
    let (info, mut stream) = begun(&mut client, "SELECT n FROM gold.endless").await;
    let mut second = server.client().await;
    let cancelled = super::statements::cancel(&mut second, &info).await;
    assert_eq!(cancelled, arrow_flight::CancelStatus::Cancelled);
    let ended = broken_off(&mut stream).await;
    assert_eq!(ended.code(), tonic::Code::Cancelled, "{ended}");
    let again = client.do_get(ticket(&info)).await.err().unwrap();
    assert_eq!(tonic::Status::from(again).code(), tonic::Code::Cancelled);
}

#[tokio::test]
async fn a_statement_has_so_much_time_and_memory() {
    // More than the last statement takes on a machine that has other work.
    let little_time = Limits { time: Duration::from_millis(3_500), ..Limits::default() };
    let little_memory = Limits { memory: 2 << 20, ..Limits::default() };
    let endless = "SELECT count(*) FROM gold.endless WHERE n % 2 = 0";
    let large = "SELECT count(*) FROM gold.numbers a JOIN gold.numbers b ON a.n = b.n";
    for (limits, sql, code, what) in [
        (little_time, endless, tonic::Code::DeadlineExceeded, "3.5 s"),
        (little_memory, large, tonic::Code::ResourceExhausted, "more memory"),
    ] {
        let server = Running::within(lake(1, 4), limits, |_| ()).await;
        let mut client = server.client().await;
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let status = tonic::Status::from(all_rows(&mut client, &info).await.unwrap_err());
        assert_eq!(status.code(), code, "{sql}: {status}");
        assert!(status.message().contains(what) && status.message().contains("\nhint: "), "{status}");
        assert_eq!(rows(&query(&mut client, "SELECT 1").await), 1, "others are served");
    }
}

#[tokio::test]
async fn slow_readers_are_in_nobodys_way() {
    let limits = Limits { at_once: 2, waiting: 2, ..Limits::default() };
    let server = Running::within(lake(1, 64), limits, |_| ()).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = server.client().await;
        let info = client.execute("SELECT n FROM gold.endless".to_owned(), None).await.unwrap();
        // Each has the turn until what was sent fills its queue.
        let stream = loop {
            match client.do_get(ticket(&info)).await {
                Ok(stream) => break stream,
                Err(error) => {
                    assert_eq!(tonic::Status::from(error).code(), tonic::Code::ResourceExhausted);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        slow.push((client, stream));
    }
    let mut client = server.client().await;
    assert_eq!(rows(&query(&mut client, "SELECT n FROM gold.numbers").await), 64 * 65_536);
    for (_, stream) in &mut slow {
        assert!(stream.try_next().await.unwrap().is_some());
    }
    drop(slow);
    eventually("the streams are over", || server.metrics.text().unwrap().contains("lakebed_flight_active_streams 0"))
        .await;
}

/// A notebook asks for one version after the other, while the log stands still.
#[tokio::test]
async fn earlier_versions_go_with_their_statements() {
    let held = Polls::default();
    let server = Running::start(lake(9, 1)).await;
    let versions = Arc::new(Held(Arc::clone(&held)));
    server.lake.send_replace(Served { session: Arc::new(lake(9, 1)), versions });
    let mut client = server.client().await;
    for version in 1..=8 {
        let of_one = format!("SELECT min(version) FROM gold.numbers VERSION AS OF {version}");
        let of_two = format!("{of_one} UNION ALL SELECT min(version) FROM gold.numbers");
        for (sql, expected) in [(of_one, 1), (of_two, 2)] {
            assert_eq!(rows(&query(&mut client, &sql).await), expected, "{sql}");
            let mut prepared = client.prepare(sql, None).await.unwrap();
            let info = prepared.execute().await.unwrap();
            assert_eq!(rows(&read(&mut client, &info).await.1), expected);
        }
    }
    // This test's hand, and that of the versions themselves.
    eventually("no earlier version is held", || Arc::strong_count(&held) == 2).await;
}

#[tokio::test]
async fn rows_of_nothing_but_nulls_are_sent_as_they_come() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let sql = "SELECT NULL AS nothing FROM gold.endless WHERE n % 2 = 0";
    let begun = timeout(Duration::from_secs(60), begun(&mut client, sql)).await;
    let (_, mut stream) = begun.expect("there are rows enough for a message");
    assert!(stream.try_next().await.unwrap().unwrap().num_rows() > 0);
}

#[tokio::test]
async fn closing_one_prepared_statement_leaves_the_others() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let prepared = client.prepare("SELECT 1".to_owned(), None).await.unwrap();
    let mut second = client.prepare("SELECT 2".to_owned(), None).await.unwrap();
    prepared.close().await.unwrap();
    assert_eq!(rows(&read(&mut client, &second.execute().await.unwrap()).await.1), 1);
}

#[tokio::test]
async fn messages_are_large_but_not_too_large() {
    let server = Running::start(lake(1, 64)).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT n FROM gold.numbers".to_owned(), None).await.unwrap();
    let mut stream = client.inner_mut().do_get(ticket(&info)).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(message) = stream.try_next().await.unwrap() {
        sizes.push(message.data_body.len());
    }
    assert_eq!(sizes.remove(0), 0, "the schema");
    sizes.pop();
    assert!(sizes.iter().all(|size| (1 << 20..=2 << 20).contains(size)), "{sizes:?}");
}

#[tokio::test]
async fn one_huge_value_goes_out_whole() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    // The client takes 4 MiB by default.
    let batches = query(&mut client, "SELECT repeat('x', 3500000) AS cell").await;
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0).len(), 3_500_000);
}
