//! Tables in memory are those of the files, at every version and within every limit.

use futures::TryStreamExt;
use lakebed_project::{Config, Flags};
use lakebed_query::{Lakehouse, Project, ReadSession};
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
    let batches: Vec<_> = session.stream(plan).await.unwrap().try_collect().await.unwrap();
    let table = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
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
