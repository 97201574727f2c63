//! What a publication writes, and what it does not.

use roaring::RoaringTreemap;

use super::*;

#[tokio::test]
async fn a_first_publication_makes_a_file_with_everything() {
    let mut lake = Lake::new(3);
    let runs = [lake.run("t/1", [1, 2, 3])];
    let published = lake.publish(7, vec![table("t", "f", &runs)]).await.unwrap();
    let path = lake.sink().path();
    assert_eq!(
        published,
        Published {
            version: 7,
            path: path.clone(),
            rows_written: 3,
            tables_rebuilt: 1,
            tables_changed: 0,
            unchanged: false
        }
    );
    assert_eq!(lake.rows("t"), [1, 2, 3]);
    assert_eq!(lake.versions(), ["lakebed-7.duckdb"]);
    assert_eq!(query(&path, "SELECT comment FROM duckdb_tables() WHERE table_name = 't'"), ["The table 't'."]);
    let watermarks = lake.sink().watermarks().unwrap();
    assert_eq!(watermarks.len(), 1);
    assert_eq!((watermarks[0].model.as_str(), watermarks[0].version, watermarks[0].rows), ("gold.t", 7, 3));
    assert_eq!(watermarks[0].as_of, image(7, vec![]).as_of);
    assert_eq!(watermarks[0].content_hash, lake.hashed(table("t", "f", &runs)).content_hash);
}

#[tokio::test]
async fn only_missing_runs_are_written_into_whichever_file_is_brought_up_to_date() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    // Version 4 goes into the file of version 1, which lacks three runs.
    let published = lake.grow(4, &mut runs).await.unwrap();
    assert_eq!((published.rows_written, published.tables_changed, published.tables_rebuilt), (3, 1, 0));
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
    for version in 2..=4 {
        let kept = DuckDbSink::new(lake.directory.path().to_owned(), "lakebed", 3);
        let path = lake.file(&format!("versions/lakebed-{version}.duckdb"));
        let count = query(&path, "SELECT count(*) FROM published.gold.t");
        assert_eq!(count, [version.to_string()], "{:?}", kept.path());
        assert_eq!(query(&path, "SELECT version FROM published.lakebed.watermarks"), [version.to_string()]);
    }
    assert_eq!(lake.versions(), ["lakebed-2.duckdb", "lakebed-3.duckdb", "lakebed-4.duckdb"]);
}

#[tokio::test]
async fn what_is_far_behind_is_not_brought_up_to_date_but_copied() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    runs.push(lake.run("t/4", 4..30_004));
    // The newest file lacks them just as well: the file of version 1 is brought up to date.
    let published = lake.publish(4, vec![table("t", "f", &runs)]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_changed), (30_002, 1));
    for version in 5..=7 {
        let published = lake.grow(version, &mut runs).await.unwrap();
        let expected = if version == 7 { 3 } else { 1 };
        assert_eq!(published.rows_written, expected, "version {version}: the files of before would lack 30,000");
    }
    assert_eq!(lake.rows("t").len(), 30_006);
    assert_eq!(lake.versions(), ["lakebed-5.duckdb", "lakebed-6.duckdb", "lakebed-7.duckdb"]);
}

#[tokio::test]
async fn the_number_of_kept_versions_is_kept() {
    for keep in [0, 1, 2, 5] {
        let (lake, _) = Lake::grown(keep, 7).await;
        let last = keep.max(1);
        let expected: Vec<String> = (8 - last..=7).map(|version| format!("lakebed-{version}.duckdb")).collect();
        assert_eq!(lake.versions(), expected, "keep = {keep}");
        assert_eq!(lake.rows("t"), [1, 2, 3, 4, 5, 6, 7]);
    }
    let (mut lake, mut runs) = Lake::grown(5, 6).await;
    lake.keep = 2;
    lake.grow(7, &mut runs).await.unwrap();
    assert_eq!(lake.versions(), ["lakebed-6.duckdb", "lakebed-7.duckdb"]);
}

#[tokio::test]
async fn another_fingerprint_or_a_run_that_went_rebuilds_the_table_and_no_other() {
    let mut lake = Lake::new(1);
    let (a, b) = (lake.run("a/1", [1]), lake.run("b/1", [10]));
    lake.publish(1, vec![table("a", "f", std::slice::from_ref(&a)), table("b", "f", std::slice::from_ref(&b))])
        .await
        .unwrap();

    let published =
        lake.publish(2, vec![table("a", "f", &[a]), table("b", "g", std::slice::from_ref(&b))]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt, published.tables_changed), (1, 1, 0));

    let rewritten = [lake.run("a/2", [2, 3])];
    let published = lake.publish(3, vec![table("a", "f", &rewritten), table("b", "g", &[b])]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (2, 1));
    assert_eq!((lake.rows("a"), lake.rows("b")), (vec![2, 3], vec![10]));
}

