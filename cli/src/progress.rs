//! Progress bars: on a terminal only, on stderr.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// A bar that counts events on their way into the log.
pub(crate) struct EventBar(ProgressBar);

impl EventBar {
    /// A bar up to `events`, or one without an end.
    pub(crate) fn new(output: &Output, events: Option<u64>) -> Self {
        let template = match events {
            Some(_) => "append  {bar:32} {human_pos}/{human_len} events  {per_sec}  {eta}",
            None => "append  {spinner} {human_pos} events  {per_sec}",
        };
        Self(bar(output, events, template))
    }

    /// So many more events.
    pub(crate) fn add(&self, events: u64) {
        self.0.inc(events);
    }
}

impl Drop for EventBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar that counts models as a refresh goes through them.
pub(crate) struct ModelBar(ProgressBar);

impl ModelBar {
    pub(crate) fn new(output: &Output) -> Self {
        Self(bar(output, Some(0), "refresh {bar:32} {human_pos}/{human_len}  {msg}"))
    }
}

impl lakebed_query::Progress for ModelBar {
    fn model(&self, name: &str, done: usize, of: usize) {
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
        self.0.set_message(name.to_owned());
    }

    fn replayed(&self, events: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(events);
        self.0.set_message("events replayed");
    }
}

impl Drop for ModelBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn bar(output: &Output, length: Option<u64>, template: &str) -> ProgressBar {
    let target = if output.draws() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    // A template that does not parse would leave indicatif's own style: still a bar.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
