//! Models of all shapes: what an epoch after each batch comes to, and what their SQL means by itself.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use lakebed_log::{Ack, Compaction};
use lakebed_project::{Config, Flags};
use lakebed_query::{AsOf, Lakehouse, Project};
use lakebed_tests::batches::{at, batch, event};
use tempfile::TempDir;

use crate::pipeline::{number, query, tables};

/// A project of these models, `folder/name.sql`, with its lake in its directory.
pub(crate) async fn lake_of(directory: &Path, models: &[(&str, &str)]) -> Lakehouse {
    for (file, sql) in models {
        let file = directory.join("sql").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, sql).unwrap();
    }
    std::fs::write(directory.join("lakebed.toml"), "[project]\nname = \"shop\"\n").unwrap();
    let project = Project::load(directory, Config::load(directory, &|_| None, &Flags::default()).unwrap()).unwrap();
    Lakehouse::open_or_create(project, at(0)).await.unwrap()
}

/// Appends the events, each its id and the rest of its text, as a batch of that number.
pub(crate) async fn append(lake: &Lakehouse, number: i64, events: &[(&str, &str)]) {
    let lines: Vec<_> = events.iter().map(|(id, rest)| event(id, rest)).collect();
    lake.log().append(&batch(&format!("b{number}"), &lines), Ack::Committed, at(number)).await.unwrap();
}

/// The lake of a project as its files are now.
pub(crate) async fn reopened(directory: &Path) -> Lakehouse {
    let config = Config::load(directory, &|_| None, &Flags::default()).unwrap();
    Lakehouse::open(Project::load(directory, config).unwrap()).await.unwrap()
}

pub(crate) async fn assert_verified(lake: &Lakehouse) {
    for verified in lake.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

/// The first row of each tag: its events have many tags each, so an offset is not one row's alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_row_of_each_key_below_an_unnest() {
    const MODELS: &[(&str, &str)] = &[(
        "silver/tags.sql",
        "WITH tags AS (SELECT event_id, _offset, unnest(json_get_array(tags)) AS tag FROM bronze.events)
         SELECT tag, event_id FROM (
             SELECT *, row_number() OVER (PARTITION BY tag ORDER BY _offset) AS n FROM tags
         ) WHERE n = 1",
    )];
    let (steps, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (stepped, at_once) = (lake_of(steps.path(), MODELS).await, lake_of(whole.path(), MODELS).await);
    let batches: [&[(&str, &str)]; 2] =
        [&[("one", r#","tags":["a","a","b"]"#)], &[("two", r#","tags":["a","c"]"#), ("three", r#","tags":["c","d"]"#)]];
    for (events, step) in batches.iter().zip(1..) {
        append(&stepped, step, events).await;
        append(&at_once, step, events).await;
        stepped.refresh(&[], &()).await.unwrap();
    }
    at_once.refresh(&[], &()).await.unwrap();
    assert_eq!(tables(&stepped).await, tables(&at_once).await);
    let first = "SELECT string_agg(concat(tag, event_id), ' ' ORDER BY tag)::varchar FROM silver.tags";
    let found = query(&stepped, None, first).await;
    assert_eq!(found[0].column(0).as_string::<i32>().value(0).replace('"', ""), "aone bone ctwo dthree");
    assert_verified(&stepped).await;
}

/// `now()` is the time of the last events: it moves when any come, whatever the model reads, and by nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn now_is_the_time_of_the_last_events() {
    const MODELS: &[(&str, &str)] = &[
        ("silver/purchases.sql", "SELECT event_id FROM bronze.events WHERE amount > 0"),
        ("gold/sales.sql", "SELECT now() AS as_of, count(*) AS purchases FROM silver.purchases"),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    let shown = async |as_of: Option<AsOf>| {
        let session = lake.read(as_of).await.unwrap();
        let plan = session.plan(
            "SELECT arrow_cast(as_of, 'Timestamp(Microsecond, Some(\"UTC\"))'), purchases, \
             as_of = now() FROM gold.sales",
        );
        let rows = futures::TryStreamExt::try_collect::<Vec<_>>(session.stream(plan.await.unwrap()).await.unwrap());
        let rows = rows.await.unwrap();
        let time = rows[0].column(0).as_primitive::<TimestampMicrosecondType>().value(0);
        assert!(rows[0].column(2).as_boolean().value(0), "a query has the model's clock");
        (time / 1_000_000 - at(0).timestamp(), rows[0].column(1).as_primitive::<Int64Type>().value(0))
    };
    append(&lake, 10, &[("bought", r#","amount":1.5"#)]).await;
    lake.refresh(&[], &()).await.unwrap();
    assert_eq!(shown(None).await, (10, 1));
    append(&lake, 20, &[("looked", "")]).await;
    lake.refresh(&[], &()).await.unwrap();
    assert_eq!(shown(None).await, (20, 1), "no purchase came, and it is later all the same");
    lake.log().compact(&Compaction::default(), at(30)).await.unwrap();
    assert_eq!(lake.log().head().await.unwrap().0, 3);
    lake.refresh(&[], &()).await.unwrap();
    assert_eq!(shown(None).await, (20, 1), "a compaction brings no events");
    assert_eq!(shown(Some(AsOf::Version(1))).await, (10, 1));
    assert_verified(&lake).await;
}

/// Fields that are in no column are read from the event's text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_text_is_there_for_models() {
    const MODELS: &[(&str, &str)] = &[(
        "silver/details.sql",
        "SELECT event_id, _doc ->> 'note' AS note, _doc -> 'deep' ->> 'deeper' AS deeper, (_doc -> 'n')::bigint AS n
         FROM bronze.events",
    )];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    append(&lake, 1, &[("a", r#","note":"a \"b\"","deep":{"deeper":"x"},"n":7"#), ("b", "")]).await;
    lake.refresh(&[], &()).await.unwrap();
    let rows = query(&lake, None, "SELECT note, deeper, n FROM silver.details ORDER BY event_id").await;
    let text = |column: usize| rows[0].column(column).as_string::<i32>();
    assert_eq!((text(0).value(0), text(1).value(0)), ("a \"b\"", "x"));
    assert!((0..3).all(|column| rows[0].column(column).is_null(1)));
    assert_eq!(number(&lake, None, "SELECT sum(n) FROM silver.details").await, 7);
    assert_verified(&lake).await;
}