#[tokio::test]
async fn a_compaction_writes_no_row() {
    let mut lake = Lake::new(1);
    let runs = [lake.run("t/1", [1]), lake.run("t/2", [2])];
    let before = table("t", "f", &runs);
    lake.publish(1, vec![before.clone()]).await.unwrap();

    let folded = lake.run("t/1-2", [1, 2]);
    let after = TableImage { rows: of_runs(std::slice::from_ref(&folded)), ..before };
    assert_eq!(lake.publish(2, vec![after.clone()]).await.unwrap().rows_written, 0);

    let next = lake.run("t/3", [3]);
    let grown = TableImage { content_hash: TableHash::EMPTY, ..table("t", "f", &[folded, next]) };
    let published = lake.publish(3, vec![grown]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_changed), (1, 1));
    assert_eq!(lake.rows("t"), [1, 2, 3]);
}

#[tokio::test]
async fn a_folded_run_costs_the_rows_that_were_missed() {
    let mut lake = Lake::new(3);
    let mut runs: Vec<_> = (1..=4).map(|n| lake.run(&format!("t/{n}"), [n * 10, n * 10 + 1])).collect();
    // Three files in rotation, each with other rows of those that are folded.
    for (version, count) in [(1, 1), (2, 2), (3, 3)] {
        lake.publish(version, vec![table("t", "f", &runs[..count])]).await.unwrap();
    }
    let folded = lake.run("t/1-4", [10, 11, 20, 21, 30, 31, 40, 41]);
    lake.next.insert("t".to_owned(), 8);
    runs = vec![Run { first: 0, ..folded }];
    for (version, missed) in [(4, 6), (5, 4 + 2), (6, 2 + 4)] {
        let published = lake.publish(version, vec![table("t", "f", &runs)]).await.unwrap();
        assert_eq!((published.rows_written, published.tables_rebuilt), (missed, 0), "version {version}");
        runs.push(lake.run(&format!("t/{version}"), [version as i64 * 100, version as i64 * 100 + 1]));
    }
    assert_eq!(lake.rows("t"), [10, 11, 20, 21, 30, 31, 40, 41, 400, 401, 500, 501]);
}

/// Rows go by what they hold; of equal rows, and of those with nulls or a NaN, just as many as are gone.
#[tokio::test]
async fn deleted_rows_go_from_every_file_of_the_rotation() {
    for key in [vec![], vec!["place".to_owned()]] {
        let mut lake = Lake::new(3);
        let batch = |ids: &[i64], values: &[Option<f64>]| {
            let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
            // Below 0 there is none.
            let places: ArrayRef = Arc::new(Int64Array::from_iter(ids.iter().map(|id| (*id >= 0).then_some(*id))));
            RecordBatch::try_from_iter_with_nullable([("place", places, true), ("copies", values, true)]).unwrap()
        };
        let same = if key.is_empty() { 1 } else { 3 };
        let first = batch(&[1, 1, same, 5], &[None, Some(0.5), Some(0.5), Some(f64::NAN)]);
        let columns = first.schema();
        let mut runs = vec![lake.run_of("t/1", first)];
        let image = |rows: Rows| TableImage {
            columns: Arc::clone(&columns),
            key: key.clone(),
            content_hash: format!("{:064x}", rows.count() * 1000 + rows.addresses.end).parse().unwrap(),
            rows,
            ..table("t", "f", &[])
        };
        if !key.is_empty() {
            runs[0] = lake.run_of("t/1", batch(&[0, 1, 3, -1], &[None, Some(0.5), Some(0.5), Some(f64::NAN)]));
            runs[0].first = 0;
            lake.next.insert("t".to_owned(), 4);
        }
        let shown = "SELECT concat_ws(' ', place, copies) FROM published.gold.t ORDER BY ALL";
        let shown = async |lake: &Lake| query(&lake.sink().path(), shown);
        for version in 1..=3 {
            lake.publish(version, vec![image(of_runs(&runs))]).await.unwrap();
        }
        let whole = shown(&lake).await;
        // One of two equal rows, and the one that is no number.
        let mut rows = Rows { deleted: Arc::new([1, 3].into_iter().collect()), ..of_runs(&runs) };
        for version in 4..=6 {
            let published = lake.publish(version, vec![image(rows.clone())]).await.unwrap();
            assert_eq!((published.rows_written, published.tables_rebuilt, published.tables_changed), (2, 0, 1));
            let expected: Vec<_> = if key.is_empty() { vec!["1", "1 0.5"] } else { vec!["0", "3 0.5"] };
            assert_eq!(shown(&lake).await, expected, "of {whole:?}");
        }
        // What came and went while a file was away was never in it.
        runs.push(lake.run_of("t/2", batch(&[7, 8], &[Some(7.0), Some(8.0)])));
        rows = Rows { deleted: Arc::new([0, 1, 3, 4].into_iter().collect()), ..of_runs(&runs) };
        let published = lake.publish(7, vec![image(rows)]).await.unwrap();
        assert_eq!(published.rows_written, 2, "one that goes, one that comes");
        let left = if key.is_empty() { "1 0.5" } else { "3 0.5" };
        assert_eq!(shown(&lake).await, [left, "8 8.0"]);
    }
}

