//! A line of the result, and how it is shown.

use crate::Failure;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

/// One thing that was measured. What does not apply is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) median_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    /// Of the median to that of `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<f64>,
    /// What only this row has.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

impl Row {
    /// From single measurements; at least one.
    pub(crate) fn of(name: &'static str, mut spans: Vec<Duration>) -> Self {
        spans.sort_unstable();
        let at = |part: usize| {
            let span = spans.get((spans.len().saturating_sub(1)) * part / 100);
            span.map(|span| span.as_secs_f64() * 1e6)
        };
        let row = Self { name, median_us: at(50), p99_us: at(99), ..Self::default() };
        say(&row.line());
        row.with("samples", spans.len().into())
    }

    /// Adds what only this row has.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(String::new, |us| format!("{us:.1}"));
        let [median, p99, ratio, rate] =
            [self.median_us, self.p99_us, self.ratio, self.per_second].map(number);
        let mut line = format!("{:<16}{median:>12}{p99:>12}{ratio:>10}{rate:>12}", self.name);
        for (name, value) in &self.more {
            // Writing into a string does not fail.
            let _written = write!(line, "  {name}={value}");
        }
        line
    }
}

/// Progress, to standard error.
pub(crate) fn say(text: &str) {
    // A closed standard error stops nothing.
    let _written = writeln!(io::stderr(), "{text}");
}

/// The result, to standard output.
pub(crate) fn print(bench: &str, machine: &str, rows: &[Row], json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "bench": bench, "machine": machine, "rows": rounded(rows) }))?;
        return Ok(());
    }
    writeln!(out, "{bench} on {machine}")?;
    writeln!(
        out,
        "{:<16}{:>12}{:>12}{:>10}{:>12}",
        "name", "median us", "p99 us", "x raw", "per second"
    )?;
    for row in rows {
        writeln!(out, "{}", row.line().trim_end())?;
    }
    Ok(())
}

/// To the nanosecond; clocks know no more.
fn rounded(rows: &[Row]) -> Vec<Row> {
    let round = |value: Option<f64>| value.map(|value| (value * 1e3).round() / 1e3);
    let row = |row: &Row| Row {
        median_us: round(row.median_us),
        p99_us: round(row.p99_us),
        ratio: round(row.ratio),
        per_second: round(row.per_second),
        ..row.clone()
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_median_and_its_slowest_hundredth() {
        let row = Row::of("x", (1..=101).rev().map(Duration::from_micros).collect());
        assert_eq!((row.median_us.unwrap().round(), row.p99_us.unwrap().round()), (51.0, 100.0));
        let value = serde_json::to_value(&row).unwrap();
        assert!(value.get("ratio").is_none() && value.get("samples").is_some(), "{value}");
    }
}
