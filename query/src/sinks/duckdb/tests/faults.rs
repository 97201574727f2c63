//! Readers, writers, kills and broken stores: the public file is whole, whatever happens beside it.

use super::*;

#[tokio::test]
async fn a_reader_holds_its_version_while_others_are_published() {
    for keep in [1, 2, 3] {
        let (mut lake, mut runs) = Lake::grown(keep, 3).await;
        let mut reader = Other::start("reader", &lake.sink().path());
        reader.wait_for("holding");
        for version in 4..=9 {
            assert!(!lake.grow(version, &mut runs).await.unwrap().unchanged);
            assert_eq!(lake.rows("t"), (1..=version as i64).collect::<Vec<_>>(), "keep = {keep}");
            assert_eq!(lake.versions().len(), keep);
        }
        assert_eq!(reader.finish("sum=").trim(), "sum=6.", "the reader still sees version 3");
    }
}

#[tokio::test]
async fn a_file_that_this_process_reads_is_not_written_either() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let public = lake.sink().open_public().unwrap().unwrap();
    let held = lake.file("held");
    fs::hard_link(lake.sink().path(), &held).unwrap();
    let before = fs::read(&held).unwrap();
    for version in 4..=8 {
        lake.grow(version, &mut runs).await.unwrap();
    }
    assert!(fs::read(&held).unwrap() == before, "the file that is read was written");
    drop(public);
    assert_eq!(query(&held, "SELECT count(*) FROM published.gold.t"), ["3"]);
}

#[tokio::test]
async fn one_who_opened_the_public_file_for_writing_blocks_no_publication() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let mut writer = Other::start("writer", &lake.sink().path());
    writer.wait_for("holding");
    assert!(matches!(lake.sink().watermarks(), Err(Error::Held { .. })));
    assert!(lake.publish(3, vec![table("t", "f", &runs)]).await.unwrap().unchanged);
    assert_eq!(lake.grow(4, &mut runs).await.unwrap().rows_written, 1);
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
    assert_eq!(writer.finish("sum=").trim(), "sum=6.");
}

#[tokio::test]
async fn what_a_foreign_writer_left_or_damaged_is_healed_by_the_next_publication() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let log = lake.file("lakebed.duckdb.wal");
    fs::write(&log, "of another file").unwrap();
    lake.grow(4, &mut runs).await.unwrap();
    assert_eq!((lake.rows("t"), log.exists()), (vec![1, 2, 3, 4], false));

    let public = fs::read(lake.sink().path()).unwrap();
    let damaged: Vec<u8> = public.iter().enumerate().map(|(at, byte)| if at < 4_096 { *byte } else { !byte }).collect();
    fs::write(lake.sink().path(), damaged).unwrap();
    assert!(matches!(lake.sink().watermarks(), Err(Error::DuckDb { .. })));
    let published = lake.grow(5, &mut runs).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (5, 1));
    assert_eq!(lake.rows("t"), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_the_public_file_and_the_next_publication_whole() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let mut publisher = Other::start("publisher", lake.directory.path());
    publisher.wait_for("hanging");
    publisher.process.kill().unwrap();
    publisher.process.wait().unwrap();
    assert_eq!(lake.rows("t"), [1, 2, 3]);
    assert_eq!(lake.versions(), [".lakebed.work", "lakebed-3.duckdb"]);

    // The file in work was version 2: it lacks two runs.
    let published = lake.grow(4, &mut runs).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (2, 0));
    assert_eq!(
        (lake.rows("t"), lake.versions()),
        (vec![1, 2, 3, 4], vec!["lakebed-3.duckdb".to_owned(), "lakebed-4.duckdb".to_owned()])
    );
}

#[tokio::test]
async fn what_a_kill_between_the_renames_leaves_is_finished() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    // Version 3 was renamed to its name, and not yet to the public one.
    fs::remove_file(lake.sink().path()).unwrap();
    fs::hard_link(lake.file("versions/lakebed-2.duckdb"), lake.sink().path()).unwrap();
    fs::write(lake.file(".lakebed.next"), "half").unwrap();
    fs::write(lake.file("versions/.lakebed.copy"), "half").unwrap();
    fs::write(lake.file("versions/.lakebed.work"), "no database").unwrap();
    assert!(lake.publish(3, vec![table("t", "f", &runs)]).await.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3]);
    lake.grow(4, &mut runs).await.unwrap();
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
    assert_eq!(lake.versions(), ["lakebed-2.duckdb", "lakebed-3.duckdb", "lakebed-4.duckdb"]);
    assert!(!lake.file(".lakebed.next").exists());
}

