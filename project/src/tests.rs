//! lakebed.toml as people write it, rightly and wrongly.

use super::*;
use crate::SinkKind;
use crate::places::{Place, Places};

fn load(toml: &str, environment: &[(&str, &str)], lake: Option<&str>) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(CONFIG_FILE), toml).unwrap();
    let look_up = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Config::load(directory.path(), &look_up, &Flags { lake: lake.map(str::to_owned), ..Flags::default() })
}

/// The message without the directory, and the hint.
fn refusal(toml: &str) -> (String, Option<String>) {
    let error = load(toml, &[], None).unwrap_err();
    let message = error.to_string();
    let from = message.find(CONFIG_FILE).unwrap();
    (message[from..].to_owned(), error.hint())
}

#[test]
fn defaults_hold_where_nothing_is_set() {
    let config = load("[project]\nname = \"shop\"\n", &[], None).unwrap();
    assert_eq!(config, Config { project: "shop".to_owned(), ..Config::default() });
    assert_eq!(config.lake, "./lake");
}

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    let toml = "[lake]\nurl = \"file\"\n[ingest]\nbatch_events = 1_000\n";
    let environment = [("LAKEBED_LAKE_URL", "environment"), ("LAKEBED_DUCKDB_KEEP", "9")];
    assert_eq!(load(toml, &[], None).unwrap().lake, "file");
    let config = load(toml, &environment, None).unwrap();
    assert_eq!((config.lake.as_str(), config.duckdb.keep, config.ingest.batch_events), ("environment", 9, 1_000));
    assert_eq!(load(toml, &environment, Some("flag")).unwrap().lake, "flag");
}

#[test]
fn a_variable_that_does_not_fit_is_named() {
    let error = load("", &[("LAKEBED_INGEST_ACK", "soon")], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the environment variable LAKEBED_INGEST_ACK: 'soon' is neither \"durable\" nor \"committed\""
    );
}

#[test]
fn a_mistake_is_named_with_its_place_and_the_nearest_key() {
    let (message, hint) = refusal("\n[ingest]\n  batch_event = 5\n");
    assert_eq!(message, "lakebed.toml:3:3: there is no key 'batch_event' in [ingest]");
    assert_eq!(hint.unwrap(), "did you mean 'batch_events'?");
    let (message, hint) = refusal("[injest]\nack = \"durable\"\n");
    assert!(message.starts_with("lakebed.toml:1:") && message.ends_with("there is no section [injest]"), "{message}");
    assert_eq!(hint.unwrap(), "did you mean 'ingest'?");
    let (message, _) = refusal("[ingest]\nmax_depth = \"8\"\n");
    assert_eq!(message, "lakebed.toml:2:13: [ingest] max_depth is a whole number, not a text");
    let (message, _) = refusal("[ingest]\nmax_depth = 0\n");
    assert_eq!(message, "lakebed.toml:2:13: [ingest] max_depth: '0' is not a whole number from 1 to 128");
    let (message, _) = refusal("[serve]\nhttp = \"localhost\"\n");
    assert!(message.starts_with("lakebed.toml:2:8: [serve] http: 'localhost' is neither"), "{message}");
    let (message, _) = refusal("lake = \"./lake\"\n");
    assert_eq!(message, "lakebed.toml:1:1: 'lake' is a section: write [lake]");
}

#[test]
fn text_that_is_no_toml_is_named_with_its_place() {
    let (message, _) = refusal("[project]\nname = \"shop\n");
    assert!(message.starts_with("lakebed.toml:2:"), "{message}");
}

#[test]
fn a_pin_is_one_column_however_it_is_written() {
    for toml in ["properties_price", "properties.price", "\"properties.price\"", "[columns.properties]\nprice"] {
        let section = if toml.starts_with('[') { "" } else { "[columns]\n" };
        let config = load(&format!("{section}{toml} = \"DECIMAL(18,2)\"\n"), &[], None).unwrap();
        assert_eq!(config.columns, BTreeMap::from([("properties_price".to_owned(), ColumnType::Decimal(18, 2))]));
    }
    let (message, _) = refusal("[columns]\na.b = \"DATE\"\na_b = \"DATE\"\n");
    assert!(message.ends_with("column 'a_b' is pinned twice"), "{message}");
    let (message, _) = refusal("[columns]\na = \"MONEY\"\n");
    assert!(message.starts_with("lakebed.toml:2:5: column 'a': 'MONEY' is not a column type"), "{message}");
    let (message, _) = refusal("[columns]\nevent_time = \"DATE\"\n");
    assert_eq!(message, "lakebed.toml:2:1: column 'event_time' is the log's own, and its type is given");
}

