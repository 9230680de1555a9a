//! The program of a bench: its words, its exit code, its report.

use crate::Failure;
use crate::row::{Report, Row, say};
use std::process::ExitCode;

/// Runs a bench with this process's words. `measure` is given those that are not flags, and answers none if they are not its
/// own; then `usage` is printed. The one flag is `--json`. Ratios are to the row or the rows called `reference`.
pub fn run(
    bench: &str,
    reference: &str,
    usage: &str,
    measure: impl FnOnce(&[&str]) -> Option<Result<Vec<Row>, Failure>>,
) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, words): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|word| word.starts_with('-'));
    let json = match flags.as_slice() {
        [] => Some(false),
        ["--json"] => Some(true),
        _ => None,
    };
    let Some((json, rows)) = json.and_then(|json| Some((json, measure(&words)?))) else {
        say(&format!("usage: cargo xtask bench {usage}"));
        return ExitCode::from(2);
    };
    match rows.and_then(|rows| Report { bench, reference, rows: &rows }.print(json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
