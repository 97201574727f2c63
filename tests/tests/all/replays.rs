//! Replays in place and beside, in steps, interrupted and gone on with; and what a run would do before it does it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use lakebed_log::Ack;
use lakebed_query::{Action, AsOf, Lakehouse, Progress, Replay, epoch};
use lakebed_tests::batches::{at, numbered};
use tempfile::TempDir;

use crate::grouped::shown;
use crate::models::{lake_of, reopened};
use crate::pipeline::tables;

const MODELS: &[(&str, &str)] = &[
    ("silver/seen.sql", "SELECT event_id, event_type, _offset AS at FROM bronze.events"),
    ("gold/types.sql", "SELECT event_type, count(*) AS events, max(at) AS last FROM silver.seen GROUP BY 1"),
    ("gold/odd.sql", "SELECT event_type, events % 2 AS odd FROM gold.types"),
    ("gold/far.sql", "SELECT event_id, sum(at) OVER (ORDER BY at) AS far FROM silver.seen"),
];

/// A lake whose tables stand at version 4, of 20 events each, and which takes up 20 events at once.
async fn lake(directory: &Path) -> Lakehouse {
    drop(lake_of(directory, MODELS).await);
    let settings = "[project]\nname = \"shop\"\n[refresh]\nevents_at_once = 20\n";
    std::fs::write(directory.join("lakebed.toml"), settings).unwrap();
    let lake = reopened(directory).await;
    for step in 0..4 {
        lake.log().append(&numbered(&format!("b{step}"), 20), Ack::Committed, at(step + 1)).await.unwrap();
        lake.refresh(&[], &()).await.unwrap();
    }
    lake
}

#[derive(Default)]
struct Steps(AtomicU64);

