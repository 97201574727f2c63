//! A full disk, and a lake that may not be written.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::shop::{LAKEBED, Shop, says, stderr};

/// Runs a shell script as root of a user namespace of its own, where a small file system can be mounted; where it cannot, the
/// script exits with 77.
fn in_namespace(script: &str, directory: &Path) -> Output {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-euc", script]).current_dir(directory);
    unshare.env("LAKEBED", LAKEBED).stdin(Stdio::null());
    let output = unshare.output().expect("`unshare` of util-linux, to mount a small file system for this test");
    let mounted = output.status.code() != Some(77) && !stderr(&output).starts_with("unshare: ");
    assert!(mounted, "a file system cannot be mounted here, run this test where it can: {}", stderr(&output));
    output
}

/// A lake on a file system of 3 MiB: the append that no longer fits says so, and what was there is whole.
#[test]
fn a_full_disk_loses_nothing() {
    let shop = Shop::new();
    let (small, large) = (shop.events(500), shop.events(60_000));
    fs::create_dir(shop.path().join("full")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=3m tmpfs full || exit 77
         \"$LAKEBED\" --lake full ingest -q '{}'
         code=0; \"$LAKEBED\" --lake full ingest -q '{}' || code=$?
         test $code = 1 || {{ echo \"exit code $code\"; exit 1; }}
         \"$LAKEBED\" --lake full query -o csv 'SELECT count(*), count(DISTINCT _offset), max(_offset) + 1 FROM bronze.events'",
        small.display(),
        large.display(),
    );
    let output = in_namespace(&script, &shop.path());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    says(&said, &["error: no space left for", "hint: free some space"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let counts: Vec<u64> = stdout.lines().last().unwrap().split(',').map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] >= 500 && counts == [counts[0]; 3], "{counts:?}: what was acknowledged is there, once");
}

/// A lake that may be read and not written.
#[test]
fn no_permission_is_said_and_changes_nothing() {
    let shop = Shop::with_tables();
    let events = shop.events(400);
    let script = format!(
        "mount --bind lake lake && mount -o remount,ro,bind lake || exit 77
         \"$LAKEBED\" ingest -q '{}'",
        events.display(),
    );
    let output = in_namespace(&script, &shop.path());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    says(&said, &["error: no permission", "hint: grant"]);
    assert_eq!(shop.count(), r#"[{"n":300}]"#);
}

/// Tables that no longer fit: the refresh says so, and what was there can be asked for. Without the filler there is room for all of
/// them several times over: a published file is written beside the one before it, and how many blocks it takes differs by run.
#[test]
fn a_full_disk_leaves_the_tables_as_they_were() {
    let shop = Shop::new();
    let (small, large) = (shop.events(300), shop.events(6_000));
    fs::create_dir(shop.path().join("full")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64m tmpfs full || exit 77
         \"$LAKEBED\" --lake full ingest -q '{}'
         \"$LAKEBED\" --lake full run -q
         \"$LAKEBED\" --lake full ingest -q '{}'
         dd if=/dev/zero of=full/filler bs=4k 2>/dev/null || true
         code=0; \"$LAKEBED\" --lake full run -q || code=$?
         test $code = 1 || {{ echo \"exit code $code\"; exit 1; }}
         \"$LAKEBED\" --lake full query -o csv 'SELECT count(*) FROM silver.events'
         rm full/filler
         \"$LAKEBED\" --lake full run -q
         \"$LAKEBED\" --lake full query -o csv 'SELECT count(*) FROM silver.events'",
        small.display(),
        large.display(),
    );
    let output = in_namespace(&script, &shop.path());
    let (said, stdout) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(output.status.success(), "{said}{stdout}");
    says(&said, &["error: ", "hint: "]);
    // The two stretches begin with the same events.
    assert_eq!(stdout.lines().filter(|line| line.parse::<u64>().is_ok()).collect::<Vec<_>>(), ["300", "6000"]);
}

#[test]
fn no_permission_to_make_something_is_said() {
    let shop = Shop::with_tables();
    let script = "mount --bind . . && cd \"$PWD\" && mount -o remount,ro,bind . || exit 77
         for command in 'init there' 'generate --events 10 --to there.ndjson' '--lake there ingest /dev/null' 'run'; do
             code=0; \"$LAKEBED\" $command || code=$?
             test $code = 1 || { echo \"$command: exit code $code\"; exit 1; }
         done";
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    let output = in_namespace(script, &shop.path());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(said.matches("error: ").count(), 4, "{said}");
    assert_eq!(said.matches("hint: grant").count(), 4, "{said}");
    assert!(!shop.path().join("there").exists() && !shop.path().join("there.ndjson").exists());
}
