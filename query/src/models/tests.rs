//! What is read of a project's files, and what is said where they are wrong.

use lakebed_project::Config;

use super::*;

fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Vec<Model>>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, sql) in files {
        let path = directory.path().join("sql").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, sql).unwrap();
    }
    let models = load(directory.path(), &Config::default());
    (directory, models)
}

#[test]
fn parents_come_first_and_the_header_is_read() {
    let (_directory, models) = project(&[
        ("gold/a.sql", "-- What it is.\n-- key: day, country\nSELECT * FROM silver.z"),
        ("silver/z.sql", "SELECT 1 AS x FROM bronze.events"),
    ]);
    let models = models.unwrap();
    let names: Vec<_> = models.iter().map(|model| model.name.to_string()).collect();
    assert_eq!(names, ["silver.z", "gold.a"]);
    assert_eq!(models[1].description.as_deref(), Some("What it is."));
    assert_eq!(models[1].key, ["day", "country"]);
}

#[test]
fn a_wrong_model_is_named_with_its_line() {
    let says = |files: &[(&str, &str)]| project(files).1.unwrap_err();
    let unknown = says(&[("silver/a.sql", "SELECT *\nFROM bronze.event")]);
    assert!(unknown.to_string().contains("a.sql:2: there is no table 'bronze.event'"), "{unknown}");
    assert_eq!(unknown.hint().as_deref(), Some("did you mean 'bronze.events'?"));
    let circle = says(&[("silver/a.sql", "SELECT * FROM silver.b"), ("silver/b.sql", "SELECT * FROM silver.a")]);
    assert!(circle.to_string().contains("silver.a → silver.b → silver.a"), "{circle}");
    let syntax = says(&[("silver/a.sql", "SELECT 1\nFROM bronze.events WHERE (")]);
    assert!(syntax.to_string().contains("a.sql:2"), "{syntax}");
    let setting = says(&[("silver/a.sql", "-- What it is.\n-- sink: duckdb\nSELECT 1 AS x FROM bronze.events")]);
    assert!(setting.to_string().contains("a.sql:2: there is no setting 'sink'"), "{setting}");
    assert_eq!(setting.hint().as_deref(), Some("did you mean 'sinks'?"));
    let sample = says(&[("silver/a.sql", "SELECT 1 AS x\nFROM bronze.events TABLESAMPLE (10)")]);
    assert!(sample.to_string().contains("a.sql:2: TABLESAMPLE takes any rows"), "{sample}");
    assert!(says(&[("silver/a.sql", "SELECT 1; SELECT 2")]).to_string().contains("exactly one SELECT"));
    assert!(says(&[("silver/a.sql", "SELECT 1 FROM events")]).to_string().contains("needs its schema"));
}

#[test]
fn checks_that_keep_rows_out_make_a_query_and_a_quarantine() {
    let select = "SELECT a, b FROM bronze.events";
    let of = |checks: &str| project(&[("silver/a.sql", &format!("-- key: a\n{checks}\n{select}"))]).1.unwrap();
    let queries = |checks: &str| of(checks).into_iter().map(|model| model.query).collect::<Vec<_>>();
    assert_eq!(queries("-- check: a > 0\n-- check: b > 0  fail"), [select], "the others are asked of the table");
    let dropped = queries("-- check: a>0  drop");
    assert_eq!(dropped, [format!("SELECT * FROM ({select}) AS \"a\" WHERE (a > 0) IS NOT FALSE")]);
    assert_eq!(dropped, queries("-- check:   a > 0      drop"), "another layout is no other query");
    let both = of("-- check: not_null(a)  drop\n-- check: b <> 'it''s' and 1 / a > 0  quarantine");
    let names: Vec<_> = both.iter().map(|model| model.name.to_string()).collect();
    assert_eq!(names, ["silver.a", "silver.a_quarantine"]);
    let kept = "WHERE ((a) IS NOT NULL) IS NOT FALSE AND (b <> 'it''s') IS NOT FALSE AND length(CASE WHEN \
                ((a) IS NOT NULL) IS FALSE OR (b <> 'it''s') IS FALSE THEN 'fails' WHEN (1 / a > 0) IS FALSE THEN 'fails' END) \
                IS NULL";
    assert_eq!(both[0].query, format!("SELECT * FROM ({select}) AS \"a\" {kept}"));
    let label = "'b <> ''it''''s'' AND 1 / a > 0'";
    let arms = format!(
        "CASE WHEN ((a) IS NOT NULL) IS FALSE THEN '' WHEN (b <> 'it''s') IS FALSE THEN concat_ws('; ', \
         CASE WHEN (b <> 'it''s') IS FALSE THEN {label} END) WHEN (1 / a > 0) IS FALSE THEN {label} END AS failed_checks"
    );
    assert!(both[1].query.contains(&arms), "{}", both[1].query);
    assert_eq!((&both[1].key, both[1].checks.len()), (&both[0].key, 0));
}

