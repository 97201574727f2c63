//! Events as they come in: from files and stdin, in every form, of any size.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use flate2::write::GzEncoder;
use lakebed_tests::python::python;

use crate::shop::{LAKEBED, Shop, says, stderr};

/// The same events, in every form that is read.
fn forms(ndjson: &str) -> [(&'static str, Vec<u8>); 4] {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(ndjson.as_bytes()).unwrap();
    let array = format!("[{}]", ndjson.lines().collect::<Vec<_>>().join(",\n"));
    [
        ("ndjson", ndjson.as_bytes().to_vec()),
        ("array", array.into_bytes()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::encode_all(ndjson.as_bytes(), 1).unwrap()),
    ]
}

#[test]
fn every_form_is_read_from_files_and_stdin() {
    let shop = Shop::new();
    let ndjson = fs::read_to_string(shop.events(300)).unwrap();
    for (form, bytes) in forms(&ndjson) {
        // The name says nothing: what it is, is found out from what is in it.
        let file = shop.root().join(form);
        fs::write(&file, &bytes).unwrap();
        let count = |lake: &str| {
            let count =
                ["--lake", lake, "query", "SELECT count(*), count(DISTINCT event_id) FROM bronze.events", "-o", "csv"];
            shop.done(&count).lines().last().unwrap().to_owned()
        };
        let lake = format!("lake-of-file-{form}");
        shop.done(&["--lake", &lake, "ingest", file.to_str().unwrap()]);
        assert_eq!(count(&lake), "300,300", "{form}");
        let lake = format!("lake-of-stdin-{form}");
        let mut ingest = shop.command(&["--lake", &lake, "ingest"]);
        let mut child = ingest.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{form}: {}", stderr(&output));
        assert_eq!(count(&lake), "300,300", "{form}");
    }
}

#[test]
fn events_that_cannot_be_read_are_counted_and_the_rest_is_kept() {
    let shop = Shop::new();
    shop.edit(
        "mixed.ndjson",
        "{\"event_id\":\"1\",\"event_type\":\"t\",\"event_time\":\"2026-11-01T00:00:00Z\"}\nnot json\n",
    );
    let row = shop.done(&["ingest", "mixed.ndjson", "-o", "json"]);
    says(&row, &["\"accepted\":1", "\"quarantined\":1", "\"duplicates\":0"]);
    assert_eq!(shop.count(), r#"[{"n":1}]"#);
    says(&shop.done(&["ingest", "mixed.ndjson", "-o", "json"]), &["\"accepted\":0", "\"duplicates\":2"]);
    shop.edit("worse.ndjson", "still not json\n");
    says(&shop.fails(&["ingest", "--strict", "worse.ndjson", "-q"], 1), &["1 of 1 events went to quarantine"]);
}

/// A job that takes nothing does not pass; one that takes what is there already does.
#[test]
fn an_ingest_of_which_nothing_is_accepted_fails() {
    let shop = Shop::new();
    shop.edit("worst.ndjson", "no json\nno json either\n");
    let said = shop.fails(&["ingest", "worst.ndjson", "-q"], 1);
    says(&said, &["nothing was accepted", "2 of them", "hint: `lakebed quarantine list`"]);
    says(&shop.done(&["ingest", "worst.ndjson", "-o", "json"]), &["\"duplicates\":2"]);
    shop.edit("empty.ndjson", "");
    says(&shop.done(&["ingest", "empty.ndjson", "-o", "json"]), &["\"accepted\":0,\"quarantined\":0"]);
}

#[test]
fn what_was_taken_before_a_failure_is_told() {
    let shop = Shop::new();
    let events = shop.events(300);
    let gzip = &forms(&fs::read_to_string(shop.events(200)).unwrap())[2].1;
    fs::write(shop.path().join("cut.gz"), &gzip[..gzip.len() / 2]).unwrap();
    shop.edit("later.ndjson", "{}\n");
    let ingest = ["ingest", events.to_str().unwrap(), "cut.gz", "later.ndjson", "-o", "json"];
    let output = shop.command(&ingest).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stdout), &["\"accepted\":300,\"quarantined\":0"]);
    let said = stderr(&output);
    assert!(said.starts_with("300 events accepted"), "{said}");
    says(&said, &["\nerror: cannot read on: cut.gz: its gzip data is damaged or cut off"]);
    assert_eq!(shop.count(), r#"[{"n":300}]"#);
}

#[test]
fn one_object_over_many_lines_is_an_event() {
    let shop = Shop::new();
    shop.edit("one.json", "{\n  \"event_id\": \"1\",\n  \"event_type\": \"t\",\n  \"event_time\": \"2026-11-01\"\n}\n");
    says(&shop.done(&["ingest", "one.json", "-o", "json"]), &["\"accepted\":1,\"quarantined\":0"]);
}

/// What becomes of bytes that come by a pipe.
fn piped(shop: &Shop, arguments: &[&str], bytes: &[u8]) -> Output {
    let mut command = shop.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have been refused before all of it was written.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

/// Whatever name a pipe has, it is opened once, and nothing of it is lost.
#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_a_file_is() {
    let shop = Shop::new();
    let ndjson = fs::read(shop.events(300)).unwrap();
    let output = piped(&shop, &["ingest", "/dev/stdin", "-o", "json"], &ndjson);
    says(&String::from_utf8_lossy(&output.stdout), &["\"accepted\":300,\"quarantined\":0"]);
    let inferred = piped(&shop, &["schema", "infer", "/dev/stdin"], &ndjson);
    says(&stderr(&inferred), &["from 300 events"]);
    let fifo = shop.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let writer = std::thread::spawn(move || fs::write(fifo, ndjson));
    says(&shop.done(&["ingest", "fifo", "-o", "json"]), &["\"quarantined\":0,\"duplicates\":300"]);
    writer.join().unwrap().unwrap();
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_writes_to_does_not_keep_a_process_that_is_told_to_end() {
    let shop = Shop::new();
    assert!(Command::new("mkfifo").arg(shop.path().join("fifo")).status().unwrap().success());
    for arguments in [vec!["ingest", "fifo"], vec!["schema", "infer", "fifo"]] {
        let mut child = shop.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        assert!(child.try_wait().unwrap().is_none(), "it waits for somebody to write");
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        let ended = (0..1_200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            child.try_wait().unwrap()
        });
        if ended.is_none() {
            child.kill().unwrap();
        }
        assert!(ended.is_some_and(|status| !status.success()), "{arguments:?} does not end");
    }
}

#[test]
fn parquet_that_cannot_be_read_from_its_end_is_refused() {
    let shop = Shop::new();
    let parquet = b"PAR1\x15\x04\n{}\nPAR1";
    let output = piped(&shop, &["ingest"], parquet);
    assert_eq!(output.status.code(), Some(1));
    says(&stderr(&output), &["error: stdin is Parquet, which is read from a file as it is", "hint: "]);
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(parquet).unwrap();
    fs::write(shop.path().join("x.parquet.gz"), gzip.finish().unwrap()).unwrap();
    says(&shop.fails(&["ingest", "x.parquet.gz"], 1), &["x.parquet.gz is Parquet", "not out of gzip"]);
}

/// What could not be read is listed and shown, and read once the settings fit it; once.
#[test]
fn what_is_in_quarantine_can_be_read_later() {
    let shop = Shop::new();
    let good = r#"{"event_id":"1","event_type":"t","event_time":"2026-11-01T00:00:00Z"}"#;
    let other = |id: u8| format!(r#"{{"messageId":"{id}","event_type":"t","event_time":"2026-11-01T00:00:00Z"}}"#);
    shop.edit("mixed.ndjson", &format!("{good}\nno json\n{}\n{}\n", other(2), other(3)));
    shop.done(&["ingest", "mixed.ndjson", "--batch-id", "mine"]);
    let list = shop.done(&["quarantine", "list", "-o", "csv"]);
    says(&list, &["file,3,not JSON: expected ident at byte 2,mine"]);
    let shown = shop.done(&["quarantine", "show", "mine", "-o", "csv"]);
    says(&shown, &["1,not JSON: expected ident at byte 2,no json", "2,no event_id,"]);
    says(&shop.fails(&["quarantine", "show", "other"], 1), &["no batch 'other' has events in quarantine"]);
    let retry = || stderr(&shop.command(&["quarantine", "retry"]).output().unwrap());
    says(&retry(), &["0 events are in the log now, 3 stay in quarantine"]);
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[events]\nid = \"messageId\"\n");
    says(&retry(), &["2 events are in the log now, 1 stay in quarantine"]);
    says(&retry(), &["0 events are in the log now, 1 stay in quarantine"]);
    assert_eq!(shop.count(), r#"[{"n":3}]"#);
    says(&shop.done(&["quarantine", "list", "-o", "csv"]), &["file,1,not JSON"]);
    // The table says the same, and of a version what was so then.
    let table = ["query", "SELECT batch_id, position, text FROM lakebed.quarantine ORDER BY position", "-o", "csv"];
    assert_eq!(shop.done(&table), "batch_id,position,text\nmine,1,no json\n");
    assert_eq!(shop.done(&[&table[..], &["--as-of", "1"]].concat()).lines().count(), 4);
}

/// The events that other engines are compared on have the paths and types of the generator's: the starter's models run on both.
#[test]
fn the_starter_runs_on_the_events_of_the_peers() {
    let shop = Shop::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/events.py");
    let made = Command::new(python().unwrap()).args([script, "2000", "peers.ndjson"]).current_dir(shop.path()).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    shop.done(&["ingest", "--strict", "peers.ndjson"]);
    shop.done(&["run"]);
    let counts = "SELECT (SELECT count(*) FROM silver.events) AS a, (SELECT count(*) FROM gold.revenue) > 0 AS b, \
                  (SELECT count(*) FROM gold.cohort_retention) > 0 AS c, (SELECT count(*) FROM silver.interactions) > 0 AS d";
    let counts = shop.done(&["query", counts, "-o", "csv"]);
    let distinct = shop.done(&["query", "SELECT count(DISTINCT event_id) FROM bronze.events", "-o", "csv"]);
    assert_eq!(counts.lines().last().unwrap(), format!("{},true,true,true", distinct.lines().last().unwrap()));
    shop.done(&["verify"]);
}

/// The most memory that an ingest from this stdin has resident, in bytes, as the kernel counts it.
#[cfg(target_os = "linux")]
fn peak_of_ingesting(shop: &Shop, stdin: fs::File) -> u64 {
    let mut ingest = shop.command(&["ingest", "-q"]);
    let mut child = ingest.env("LAKEBED_INGEST_BATCH_EVENTS", "1000").stdin(stdin).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let told = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.map_or(peak, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024);
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(status.success() && peak > 0);
    peak
}

/// Events decoded take several times their text; what an ingest has in memory, program included, is less than the text alone.
#[cfg(target_os = "linux")]
#[test]
fn a_stream_of_any_size_is_read_in_bounded_memory() {
    let shop = Shop::new();
    let file = shop.path().join("many.ndjson");
    let generate = Command::new(LAKEBED)
        .args(["generate", "--events", "300000"])
        .stdout(fs::File::create(&file).unwrap())
        .status();
    assert!(generate.unwrap().success());
    let text = fs::metadata(&file).unwrap().len();
    let peak = peak_of_ingesting(&shop, fs::File::open(&file).unwrap());
    println!("{peak} bytes of memory for {text} bytes of events");
    assert!(peak < text, "{peak} bytes of memory for {text} bytes of events");
}

/// Generated events on a stream: each line a record, spread over the shards.
#[test]
fn events_are_generated_onto_a_stream() {
    let shop = Shop::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/kinesis_receiver.py");
    let generate = ["clicks", LAKEBED, "generate", "--events", "1200", "--malformed", "0.1", "--to", "kinesis:clicks"];
    let output = Command::new(python().unwrap()).arg(script).args(generate).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    says(&stderr(&output), &["1200 events accepted, 0 quarantined, 0 duplicates, by the stream clicks"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let records = || said.lines().filter_map(|line| line.split_once(' '));
    let shards: std::collections::BTreeSet<&str> = records().map(|(shard, _)| shard).collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    let mut put: Vec<String> = records().map(|(_, line)| line.to_owned()).collect();
    let generated = shop.command(&["generate", "--events", "1200", "--malformed", "0.1"]).output().unwrap().stdout;
    let mut expected: Vec<String> = String::from_utf8_lossy(&generated).lines().map(str::to_owned).collect();
    put.sort();
    expected.sort();
    assert_eq!(put, expected);
}
