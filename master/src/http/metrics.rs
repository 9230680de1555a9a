//! `/metrics`: figures in Prometheus' text format, of the leader and of the driver.

use super::App;
use super::error::Failure;
use crate::driver::View;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;

/// Name (perhaps with labels), help, kind, value.
type Figure = (String, &'static str, &'static str, u64);

pub(super) async fn text(State(app): State<App>) -> Result<Response, Failure> {
    let figures = app.driver.query(figures).await?;
    let format = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((format, render(&figures)).into_response())
}

fn figures(view: &View<'_>) -> Vec<Figure> {
    let mut figures = view.leader.metrics();
    let stats = view.stats;
    let of_driver: [(&str, &str, &str, u64); 7] = [
        (
            "tepui_sessions",
            "Connections of agents that said hello.",
            "gauge",
            view.links.count() as u64,
        ),
        ("tepui_log_index", "Index of the last committed entry.", "gauge", view.index),
        ("tepui_batches_total", "Batches that the driver handled.", "counter", stats.batches),
        ("tepui_inputs_total", "Inputs that the driver handled.", "counter", stats.inputs),
        ("tepui_entries_total", "Entries that were committed.", "counter", stats.entries),
        ("tepui_snapshots_total", "Snapshots that were taken.", "counter", stats.snapshots),
        (
            "tepui_append_microseconds_total",
            "Time spent in synced appends.",
            "counter",
            stats.append_us,
        ),
    ];
    figures.extend(of_driver.map(|(name, help, kind, value)| (name.to_owned(), help, kind, value)));
    figures
}

/// Help and kind stand before the first figure of each name.
fn render(figures: &[Figure]) -> String {
    let mut text = String::new();
    let mut last = "";
    for (name, help, kind, value) in figures {
        let base = name.split('{').next().unwrap_or(name);
        if base != last {
            // Writing to a string does not fail.
            writeln!(text, "# HELP {base} {help}\n# TYPE {base} {kind}").ok();
            last = base;
        }
        writeln!(text, "{name} {value}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_explained_once() {
        let figure = |name: &str, value| (name.to_owned(), "Help.", "gauge", value);
        let text = render(&[figure("a{x=\"1\"}", 1), figure("a{x=\"2\"}", 2), figure("b", 3)]);
        assert_eq!(text.matches("# HELP a Help.\n# TYPE a gauge\n").count(), 1);
        assert!(text.ends_with("a{x=\"2\"} 2\n# HELP b Help.\n# TYPE b gauge\nb 3\n"));
    }
}
