//! A tenant who attacks its agent with what a task may do; the first argument chooses how.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    eprintln!("hostile-task: `{mode}` is no attack");
    ExitCode::from(2)
}
