//! What does "have I seen this key?" cost? Measures embedded stores, and plain Parquet files, on the question that the
//! state cache is asked at every refresh: 10,000 keys, half of them new, against 10,000,000 stored ones.
//!
//! ```text
//! cargo run --release -- [--keys 10000000] [--runs 3] [--dir DIR] [STORE…]     prints a Markdown table
//! ```
//! Every phase is a process of its own, so that memory is the phase's and "open" is a real open; the table shows
//! medians over the runs. A project by itself, so that the stores that were not chosen stay out of the product's lock
//! file. What came of it: docs/adr/0002-state-cache-store.md.

mod keys;
mod phases;
mod stores;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use stores::Result;

struct Arguments {
    keys: u64,
    runs: usize,
    dir: PathBuf,
    stores: Vec<String>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, phase, store, dir, keys] = arguments.as_slice()
        && word == "phase"
    {
        return phases::run(phase, store, Path::new(dir), keys.parse()?);
    }
    let arguments = parse(&arguments)?;
    let mut table = table::Table::default();
    for run in 0..arguments.runs {
        for store in &arguments.stores {
            eprintln!("run {} of {}: {store}", run + 1, arguments.runs);
            measure(&arguments, store, &mut table)?;
        }
    }
    println!("{}", table.markdown(&arguments.stores));
    Ok(())
}

fn parse(words: &[String]) -> Result<Arguments> {
    let mut arguments = Arguments {
        keys: 10_000_000,
        runs: 3,
        dir: std::env::temp_dir().join(format!("lakebed-key-store-{}", std::process::id())),
        stores: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--keys" => arguments.keys = value()?.parse()?,
            "--runs" => arguments.runs = value()?.parse()?,
            "--dir" => arguments.dir = value()?.into(),
            store if stores::NAMES.contains(&store) => arguments.stores.push(store.to_owned()),
            other => return Err(format!("{other} is neither an option nor one of {}", stores::NAMES.join(", ")).into()),
        }
    }
    if arguments.stores.is_empty() {
        arguments.stores = stores::NAMES.iter().map(|&name| name.to_owned()).collect();
    }
    Ok(arguments)
}

/// Runs every phase of one store and puts what they print into the table.
fn measure(arguments: &Arguments, store: &str, table: &mut table::Table) -> Result<()> {
    for (phase, place) in phases::plan(store) {
        let dir = arguments.dir.join(format!("{store}-{place}"));
        let output = Command::new(std::env::current_exe()?)
            .args(["phase", phase, store])
            .arg(&dir)
            .arg(arguments.keys.to_string())
            .stderr(std::process::Stdio::inherit())
            .output()?;
        // The phase `kill` ends itself by SIGABRT in the middle of a commit; that is what it is for.
        if !output.status.success() && *phase != "kill" {
            return Err(format!("{store}: phase {phase} ended with {}", output.status).into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let (metric, value) = line.split_once('\t').ok_or("a phase printed something else than a metric")?;
            eprintln!("  {metric}: {value}");
            table.add(metric, store, value.parse()?);
        }
    }
    std::fs::remove_dir_all(&arguments.dir)?;
    Ok(())
}
