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
use tepui_figures::row::Report;
use tepui_figures::{Failure, Row, say};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, words): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|word| word.starts_with('-'));
    let json = match flags.as_slice() {
        [] => false,
        ["--json"] => true,
        _ => return usage(),
    };
    let rows = match words.as_slice() {
        ["allocator"] => measure(|_| true),
        // For whoever profiles one case.
        ["allocator", part] => measure(|name| name.starts_with(part)),
        _ => return usage(),
    };
    let print =
        |rows: Vec<Row>| Report { bench: "allocator", reference: "plain", rows: &rows }.print(json);
    match rows.and_then(print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    say("usage: cargo xtask bench allocator [PREFIX] [--json]\n\nPREFIX: only rows that begin so");
    ExitCode::from(2)
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
