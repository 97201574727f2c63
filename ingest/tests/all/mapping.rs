//! Queues and streams behind event source mappings that deliver at least once, into functions that are killed meanwhile.

use std::process::{Command, Stdio};
use std::time::Duration;

use lakebed_tests::python::python;
use serde_json::Value;

use crate::place::{Place, content};

/// Each message and record is in the log once, and each poison one in quarantine once; of a group and of a shard, in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_again_is_in_the_log_once() {
    let place = Place::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/event_source_mapping.py");
    let mut mapping = Command::new(python().unwrap())
        .args([script, &place.api.invocations()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut kills = 0;
    while mapping.try_wait().unwrap().is_none() {
        let function = place.function();
        // Each lives a little longer than the one before, so that all of it comes to an end.
        let life = Duration::from_millis(700 + 450 * kills);
        let ended = async {
            while mapping.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(life, ended).await;
        drop(function);
        kills += 1;
    }
    let output = mapping.wait_with_output().unwrap();
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (rows, quarantined) = content(&place.log().await).await;
    let mut poison = 0;
    for (source, what) in said["sources"].as_object().unwrap() {
        let mut sent: Vec<&str> = what["sent"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        let mut found: Vec<&str> =
            rows.iter().map(|row| row.event_id.as_str()).filter(|id| sent.contains(id)).collect();
        if source == "fifo" {
            // In the order sent, within each group.
            let group = |id: &str| id.rsplit('-').next().unwrap().parse::<u64>().unwrap() % 3;
            for of in 0..3 {
                let in_group = |ids: &[&str]| {
                    ids.iter().filter(|id| group(id) == of).map(|id| (*id).to_owned()).collect::<Vec<_>>()
                };
                assert_eq!(in_group(&found), in_group(&sent));
            }
        }
        sent.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, sent, "{source}: each once");
        poison += what["poison"].as_u64().unwrap();
    }
    assert_eq!(quarantined, poison);
    assert_eq!(rows.len() as u64, 57 + 57 + 87);
    println!("{kills} functions, {} calls without an answer", said["unanswered"]);
}
