//! Seed → NDJSON: events a second that the generator writes, one thread.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use criterion::{Criterion, Throughput};
use lakebed_generator::{Generator, Settings};

const EVENTS: u64 = 20_000;

fn generate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("generate");
    group.throughput(Throughput::Elements(EVENTS));
    let faulty = Settings { late: 0.05, duplicates: 0.05, malformed: 0.01, drift: true, ..Settings::default() };
    for (name, settings) in [("clean", Settings::default()), ("with faults", faulty)] {
        let feed = Generator::new(settings).unwrap();
        let mut text = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                text.clear();
                feed.write(0, EVENTS, &mut text);
                text.len()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    generate(&mut criterion);
    criterion.final_summary();
}
