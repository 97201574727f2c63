//! Refreshes that are killed at any point, or whose store fails, and what the next one makes of what they left.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use lakebed_tests::s3::{Bucket, Faults};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::case::{Case, Step};
use super::findings::Findings;
use super::lake::Lake;
use super::{runtime, splits};

/// How often a refresh is tried on a store that fails.
const TRIES: usize = 30;

/// The future's output and how often it was polled; or, after so many polls, nothing: it is dropped there, as all of a
/// process is that is killed.
async fn killed_after<F: Future>(polls: usize, future: F) -> (Option<F::Output>, usize) {
    let (mut future, mut made) = (pin!(future), 0);
    poll_fn(|context| {
        if made == polls {
            return Poll::Ready((None, made));
        }
        made += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready((Some(output), made)),
            Poll::Pending if made == polls => Poll::Ready((None, made)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A moment of a refresh that takes about so many polls. Half the time it is near the end, where the epoch is committed.
fn moment(polls: usize, dice: &mut ChaCha8Rng) -> usize {
    match dice.random_bool(0.5) {
        true => polls.saturating_sub(dice.random_range(0..16)),
        false => dice.random_range(0..polls),
    }
}

/// I5 of a case: after each batch some refreshes are killed, and now and then one is not.
pub(super) fn check(case: &Case) {
    let (mut dice, outside) = (case.dice(), runtime(2));
    let mut lake = outside.block_on(Lake::new(case));
    let mut polls = 1_000;
    for number in 0..case.batches.len() {
        outside.block_on(lake.step(Step::Append(number)));
        for _ in 0..dice.random_range(1..=2) {
            let (house, process, at) = (lake.house().clone(), runtime(2), moment(polls, &mut dice));
            let (done, made) = process.block_on(async { killed_after(at, house.refresh(&[], &())).await });
            match done {
                Some(done) => {
                    println!("seed {}: batch {number}: done after {made} polls, before it was killed", case.seed);
                    (polls, _) = (made, done.unwrap());
                }
                None => println!("seed {}: batch {number}: killed after {made} polls", case.seed),
            }
            drop(house);
            // What it had begun in other threads is done, or never will be.
            drop(process);
            outside.block_on(lake.reopen(dice.random_bool(0.2)));
        }
        if number + 1 == case.batches.len() || dice.random_bool(0.3) {
            (_, polls) = outside.block_on(async { killed_after(usize::MAX, lake.refresh()).await });
        }
    }
    outside.block_on(compare(&lake, case));
}

/// I5 of a case on a store that fails, loses answers and cuts connections, as clients of S3 see it.
pub(super) async fn check_store(case: &Case) {
    let bucket = Bucket::new();
    let mut lake = Lake::in_bucket(case, &bucket).await;
    for number in 0..case.batches.len() {
        bucket.set_faults(Faults { seed: case.seed, fail: 0.05, lose: 0.05, cut: 0.03, delay_ms: 0, only: None });
        let mut failures = Vec::new();
        while let Err(error) = lake.try_step(Step::Append(number)).await {
            failures.push(error);
            assert!(failures.len() < TRIES, "{failures:?}");
        }
        while let Err(error) = lake.try_step(Step::Refresh).await {
            failures.push(error);
            assert!(failures.len() < TRIES, "{failures:?}");
        }
        println!("seed {}: batch {number}: {} failures, {:?}", case.seed, failures.len(), failures.last());
    }
    bucket.set_faults(Faults::default());
    compare(&lake, case).await;
}

async fn compare(lake: &Lake<'_>, case: &Case) {
    let mut findings = Findings::default();
    let whole = Lake::after(case, &case.at_once(case.batches.len())).await;
    findings.same("I5 (kills and failures, then a rerun, are one replay)", lake, &whole, &BTreeSet::new()).await;
    splits::verified(lake, "I5 (after kills and failures stored = DuckDB = replay)", &mut findings).await;
    findings.none();
}
