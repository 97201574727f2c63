//! The console, in a browser: `.ci/run` asks for these where the machine has one, and says so where it has none. What the page is given
//! with, and that its files are all there, is tested beside the server.

use std::path::{Path, PathBuf};

use lakebed_tests::python::browser;

use crate::logins::told;
use crate::served::Served;
use crate::serving::run;
use crate::shop::Shop;

/// The picture in the documentation is written anew where LAKEBED_WRITE_PICTURE is set.
#[test]
#[ignore = "needs Chromium or Chrome, which cargo does not bring: .ci/run asks for it where there is one"]
fn a_browser_shows_the_lake() {
    let shop = Shop::of_versions(&[2_000, 4_000]);
    let served = Served::start(&shop, &["--watch"]);
    let picture: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/console.png");
    let mut arguments = vec![served.http.as_str()];
    if std::env::var_os("LAKEBED_WRITE_PICTURE").is_some() {
        arguments.extend(["--picture", picture.to_str().unwrap()]);
    }
    let said = run(&browser().unwrap(), "console.py", &arguments);
    assert!(said.lines().filter(|line| line.starts_with("ok")).count() >= 70, "{said}");
    served.stop();
}

#[test]
#[ignore = "needs Chromium or Chrome, which cargo does not bring: .ci/run asks for it where there is one"]
fn a_user_logs_in_with_a_browser() {
    let shop = Shop::with_tables();
    assert!(told(&shop, &["user", "add", "ana"], "correct horse\n").0);
    let token = shop.done(&["user", "token", "ana", "notebook"]);
    let served = Served::start(&shop, &[]);
    let said = run(&browser().unwrap(), "console.py", &[&served.http, "--login", "ana", "correct horse", token.trim()]);
    assert!(said.lines().filter(|line| line.starts_with("ok")).count() >= 10, "{said}");
    let said = served.stop();
    assert!(!said.contains("horse") && !said.contains(token.trim()), "{said}");
}
