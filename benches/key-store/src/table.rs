//! What was measured, and its table: a line for each metric, a column for each store.

/// Values by metric and store, in order of first appearance.
#[derive(Default)]
pub struct Table {
    metrics: Vec<(String, Vec<(String, Vec<f64>)>)>,
}

impl Table {
    /// Adds one run's value.
    pub fn add(&mut self, metric: &str, store: &str, value: f64) {
        let stores = entry(&mut self.metrics, metric);
        entry(stores, store).push(value);
    }

    /// The medians as a Markdown table; a metric that a store does not have is a dash.
    pub fn markdown(mut self, stores: &[String]) -> String {
        let mut text = format!("| | {} |\n|---|{}\n", stores.join(" | "), "---:|".repeat(stores.len()));
        for (metric, values) in &mut self.metrics {
            text += &format!("| {metric} |");
            for store in stores {
                let value = values.iter_mut().find(|(name, _)| name == store).map(|(_, values)| median(values));
                text += &value.map_or(" – |".to_owned(), |value| format!(" {} |", short(value)));
            }
            text += "\n";
        }
        text
    }
}

/// The middle value, of at least one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn short(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn entry<'a, V: Default>(list: &'a mut Vec<(String, V)>, name: &str) -> &'a mut V {
    let found = list.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
        list.push((name.to_owned(), V::default()));
        list.len() - 1
    });
    &mut list[found].1
}