#[test]
fn columns_of_seeds_are_pinned_by_their_names_in_the_file() {
    let toml = "[seeds.plans]\nprice = \"DECIMAL(8,2)\"\n\"The Name\" = \"VARCHAR\"\n\
                [target.prod.seeds.plans]\nprice = \"DOUBLE\"\n[target.prod.seeds.countries]\ncode = \"VARCHAR\"\n";
    let config = load(toml, &[], None).unwrap();
    let plans =
        BTreeMap::from([("The Name".to_owned(), ColumnType::Varchar), ("price".to_owned(), ColumnType::Decimal(8, 2))]);
    assert_eq!(config.seeds, BTreeMap::from([("plans".to_owned(), plans.clone())]));
    let prod = load(toml, &[("LAKEBED_TARGET", "prod")], None).unwrap();
    let plans = plans.into_iter().chain([("price".to_owned(), ColumnType::Double)]).collect();
    let countries = BTreeMap::from([("code".to_owned(), ColumnType::Varchar)]);
    assert_eq!(prod.seeds, BTreeMap::from([("plans".to_owned(), plans), ("countries".to_owned(), countries)]));
    for (toml, says) in [
        ("[seeds]\nplans = \"DATE\"\n", "lakebed.toml:2:1: a seed is a section: write [seeds.NAME], and plans in it"),
        (
            "[seeds.plans]\na.b = \"DATE\"\n",
            "lakebed.toml:2:1: the type of column 'a' is a text in quotes, not a section",
        ),
        ("[seeds.plans]\nprice = 1\n", "lakebed.toml:2:9: the type of column 'price' is a text in quotes"),
        ("[seeds.plans]\nprice = \"MONEY\"\n", "lakebed.toml:2:9: column 'price': 'MONEY' is not a column type"),
    ] {
        let (message, _) = refusal(toml);
        assert!(message.starts_with(says), "{message}");
    }
}

#[test]
fn a_lake_is_a_directory_or_a_bucket() {
    let project = tempfile::tempdir().unwrap();
    let config = load("", &[], None).unwrap();
    let error = config.store(project.path(), false).unwrap_err();
    assert!(error.to_string().starts_with("there is no log at"), "{error}");
    let made = config.store(project.path(), true).unwrap();
    assert_eq!(made.directory(), Some(project.path().canonicalize().unwrap().join("lake").as_path()));
    let url = format!("file://{}", project.path().join("elsewhere").display());
    let config = load("", &[], Some(&url)).unwrap();
    assert!(config.store(project.path(), true).unwrap().directory().unwrap().ends_with("elsewhere"));

    let s3 = "[lake]\nurl = \"s3://bucket/a/b/\"\n[s3]\nregion = \"eu-north-1\"\nendpoint = \"http://127.0.0.1:9\"\naccess_key_id = \"me\"\n";
    let config = load(s3, &[("LAKEBED_S3_SECRET_ACCESS_KEY", "hush")], None).unwrap();
    assert!(!format!("{config:?}").contains("hush"), "a secret is not shown");
    let store = config.store(project.path(), false).unwrap();
    assert_eq!((store.place(), store.directory()), ("s3://bucket/a/b", None));

    let error = load("", &[], Some("gs://bucket")).unwrap().store(project.path(), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "'gs://bucket' is no place for a lake or its tables: neither a local directory nor s3://bucket/prefix"
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_directory_without_a_lakebed_toml_is_no_project() {
    let directory = tempfile::tempdir().unwrap();
    let error = Config::load(directory.path(), &|_| None, &Flags::default()).unwrap_err();
    assert!(error.to_string().ends_with("is not a lakebed project: it has no lakebed.toml"), "{error}");
    assert!(error.hint().unwrap().contains("lakebed init"));
}

#[test]
fn a_function_needs_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let load = |set: &'static [(&str, &str)]| {
        let look_up = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Config::load_or_default(directory.path(), &look_up)
    };
    for missing in [&[][..], &[("LAKEBED_LAKE_URL", "s3://bucket/lake")], &[("LAKEBED_PROJECT_NAME", "shop")]] {
        let error = load(missing).unwrap_err().to_string();
        assert!(error.ends_with("it is not set, and there is no lakebed.toml"), "{error}");
    }
    let config = load(&[("LAKEBED_PROJECT_NAME", "shop"), ("LAKEBED_LAKE_URL", "s3://bucket/lake")]).unwrap();
    assert_eq!((config.project.as_str(), config.lake.as_str()), ("shop", "s3://bucket/lake"));
    let error = load(&[
        ("LAKEBED_PROJECT_NAME", "shop"),
        ("LAKEBED_LAKE_URL", "s3://bucket/lake"),
        ("LAKEBED_INGEST_ACK", "soon"),
    ]);
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("'soon' is neither \"durable\" nor \"committed\""), "{error}");
    std::fs::write(directory.path().join(CONFIG_FILE), "[columns]\nprice = \"BIGINT\"\n").unwrap();
    assert_eq!(load(&[]).unwrap().columns.len(), 1, "a file that is there counts");
}

