//! A project to try the binary in, and what is asked of everything that it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::served::LONG;

pub(crate) const LAKEBED: &str = env!("CARGO_BIN_EXE_lakebed");

/// A directory with a fresh project in it.
pub(crate) struct Shop(TempDir);

impl Shop {
    pub(crate) fn new() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        let init = Command::new(LAKEBED).args(["init", "shop"]).current_dir(shop.0.path()).output().unwrap();
        assert!(init.status.success(), "{}", stderr(&init));
        shop
    }

    /// A project whose log has 300 events and whose tables are refreshed.
    pub(crate) fn with_tables() -> Self {
        let shop = Self::new();
        let events = shop.events(300);
        shop.done(&["ingest", events.to_str().unwrap()]);
        shop.done(&["run"]);
        shop
    }

    /// One whose tables were built at version 1 and again at version 2, with more events.
    pub(crate) fn of_two_versions() -> Self {
        Self::of_versions(&[200, 300])
    }

    /// One whose tables were built at each version, after an ingest of the first so many events of one stretch.
    pub(crate) fn of_versions(events: &[u64]) -> Self {
        let shop = Self::new();
        for &events in events {
            shop.done(&["ingest", shop.events(events).to_str().unwrap()]);
            shop.done(&["run"]);
        }
        shop
    }

    /// The directory that the project is in.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("shop")
    }

    pub(crate) fn events(&self, count: u64) -> PathBuf {
        let file = self.0.path().join(format!("{count}.ndjson"));
        self.done(&["generate", "--events", &count.to_string(), "--to", file.to_str().unwrap()]);
        file
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LAKEBED);
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until a server has published all that it stored: only then does `verify` hold.
    pub(crate) fn comes_to_hold(&self) {
        let began = Instant::now();
        while !self.command(&["verify"]).output().unwrap().status.success() {
            assert!(began.elapsed() < LONG, "{}", self.fails(&["verify"], 1));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs what must fail with this exit code, one sentence and, with a hint, what to do; gives both lines.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
        let lines: Vec<_> = said.lines().collect();
        let whole = matches!(lines[..], [_, hint] if hint.starts_with("hint: ")) || code == 2;
        assert!(whole, "{arguments:?} says one sentence and what to do: {said}");
        said
    }

    pub(crate) fn count(&self) -> String {
        self.done(&["query", "SELECT count(*) AS n FROM bronze.events", "-o", "json"]).trim().to_owned()
    }

    pub(crate) fn edit(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).unwrap();
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All of `parts` are in what was said.
#[track_caller]
pub(crate) fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
}
