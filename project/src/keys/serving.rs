//! How a server listens, what it may cost, and whom it calls.

use std::path::PathBuf;

use super::{Key, Set};
use crate::config::Config;
use crate::settings::Secret;

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "serve",
        "flight",
        "where Flight SQL listens, or `off`",
        Set::Address(|config, at| config.serve.flight = at),
    )
    .by_default("127.0.0.1:31337"),
    Key::new(
        "serve",
        "http",
        "where HTTP listens, for events, SQL, health and metrics, or `off`",
        Set::Address(|config, at| config.serve.http = at),
    )
    .by_default("127.0.0.1:8080"),
    Key::new(
        "serve",
        "max_body_bytes",
        "a longer body of events, decompressed, is refused",
        Set::Number(1..=512 << 20, |config, bytes| config.serve.max_body_bytes = bytes),
    )
    .by_default("33554432"),
    Key::new(
        "serve",
        "ingest_memory",
        "how many bytes of bodies of events are held in memory at once; whoever comes then is asked to come again",
        Set::Number(1 << 20..=1 << 40, |config, bytes| config.serve.ingest_memory = bytes),
    )
    .by_default("268435456"),
    Key::new(
        "serve",
        "webhook_secret",
        "what senders of webhooks sign with",
        Set::Some(|config, text| config.serve.webhook_secret = Some(Secret::new(text))),
    )
    .secret(|_| Some("LAKEBED_SERVE_WEBHOOK_SECRET")),
    Key::new(
        "serve",
        "secret",
        "what tickets and prepared statements are signed with, 16 characters or more; without it, what one process signed is good with that process alone",
        Set::Text(secret),
    )
    .secret(|_| Some("LAKEBED_SERVE_SECRET")),
    Key::new(
        "serve",
        "tls_cert",
        "the certificate that Flight SQL shows, and the chain behind it: a PEM file",
        Set::Some(|config, text| config.serve.tls_cert = Some(PathBuf::from(text))),
    ),
    Key::new(
        "serve",
        "tls_key",
        "its private key: a PEM file",
        Set::Some(|config, text| config.serve.tls_key = Some(PathBuf::from(text))),
    ),
    Key::new(
        "serve",
        "tls_client_ca",
        "who signs the certificates that clients have to show, where they have to: a PEM file",
        Set::Some(|config, text| config.serve.tls_client_ca = Some(PathBuf::from(text))),
    ),
    Key::new(
        "serve",
        "behind_tls_proxy",
        "whether a proxy before it speaks TLS with the clients, so that it may listen beyond this machine without a certificate",
        Set::Switch(|config, on| config.serve.behind_tls_proxy = on),
    )
    .by_default("off"),
    Key::new(
        "serve",
        "queries_at_once",
        "so many statements are computed at once; others wait",
        Set::Number(1..=1 << 16, |config, queries| config.serve.queries_at_once = queries),
    )
    .by_default("16"),
    Key::new(
        "serve",
        "queries_waiting",
        "so many wait at most; whoever comes then is asked to come again",
        Set::Number(0..=1 << 20, |config, queries| config.serve.queries_waiting = queries),
    )
    .by_default("1000"),
    Key::new(
        "serve",
        "query_memory",
        "how many bytes one statement may hold in memory; more goes to disk where it can, else it fails",
        Set::Number(1 << 20..=1 << 40, |config, bytes| config.serve.query_memory = bytes),
    )
    .by_default("1073741824"),
    Key::new(
        "serve",
        "queries_memory",
        "how many bytes all statements may hold together",
        Set::Number(1 << 20..=1 << 44, |config, bytes| config.serve.queries_memory = bytes),
    )
    .by_default("4294967296"),
    Key::new(
        "serve",
        "tables_memory",
        "how many bytes of tables are kept in memory for who asks for them again; 0 keeps none",
        Set::Number(0..=1 << 44, |config, bytes| config.serve.tables_memory = bytes),
    )
    .by_default("536870912"),
    Key::new(
        "serve",
        "query_seconds",
        "a statement that takes longer is stopped",
        Set::Seconds(|config, time| config.serve.query_seconds = time),
    )
    .by_default("300"),
    Key::new(
        "alerts",
        "webhook",
        "a URL to which a JSON object is posted when something goes wrong; in the environment where it is a secret",
        Set::Text(webhook),
    ),
    Key::new("alerts", "command", "a command of the shell's that gets the object on its stdin", Set::Text(command)),
    Key::new(
        "alerts",
        "stale_after",
        "tables that are behind the log for so many seconds are stale",
        Set::Seconds(|config, time| config.alerts.stale_after = time),
    )
    .by_default("60"),
    Key::new(
        "alerts",
        "quarantine_burst",
        "so many events in quarantine within a minute are a burst",
        Set::Number(1..=1 << 40, |config, events| config.alerts.quarantine_burst = events as u64),
    )
    .by_default("100"),
    Key::new(
        "alerts",
        "check_every",
        "the checks of models are asked of new tables, and not more often than every so many seconds",
        Set::Seconds(|config, time| config.alerts.check_every = time),
    )
    .by_default("60"),
];

fn secret(config: &mut Config, text: &str) -> Result<(), String> {
    if text.len() < 16 {
        return Err("a secret has 16 characters or more; `openssl rand -hex 32` makes one".to_owned());
    }
    config.serve.secret = Some(Secret::new(text));
    Ok(())
}

fn webhook(config: &mut Config, text: &str) -> Result<(), String> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err("a webhook is an http:// or https:// URL".to_owned());
    }
    config.alerts.webhook = Some(Secret::new(text));
    Ok(())
}

fn command(config: &mut Config, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("leave it out rather than empty".to_owned());
    }
    config.alerts.command = Some(text.to_owned());
    Ok(())
}
