//! `cargo xtask bench allocator`: what a look at the whole cluster costs the leader, and what single facts cost it.
//!
//! Measures `master/core` alone, in this process, on one core: no wire, no disk. What a row measures stands in the module
//! that measures it; setting up is never counted. Its one surprise: memory is measured first, since what a process has
//! given back it does not count again.

mod cycles;
mod inputs;
mod naive;
mod stage;
mod state;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use tepui_figures::{Failure, Row, program};

const USAGE: &str = "allocator [PREFIX] [--json]\n\nPREFIX: only rows that begin so";

fn main() -> ExitCode {
    program::run("allocator", "plain", USAGE, |words| match words {
        ["allocator"] => Some(measure(|_| true)),
        // For whoever profiles one case.
        ["allocator", part] => Some(measure(|name| name.starts_with(part))),
        _ => None,
    })
}

fn measure(is_asked: impl Fn(&str) -> bool) -> Result<Vec<Row>, Failure> {
    let is_asked = &is_asked;
    let mut rows = inputs::measure(is_asked)?;
    rows.extend(state::measure(is_asked)?);
    rows.extend(cycles::measure(is_asked)?);
    Ok(rows)
}

/// Measures the same thing again and again: `again` sets up without being counted and gives the span that counts. The
/// first is to warm up; then at least five, until they have taken long enough.
fn repeat(
    most: usize,
    mut again: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Vec<Duration>, Failure> {
    const LEAST: usize = 5;
    const ENOUGH: Duration = Duration::from_millis(1_500);
    again()?;
    let (begun, mut spans) = (Instant::now(), Vec::new());
    while spans.len() < LEAST || (begun.elapsed() < ENOUGH && spans.len() < most) {
        spans.push(again()?);
    }
    Ok(spans)
}
