//! Many processes append to one table at the same moment: lakebed's on local disk and on an S3 server on loopback, and
//! plain delta-rs writers on local disk beside them, in one run.
//!
//! `cargo bench -p lakebed-benches --bench writers`; `LAKEBED_BENCH_WRITERS=32x50` sets processes and batches of each.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench says what it measured, and what it expects by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use lakebed_log::{Ack, Appended, Log};
use lakebed_tests::batches::numbered;
use lakebed_tests::lake::{Lake, PROJECT, store_at};
use lakebed_tests::python::python;
use tempfile::TempDir;

/// Says to a child process what to do: `LAKE WRITER BATCHES`.
const WRITER: &str = "LAKEBED_BENCH_WRITER";

/// Events of a batch.
const ROWS: usize = 10;

/// What some writers did.
struct Run {
    who: &'static str,
    appended: u64,
    refused: u64,
    took: Duration,
    versions: u64,
    requests: Option<u64>,
}

fn main() {
    if let Ok(told) = std::env::var(WRITER) {
        return child(&told);
    }
    let load = std::env::var("LAKEBED_BENCH_WRITERS").unwrap_or_else(|_| "32x50".to_owned());
    let (writers, batches) = load.split_once('x').expect("WRITERSxBATCHES");
    let (writers, batches) = (writers.parse().expect("a number"), batches.parse().expect("a number"));
    println!("{writers} processes, {batches} batches of {ROWS} events each, one after the other");
    println!();
    println!("| who | appended | refused | s | appends/s | batches a commit | requests an append |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let local = lakebed("lakebed, local disk", &Lake::local(), writers, batches);
    local.print();
    let delta = delta_rs(writers, batches);
    delta.print();
    lakebed("lakebed, S3 server", &Lake::s3(), writers, batches).print();
    println!();
    println!("lakebed on local disk makes {:.1} times the appends/s of delta-rs", local.rate() / delta.rate());
}

impl Run {
    fn rate(&self) -> f64 {
        self.appended as f64 / self.took.as_secs_f64()
    }

    fn print(&self) {
        let requests = self
            .requests
            .map_or_else(|| "–".to_owned(), |requests| format!("{:.1}", requests as f64 / self.appended as f64));
        println!(
            "| {} | {} | {} | {:.2} | {:.1} | {:.1} | {requests} |",
            self.who,
            self.appended,
            self.refused,
            self.took.as_secs_f64(),
            self.rate(),
            self.appended as f64 / self.versions as f64
        );
    }
}

/// Starts the processes, lets them all begin at once when they are ready, and sums up what they say: appended, refused.
fn race(mut commands: Vec<Command>) -> (u64, u64, Duration) {
    let mut children: Vec<Child> = commands
        .iter_mut()
        .map(|command| command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts"))
        .collect();
    let mut outputs: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().expect("piped")).lines()).collect();
    let mut line = |at: usize| outputs[at].next().expect("it goes on").expect("it is text");
    for at in 0..children.len() {
        assert_eq!(line(at), "ready");
    }
    let began = Instant::now();
    for child in &mut children {
        writeln!(child.stdin.as_mut().expect("piped"), "go").expect("it listens");
    }
    let (mut appended, mut refused) = (0, 0);
    for at in 0..children.len() {
        let said = line(at);
        let (one, two) = said.split_once(' ').expect("two numbers");
        appended += one.parse::<u64>().expect("a number");
        refused += two.parse::<u64>().expect("a number");
    }
    let took = began.elapsed();
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    (appended, refused, took)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}

fn lakebed(who: &'static str, lake: &Lake, writers: usize, batches: usize) -> Run {
    let log = runtime().block_on(lake.open());
    let before = lake.bucket().map(|bucket| bucket.requests());
    let command = |writer: usize| {
        let mut command = Command::new(std::env::current_exe().expect("this program is there"));
        command.envs(lake.environment()).env(WRITER, format!("{} {writer} {batches}", lake.place()));
        command
    };
    let (appended, refused, took) = race((0..writers).map(command).collect());
    let requests = lake.bucket().zip(before).map(|(bucket, before)| bucket.requests() - before);
    let versions = runtime().block_on(log.head()).expect("the log is there").0;
    Run { who, appended, refused, took, versions, requests }
}

fn child(told: &str) {
    let told: Vec<_> = told.split(' ').collect();
    let number = |at: usize| told[at].parse::<usize>().expect("a number");
    let batches: Vec<_> = (0..number(2)).map(|batch| numbered(&format!("{}-{batch}", number(1)), ROWS)).collect();
    runtime().block_on(async {
        let log = Log::open(store_at(told[0]), PROJECT).await.expect("the log opens");
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).expect("somebody says go");
        let (mut appended, mut refused) = (0, 0);
        for batch in &batches {
            match log.append(batch, Ack::Committed, Utc::now()).await {
                Ok(Appended::Committed { .. }) => appended += 1,
                _ => refused += 1,
            }
        }
        println!("{appended} {refused}");
    });
}

fn delta_rs(writers: usize, batches: usize) -> Run {
    let directory = TempDir::new().expect("a directory can be made");
    let python = python().expect("the python environment is there");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/delta_writer.py");
    let command = |writer: usize| {
        let mut command = Command::new(&python);
        command.arg(script).arg(directory.path()).args([writer, batches, ROWS].map(|number| number.to_string()));
        command
    };
    let made = Command::new(&python).arg(script).arg(directory.path()).arg("make").status().expect("python starts");
    assert!(made.success());
    let (appended, refused, took) = race((0..writers).map(command).collect());
    Run { who: "delta-rs, local disk", appended, refused, took, versions: appended, requests: None }
}
