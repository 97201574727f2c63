//! The phases that a store goes through, each in a process of its own; a phase prints `metric<TAB>value` lines.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::keys;
use crate::stores::{self, Durability, Result, Store};

/// Keys in one question, and in one commit of new ones.
const PROBES: u64 = 10_000;
/// Keys in one commit while the store grows.
const BATCH: u64 = 100_000;
/// Commits of each kind in the phase `insert`.
const COMMITS: u64 = 5;
/// Small refreshes in the phase `follow`.
const FOLLOWED: u64 = 200;
/// Entries in one ordered scan.
const SCAN: usize = 100_000;
/// New keys are drawn from numbers that no other phase uses.
const NEW_KEYS: u64 = 1 << 40;

/// The phases of a store in order, each with the name of the directory that it works in.
pub fn plan(store: &str) -> &'static [(&'static str, &'static str)] {
    if store == "memory" {
        return &[("memory", "grown")];
    }
    &[
        ("load-sorted", "sorted"),
        ("load-in-batches", "grown"),
        ("probe-cold", "grown"),
        ("probe", "grown"),
        ("insert", "grown"),
        ("follow", "grown"),
        ("churn", "grown"),
        ("kill", "grown"),
        ("reopen", "grown"),
    ]
}

/// Runs the phase `name` of `store` on its files in `dir`, where `count` keys are or will be.
pub fn run(name: &str, store: &str, dir: &Path, count: u64) -> Result<()> {
    match name {
        "load-sorted" => load_sorted(store, dir, count),
        "load-in-batches" => load_in_batches(store, dir, count),
        "probe-cold" => probe_cold(store, dir, count),
        "probe" => probe(store, dir, count),
        "insert" => insert(store, dir),
        "follow" => follow(store, dir, count),
        "churn" => churn(store, dir, count),
        "kill" => kill(store, dir),
        "reopen" => reopen(store, dir),
        "memory" => memory(store, dir, count),
        other => Err(format!("no phase is called {other}").into()),
    }
}

fn load_sorted(store: &str, dir: &Path, count: u64) -> Result<()> {
    let entries = keys::sorted(0, count);
    let start = Instant::now();
    let mut opened = stores::open(store, dir)?;
    opened.load_sorted(&entries)?;
    drop(opened);
    print("load sorted, s", start.elapsed().as_secs_f64());
    print("on disk after sorted load, MB", disk_mb(dir)?);
    Ok(())
}

fn load_in_batches(store: &str, dir: &Path, count: u64) -> Result<()> {
    let mut spent = 0.0;
    let mut opened = stores::open(store, dir)?;
    for from in (0..count).step_by(BATCH as usize) {
        let entries = keys::sorted(from, BATCH.min(count - from));
        let durability = if from + BATCH >= count { Durability::Synced } else { Durability::Buffered };
        let start = Instant::now();
        opened.insert(&entries, durability)?;
        spent += start.elapsed().as_secs_f64();
    }
    let start = Instant::now();
    drop(opened);
    print("load in commits of 100,000, s", spent + start.elapsed().as_secs_f64());
    print("on disk after it, MB", disk_mb(dir)?);
    print("peak memory while loading, MB", memory_mb("VmHWM:")?);
    Ok(())
}

fn probe_cold(store: &str, dir: &Path, count: u64) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        evict(&entry?.path())?;
    }
    let probes = keys::probes(count, PROBES, 0);
    let start = Instant::now();
    let opened = stores::open(store, dir)?;
    ask(opened.as_ref(), &probes)?;
    print("open and probe, page cache empty, ms", ms(start));
    Ok(())
}

fn probe(store: &str, dir: &Path, count: u64) -> Result<()> {
    let start = Instant::now();
    let opened = stores::open(store, dir)?;
    print("open, ms", ms(start));
    let probes = keys::probes(count, PROBES, 1);
    for metric in ["probe after open, ms", "probe the same again, ms"] {
        let start = Instant::now();
        ask(opened.as_ref(), &probes)?;
        print(metric, ms(start));
    }
    print("peak memory while probing, MB", memory_mb("VmHWM:")?);
    print("of it not backed by a file, MB", memory_mb("RssAnon:")?);
    let start = Instant::now();
    if let Some(read) = opened.scan(keys::key(7), SCAN)? {
        assert!(read == SCAN || count <= SCAN as u64, "the scan ended after {read} entries");
        print("scan 100,000 in order, ms", ms(start));
    }
    Ok(())
}

