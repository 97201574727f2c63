//! Where changes of databases are captured from: the keys of each `[capture.NAME]`.

use std::path::PathBuf;

use super::output::has_password;
use super::{Key, Set};
use crate::config::Config;
use crate::settings::{CaptureConfig, Secret};

/// The section whose sections are captures.
pub(crate) const CAPTURE: &str = "capture";

/// Where a capture's password belongs.
const PASSWORD: &str = "LAKEBED_CAPTURE_NAME_PASSWORD, or use ~/.pgpass or [capture.NAME] password_file";

/// Bytes of a name that PostgreSQL has: NAMEDATALEN, without the end.
const LONGEST_NAME: usize = 63;

/// A capture's slot is called `lakebed_NAME` where nothing is said.
const LONGEST_CAPTURE: usize = LONGEST_NAME - "lakebed_".len();

pub(super) const KEYS: &[Key] = &[
    Key::new(
        CAPTURE,
        "url",
        "the database whose changes become events, as `postgres://user@host:5432/database`",
        Set::Some(|config, text| one(config).url = Some(Secret::new(text))),
    )
    .secret(|url| has_password(url).then_some(PASSWORD)),
    Key::new(
        CAPTURE,
        "password",
        "its password",
        Set::Some(|config, text| one(config).password = Some(Secret::new(text))),
    )
    .secret(|_| Some(PASSWORD)),
    Key::new(
        CAPTURE,
        "password_file",
        "a file with the password in it, relative to the project's directory",
        Set::Some(|config, text| one(config).password_file = Some(PathBuf::from(text))),
    ),
    Key::new(
        CAPTURE,
        "publication",
        "the publication that says there which tables are captured: `CREATE PUBLICATION lakebed FOR TABLE …`",
        Set::Text(publication),
    )
    .by_default("lakebed"),
    Key::new(
        CAPTURE,
        "slot",
        "the replication slot, made where it is not there; `lakebed_NAME` where it is not set",
        Set::Text(slot),
    ),
    Key::new(
        CAPTURE,
        "tables",
        "of the publication's tables these alone, with commas between them, as `orders` or `shop.orders`; all of them where it is not set",
        Set::Text(tables),
    ),
];

/// The capture that is being read: it has no name yet.
fn one(config: &mut Config) -> &mut CaptureConfig {
    config.captures.entry(String::new()).or_default()
}

/// What a capture can be called: it is part of variables and of the name of a slot.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    match name.bytes().all(plain) && (1..=LONGEST_CAPTURE).contains(&name.len()) {
        true => Ok(()),
        false => Err(format!(
            "'{name}' is no name of a capture: it has 1 to {LONGEST_CAPTURE} of small letters, digits and _"
        )),
    }
}

fn publication(config: &mut Config, text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains(|letter: char| letter == ',' || letter.is_whitespace()) {
        return Err(format!("'{text}' is no name of one publication, without commas and blanks"));
    }
    text.clone_into(&mut one(config).publication);
    Ok(())
}

fn slot(config: &mut Config, text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !text.bytes().all(plain) || !(1..=LONGEST_NAME).contains(&text.len()) {
        return Err(format!(
            "'{text}' is no name of a slot: it has 1 to {LONGEST_NAME} of small letters, digits and _"
        ));
    }
    one(config).slot = Some(text.to_owned());
    Ok(())
}

fn tables(config: &mut Config, text: &str) -> Result<(), String> {
    let table = |name: &str| {
        let (schema, table) = name.split_once('.').unwrap_or(("public", name));
        match schema.is_empty() || table.is_empty() {
            true => Err(format!("'{name}' is no table such as orders or shop.orders")),
            false => Ok((schema.to_owned(), table.to_owned())),
        }
    };
    one(config).tables = text.split(',').map(|name| table(name.trim())).collect::<Result<_, _>>()?;
    Ok(())
}
