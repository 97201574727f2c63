//! The presets on events as their senders write them; where the files are from, `payloads/SOURCES.md` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use lakebed_ingest::{Intake, Sent};
use lakebed_log::{Ack, Log, Store};
use lakebed_project::{Config, EventsConfig};
use lakebed_tests::rows::{file, rows};

fn now() -> DateTime<Utc> {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn payload(name: &str) -> (PathBuf, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(format!("{name}.json"));
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

async fn intake(preset: &str) -> Intake {
    let config = Config { events: EventsConfig::preset(preset).unwrap(), ..Config::default() };
    let log = Log::open_or_create(Store::memory(), "shop", now()).await.unwrap();
    Intake::new(log, &config, now)
}

/// Appends one body; gives how many of its events were refused.
async fn bring(intake: &Intake, body: Vec<u8>, headers: &[(&str, &str)]) -> u64 {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sent = Sent { id: None, source: "test".to_owned(), headers };
    let whole = intake.prepare(body.into(), &sent, 1 << 20, ()).await.unwrap();
    assert_eq!(whole.flaw, None);
    intake.append(&whole.prepared.unwrap(), Ack::Committed).await.unwrap().quarantined
}

/// The type and the time of each event, by its id.
async fn events(intake: &Intake) -> BTreeMap<String, (String, String)> {
    let snapshot = intake.log().snapshot().await.unwrap();
    let mut found = BTreeMap::new();
    for data in &snapshot.files {
        let read = file(intake.log(), data).await;
        let text = |name: &str| {
            arrow::compute::cast(read.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap()
        };
        let [ids, types, times] = ["event_id", "event_type", "event_time"].map(text);
        let [ids, types, times] =
            [&ids, &types, &times].map(|column| arrow::array::AsArray::as_string::<i32>(column.as_ref()));
        for at in 0..read.num_rows() {
            found.insert(ids.value(at).to_owned(), (types.value(at).to_owned(), times.value(at).to_owned()));
        }
    }
    found
}

/// The flattened columns of all events.
async fn columns(intake: &Intake) -> Vec<String> {
    let snapshot = intake.log().snapshot().await.unwrap();
    snapshot.claims.iter().map(|claim| claim.name.to_string()).collect()
}

/// A preset, files, and what they come to.
type Case<'c> = (&'c str, &'c [&'c str], &'c [(String, (String, String))]);

#[tokio::test]
async fn presets_read_what_their_senders_write() {
    let of = |id: &str, kind: &str, time: &str| (id.to_owned(), (kind.to_owned(), time.to_owned()));
    let cases: [Case<'_>; 4] = [
        (
            "cloudevents",
            &["cloudevents_json_object_data", "cloudevents_base64_no_time"],
            &[
                of("/mycontext/C234-1234-1234", "com.example.someevent", "2018-04-05T17:31:00Z"),
                of("/mycontext/D234-1234-1234", "com.example.someevent", "2026-11-01T12:00:00Z"),
            ],
        ),
        (
            "segment",
            &["segment_track", "segment_page"],
            &[
                of("ajs-f8ca1e4de5024d9430b3928bd8ac6b96", "track", "2015-12-12T19:11:01.249Z"),
                of("022bb90c-bbac-11e4-8dfc-aa07a5b093db", "page", "2015-02-23T22:28:55.111Z"),
            ],
        ),
        (
            "snowplow",
            &["snowplow_python_sdk"],
            &[of("c6ef3124-b53a-4b13-a233-0088f79dcbcb", "link_click", "2013-11-26T00:03:57.886Z")],
        ),
        (
            "eventbridge",
            &["eventbridge_s3_object_created"],
            &[of("f5f1e65c-dc3a-93ca-6c1e-b1647eac7963", "Object Created", "2023-03-08T17:50:14Z")],
        ),
    ];
    for (preset, files, expected) in cases {
        let intake = intake(preset).await;
        for name in files {
            let (path, body) = payload(name);
            assert_eq!(bring(&intake, body, &[]).await, 0, "{}", path.display());
        }
        assert_eq!(events(&intake).await, expected.iter().cloned().collect(), "{preset}");
        let snapshot = intake.log().snapshot().await.unwrap();
        for row in rows(intake.log(), &snapshot).await {
            let sent = files.iter().map(|name| payload(name).1).any(|body| body.trim_ascii() == row.doc.as_bytes());
            assert!(sent, "the document is what was sent: {}", row.doc);
        }
    }
}

/// GitHub says in headers what came, and nowhere when.
#[tokio::test]
async fn a_webhook_of_github_is_told_by_its_headers() {
    let intake = intake("github").await;
    let sent =
        [("push_new_branch_one_commit", "push", "d1"), ("issues_opened", "issues", "d2"), ("ping", "ping", "d3")];
    for (name, event, delivery) in sent {
        let headers = [("x-github-event", event), ("x-github-delivery", delivery)];
        assert_eq!(bring(&intake, payload(&format!("github_{name}")).1, &headers).await, 0, "{name}");
    }
    let found = events(&intake).await;
    let arrived = "2026-11-01T12:00:00Z".to_owned();
    let expected = sent.map(|(_, event, delivery)| (delivery.to_owned(), (event.to_owned(), arrived.clone())));
    assert_eq!(found, expected.into());
    let columns = columns(&intake).await;
    for column in ["repository_full_name", "sender_login", "issue_title", "head_commit_message", "commits"] {
        assert!(columns.iter().any(|name| name == column), "{column} is not in {columns:?}");
    }
    assert_eq!(
        bring(&intake, b"{\"zen\":\"Practicality beats purity.\"}".to_vec(), &[("x-github-delivery", "d4")]).await,
        1,
        "no type"
    );
}

/// A change is the same event when it comes again, whatever the connector's clock says then; and its row is in the document.
#[tokio::test]
async fn a_change_of_debezium_is_one_event_however_often_it_comes() {
    let intake = intake("debezium").await;
    let files = [
        "postgresql_create_envelope",
        "postgresql_update_flat",
        "postgresql_delete_flat",
        "real_postgresql_2_1_4_create_flat",
        "real_mysql_3_0_1_read_flat",
        "real_mysql_3_0_1_update_flat",
        "mysql_update_envelope",
    ];
    for name in files {
        assert_eq!(bring(&intake, payload(&format!("debezium_{name}")).1, &[]).await, 0, "{name}");
    }
    let found = events(&intake).await;
    assert_eq!(found.len(), files.len(), "{found:?}");
    assert!(found.values().filter(|(table, _)| table == "customers").count() >= 5, "{found:?}");
    assert!(found.values().any(|(_, time)| time == "2024-11-11T12:20:59Z"), "{found:?}");
    // The connector sends it again after a restart, a minute later by its clock.
    let again = String::from_utf8(payload("debezium_real_mysql_3_0_1_update_flat").1).unwrap();
    let again = again.replace("1731327659957", "1731327719957");
    assert_eq!(bring(&intake, again.into_bytes(), &[]).await, 0);
    assert_eq!(events(&intake).await, found, "the same id");
    let columns = columns(&intake).await;
    assert!(
        columns.iter().any(|name| name == "source_table") && columns.iter().any(|name| name == "op"),
        "{columns:?}"
    );
    let left: Vec<_> = columns.iter().filter(|name| name.contains("after") || name.contains("before")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        bring(&intake, payload("debezium_mysql_tombstone_value_envelope").1, &[]).await,
        1,
        "a tombstone is none"
    );
}
