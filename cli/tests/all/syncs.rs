//! What waits for the disk before an append is acknowledged, as the system's calls tell.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shop::{Shop, stderr};

/// One call of the process, in its order.
#[derive(Debug)]
enum Call {
    /// The disk holds a file, or the names in a directory.
    Sync(String),
    /// A file got a name.
    Name { from: String, to: String },
    /// Something was said to the user.
    Say,
}

/// Ingests a file, with `[lake] fsync` as given; gives the calls of the process.
fn calls_of_an_ingest(shop: &Shop, fsync: &str) -> Vec<Call> {
    let (library, calls) = (shop.root().join("syncs.so"), shop.root().join("calls"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/syncs.c");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let compiled = compile.output().expect("a C compiler `cc`, to look at the calls of a process");
    assert!(compiled.status.success(), "{}", stderr(&compiled));
    let events = shop.events(300);
    let mut ingest = shop.command(&["ingest", events.to_str().unwrap()]);
    let output = ingest.env("LAKEBED_LAKE_FSYNC", fsync).env("LD_PRELOAD", &library).env("SYNCS", &calls).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let call = |line: &str| match line.split_once(' ') {
        None if line == "say" => Call::Say,
        Some(("sync", path)) => Call::Sync(path.to_owned()),
        Some(("name", names)) => {
            let (from, to) = names.split_once(" AS ").unwrap();
            Call::Name { from: from.to_owned(), to: to.to_owned() }
        }
        _ => panic!("'{line}' is no call"),
    };
    fs::read_to_string(&calls).unwrap().lines().map(call).collect()
}

/// With the setting a power cut takes nothing that was acknowledged: what has a name is on the disk before, and the name is
/// before the user hears of it.
#[test]
fn with_fsync_the_disk_has_an_object_before_its_name_and_its_name_before_the_answer() {
    let shop = Shop::new();
    let calls = calls_of_an_ingest(&shop, "on");
    let answer = calls.iter().rposition(|call| matches!(call, Call::Say)).expect("ingest says what it did");
    let is_synced = |path: &str, calls: &[Call]| calls.iter().any(|call| matches!(call, Call::Sync(at) if at == path));
    let mut names = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        let Call::Name { from, to } = call else { continue };
        assert!(is_synced(from, &calls[..place]), "{to} had its name before it was on the disk: {calls:#?}");
        let directory = Path::new(to).parent().unwrap().to_str().unwrap();
        assert!(
            is_synced(directory, &calls[place..answer]),
            "{to} was told before its name was on the disk: {calls:#?}"
        );
        names.push(to);
    }
    for kind in ["/events/event_date=", "/_delta_log/", "/_inbox/", "/_receipts/"] {
        assert!(names.iter().any(|name| name.contains(kind)), "no {kind} among {names:#?}");
    }
}

#[test]
fn without_fsync_nothing_waits_for_the_disk() {
    let shop = Shop::new();
    let calls = calls_of_an_ingest(&shop, "off");
    assert!(calls.iter().any(|call| matches!(call, Call::Name { .. })), "{calls:?}");
    assert!(!calls.iter().any(|call| matches!(call, Call::Sync(_))), "{calls:?}");
}