#[test]
fn events_are_read_by_a_preset_and_what_is_set_beside_it() {
    let events = |toml: &str| load(&format!("[events]\n{toml}"), &[], None).unwrap().events;
    assert_eq!(events(""), EventsConfig::preset("lakebed").unwrap());
    assert_eq!(events("preset = \"segment\"\n"), EventsConfig::preset("segment").unwrap());
    let set =
        events("id = \"content-hash\"\ntime = \"sent.at | arrival\"\npreset = \"segment\"\nunflattened = \"a.b, c\"\n");
    assert_eq!(set.id, [Places(vec![Place::ContentHash(Vec::new())])]);
    assert_eq!(
        (set.event_type.to_string().as_str(), set.event_time.to_string().as_str()),
        ("type", "sent.at or arrival")
    );
    assert_eq!(set.unflattened, [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
    assert_eq!(events("id = \"source + id\"\n").id, EventsConfig::preset("cloudevents").unwrap().id);
    assert_eq!(
        EventsConfig::preset("github").unwrap().headers().collect::<Vec<_>>(),
        ["x-github-delivery", "x-github-event"]
    );
    let (message, _) = refusal("[events]\npreset = \"clouds\"\n");
    assert!(
        message.ends_with("[events] preset: 'clouds' is none of lakebed, cloudevents, segment, snowplow, github, debezium, eventbridge"),
        "{message}"
    );
    let (message, _) = refusal("[events]\ntime = \"a..b\"\n");
    assert!(message.contains("'a..b' is no path"), "{message}");
    let (message, _) = refusal("[events]\ntype = \"content-hash\"\n");
    assert!(message.ends_with("a content-hash is an id, and neither a type nor a time"), "{message}");
}

#[test]
fn a_target_overlays_any_key() {
    let toml = "[project]\nname = \"shop\"\n[lake]\nurl = \"./lake\"\n[columns]\na = \"BIGINT\"\nb = \"BIGINT\"\n\
                [target.prod]\nlake.url = \"s3://shop/lake\"\nmodels.sinks = \"postgres\"\n[target.prod.columns]\na = \"DOUBLE\"\n\
                [target.test.ingest]\nmax_depth = 3\n";
    let load = |toml: &str, target: Option<&str>, environment: &[(&str, &str)]| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(CONFIG_FILE), toml).unwrap();
        let look_up = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Config::load(directory.path(), &look_up, &Flags { target: target.map(str::to_owned), ..Flags::default() })
    };
    let of = |target: Option<&str>, environment: &[(&str, &str)]| load(toml, target, environment);
    let plain = of(None, &[]).unwrap();
    assert_eq!((plain.lake.as_str(), plain.owner().as_str(), plain.ingest.max_depth), ("./lake", "shop", 8));
    let prod = of(Some("prod"), &[]).unwrap();
    assert_eq!((prod.lake.as_str(), prod.owner().as_str()), ("s3://shop/lake", "shop@prod"));
    assert_eq!((prod.sinks.as_slice(), prod.ingest.max_depth), (&[SinkKind::Postgres][..], 8));
    assert_eq!(prod.columns["a"], ColumnType::Double);
    assert_eq!(prod.columns["b"], ColumnType::BigInt);
    let test = of(None, &[("LAKEBED_TARGET", "test"), ("LAKEBED_LAKE_URL", "elsewhere")]).unwrap();
    assert_eq!((test.lake.as_str(), test.ingest.max_depth), ("elsewhere", 3));
    let error = of(Some("pord"), &[]).unwrap_err();
    assert!(error.to_string().ends_with("lakebed.toml: there is no target 'pord'"), "{error}");
    assert_eq!(error.hint().unwrap(), "there are prod, test");
    // A mistake in one that was not chosen is told before it is.
    let error = load(&format!("{toml}max_depht = 3\n"), Some("prod"), &[]).unwrap_err();
    assert!(error.to_string().contains("there is no key 'max_depht' in [ingest]"), "{error}");
    let (message, hint) = refusal("[target.prod.lake]\nplace = \"x\"\n");
    assert_eq!(
        (message.as_str(), hint.unwrap().as_str()),
        ("lakebed.toml:2:1: there is no key 'place' in [lake]", "there are url, fsync")
    );
    let (message, _) = refusal("[target]\nprod = \"x\"\n");
    assert!(message.ends_with("a target is a section: write [target.prod.lake]"), "{message}");
    for name in ["webhook_secret", "secret"] {
        let (message, hint) = refusal(&format!("[serve]\n{name} = \"x\"\n"));
        assert!(message.ends_with("a secret does not belong in lakebed.toml"), "{message}");
        assert!(hint.unwrap().contains(&format!("LAKEBED_SERVE_{}", name.to_uppercase())));
    }
}

