//! `cargo xtask …`: everything that is done to this repository, the same on a bare machine and in CI.
//!
//! Owns the order of steps. Never knows what a cluster is: that is `tepui`'s. Its one surprise: `demo` turns into
//! `tepui dev`, which runs the rest of the demo as its command, so whoever interrupts it interrupts the cluster.

mod demo;
mod setup;
mod shell;
mod stage;
mod tests;

use shell::{Failure, say};
use std::process::ExitCode;

const USAGE: &str =
    "usage: cargo xtask demo [PATH…]         run wordcount over files on a cluster of this machine
       cargo xtask test [--quick]       run every test
       cargo xtask ci                   format, lints, every test
       cargo xtask bench NAME [--json]  measure
       cargo xtask guests               build the guests
       cargo xtask lint                 format and lints";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [shell::NANNY, program, rest @ ..] => return shell::nanny(program, rest),
        [demo::INSIDE, paths @ ..] => demo::inside(paths),
        ["demo", paths @ ..] => demo::run(paths),
        ["test"] => tests::run(false),
        ["test", "--quick"] => tests::run(true),
        ["ci"] => lint().and_then(|()| tests::run(false)),
        ["bench", rest @ ..] if rest.iter().any(|word| !word.starts_with('-')) => bench(rest),
        ["guests"] => setup::targets().and_then(|()| setup::guests()),
        ["lint"] => lint(),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            say(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// Workspaces of their own.
const GUESTS: &str = "guests/Cargo.toml";
const FUZZ: &str = "tests/fuzz/Cargo.toml";

fn lint() -> Result<(), Failure> {
    setup::targets()?;
    shell::cargo(&["fmt", "--all", "--check"]).run()?;
    shell::cargo(&["fmt", "--manifest-path", GUESTS, "--all", "--check"]).run()?;
    shell::cargo(&["fmt", "--manifest-path", FUZZ, "--check"]).run()?;
    shell::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()?;
    // Where the guests are built anyway, with what they are built for; what runs natively is their tests.
    let guests = setup::target_dir()?.join("guests").display().to_string();
    let guests = ["--manifest-path", GUESTS, "--target-dir", &guests, "--workspace"];
    let p2 = ["--target", "wasm32-wasip2"];
    for select in [&p2[..], &["--tests"]] {
        let words = ["clippy"].iter().chain(&guests).chain(select);
        let words: Vec<&str> = words.chain(&["--", "-D", "warnings"]).copied().collect();
        shell::cargo(&words).run()?;
    }
    // Running it takes a nightly toolchain and libFuzzer; that it still fits the code does not.
    let fuzz = setup::target_dir()?.join("fuzz").display().to_string();
    let check = ["check", "--manifest-path", FUZZ, "--target-dir", &fuzz, "--no-default-features"];
    shell::cargo(&check).run()
}

/// The measuring is `tests/bench`'s; it is told where the program and the guests are. Both are built by one call: two
/// would settle on different features of what they share, and build all of it twice.
fn bench(words: &[&str]) -> Result<(), Failure> {
    if words.contains(&"allocator") {
        // It needs neither guests nor a cluster, and builds without the sandbox.
        shell::cargo(&["build", "--release", "--package", "tepui-bench-allocator"]).run()?;
        let built = setup::target_dir()?.join("release/tepui-bench-allocator");
        let mut bench = shell::program(&built);
        return bench.args(words).run();
    }
    setup::targets()?;
    setup::guests()?;
    shell::cargo(&["build", "--release", "--package", "tepui", "--package", "tepui-bench"])
        .run()?;
    let built = setup::target_dir()?.join("release");
    let mut bench = shell::program(&built.join("tepui-bench"));
    bench.args(words).env("TEPUI_BIN", &built.join("tepui"));
    bench.env("TEPUI_GUESTS", &setup::guests_dir()?).run()
}
