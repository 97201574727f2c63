//! Calls somebody when something goes wrong while nobody looks: a webhook or a command is given a JSON object, again and again
//! until it takes it.

use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lakebed_project::{AlertsConfig, Secret};
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
    /// `stale`, `quarantine`, `check` or `model`.
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

impl Alert {
    fn body(&self) -> String {
        // A struct of texts and numbers is JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where alerts go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Alerts {
    project: String,
    /// To whoever is called, each in a task of its own: one that hangs keeps the other from nothing.
    waiting: Vec<mpsc::Sender<Alert>>,
}

impl Alerts {
    /// As a project has set it; the task that calls lives as long as this.
    pub(crate) fn of(config: &AlertsConfig, project: String) -> Self {
        let mut waiting = Vec::new();
        if let Some(url) = config.webhook.clone() {
            let (sender, alerts) = mpsc::channel(WAITING);
            tokio::spawn(post_all(url, alerts));
            waiting.push(sender);
        }
        if let Some(command) = config.command.clone() {
            let (sender, alerts) = mpsc::channel(WAITING);
            tokio::spawn(run_all(command, alerts));
            waiting.push(sender);
        }
        Self { project, waiting }
    }

    /// Whether anybody is to be called.
    pub(crate) fn has_somebody(&self) -> bool {
        !self.waiting.is_empty()
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
        let (project, hint, at) = (self.project.clone(), hint.to_owned(), time_text(at));
        let alert = Alert { alert, resolved, project, message, hint, version, at };
        for waiting in &self.waiting {
            if let Err(error) = waiting.try_send(alert.clone()) {
                tracing::error!("an alert is not sent, for too many are waiting: {}", error.into_inner().message);
            }
        }
    }
}

async fn post_all(url: Secret, mut alerts: mpsc::Receiver<Alert>) {
    let client = match reqwest::Client::builder().timeout(PATIENCE).build() {
        Ok(client) => client,
        Err(error) => return tracing::error!("no alert is sent to the webhook: {error}"),
    };
    while let Some(alert) = alerts.recv().await {
        let post = || async {
            let request = client.post(url.as_str()).header("content-type", "application/json").body(alert.body());
            // The URL may be a secret.
            let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(format!("it answers {status}")),
            }
        };
        until_taken("the webhook", &alert, post).await;
    }
}

async fn run_all(command: String, mut alerts: mpsc::Receiver<Alert>) {
    while let Some(alert) = alerts.recv().await {
        let body = alert.body();
        until_taken("the command", &alert, || run(&command, &body)).await;
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
