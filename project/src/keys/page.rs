//! `docs/configuration.md`, which is written from the keys: a test fails where it is another text.

use std::fmt::Write;

use super::{CAPTURE, Key, Set, all};
use crate::config::Config;
use crate::settings::CaptureConfig;

/// What comes before the keys.
const HEAD: &str = "\
# Every setting

This page is written from the code: `LAKEBED_WRITE_PAGES=1 cargo test --workspace the_page_says` writes it anew.

A setting is taken from the first of these that has it: a flag (`--lake`, `--target`, `--flight`, `--http`), the environment variable
`LAKEBED_SECTION_KEY` (of a capture `LAKEBED_CAPTURE_NAME_KEY`), lakebed.toml, its default. `[target.NAME.SECTION]` overlays any key, where `--target NAME` or `LAKEBED_TARGET=NAME`
[chooses it](operating.md#the-same-project-elsewhere). Numbers are written as numbers in lakebed.toml, all else as a text in quotes. A key
that there is not, and a value that does not fit, is an error with its place. A value of \"environment\" is refused in lakebed.toml, which is
in a repository.
";

/// What comes after them.
const TAIL: &str = "
## `[columns]`
Pins the type of a flattened column, so that it is there before its first value: `properties.price = \"DECIMAL(18,2)\"`. The types are
[those of the log](events.md).

## `[seeds.NAME]`
Pins the types of columns of the seed `sql/seeds/NAME.csv`, by their names in its first line: `zip = \"VARCHAR\"`, `price = \"DECIMAL(18,2)\"`.
The types are the same; what holds where nothing is pinned is said in [Seeds](models.md#seeds).
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for key in all() {
        if key.section != section {
            section = key.section;
            let heading = if section == CAPTURE { "capture.NAME" } else { section };
            let _ = write!(page, "\n## `[{heading}]`\n| key | written as | default | |\n|---|---|---|---|\n");
        }
        let default = match key.default {
            None => "–".to_owned(),
            Some("") => "none".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let means = key.means.replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {} | {default} | {means} |", key.name, written(key));
    }
    page + TAIL
}

/// How a value of it is written.
fn written(key: &Key) -> String {
    match &key.set {
        // What every text is a secret of.
        Set::Text(_) | Set::Some(_) if (key.secret)("").is_some() => format!("environment, `{}`", key.variable()),
        Set::Text(_) | Set::Some(_) => "text".to_owned(),
        Set::Switch(_) => "`on` or `off`".to_owned(),
        Set::Address(_) => "address".to_owned(),
        Set::Number(range, _) => format!("number, {} to {}", range.start(), range.end()),
        Set::Seconds(_) => "seconds".to_owned(),
    }
}

#[test]
fn the_page_says_what_the_keys_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("LAKEBED_WRITE_PAGES").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap();
    assert!(there == page(), "docs/configuration.md is stale: its first lines say how it is written");
}

#[test]
fn a_default_is_what_holds_where_nothing_is_set() {
    for key in all() {
        let Some(default) = key.default else { continue };
        let mut set = Config::default();
        key.set(&mut set, default).unwrap();
        // One that says nothing is one all the same.
        assert_eq!(set.captures.remove("").unwrap_or_default(), CaptureConfig::default());
        assert_eq!(set, Config::default(), "[{}] {}", key.section, key.name);
    }
}

#[test]
fn sections_are_together_and_no_key_is_there_twice() {
    let keys: Vec<_> = all().map(|key| (key.section, key.name)).collect();
    let mut sections: Vec<_> = keys.iter().map(|(section, _)| *section).collect();
    sections.dedup();
    let distinct: std::collections::BTreeSet<_> = sections.iter().collect();
    assert_eq!(distinct.len(), sections.len(), "{sections:?}");
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len());
}
