//! The starter project, as it is in the binary: the repository's own pipeline and a lakebed.toml with its types.

/// The lakebed.toml; `"{name}"` stands for the project's name.
const CONFIG: &str = include_str!("../starter/lakebed.toml");

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Every model and every file of unit tests, by its path in a project.
        pub(crate) const FILES: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../", $path)))),*];
    };
}

files![
    "sql/gold/cohort_retention.sql",
    "sql/gold/conversion_funnel.sql",
    "sql/gold/daily_activity.sql",
    "sql/gold/hourly_traffic.sql",
    "sql/gold/page_engagement.sql",
    "sql/gold/revenue.sql",
    "sql/gold/user_activity.sql",
    "sql/silver/events.sql",
    "sql/silver/interactions.sql",
    "sql/silver/page_views.sql",
    "sql/silver/purchases.sql",
    "sql/silver/sessions.sql",
    "sql/tests/conversion_funnel.toml",
    "sql/tests/revenue.toml",
];

/// How many models there are.
pub(crate) fn models() -> usize {
    FILES.iter().filter(|(path, _)| path.ends_with(".sql")).count()
}

/// The lakebed.toml of a project of this name.
pub(crate) fn config(name: &str) -> String {
    CONFIG.replacen("\"{name}\"", &toml::Value::from(name).to_string(), 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn files_below(directory: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path, found) } else { assert!(found.insert(path)) }
        }
    }

    #[test]
    fn every_file_of_the_repository_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut there = BTreeSet::new();
        files_below(&root.join("sql"), &mut there);
        let embedded: BTreeSet<PathBuf> = FILES.iter().map(|(path, _)| root.join(path)).collect();
        assert_eq!(embedded, there);
    }

    #[test]
    fn any_name_gives_a_config_that_loads() {
        for name in ["shop", "a \"quoted\" \\ name", "x'y", "Läden"] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("lakebed.toml"), config(name)).unwrap();
            let loaded =
                lakebed_project::Config::load(directory.path(), &|_| None, &lakebed_project::Flags::default()).unwrap();
            assert_eq!(loaded.project, name);
        }
    }

    #[test]
    fn what_is_commented_out_says_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            std::fs::write(directory.path().join("lakebed.toml"), text).unwrap();
            lakebed_project::Config::load(directory.path(), &|_| None, &lakebed_project::Flags::default()).unwrap()
        };
        let text = config("shop");
        let (head, settings) = text.split_once("# Where the lake is").unwrap();
        let uncommented: String = settings
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| !line.starts_with(' ') && (line.starts_with('[') || line.contains(" = ")))
            .map(|line| format!("{line}\n"))
            .collect();
        let mut expected = load(&text);
        // These have no default: the comments show what they are like.
        expected.duckdb.directory = Some("./lake/published".into());
        expected.events.unflattened = vec![vec!["before".to_owned()], vec!["after".to_owned()]];
        let alerts = "[alerts]\nwebhook = \"https://alerts.example.com/lakebed\"\ncommand = \"logger --tag lakebed\"";
        expected.alerts = load(alerts).alerts;
        expected.delta.url = Some("./lake/delta".to_owned());
        expected.serve.tls_cert = Some("./server.pem".into());
        expected.serve.tls_key = Some("./server.key".into());
        expected.serve.tls_client_ca = Some("./clients.pem".into());
        expected.postgres =
            load("[postgres]\nurl = \"postgres://me@127.0.0.1:5432/shop\"\npassword_file = \"./password\"").postgres;
        assert_eq!(load(&format!("{head}\n{uncommented}")), expected);
    }
}