impl Progress for Steps {
    fn replayed(&self, events: u64, _: u64) {
        self.0.fetch_max(events, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_beside_gives_the_tables_of_a_version() {
    let directory = TempDir::new().unwrap();
    let lake = lake(directory.path()).await;
    let (before, steps) = (tables(&lake).await, Steps::default());
    let replay = Replay { to: Some(AsOf::Version(3)), into: Some("march".to_owned()), ..Replay::default() };
    let replayed = lake.replay(&replay, &steps).await.unwrap();
    assert_eq!((replayed.version, replayed.models.len(), replayed.differed.len()), (3, 4, 0));
    assert_eq!(steps.0.load(Ordering::Relaxed), 40, "two steps, and the last one to the end");
    assert_eq!(tables(&lake).await, before, "the tables are what they were");
    let published = replayed.published.unwrap();
    assert_eq!(published.file_name().unwrap(), "march.duckdb");
    let duckdb = duckdb::Connection::open_in_memory().unwrap();
    duckdb.execute_batch(&format!("ATTACH '{}' AS march (READ_ONLY)", published.display())).unwrap();
    let sql = "SELECT event_type, events, last FROM march.gold.types";
    let row =
        duckdb.query_row(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
    let (kind, events, last) = row.unwrap();
    let then = shown(&lake, Some(AsOf::Version(3)), "SELECT event_type, events, last FROM gold.types").await;
    assert_eq!(then, [format!("{kind}|{events}|{last}")]);
    // On to the newest version; back is refused.
    let on = Replay { to: None, ..replay.clone() };
    assert_eq!(lake.replay(&on, &()).await.unwrap().version, 4);
    let back = lake.replay(&replay, &()).await.unwrap_err();
    assert!(back.to_string().contains("stand at version 4, beyond version 3") && back.hint().is_some(), "{back}");
    let name = lake.replay(&Replay { into: Some("../x".to_owned()), ..Replay::default() }, &()).await.unwrap_err();
    assert!(name.to_string().contains("'../x'"), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_in_place_puts_right_what_is_wrong_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let lake = lake(directory.path()).await;
    let (before, store) = (tables(&lake).await, lake.log().store());
    let replayed = lake.replay(&Replay::default(), &()).await.unwrap();
    assert_eq!((replayed.differed.len(), replayed.models.len()), (0, 4));
    assert_eq!(tables(&lake).await, before);
    // A run of one epoch is another's now, and one is gone.
    let manifest = epoch::newest(store).await.unwrap().unwrap();
    let path = |name: &str, at: usize| manifest.models[name].runs[at].path.as_str().into();
    let other = store.get(&path("silver.seen", 1)).await.unwrap().unwrap();
    store.delete(&path("silver.seen", 2)).await.unwrap();
    store.put(&path("silver.seen", 2), other).await.unwrap();
    let last = manifest.models["gold.types"].runs.len() - 1;
    store.delete(&path("gold.types", last)).await.unwrap();
    assert!(lake.verify(&["silver.seen".to_owned()]).await.unwrap().iter().all(|verified| !verified.holds()));
    let replayed = lake.replay(&Replay::default(), &()).await.unwrap();
    assert_eq!(replayed.differed, ["silver.seen", "gold.types"]);
    assert_eq!(tables(&lake).await, before, "the same rows, read from other runs");
    lake.log().append(&numbered("later", 7), Ack::Committed, at(9)).await.unwrap();
    lake.refresh(&[], &()).await.unwrap();
    for verified in lake.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

/// Both have a first epoch, and what the operators learn by then is not the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_replay_in_place_knows_nothing_of_the_first() {
    let directory = TempDir::new().unwrap();
    let sorted = "SELECT event_type, count(*) AS events, max(at) AS last FROM silver.seen GROUP BY 1 ORDER BY 1";
    drop(lake_of(directory.path(), &[MODELS[0], ("gold/sorted.sql", sorted)]).await);
    let settings = "[project]\nname = \"shop\"\n[refresh]\nevents_at_once = 20\n";
    std::fs::write(directory.path().join("lakebed.toml"), settings).unwrap();
    let lake = reopened(directory.path()).await;
    for (step, events) in [(1, 15), (2, 5), (3, 20), (4, 20)] {
        lake.log().append(&numbered(&format!("b{step}"), events), Ack::Committed, at(step)).await.unwrap();
        lake.refresh(&[], &()).await.unwrap();
        let before = shown(&lake, None, "SELECT * FROM gold.sorted").await;
        assert_eq!(lake.replay(&Replay::default(), &()).await.unwrap().differed, [] as [&str; 0], "{step}");
        assert_eq!(shown(&lake, None, "SELECT * FROM gold.sorted").await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_replay_goes_on_from_its_last_step() {
    struct Dies;
    impl Progress for Dies {
        fn replayed(&self, events: u64, _: u64) {
            assert!(events < 40, "killed in the third step");
        }
    }
    let directory = TempDir::new().unwrap();
    let first = lake(directory.path()).await;
    let before = tables(&first).await;
    let replay = Replay::default();
    let (dying, asked) = (first.clone(), replay.clone());
    assert!(tokio::spawn(async move { dying.replay(&asked, &Dies).await }).await.unwrap_err().is_panic());
    drop(first);
    let again = reopened(directory.path()).await;
    let replays = again.log().store().list(&lakebed_log::layout::replays()).await.unwrap();
    assert_eq!(replays.len(), 2, "two steps are kept");
    assert_eq!(again.replay(&replay, &()).await.unwrap().differed.len(), 0);
    assert_eq!(tables(&again).await, before);
    assert_eq!(
        again.log().store().list(&lakebed_log::layout::replays()).await.unwrap().len(),
        0,
        "nothing is left of it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_what_a_run_then_does() {
    let directory = TempDir::new().unwrap();
    let first = lake(directory.path()).await;
    let actions = async |lake: &Lakehouse| -> Vec<(String, Action, String)> {
        let planned = lake.plan().await.unwrap();
        planned.into_iter().map(|model| (model.model, model.action, model.because)).collect()
    };
    assert!(actions(&first).await.iter().all(|(_, action, _)| *action == Action::Nothing));
    first.log().append(&numbered("news", 5), Ack::Committed, at(9)).await.unwrap();
    assert!(actions(&first).await.iter().all(|(_, action, _)| *action == Action::Update));
    first.refresh(&[], &()).await.unwrap();
    let before = tables(&first).await;
    drop(first);
    // Layout and comments, a column more, and a file less.
    let file = |name: &str| directory.path().join("sql").join(name);
    std::fs::write(file("silver/seen.sql"), format!("-- Seen.\n{}", MODELS[0].1.replace(", ", ",\n  "))).unwrap();
    let types = MODELS[1].1.replace("count(*)", "min(at) AS first, count(*)");
    std::fs::write(file("gold/types.sql"), types).unwrap();
    std::fs::remove_file(file("gold/far.sql")).unwrap();
    let edited = reopened(directory.path()).await;
    let planned = actions(&edited).await;
    let expected = [
        ("silver.seen", Action::Nothing, "nothing that it reads has changed"),
        ("gold.types", Action::Rebuild, "its SQL has new columns: first"),
        ("gold.odd", Action::Rebuild, "gold.types is rebuilt, which it reads"),
        ("gold.far", Action::Drop, "there is no such model in sql/ any more"),
    ];
    let found: Vec<_> =
        planned.iter().map(|(name, action, because)| (name.as_str(), *action, because.as_str())).collect();
    assert_eq!(found, expected);
    let refreshed = edited.refresh(&[], &()).await.unwrap();
    let written = |name: &str| refreshed.models.iter().find(|model| model.name == name).unwrap().rows_written;
    assert_eq!((written("silver.seen"), written("gold.types")), (0, 1));
    let after = tables(&edited).await;
    let same = |name: &str| {
        before.iter().find(|table| table.0 == name).unwrap() == after.iter().find(|table| table.0 == name).unwrap()
    };
    assert!(same("silver.seen") && same("gold.odd"));
    for verified in edited.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
    // A query that says the same in other words goes on with the table, and nothing that reads it is computed again.
    drop(edited);
    std::fs::write(file("silver/seen.sql"), MODELS[0].1.replace("bronze.events", "bronze.events WHERE true")).unwrap();
    let reworded = reopened(directory.path()).await;
    let refreshed = reworded.refresh(&[], &()).await.unwrap();
    assert!(refreshed.models.iter().all(|model| model.rows_written == 0), "{refreshed:?}");
    for verified in reworded.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_is_far_behind_goes_in_several_epochs() {
    let directory = TempDir::new().unwrap();
    let lake = lake(directory.path()).await;
    for step in 4..8 {
        lake.log().append(&numbered(&format!("b{step}"), 15), Ack::Committed, at(step + 1)).await.unwrap();
    }
    lake.log().append(&numbered("large", 50), Ack::Committed, at(9)).await.unwrap();
    // Two versions of 15 events are more than 20, and one of 50 cannot be divided.
    let refreshed = lake.refresh(&[], &()).await.unwrap();
    assert_eq!((refreshed.version, refreshed.epoch, refreshed.unchanged), (9, 9, false));
    let bounds = async |epoch: u64| {
        let path = lakebed_log::layout::epoch(None, epoch);
        epoch::read(lake.log().store(), &path).await.unwrap().unwrap().next_offset
    };
    let found = [bounds(5).await, bounds(6).await, bounds(7).await, bounds(8).await, bounds(9).await];
    assert_eq!(found, [95, 110, 125, 140, 190]);
    for verified in lake.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

/// What is stored of the tables is gone or damaged, all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_puts_right_what_cannot_be_read() {
    for damage in ["gone", "cut"] {
        let directory = TempDir::new().unwrap();
        let lake = lake(directory.path()).await;
        let before = tables(&lake).await;
        drop(lake);
        let models = directory.path().join("lake/models");
        match damage {
            "gone" => std::fs::remove_dir_all(&models).unwrap(),
            _ => files_below(&models).iter().for_each(|file| std::fs::write(file, "no rows").unwrap()),
        }
        let lake = reopened(directory.path()).await;
        let replayed = lake.replay(&Replay::default(), &()).await.unwrap();
        assert_eq!(replayed.differed.len(), MODELS.len(), "{damage}");
        assert_eq!(tables(&lake).await, before, "{damage}");
        for verified in lake.verify(&[]).await.unwrap() {
            assert!(verified.holds(), "{damage}: {verified:?}");
        }
    }
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
