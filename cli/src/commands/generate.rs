//! `lakebed generate`: mock events as NDJSON, into a file, over HTTP, into a Lambda function, or onto a Kinesis stream.

mod receiver;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use lakebed_generator::{Generator, Settings};

use self::receiver::{Answer, Receiver};
use crate::arguments::GenerateArguments;
use crate::error::{Error, Result};
use crate::output::{self, Output};
use crate::progress::EventBar;

/// How many events are sent at once, about a megabyte; or with a rate, how often some are.
const AT_ONCE: u64 = 1_000;
const EVERY: Duration = Duration::from_millis(100);

/// Writes or sends the stretch of the feed that was asked for.
pub(crate) async fn generate(arguments: GenerateArguments, output: &Output) -> Result<()> {
    let feed = Generator::new(Settings {
        seed: arguments.seed,
        late: arguments.late,
        duplicates: arguments.duplicates,
        malformed: arguments.malformed,
        drift: arguments.drift,
        ..Settings::default()
    })?;
    match Receiver::of(&arguments.to).await? {
        Some(receiver) => send(&feed, &arguments, &receiver, output).await,
        None => tokio::task::spawn_blocking(move || write_all(&feed, &arguments)).await?,
    }
}

/// The feed's stretches, each with the time at which it is due.
struct Stretches {
    began: Instant,
    first: u64,
    next: u64,
    end: u64,
    rate: Option<f64>,
}

impl Stretches {
    fn of(arguments: &GenerateArguments) -> Self {
        let (first, end) = (arguments.first, arguments.first.saturating_add(arguments.events));
        Self { began: Instant::now(), first, next: first, end, rate: arguments.rate }
    }
}

impl Iterator for Stretches {
    /// How long to wait, the first event, and how many.
    type Item = (Duration, u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, left) = (self.next, self.end - self.next);
        let Some(rate) = self.rate else {
            let count = left.min(AT_ONCE);
            self.next += count;
            return (count > 0).then_some((Duration::ZERO, first, count));
        };
        let count = left.min(((rate * EVERY.as_secs_f64()) as u64).clamp(1, AT_ONCE));
        self.next += count;
        // Who is behind catches up: the rate is that of the whole.
        let due = Duration::from_secs_f64((first - self.first) as f64 / rate);
        (count > 0).then_some((due.saturating_sub(self.began.elapsed()), first, count))
    }
}

async fn send(feed: &Generator, arguments: &GenerateArguments, receiver: &Receiver, output: &Output) -> Result<()> {
    let bar = EventBar::new(output, Some(arguments.events));
    let mut sum = Answer::default();
    for (wait, first, count) in Stretches::of(arguments) {
        tokio::time::sleep(wait).await;
        let mut events = Vec::new();
        feed.write(first, count, &mut events);
        sum.add(receiver.send(events).await?);
        bar.add(count);
    }
    drop(bar);
    let Answer { accepted, quarantined, duplicate } = sum;
    output
        .say(&format!("{accepted} events accepted, {quarantined} quarantined, {duplicate} duplicates, by {receiver}"));
    Ok(())
}

fn write_all(feed: &Generator, arguments: &GenerateArguments) -> Result<()> {
    let path = Path::new(&arguments.to);
    if path == Path::new("-") {
        return write(output::stdout(), feed, arguments).map_err(Error::Stdout);
    }
    let failed = |source| Error::File { path: path.to_owned(), source };
    // A pipe or a device is written as it is; a file is there whole or as it was.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return File::create(path).and_then(|file| write(file, feed, arguments)).map_err(failed);
    }
    let mut partial = path.to_owned().into_os_string();
    partial.push(".partial");
    let written = File::create(&partial).and_then(|file| write(file, feed, arguments));
    written.and_then(|()| fs::rename(&partial, path)).map_err(|error| {
        // What went wrong is told; what cannot be removed is only untidy.
        let _ = fs::remove_file(&partial);
        failed(error)
    })
}

fn write(mut sink: impl Write, feed: &Generator, arguments: &GenerateArguments) -> io::Result<()> {
    if arguments.rate.is_none() {
        for chunk in feed.chunks(arguments.first, arguments.events) {
            sink.write_all(&chunk)?;
        }
        return sink.flush();
    }
    for (wait, first, count) in Stretches::of(arguments) {
        std::thread::sleep(wait);
        let mut events = Vec::new();
        feed.write(first, count, &mut events);
        sink.write_all(&events)?;
        sink.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(first: u64, events: u64, rate: Option<f64>) -> Vec<(u64, u64)> {
        let stretches = Stretches { began: Instant::now(), first, next: first, end: first + events, rate };
        stretches.map(|(_, first, count)| (first, count)).collect()
    }

    #[test]
    fn the_stretches_are_the_whole_feed_once() {
        assert_eq!(stretches(5, 0, None), []);
        assert_eq!(stretches(5, 2_001, None), [(5, 1_000), (1_005, 1_000), (2_005, 1)]);
        assert_eq!(stretches(0, 12, Some(50.0)), [(0, 5), (5, 5), (10, 2)]);
        assert_eq!(stretches(0, 2, Some(0.5)), [(0, 1), (1, 1)]);
        assert_eq!(stretches(0, 3_000, Some(1e9)), [(0, 1_000), (1_000, 1_000), (2_000, 1_000)]);
    }

    #[test]
    fn a_rate_is_kept_over_the_whole() {
        let began = Instant::now();
        let stretches = Stretches { began, first: 7, next: 7, end: 107, rate: Some(100.0) };
        let last = stretches.last().unwrap();
        let due = Duration::from_millis(900);
        // What has gone by, on a machine that has other work, is not waited for again.
        assert!(last.0 <= due && last.0 + began.elapsed() >= due, "{last:?}");
    }
}
