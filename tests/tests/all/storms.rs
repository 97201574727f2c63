//! Appenders and maintainers in a storm: processes that are killed at any request, requests that fail or lose their answer,
//! everything at once and late. Afterwards nothing acknowledged is lost, nothing is there twice, and every process has kept
//! the rules of the protocol.
//!
//! Each case is a seed: `LAKEBED_TEST_STORM=SEED` runs that one alone, `LAKEBED_TEST_STORM=FROM..TO` those from one up to
//! another, and `LAKEBED_TEST_LONG=1` the first ten thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use lakebed_log::inbox::{InboxEntry, Receipt};
use lakebed_log::{Ack, Appended, Batch, BatchKey, Compaction, Entry, Error, Log, PartitionBy, Store, layout};
use lakebed_tests::batches::{at, batch, event, in_lane};
use lakebed_tests::lake::PROJECT;
use lakebed_tests::long;
use lakebed_tests::rows::rows;
use lakebed_tests::storm::{Deed, Done, Storm, Trace, Weather};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

/// How often a killed appender starts again before it gives up.
const LIVES: usize = 6;

/// One case: a lake, and everything that happens to it.
struct Case {
    objects: Arc<InMemory>,
    partition_by: PartitionBy,
    trace: Arc<Trace>,
    weather: Weather,
    began: Instant,
    processes: AtomicUsize,
    /// What appenders were told: the versions of batches.
    told: Mutex<Vec<(BatchKey, u64)>>,
}

impl Case {
    /// The test's clock.
    fn now(&self) -> DateTime<Utc> {
        at(0) + TimeDelta::from_std(self.began.elapsed()).unwrap()
    }

    /// A process starts: its view of the store, and whether it was killed.
    fn process(&self, seed: u64) -> (Store, Arc<AtomicBool>) {
        let (number, dead) = (self.processes.fetch_add(1, Ordering::SeqCst), Arc::new(AtomicBool::new(false)));
        let objects: Arc<dyn ObjectStore> = self.objects.clone();
        let storm = Storm::new(objects, number, self.weather, seed, Arc::clone(&self.trace), Arc::clone(&dead));
        (Store::of(Arc::new(storm), "storm"), dead)
    }

    /// Sends its batches one after the other, or some at once; starts again with the same when it was killed or something failed.
    async fn append(&self, batches: Vec<Arc<Batch>>, mut dice: ChaCha8Rng) {
        let mut lives = LIVES;
        let mut log: Option<(Log, Arc<AtomicBool>)> = None;
        let mut rest = batches.as_slice();
        while !rest.is_empty() {
            let (group, later) = rest.split_at(dice.random_range(1..=rest.len()));
            rest = later;
            let mut group = group.to_vec();
            while lives > 0 && !group.is_empty() {
                if log.as_ref().is_none_or(|(_, dead)| dead.load(Ordering::SeqCst)) {
                    lives -= 1;
                    let (store, dead) = self.process(dice.random());
                    log = Log::open_or_create_by(store, PROJECT, self.partition_by, self.now())
                        .await
                        .ok()
                        .map(|log| (log, dead));
                }
                let Some((open, _)) = &log else { continue };
                let ack = if dice.random_bool(0.8) { Ack::Committed } else { Ack::Durable };
                let mut left = Vec::new();
                let appended = open.append_together(&group, ack, self.now()).await;
                assert_eq!(appended.len(), group.len());
                for (batch, appended) in group.into_iter().zip(appended) {
                    match appended {
                        Ok(Appended::Committed { version } | Appended::Duplicate { version }) => {
                            self.told.lock().unwrap().push((batch.id.key(), version));
                        }
                        Ok(Appended::Durable) => {}
                        // Another batch took this place in the lane.
                        Err(Error::LaneConflict { .. }) => {}
                        Err(error) if error.may_pass() => left.push(batch),
                        Err(error) => panic!("{error}"),
                    }
                }
                if !left.is_empty() {
                    sleep(Duration::from_millis(dice.random_range(0..50))).await;
                }
                group = left;
            }
        }
    }

