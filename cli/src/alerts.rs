//! Calls somebody when something goes wrong while nobody looks: a webhook or a command is given a JSON object, again and again
//! until it takes it.

use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lakebed_project::AlertsConfig;
use lakebed_query::time_text;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;

/// So many alerts wait at most; what comes then is told on stderr alone.
const WAITING: usize = 100;

/// Between two tries, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How often one is tried.
const TRIES: u32 = 6;

/// Whoever is called has so long to take it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Alert {
    /// `stale`, `quarantine` or `check`.
    pub(crate) alert: &'static str,
    /// Whether it is over.
    pub(crate) resolved: bool,
    pub(crate) project: String,
    /// One sentence.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: String,
    /// The log version at which it was seen.
    pub(crate) version: u64,
    /// When, as RFC 3339.
    pub(crate) at: String,
}

/// Where alerts go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Alerts {
    project: String,
    waiting: Option<mpsc::Sender<Alert>>,
}

impl Alerts {
    /// As a project has set it; the task that calls lives as long as this.
    pub(crate) fn of(config: &AlertsConfig, project: String) -> Self {
        if config.webhook.is_none() && config.command.is_none() {
            return Self { project, waiting: None };
        }
        let (sender, waiting) = mpsc::channel(WAITING);
        tokio::spawn(send_all(config.clone(), waiting));
        Self { project, waiting: Some(sender) }
    }

    /// Tells of something, without waiting for whoever is called.
    pub(crate) fn tell(
        &self,
        alert: &'static str,
        (message, hint): (String, &str),
        version: u64,
        at: DateTime<Utc>,
        resolved: bool,
    ) {
        let Some(waiting) = &self.waiting else { return };
        let (project, hint, at) = (self.project.clone(), hint.to_owned(), time_text(at));
        let alert = Alert { alert, resolved, project, message, hint, version, at };
        if let Err(error) = waiting.try_send(alert) {
            tracing::error!("an alert is not sent, for too many are waiting: {}", error.into_inner().message);
        }
    }
}

async fn send_all(config: AlertsConfig, mut waiting: mpsc::Receiver<Alert>) {
    let client = reqwest::Client::builder().timeout(PATIENCE).build();
    while let Some(alert) = waiting.recv().await {
        // A struct of texts and numbers is JSON.
        let body = serde_json::to_string(&alert).unwrap_or_default();
        if let (Some(url), Ok(client)) = (&config.webhook, &client) {
            let post = || async {
                let posted =
                    client.post(url.as_str()).header("content-type", "application/json").body(body.clone()).send();
                // The URL may be a secret.
                let answer = posted.await.map_err(|error| error.without_url().to_string())?;
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(format!("it answers {status}")),
                }
            };
            until_taken("the webhook", &alert, post).await;
        }
        if let Some(command) = &config.command {
            until_taken("the command", &alert, || run(command, &body)).await;
        }
    }
}

/// Tries until it is taken, or long enough.
async fn until_taken<F: Future<Output = Result<(), String>>>(who: &str, alert: &Alert, call: impl Fn() -> F) {
    let mut pause = FIRST_PAUSE;
    for tried in 1..=TRIES {
        match call().await {
            Ok(()) => return,
            Err(error) if tried == TRIES => {
                tracing::error!("{who} of [alerts] does not take '{}': {error}", alert.message);
            }
            Err(error) => {
                tracing::warn!("{who} of [alerts]: {error}; it is called again in {} s", pause.as_secs());
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// Runs a command of the shell's with the alert on its stdin.
async fn run(command: &str, body: &str) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it may take it all the same.
        let _ = stdin.write_all(body.as_bytes()).await;
    }
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it ended with {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it took more than {} s", PATIENCE.as_secs())),
    }
}
