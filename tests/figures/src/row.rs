//! A line of the result, and how it is shown.

use crate::Failure;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

/// One thing that was measured. What does not apply is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// Half of the measurements took less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_us: Option<f64>,
    /// All but one in a hundred took less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Of the median to that of another row, as the bench says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// How many in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// What only this row has.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Row {
    /// One without any figure yet.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// From single measurements; at least one.
    #[must_use]
    pub fn of(name: impl Into<String>, mut spans: Vec<Duration>) -> Self {
        spans.sort_unstable();
        let at = |part: usize| {
            let span = spans.get((spans.len().saturating_sub(1)) * part / 100);
            span.map(|span| span.as_secs_f64() * 1e6)
        };
        let least = at(0).map_or(Value::Null, |us| ((us * 1e3).round() / 1e3).into());
        let row = Self { median_us: at(50), p99_us: at(99), ..Self::named(name) };
        // The least is what a machine that does nothing else would come to.
        let row = row.with("samples", spans.len().into()).with("least_us", least);
        say(row.line().trim_end());
        row
    }

    /// Adds what only this row has.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(String::new, |us| format!("{us:.1}"));
        let [median, p99, ratio, rate] =
            [self.median_us, self.p99_us, self.ratio, self.per_second].map(number);
        let mut line = line(&self.name, [&median, &p99, &ratio, &rate]);
        for (name, value) in &self.more {
            // Writing into a string does not fail.
            let _written = write!(line, "  {name}={value}");
        }
        line
    }
}

fn line(name: &str, cells: [&str; 4]) -> String {
    let [median, p99, ratio, rate] = cells;
    format!("{name:<28}{median:>12}{p99:>12}{ratio:>10}{rate:>12}")
}

/// Progress, to standard error.
pub fn say(text: &str) {
    // A closed standard error stops nothing.
    let _written = writeln!(io::stderr(), "{text}");
}

/// A bench and its result.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The bench's name.
    pub bench: &'a str,
    /// What ratios are to.
    pub reference: &'a str,
    /// In the order in which they are shown.
    pub rows: &'a [Row],
}

impl Report<'_> {
    /// To standard output: a table, or one JSON object.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn print(&self, json: bool) -> Result<(), Failure> {
        let (bench, machine) = (self.bench, crate::machine::describe());
        let mut out = io::stdout().lock();
        if json {
            let rows = rounded(self.rows);
            writeln!(out, "{}", json!({ "bench": bench, "machine": machine, "rows": rows }))?;
            return Ok(());
        }
        writeln!(out, "{bench} on {machine}")?;
        let ratio = format!("x {}", self.reference);
        writeln!(out, "{}", line("name", ["median us", "p99 us", &ratio, "per second"]))?;
        for row in self.rows {
            writeln!(out, "{}", row.line().trim_end())?;
        }
        Ok(())
    }
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
