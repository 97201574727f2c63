//! Bytes → batch: framing and decoding of NDJSON, in bytes of input a second.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use lakebed_benches::{ndjson, raw_batches};
use lakebed_ingest::{RawBatches, Settings, decode};
use lakebed_log::BatchId;

const EVENTS: u64 = 20_000;

fn frame(criterion: &mut Criterion) {
    let text = ndjson(EVENTS).unwrap();
    let settings = Settings::default();
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("ndjson", |bencher| {
        bencher.iter(|| {
            RawBatches::new(black_box(text.as_slice()), &settings).map(|raw| raw.unwrap().events()).sum::<usize>()
        });
    });
    group.finish();
}

fn decode_batches(criterion: &mut Criterion) {
    let raw = raw_batches(EVENTS).unwrap();
    let settings = Settings::default();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(raw.iter().map(|raw| raw.bytes()).sum()));
    group.bench_function("ndjson", |bencher| {
        bencher.iter(|| {
            let decoded = raw.iter().map(|raw| decode(black_box(raw), BatchId::new("bench"), "bench", &settings));
            decoded.map(|decoded| decoded.batch.events.len()).sum::<usize>()
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    frame(&mut criterion);
    decode_batches(&mut criterion);
    criterion.final_summary();
}
