//! The map is checked: which room may know which, and one version of each crate that data crosses rooms in.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

/// What each room may depend on, of the workspace; tests and benches may know all of them.
const ARROWS: [(&str, &[&str]); 8] = [
    ("lakebed-log", &[]),
    ("lakebed-generator", &[]),
    ("lakebed-project", &["lakebed-log"]),
    ("lakebed-ingest", &["lakebed-log", "lakebed-project"]),
    ("lakebed-capture", &["lakebed-log", "lakebed-project", "lakebed-ingest"]),
    ("lakebed-query", &["lakebed-log", "lakebed-project"]),
    ("lakebed-flight-server", &["lakebed-log", "lakebed-project", "lakebed-query"]),
    // Its library is the lakes, batches and servers that benches use, too.
    ("lakebed-tests", &["lakebed-log", "lakebed-project", "lakebed-ingest", "lakebed-generator", "lakebed-query"]),
];

/// Those that nobody may depend on.
const TOPS: [&str; 2] = ["lakebed", "lakebed-benches"];

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = MetadataCommand::new();
    command.manifest_path(manifest).features(CargoOpt::AllFeatures);
    command.other_options(["--offline", "--locked", "--filter-platform", &host()].map(str::to_owned)).exec().unwrap()
}

/// The platform that is built for: the crates of others are not on a machine that only ever built.
fn host() -> String {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn nothing_points_back() {
    let metadata = metadata();
    let rooms = metadata.workspace_packages();
    let names: BTreeSet<_> = rooms.iter().map(|room| room.name.to_string()).collect();
    let known = ARROWS.iter().map(|(room, _)| *room).chain(TOPS);
    assert_eq!(names, known.map(str::to_owned).collect(), "a new room has to be put on the map here");
    for room in rooms {
        // Tests of a room may use nothing further up either, so every kind of dependency counts; but a binary is tried with
        // what all its tests share.
        let used: BTreeSet<_> = room
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str())
            .filter(|name| names.contains(*name))
            .filter(|used| !(room.name.as_str() == "lakebed-ingest" && *used == "lakebed-tests"))
            .collect();
        match ARROWS.iter().find(|(name, _)| *name == room.name.as_str()) {
            Some((_, allowed)) => {
                let back: Vec<_> = used.into_iter().filter(|name| !allowed.contains(name)).collect();
                assert!(back.is_empty(), "{} must not know {back:?}", room.name);
            }
            None => assert!(TOPS.iter().all(|top| !used.contains(top)), "{} knows {used:?}", room.name),
        }
    }
}

/// The names of everything that a room is built with.
fn reach(metadata: &Metadata, room: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = metadata.packages.iter().find(|package| package.name.as_str() == room).unwrap();
    let (mut seen, mut next) = (BTreeSet::new(), vec![&start.id]);
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            let built = |kinds: &[cargo_metadata::DepKindInfo]| {
                kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            };
            next.extend(nodes[id].deps.iter().filter(|dep| built(&dep.dep_kinds)).map(|dep| &dep.pkg));
        }
    }
    seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
}

#[test]
fn appending_needs_no_query_engine() {
    let metadata = metadata();
    for room in ["lakebed-log", "lakebed-ingest", "lakebed-capture"] {
        let reached = reach(&metadata, room);
        let heavy: Vec<_> =
            reached.iter().filter(|name| name.starts_with("datafusion") || name.contains("duckdb")).collect();
        assert!(heavy.is_empty(), "{room} is built with {heavy:?}");
    }
    assert!(reach(&metadata, "lakebed-query").contains("duckdb"), "the walk finds what is there");
    // Nor does the function need a database: it has to stay small.
    assert!(!reach(&metadata, "lakebed-ingest").contains("sqlx"));
}

#[test]
fn data_crosses_rooms_in_one_version() {
    let metadata = metadata();
    let versions = |name: &str| {
        let of_name = metadata.packages.iter().filter(|package| package.name.as_str() == name);
        of_name.map(|package| package.version.major).collect::<Vec<_>>()
    };
    for name in ["parquet", "datafusion", "object_store", "deltalake"] {
        assert_eq!(versions(name).len(), 1, "{name}: {:?}", versions(name));
    }
    // DuckDB brings its own arrow, which is crossed with the C data interface.
    let mut arrows = versions("arrow");
    arrows.sort_unstable();
    assert_eq!(arrows, [59, 60]);
    let resolve = metadata.resolve.as_ref().unwrap();
    let sixty =
        metadata.packages.iter().find(|package| package.name.as_str() == "arrow" && package.version.major == 60);
    let users = resolve.nodes.iter().filter(|node| node.dependencies.contains(&sixty.unwrap().id));
    let users: Vec<_> = users.map(|node| metadata[&node.id].name.to_string()).collect();
    assert_eq!(users, ["duckdb"], "arrow 60 is DuckDB's alone");
}