#[tokio::test]
async fn rows_are_found_by_their_places_after_others_went_and_under_new_addresses() {
    let mut lake = Lake::new(1);
    // Some of DuckDB's row groups, which it puts together once much of them is deleted.
    let mut runs = vec![lake.run("t/1", 0..300_000)];
    let mut deleted = RoaringTreemap::new();
    let image = |runs: &[Run], deleted: &RoaringTreemap| TableImage {
        rows: Rows { deleted: Arc::new(deleted.clone()), ..of_runs(runs) },
        key: vec!["n".to_owned()],
        ..table("t", "f", &[])
    };
    lake.publish(1, vec![image(&runs, &deleted)]).await.unwrap();
    for (version, gone) in
        [(2, (0..100_000).step_by(1)), (3, (100_007..250_000).step_by(1_003)), (4, (100_001..300_002).step_by(777))]
    {
        if version == 4 {
            runs.push(lake.run("t/2", 300_000..300_010));
        }
        let before = deleted.len();
        deleted.extend(gone.filter(|address| *address < 300_000));
        let published = lake.publish(version, vec![image(&runs, &deleted)]).await.unwrap();
        assert_eq!((published.tables_changed, published.tables_rebuilt), (1, 0), "version {version}");
        let came = if version == 4 { 10 } else { 0 };
        assert_eq!(published.rows_written, deleted.len() - before + came);
        let left: Vec<i64> = (0..300_000 + came).filter(|n| !deleted.contains(*n)).map(|n| n as i64).collect();
        assert!(lake.rows("t") == left, "other rows are left at version {version}");
    }
    // A renewal: the same rows in the same order from another address on.
    let left = lake.rows("t");
    let renewed = [lake.run("t/3", left.clone())];
    let published = lake.publish(5, vec![image(&renewed, &RoaringTreemap::new())]).await.unwrap();
    assert_eq!(published.rows_written, 0);
    let gone: RoaringTreemap =
        [1, 2, 5_000, left.len() as u64 - 1].iter().map(|place| renewed[0].first + place).collect();
    let published = lake.publish(6, vec![image(&renewed, &gone)]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_changed), (4, 1));
    let expected =
        left.iter().enumerate().filter(|(at, _)| ![1, 2, 5_000, left.len() - 1].contains(at)).map(|(_, n)| *n);
    assert!(lake.rows("t") == expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_description_is_written_where_it_is_another() {
    let mut lake = Lake::new(2);
    let mut runs = Vec::new();
    for (version, description) in
        [(1, Some("One.")), (2, Some("Two.")), (3, None), (4, Some("Three.")), (5, Some("Three."))]
    {
        runs.push(lake.run(&format!("t/{version}"), [version]));
        let image = TableImage { description: description.map(str::to_owned), ..table("t", "f", &runs) };
        lake.publish(version as u64, vec![image]).await.unwrap();
        let comment = query(&lake.sink().path(), "SELECT comment FROM duckdb_tables() WHERE table_name = 't'");
        assert_eq!(comment, [description.unwrap_or("NULL")], "version {version}");
    }
}

/// With such a name DuckDB's own row ids cannot be asked for.
#[tokio::test]
async fn a_column_may_be_called_as_duckdbs_row_ids_are() {
    for key in [vec![], vec!["RowId".to_owned()]] {
        let mut lake = Lake::new(1);
        let batch = RecordBatch::try_from_iter([("RowId", int64([70, 60, 50, 40, 30, 20]))]).unwrap();
        let columns = batch.schema();
        let runs = [lake.run_of("t/1", batch)];
        for (version, deleted) in [(1, vec![]), (2, vec![0, 4])] {
            let rows = Rows { deleted: Arc::new(deleted.into_iter().collect()), ..of_runs(&runs) };
            let image = TableImage { rows, key: key.clone(), columns: Arc::clone(&columns), ..table("t", "f", &[]) };
            lake.publish(version, vec![image]).await.unwrap();
        }
        assert_eq!(lake.rows("t"), [20, 40, 50, 60]);
    }
}

/// A lake that was made anew, or a model that was away: the same rows, at the same addresses in another order.
#[tokio::test]
async fn where_other_rows_are_at_the_places_the_table_is_made_anew() {
    let mut lake = Lake::new(1);
    let first = lake.run("t/1", [10, 20, 30, 40, 50, 60]);
    let keyed = |rows: Rows| TableImage { rows, key: vec!["n".to_owned()], ..table("t", "f", &[]) };
    lake.publish(1, vec![keyed(of_runs(&[first]))]).await.unwrap();
    lake.next.clear();
    let again = [lake.run("t/2", [40, 30, 20, 10, 60, 50])];
    for (version, deleted, left, rebuilt) in
        [(2, vec![0], vec![10, 20, 30, 50, 60], 1), (3, vec![0, 2], vec![10, 30, 50, 60], 0)]
    {
        let rows = Rows { deleted: Arc::new(deleted.into_iter().collect()), ..of_runs(&again) };
        let published = lake.publish(version, vec![keyed(rows)]).await.unwrap();
        assert_eq!((published.tables_changed, published.tables_rebuilt), (1 - rebuilt, rebuilt));
        assert_eq!(lake.rows("t"), left);
    }
}

#[tokio::test]
async fn a_table_that_went_from_the_image_goes_from_the_file() {
    let mut lake = Lake::new(2);
    let (a, b) = (lake.run("a/1", [1]), lake.run("b/1", [2]));
    lake.publish(1, vec![table("a", "f", std::slice::from_ref(&a)), table("b", "f", std::slice::from_ref(&b))])
        .await
        .unwrap();
    lake.publish(2, vec![table("a", "f", &[a])]).await.unwrap();
    assert_eq!(query(&lake.sink().path(), "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'"), ["a"]);
    let read = lake.sink().read_table("gold", "b", &mut |_| Ok(()));
    assert!(matches!(read, Err(Error::UnknownTable { .. })), "{read:?}");
    // It comes back whole, also in a file that held it once.
    let a = lake.run("a/1", [1]);
    lake.publish(3, vec![table("a", "f", &[a]), table("b", "f", &[b])]).await.unwrap();
    assert_eq!(lake.rows("b"), [2]);
}

#[tokio::test]
async fn tables_without_rows_and_images_without_tables_are_published() {
    let mut lake = Lake::new(2);
    lake.publish(1, vec![]).await.unwrap();
    assert_eq!(lake.sink().watermarks().unwrap(), []);
    lake.publish(2, vec![table("t", "f", &[])]).await.unwrap();
    assert_eq!(lake.rows("t"), [0; 0]);
    let empty = lake.run("t/empty", []);
    let published = lake.publish(3, vec![table("t", "f", &[empty])]).await.unwrap();
    assert_eq!((published.rows_written, lake.rows("t")), (0, vec![]));
}

#[tokio::test]
async fn what_is_published_already_is_not_published_again() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let before = fs::metadata(lake.sink().path()).unwrap().modified().unwrap();
    let again = lake.publish(3, vec![table("t", "f", &runs)]).await.unwrap();
    assert!(again.unchanged && again.version == 3 && again.rows_written == 0);
    let older = lake.publish(2, vec![table("t", "f", &runs[..2])]).await.unwrap();
    assert!(older.unchanged && older.version == 3, "an older image must not replace a later one");
    assert_eq!(fs::metadata(lake.sink().path()).unwrap().modified().unwrap(), before);

    let edited = lake.publish(3, vec![table("t", "g", &runs)]).await.unwrap();
    assert!(!edited.unchanged && edited.tables_rebuilt == 1);
    assert!(!lake.grow(4, &mut runs).await.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_lake_that_began_anew_replaces_the_old_one() {
    let (mut lake, _) = Lake::grown(3, 4).await;
    let runs = [lake.run("new/1", [100])];
    let mut first = image(1, vec![table("t", "f", &runs)]);
    first.as_of += TimeDelta::days(1);
    let published = lake.sink().publish(&first, &lake.runs).await.unwrap();
    assert!(!published.unchanged);
    assert_eq!((lake.rows("t"), lake.versions()), (vec![100], vec!["lakebed-1.duckdb".to_owned()]));
    assert!(lake.sink().publish(&first, &lake.runs).await.unwrap().unchanged);
}