    /// Compacts, checkpoints, drains and vacuums now and then.
    async fn maintain(&self, mut dice: ChaCha8Rng) {
        for _ in 0..3 {
            sleep(Duration::from_millis(dice.random_range(0..400))).await;
            let (store, _) = self.process(dice.random());
            let Ok(log) = Log::open_or_create_by(store, PROJECT, self.partition_by, self.now()).await else { continue };
            // What fails here is done again some day.
            let done = match dice.random_range(0..4) {
                0 => log.compact(&Compaction::default(), self.now()).await.map(drop),
                1 => log.checkpoint(self.now()).await.map(drop),
                2 => log.vacuum(TimeDelta::days(7), self.now()).await.map(drop),
                _ => log.drain(self.now()).await.map(drop),
            };
            assert!(!matches!(done, Err(Error::Corrupt { .. })), "{done:?}");
        }
    }
}

/// A batch of `rows` events whose columns others invent too, with values of one kind or another.
fn invented(rows: usize, kind: usize) -> Arc<Batch> {
    let value = ["1.5", "\"text\"", "true", "[1]"][kind];
    let line = |row: usize| event(&format!("b{rows}-{row}"), &format!(r#","value":{value},"of_{kind}":{row}"#));
    let refused = rows.is_multiple_of(2).then(|| "no event".to_owned());
    batch(&format!("b{rows}"), &(0..rows).map(line).chain(refused).collect::<Vec<_>>())
}

/// Runs the case of a seed and checks what it left.
async fn case(seed: u64) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let weather = Weather {
        fail: *[0.0, 0.02, 0.1].choose(&mut dice).unwrap(),
        lose: *[0.0, 0.02, 0.1].choose(&mut dice).unwrap(),
        again: *[0.0, 0.02, 0.1].choose(&mut dice).unwrap(),
        die: *[0.0, 0.01, 0.05].choose(&mut dice).unwrap(),
        delay_ms: *[0, 3, 30].choose(&mut dice).unwrap(),
    };
    let case = Case {
        objects: Arc::new(InMemory::new()),
        partition_by: if seed.is_multiple_of(3) { PartitionBy::Nothing } else { PartitionBy::EventDate },
        trace: Arc::default(),
        weather,
        began: Instant::now(),
        processes: AtomicUsize::new(0),
        told: Mutex::default(),
    };
    // Batches that several appenders send, and steps of one lane.
    let pool: Vec<_> = (0..dice.random_range(2..7)).map(|number| invented(number, dice.random_range(0..4))).collect();
    let position = |number: usize| format!("{number:04}");
    let lane = |number: usize| {
        in_lane(
            &format!("lane-{number}"),
            "lane",
            (number > 0).then(|| position(number - 1)).as_deref(),
            &position(number),
        )
    };
    let lane: Vec<_> = (0..3).map(lane).collect();
    let mut sent = Vec::new();
    for _ in 0..dice.random_range(2..6) {
        let mut own: Vec<_> = (0..dice.random_range(1..4)).map(|_| pool.choose(&mut dice).unwrap().clone()).collect();
        if dice.random_bool(0.3) {
            own.extend(lane.iter().cloned());
            if dice.random_bool(0.3) {
                own.shuffle(&mut dice);
            }
        }
        sent.push((own, ChaCha8Rng::seed_from_u64(dice.random())));
    }
    let all: BTreeMap<BatchKey, Arc<Batch>> =
        sent.iter().flat_map(|(own, _)| own).map(|batch| (batch.id.key(), Arc::clone(batch))).collect();
    let maintainers: Vec<_> = (0..dice.random_range(0..3)).map(|_| ChaCha8Rng::seed_from_u64(dice.random())).collect();
    tokio::join!(
        join_all(sent.into_iter().map(|(own, dice)| case.append(own, dice))),
        join_all(maintainers.into_iter().map(|dice| case.maintain(dice))),
    );
    let trace = case.trace.read();
    keeps_the_rules(&trace);
    recovers(&case, &all).await;
}

/// The sky is clear again: what was left is finished, and everything is as the protocol promises.
async fn recovers(case: &Case, sent: &BTreeMap<BatchKey, Arc<Batch>>) {
    let store = Store::of(case.objects.clone(), "storm");
    let log = Log::open_or_create_by(store.clone(), PROJECT, case.partition_by, case.now()).await.unwrap();
    let drained = log.drain(case.now()).await.unwrap();
    assert!(drained.left.iter().all(|left| left.contains("where its lane stands")), "{:?}", drained.left);
    let entries = log.versions(u64::MAX).await.unwrap();
    for (key, version) in case.told.lock().unwrap().iter() {
        let record = &entries[*version as usize].1.record;
        assert!(record.batches.iter().any(|batch| batch.key() == *key), "what was acknowledged is in the log");
    }
    // Every batch that is not of the lane is sent once more by its sender; a lane is read and gone on with.
    for batch in sent.values().filter(|batch| batch.lane.is_none()) {
        log.append(batch, Ack::Committed, case.now()).await.unwrap();
    }
    check(&log).await;
    log.compact(&Compaction::default(), case.now()).await.unwrap();
    log.checkpoint(case.now()).await.unwrap();
    let before: BTreeSet<_> = log.snapshot().await.unwrap().files.iter().map(|file| file.staged.path.clone()).collect();
    log.vacuum(TimeDelta::days(7), Utc::now() + TimeDelta::days(400)).await.unwrap();
    let there: BTreeSet<_> =
        store.list(&layout::table()).await.unwrap().into_iter().map(|object| object.location).collect();
    let days = there.iter().filter(|path| layout::kind_of(path) == "data file").count();
    assert_eq!(days, before.len(), "the data files that are left are those that the log names");
    // A month later, in another process, after all that.
    let log = Log::open(store, PROJECT).await.unwrap();
    for batch in sent.values().filter(|batch| batch.lane.is_none()) {
        let again = log.append(batch, Ack::Committed, case.now() + TimeDelta::days(30)).await.unwrap();
        assert!(matches!(again, Appended::Duplicate { .. }), "{again:?}");
    }
    check(&log).await;
}

/// Each batch once and whole, offsets dense, lanes in order.
async fn check(log: &Log) {
    let snapshot = log.snapshot().await.unwrap();
    let read = rows(log, &snapshot).await;
    assert_eq!(read.iter().map(|row| row.offset).collect::<Vec<_>>(), (0..snapshot.next_offset).collect::<Vec<_>>());
    let names: Vec<_> = snapshot.claims.iter().map(|claim| &claim.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "no name twice: {names:?}");
    let lines: Vec<_> =
        log.versions(u64::MAX).await.unwrap().into_iter().flat_map(|(_, entry)| entry.record.batches).collect();
    let mut seen = BTreeSet::new();
    let mut next = 0;
    for line in &lines {
        assert!(seen.insert(line.key()), "batch '{}' is in the log twice", line.id);
        assert_eq!(line.base, next);
        next += line.rows;
        let of_batch: Vec<_> = read.iter().filter(|row| row.batch_id == line.id.as_str()).map(|row| row.row).collect();
        assert_eq!(of_batch, (0..line.rows).collect::<Vec<_>>(), "batch '{}'", line.id);
    }
    assert_eq!(next, snapshot.next_offset);
    let lanes: Vec<_> =
        lines.iter().filter(|line| line.id.as_str().starts_with("lane-")).map(|line| line.id.as_str()).collect();
    assert!(lanes.is_sorted(), "{lanes:?}");
}

/// The rules of the protocol's model (`model.rs`), looked for in what the processes really did.
fn keeps_the_rules(trace: &[Done]) {
    let mut inbox: HashMap<Path, InboxEntry> = HashMap::new();
    let mut marked: HashMap<Path, bool> = HashMap::new();
    // The units in which batches are to come, by their receipts; those that are void, and those that are cleaned up.
    let mut units: HashMap<Path, Uuid> = HashMap::new();
    let (mut void, mut settled): (BTreeSet<Path>, BTreeSet<Path>) = Default::default();
    let mut head = 0;
    let mut named: BTreeSet<Path> = BTreeSet::new();
    // What each process has read: versions, and receipts with the place in the trace; and when it last listed the inbox.
    let mut versions: HashMap<usize, BTreeSet<Path>> = HashMap::new();
    let mut receipts: HashMap<(usize, Path), usize> = HashMap::new();
    let mut listed: HashMap<usize, usize> = HashMap::new();
    for (moment, Done { process, deed }) in trace.iter().enumerate() {
        match deed {
            Deed::Get(path, true) if layout::kind_of(path) == "commit" => {
                versions.entry(*process).or_default().insert(path.clone());
            }
            Deed::Get(path, _) if layout::kind_of(path) == "receipt" => {
                receipts.insert((*process, path.clone()), moment);
            }
            Deed::List(path) if *path == layout::inbox() => {
                listed.insert(*process, moment);
            }
            Deed::Put(path, if_absent, bytes) => match layout::kind_of(path) {
                "commit" => {
                    assert!(if_absent, "put: a version is written only if it is absent");
                    let entry = Entry::decode(path, bytes).unwrap();
                    let version: u64 = path.filename().unwrap().trim_end_matches(".json").parse().unwrap();
                    head = version;
                    for batch in &entry.record.batches {
                        let places = [BatchKey::of_unit(batch.unit), batch.key()].map(|key| layout::inbox_entry(&key));
                        let staged = places.iter().find_map(|place| inbox.get(place));
                        let staged = staged.expect("only what is in the inbox is committed");
                        let read = versions.entry(*process).or_default();
                        let scanned = (staged.head + 1..version).all(|version| read.contains(&layout::commit(version)));
                        assert!(scanned, "scan: every commit since the entry's head is read before a put");
                        let receipt = receipts.get(&(*process, layout::receipt(&batch.key())));
                        assert!(receipt > listed.get(process), "marks: the receipts are read after the list");
                    }
                    named.extend(entry.added.iter().map(|file| layout::in_table(&file.staged.path)));
                    for file in &entry.removed {
                        named.remove(&layout::in_table(&file.path));
                    }
                    versions.entry(*process).or_default().insert(path.clone());
                }
                "receipt" => {
                    let receipt: Receipt = serde_json::from_slice(bytes).unwrap();
                    assert!(
                        receipt.version.is_none_or(|version| version <= head),
                        "mark: a receipt names a version that is there"
                    );
                    assert!(receipt.version.is_some() || *if_absent, "a receipt is never unmarked");
                    marked.insert(path.clone(), receipt.version.is_some());
                    if receipt.version.is_none() {
                        units.extend(receipt.unit.map(|unit| (path.clone(), unit)));
                    }
                }
                "inbox entry" if bytes.is_empty() => {
                    assert!(if_absent);
                    assert!(
                        !inbox.contains_key(path) || settled.contains(path),
                        "a unit that is there is not made void"
                    );
                    void.insert(path.clone());
                }
                "inbox entry" => {
                    assert!(if_absent);
                    let entry = InboxEntry::decode(bytes).unwrap();
                    assert!(!void.contains(path), "what is void is not announced");
                    for receipt in entry.batches.iter().map(|batch| layout::receipt(&batch.key())) {
                        let to_come_in = units.get(&receipt);
                        match entry.batches.len() {
                            1 => {
                                let place = to_come_in.map(|unit| layout::inbox_entry(&BatchKey::of_unit(*unit)));
                                let is_over = place.is_none_or(|place| void.contains(&place));
                                assert!(is_over, "who comes alone has made its unit void");
                            }
                            _ => assert_eq!(to_come_in, Some(&entry.unit), "the receipts of a unit name it"),
                        }
                    }
                    inbox.insert(path.clone(), entry);
                }
                _ => {}
            },
            Deed::Delete(path) if layout::kind_of(path) == "data file" => {
                assert!(!named.contains(path), "a data file that a version names is deleted only after its removal");
            }
            Deed::Delete(path) if layout::kind_of(path) == "inbox entry" => {
                if let Some(entry) = inbox.get(path) {
                    let receipts = entry.batches.iter().map(|batch| layout::receipt(&batch.key()));
                    let are_marked = receipts.into_iter().all(|receipt| marked.get(&receipt) == Some(&true));
                    // What does not fit its lane is taken back.
                    assert!(
                        are_marked || entry.lane.is_some(),
                        "mark: the receipts are marked before the inbox entry goes"
                    );
                    settled.insert(path.clone());
                }
            }
            _ => {}
        }
    }
}

/// Runs a case in a runtime of its own, whose clock runs as fast as nobody waits.
fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(case(seed));
}

/// The seeds whose cases are run.
fn seeds() -> Range<u64> {
    match std::env::var("LAKEBED_TEST_STORM") {
        Ok(asked) => {
            let number = |text: &str| text.parse().unwrap();
            let alone = || (number(&asked), number(&asked) + 1);
            let (from, to) = asked.split_once("..").map_or_else(alone, |(from, to)| (number(from), number(to)));
            from..to
        }
        Err(_) if long() => 0..10_000,
        Err(_) => 0..300,
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_there_twice() {
    for seed in seeds() {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("the case of seed {seed} failed: LAKEBED_TEST_STORM={seed} runs it alone");
        }
    }
}