#[test]
fn a_quarantine_takes_no_models_name() {
    let checked = ("gold/b.sql", "-- B.\n-- check: x > 0  quarantine\nSELECT 1 AS x FROM bronze.events");
    let (directory, models) = project(&[checked, ("gold/b_quarantine.sql", "SELECT 1 AS y FROM bronze.events")]);
    let taken = models.unwrap_err().to_string();
    assert!(taken.contains("b.sql:2: its quarantine is called gold.b_quarantine, and so is a model"), "{taken}");
    let (models, wrong) = load_right(directory.path(), &Config::default()).unwrap();
    assert_eq!((models.len(), wrong.len()), (1, 1));
    let reads = ("gold/a.sql", "SELECT failed_checks FROM gold.b_quarantine");
    let names = project(&[checked, reads]).1.unwrap().into_iter().map(|model| model.name.name).collect::<Vec<_>>();
    assert_eq!(names, ["b", "b_quarantine", "a"]);
}

#[test]
fn change_data_makes_a_query_of_the_header() {
    let query = |header: &str, select: &str| {
        let (_directory, models) = project(&[("silver/a.sql", &format!("{header}\n{select}"))]);
        models.map(|models| models[0].query.clone())
    };
    let select = "SELECT id, op FROM bronze.events";
    let latest = query("-- key: id\n-- sequence: lsn\n-- delete: op = 'd'", select).unwrap();
    assert!(latest.contains("ORDER BY lsn DESC NULLS LAST, \"_offset\" DESC"), "{latest}");
    assert!(latest.contains("SELECT id, op, _offset FROM bronze.events"), "{latest}");
    assert!(
        latest.contains("NOT coalesce(op = 'd', false)") && latest.contains("EXCEPT (_lakebed_place, \"_offset\")")
    );
    let all = query("-- key: id\n-- sequence: lsn\n-- history: 2", "SELECT * FROM bronze.events").unwrap();
    assert!(all.contains("AS valid_to") && !all.contains("EXCEPT (_lakebed_last, \"_offset\")"), "{all}");
    for (header, select, has) in [
        ("-- delete: _doc ->> 'op' = 'd'", select, "NOT coalesce((_doc ->> 'op') = 'd', false)"),
        ("-- sequence: coalesce(a, b), lsn", select, "BY coalesce(a, b) DESC NULLS LAST, lsn DESC NULLS LAST, \"_o"),
        ("-- history: 1", "SELECT e.* FROM bronze.events AS e", "(SELECT e.* FROM"),
        ("-- history: 1", "SELECT events.* FROM bronze.events", "(SELECT events.* FROM"),
        ("-- history: 1", "SELECT * EXCEPT (_doc) FROM bronze.events", "EXCEPT (_doc) FROM"),
        ("-- history: 1", "SELECT * EXCEPT (_offset) FROM bronze.events", "EXCEPT (_offset), _offset FROM"),
        ("-- history: 1", "SELECT o.* FROM (SELECT id FROM bronze.events) AS o", "SELECT o.*, _offset FROM"),
    ] {
        let query = query(&format!("-- key: id\n{header}"), select).unwrap();
        assert!(query.contains(has), "{query}");
    }
    for (header, select, says) in [
        ("-- key: id\n-- delete: op =", select, "a.sql:2: 'op =' cannot be read"),
        ("-- key: id\n-- delete: gone, deleted", select, "a.sql:2: a delete is told by one condition"),
        ("-- sequence: lsn", select, "a.sql:1: a model over change data has to say its key"),
        ("-- key: id\n-- history: 3", select, "a.sql:2: history is 1"),
        ("-- key: id\n-- history: 2", select, "a.sql:2: history 2 has to say one sequence"),
        (
            "-- key: id\n-- delete: op = 'd'",
            "SELECT DISTINCT id, op FROM bronze.events",
            "without GROUP BY and DISTINCT",
        ),
    ] {
        let error = query(header, select).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