#[test]
fn captures_have_names_and_the_same_keys() {
    let toml = "[capture.shop]\nurl = \"postgres://me@db/shop\"\ntables = \"orders, sales.items\"\n[capture.crm]\nslot = \"s\"\n\
                [target.prod.capture.shop]\npublication = \"all\"\n";
    let environment =
        [("LAKEBED_CAPTURE_SHOP_PASSWORD", "secret"), ("LAKEBED_CAPTURE_NAME_SLOT", "x"), ("LAKEBED_TARGET", "prod")];
    let config = load(toml, &environment, None).unwrap();
    let (shop, crm) = (&config.captures["shop"], &config.captures["crm"]);
    assert_eq!(config.captures.len(), 2);
    assert_eq!(shop.url.as_ref().unwrap().as_str(), "postgres://me@db/shop");
    assert_eq!(shop.password.as_ref().unwrap().as_str(), "secret");
    let table = |schema: &str, table: &str| (schema.to_owned(), table.to_owned());
    assert_eq!(shop.tables, [table("public", "orders"), table("sales", "items")]);
    assert_eq!((shop.publication.as_str(), shop.slot.as_deref()), ("all", None));
    assert_eq!((crm.publication.as_str(), crm.slot.as_deref()), ("lakebed", Some("s")));
    let (message, hint) = refusal("[capture.shop]\nurl = \"postgres://me:secret@db/shop\"\n");
    assert_eq!(message, "lakebed.toml:2:7: a secret does not belong in lakebed.toml");
    assert!(hint.unwrap().contains("LAKEBED_CAPTURE_NAME_PASSWORD"));
    assert!(
        refusal("[capture]\nurl = \"x\"\n").0.ends_with("a capture is a section: write [capture.NAME], and url in it")
    );
    assert!(refusal("[capture.Shop]\n").0.contains("'Shop' is no name of a capture"));
    assert!(refusal("[capture.shop]\nslot = \"My Slot\"\n").0.contains("is no name of a slot"));
    assert!(refusal("[capture.shop]\ntables = \"a,,b\"\n").0.contains("'' is no table"));
    assert_eq!(refusal("[capture.shop]\nslots = \"a\"\n").1.unwrap(), "did you mean 'slot'?");
}