fn insert(store: &str, dir: &Path) -> Result<()> {
    let mut opened = stores::open(store, dir)?;
    let kinds =
        [(Durability::Synced, "insert 10,000, synced, ms"), (Durability::Buffered, "insert 10,000, not synced, ms")];
    for (kind, (durability, metric)) in kinds.into_iter().enumerate() {
        let mut times = Vec::new();
        for commit in 0..COMMITS {
            let entries = keys::sorted(NEW_KEYS + (kind as u64 * COMMITS + commit) * PROBES, PROBES);
            let start = Instant::now();
            opened.insert(&entries, durability)?;
            times.push(ms(start));
        }
        print(metric, crate::table::median(&mut times));
    }
    Ok(())
}

/// What a process that refreshes as events land does: a question and a commit of 1,000 keys, again and again.
fn follow(store: &str, dir: &Path, count: u64) -> Result<()> {
    let mut opened = stores::open(store, dir)?;
    let mut times = Vec::new();
    for round in 0..FOLLOWED {
        let (probes, entries) =
            (keys::probes(count, 1_000, 2 + round), keys::sorted(4 * NEW_KEYS + round * 1_000, 1_000));
        let start = Instant::now();
        opened.count_present(&probes)?;
        opened.insert(&entries, Durability::Synced)?;
        times.push(ms(start));
    }
    print("probe and insert 1,000, synced, 200 times: median, ms", crate::table::median(&mut times));
    print("the worst of them, ms", times[times.len() - 1]);
    Ok(())
}

/// Takes a tenth of the keys away and puts as many others in, ten times: does the file settle?
fn churn(store: &str, dir: &Path, count: u64) -> Result<()> {
    let before = disk_mb(dir)?;
    let mut opened = stores::open(store, dir)?;
    let start = Instant::now();
    for round in 0..10 {
        let share = count / 100;
        let gone: Vec<_> = keys::sorted(round * share, share).into_iter().map(|(key, _)| key).collect();
        if !opened.remove(&gone)? {
            return Ok(());
        }
        opened.insert(&keys::sorted(2 * NEW_KEYS + round * share, share), Durability::Synced)?;
    }
    drop(opened);
    print("replace 10 % in 10 commits, s", start.elapsed().as_secs_f64());
    print("growth of the files by it, MB", disk_mb(dir)? - before);
    Ok(())
}

/// Commits, then dies without closing anything.
fn kill(store: &str, dir: &Path) -> Result<()> {
    let mut opened = stores::open(store, dir)?;
    opened.insert(&keys::sorted(3 * NEW_KEYS, PROBES), Durability::Synced)?;
    std::process::abort();
}

fn reopen(store: &str, dir: &Path) -> Result<()> {
    let start = Instant::now();
    let opened = stores::open(store, dir)?;
    print("open after a kill, ms", ms(start));
    let committed: Vec<_> = keys::sorted(3 * NEW_KEYS, PROBES).into_iter().map(|(key, _)| key).collect();
    let found = opened.count_present(&committed)?;
    assert_eq!(found, committed.len(), "{store} lost committed keys");
    Ok(())
}

fn memory(store: &str, dir: &Path, count: u64) -> Result<()> {
    let mut opened = stores::open(store, dir)?;
    let mut spent = 0.0;
    for from in (0..count).step_by(BATCH as usize) {
        let entries = keys::sorted(from, BATCH.min(count - from));
        let start = Instant::now();
        opened.insert(&entries, Durability::Buffered)?;
        spent += start.elapsed().as_secs_f64();
    }
    print("load in commits of 100,000, s", spent);
    print("peak memory while loading, MB", memory_mb("VmHWM:")?);
    let probes = keys::probes(count, PROBES, 1);
    for metric in ["probe after open, ms", "probe the same again, ms"] {
        let start = Instant::now();
        ask(opened.as_ref(), &probes)?;
        print(metric, ms(start));
    }
    Ok(())
}

fn ask(store: &dyn Store, probes: &[keys::Key]) -> Result<()> {
    let present = store.count_present(probes)?;
    // A number can be drawn twice: a probe is asked as often as it was drawn, and files answer a repeated key once.
    let (least, most) = (probes.len() / 2 - probes.len() / 50, probes.len() / 2);
    assert!((least..=most).contains(&present), "{present} of {} probes were found", probes.len());
    Ok(())
}

fn print(metric: &str, value: f64) {
    println!("{metric}\t{value}");
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn disk_mb(path: &Path) -> Result<f64> {
    let metadata = path.metadata()?;
    if !metadata.is_dir() {
        return Ok(metadata.blocks() as f64 * 512.0 / 1e6);
    }
    std::fs::read_dir(path)?.map(|entry| disk_mb(&entry?.path())).sum()
}

/// Asks the kernel to drop the pages of every file under `path`, so that the next read goes to the disk.
fn evict(path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            evict(&entry?.path())?;
        }
        return Ok(());
    }
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// A line of `/proc/self/status`, which is in kB.
fn memory_mb(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1e3)
}