#[tokio::test]
async fn a_lost_versions_directory_or_public_file_comes_back() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    fs::remove_dir_all(lake.file("versions")).unwrap();
    assert_eq!(lake.grow(4, &mut runs).await.unwrap().rows_written, 1);
    fs::remove_file(lake.sink().path()).unwrap();
    assert!(lake.publish(4, vec![table("t", "f", &runs)]).await.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_store_that_fails_changes_nothing_and_costs_no_version() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    let lost = Run { path: "t/lost".to_owned(), first: 3, rows: 1, bytes: 0 };
    let missing = [runs.clone(), vec![lost]].concat();
    for _ in 0..3 {
        let failed = lake.publish(4, vec![table("t", "f", &missing)]).await;
        assert!(matches!(&failed, Err(Error::File { path, .. }) if path == Path::new("t/lost")), "{failed:?}");
        assert_eq!(lake.rows("t"), [1, 2, 3]);
        assert_eq!(lake.versions(), [".lakebed.work", "lakebed-2.duckdb", "lakebed-3.duckdb"]);
    }
    assert_eq!(lake.grow(4, &mut runs).await.unwrap().rows_written, 3);
}

#[tokio::test]
async fn a_run_with_other_rows_than_its_epoch_says_is_refused() {
    let mut lake = Lake::new(2);
    let run = Run { rows: 3, ..lake.run("t/1", [1, 2]) };
    let failed = lake.publish(1, vec![table("t", "f", &[run])]).await.unwrap_err();
    assert_eq!(failed.to_string(), "run 't/1' has 2 rows where its epoch says 3");
    assert!(!lake.sink().path().exists());
}

#[tokio::test]
async fn two_publishers_at_once_publish_once() {
    let (mut lake, mut runs) = Lake::grown(3, 2).await;
    runs.push(lake.run("t/3", [3]));
    let image = image(3, vec![table("t", "f", &runs)]);
    let (one, other) = (lake.sink(), lake.sink());
    let (one, other) = futures::join!(one.publish(&image, &lake.runs), other.publish(&image, &lake.runs));
    assert!(one.unwrap().unchanged != other.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3]);
}

#[tokio::test]
async fn a_file_of_someone_else_is_left_alone() {
    let mut lake = Lake::new(2);
    let runs = [lake.run("t/1", [1])];
    let path = lake.sink().path();
    fs::write(&path, "a letter to my aunt").unwrap();
    let refused = lake.publish(1, vec![table("t", "f", &runs)]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("'{}' is not a DuckDB database", path.display()));
    assert_eq!(fs::read(&path).unwrap(), b"a letter to my aunt");

    fs::remove_file(&path).unwrap();
    let foreign = Database::open(path.clone(), Path::new("")).unwrap();
    foreign.execute("CREATE TABLE published.main.mine (n INTEGER)").unwrap();
    foreign.checkpoint_and_close().unwrap();
    let refused = lake.publish(1, vec![table("t", "f", &runs)]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("'{}' is a DuckDB database that lakebed did not publish", path.display()));
    assert!(refused.hint().is_some());
    assert_eq!(query(&path, "SELECT count(*) FROM published.main.mine"), ["0"]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let mut lake = Lake::new(2);
    let runs = [lake.run("t/1", [1])];
    let file = lake.file("file");
    fs::write(&file, "").unwrap();
    let sink = DuckDbSink::new(file.clone(), "lakebed", 2);
    let failed = sink.publish(&image(1, vec![table("t", "f", &runs)]), &lake.runs).await.unwrap_err();
    assert!(failed.to_string().starts_with(&format!("'{}", file.display())), "{failed}");
}

#[tokio::test]
async fn names_with_quotes_and_two_sinks_in_one_directory_keep_apart() {
    let mut lake = Lake::new(2);
    let runs = [lake.run_of("t/1", RecordBatch::try_from_iter([("it's \"n\"", int64([1]))]).unwrap())];
    let columns = Schema::new(vec![Field::new("it's \"n\"", DataType::Int64, true)]);
    let odd = TableImage { columns: Arc::new(columns), ..table("o'\"dd", "f", &runs) };
    let directory = lake.file("it's");
    let (one, two) = (DuckDbSink::new(directory.clone(), "a", 2), DuckDbSink::new(directory, "a-1", 2));
    one.publish(&image(1, vec![odd.clone()]), &lake.runs).await.unwrap();
    two.publish(&image(5, vec![odd]), &lake.runs).await.unwrap();
    assert_eq!((rows(&one, "o'\"dd"), rows(&two, "o'\"dd")), (vec![1], vec![1]));
    assert_eq!(one.watermarks().unwrap()[0].version, 1);
}
