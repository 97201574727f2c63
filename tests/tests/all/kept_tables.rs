//! Tables in memory are those of the files, at every version and within every limit.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion::execution::memory_pool::UnboundedMemoryPool;
use futures::TryStreamExt;
use lakebed_project::{Config, Flags};
use lakebed_query::{BoundPlan, Lakehouse, Project, ReadSession, Statement};
use lakebed_tests::batches::at;
use tempfile::TempDir;

use crate::pipeline::{append, project_over};

/// The same lake, read with so many bytes for tables.
async fn with_memory(directory: &TempDir, bytes: usize) -> Lakehouse {
    let mut config = Config::load(directory.path(), &|_| None, &Flags::default()).unwrap();
    config.serve.tables_memory = bytes;
    Lakehouse::open_or_create(Project::load(directory.path(), config).unwrap(), at(0)).await.unwrap()
}

async fn rows(session: &ReadSession, sql: &str) -> Vec<String> {
    let plan = session.plan(sql).await.unwrap();
    shown(&session.stream(plan).await.unwrap().try_collect::<Vec<_>>().await.unwrap())
}

/// Lines of a table in no order.
fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let table = arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

async fn is_of_files(session: &ReadSession, table: &str) -> bool {
    rows(session, &format!("EXPLAIN SELECT * FROM {table}")).await.iter().any(|line| line.contains("file_type=parquet"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_memory_is_what_is_in_files() {
    let directory = TempDir::new().unwrap();
    drop(project_over(directory.path(), |_| ()).await);
    let lakes = [
        with_memory(&directory, 0).await,
        with_memory(&directory, 1 << 30).await,
        with_memory(&directory, 2 << 20).await,
    ];
    let mut of_files = [0, 0, 0];
    for step in 0..4 {
        append(&lakes[0], step).await;
        lakes[0].refresh(&[], &()).await.unwrap();
        let sessions = [
            lakes[0].read(None).await.unwrap(),
            lakes[1].read(None).await.unwrap(),
            lakes[2].read(None).await.unwrap(),
        ];
        let tables: Vec<String> = sessions[0]
            .tables()
            .iter()
            .filter(|table| ["silver", "gold"].contains(&table.schema.as_str()))
            .map(|table| format!("{}.{}", table.schema, table.name))
            .collect();
        assert_eq!(tables.len(), 12);
        for table in &tables {
            for sql in [
                format!("SELECT * FROM {table}"),
                format!("SELECT count(*) FROM {table}"),
                format!("SELECT * FROM {table} LIMIT 0"),
            ] {
                let expected = rows(&sessions[0], &sql).await;
                for session in &sessions[1..] {
                    for _ in 0..2 {
                        assert_eq!(rows(session, &sql).await, expected, "{sql} at step {step}");
                    }
                }
            }
            for (count, session) in of_files.iter_mut().zip(&sessions) {
                *count += usize::from(is_of_files(session, table).await);
            }
        }
    }
    assert_eq!(of_files[..2], [48, 0], "without memory each is of its files, and with enough none");
    assert!((1..48).contains(&of_files[2]), "{of_files:?}");
}

/// The plan of a statement of a session.
async fn bound(session: &ReadSession, sql: &str) -> BoundPlan {
    let prepared = session.prepare(&Statement::parse(sql).unwrap()).await.unwrap();
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    session.bind(&prepared, &none).unwrap().remove(0)
}

async fn rows_of(session: &ReadSession, plan: &BoundPlan) -> Vec<String> {
    let memory = Arc::new(UnboundedMemoryPool::default());
    let stream = session.stream_within(plan, memory, Arc::default()).await.unwrap();
    shown(&stream.try_collect::<Vec<_>>().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_light_gives_the_same_rows_however_often_and_by_how_many_it_is_run() {
    let directory = TempDir::new().unwrap();
    let lakehouse = project_over(directory.path(), |_| ()).await;
    for step in 0..3 {
        append(&lakehouse, step).await;
    }
    lakehouse.refresh(&[], &()).await.unwrap();
    let session = Arc::new(lakehouse.read(None).await.unwrap());
    let traffic = "FROM gold.hourly_traffic";
    for (sql, is_light) in [
        (format!("SELECT * {traffic}"), true),
        (format!("SELECT hour, events + 1 AS more {traffic} WHERE events > 0 ORDER BY hour DESC, device"), true),
        // What keeps the best rows, and what keeps extremes, remembers how good they were.
        (format!("SELECT hour, device, events {traffic} ORDER BY events DESC, hour, device LIMIT 3"), true),
        (format!("SELECT min(hour), max(events), min(device), count(*) {traffic} WHERE events > 0"), true),
        (format!("SELECT date_trunc('day', hour) AS day, sum(events) {traffic} GROUP BY 1 ORDER BY 1"), true),
        (format!("SELECT device, avg(events) AS mean {traffic} GROUP BY 1 ORDER BY mean DESC, device LIMIT 2"), true),
        (format!("SELECT DISTINCT device {traffic}"), true),
        (format!("SELECT count(*) {traffic}"), true),
        (format!("SELECT device {traffic} WHERE device IN ('none', 'x')"), true),
        // A little of this may be much work, or much to send.
        (format!("SELECT '{}' AS long {traffic} WHERE events > 0", "x".repeat(300)), false),
        (format!("SELECT repeat(device, 3) {traffic}"), false),
        (format!("SELECT a.hour {traffic} AS a CROSS JOIN gold.hourly_traffic AS b"), false),
        (format!("SELECT hour, sum(events) OVER (ORDER BY hour, device) {traffic}"), false),
        (format!("SELECT events {traffic} WHERE events = (SELECT max(events) {traffic})"), false),
        (format!("SELECT count(*) {traffic} WHERE device LIKE '%a%b%'"), false),
        ("SELECT count(*) FROM bronze.events".to_owned(), false),
        ("SELECT count(*) FROM lakebed.versions".to_owned(), false),
    ] {
        let expected = rows(&session, &sql).await;
        let plan = bound(&session, &sql).await;
        assert!(!plan.is_light(), "{sql}: it was not run yet");
        for _ in 0..3 {
            assert_eq!(rows_of(&session, &plan).await, expected, "{sql}");
        }
        assert_eq!(plan.is_light(), is_light, "{sql}");
        let plan = Arc::new(plan);
        let runs = [(); 4].map(|()| {
            let (session, plan) = (Arc::clone(&session), Arc::clone(&plan));
            tokio::spawn(async move { rows_of(&session, &plan).await })
        });
        for run in runs {
            assert_eq!(run.await.unwrap(), expected, "{sql}, by some at once");
        }
    }
}
