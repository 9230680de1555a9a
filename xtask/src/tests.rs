//! `cargo xtask test`: set-up, every test, one sum.
//!
//! Never stops at the first failure. Its one surprise: a step that fails without naming a test counts as one failure.

use crate::setup;
use crate::shell::{Failure, Program, cargo, print, say};

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

/// Runs every test; with `quick` only those that start no cluster.
///
/// # Errors
/// When something fails.
pub(crate) fn run(quick: bool) -> Result<(), Failure> {
    setup::targets()?;
    setup::guests()?;
    // All at once: the program alone would settle on other features of what it shares with the tests, and much of it
    // would be built twice.
    cargo(&["build", "--workspace", "--all-targets", "--exclude", "xtask"]).run()?;
    let tepui = setup::target_dir()?.join("debug/tepui");
    let mut sum = Sum::default();

    let mut own = cargo(&["test", "--workspace", "--no-fail-fast"]);
    if quick {
        own.args(&[
            "--exclude",
            "tepui-e2e",
            "--exclude",
            "tepui-hostile",
            "--exclude",
            "tepui-sim",
        ]);
    }
    own.env("TEPUI_BIN", &tepui).env("TEPUI_GUESTS", &setup::guests_dir()?);
    sum.add(&own)?;
    if !quick {
        let native = setup::target_dir()?.join("guests-native").display().to_string();
        sum.add(&cargo(&[
            "test",
            "--manifest-path",
            "guests/Cargo.toml",
            "--no-fail-fast",
            "--target-dir",
            &native,
        ]))?;
        // The cores build where there is no I/O, no clock and no thread.
        let cores = [
            "--package",
            "tepui-proto",
            "--package",
            "tepui-master-core",
            "--package",
            "tepui-agent-core",
        ];
        let mut check = cargo(&["check", "--target", setup::BARE]);
        check.args(&cores);
        sum.add(&check)?;
    }
    print(&format!("{} passed, {} failed", sum.passed, sum.failed));
    if sum.failed == 0 { Ok(()) } else { Err(Failure("some tests failed".to_owned())) }
}

impl Sum {
    fn add(&mut self, step: &Program) -> Result<(), Failure> {
        let before = *self;
        let succeeded = step.run_heard(|line| self.hear(line))?;
        if !succeeded && self.failed == before.failed {
            say(&format!("error: `{step}` failed"));
            self.failed += 1;
        }
        Ok(())
    }

    /// `test result: ok. 3 passed; 0 failed; …`
    fn hear(&mut self, line: &str) {
        let Some(counts) = line.trim().strip_prefix("test result:") else { return };
        let count = |what: &str| {
            let before = counts.split(what).next().filter(|before| before.len() < counts.len());
            before
                .and_then(|before| before.rsplit([' ', ';']).find(|word| !word.is_empty()))
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
        };
        self.passed += count(" passed");
        self.failed += count(" failed");
    }
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn the_counts_of_every_test_program_are_summed() {
        let mut sum = Sum::default();
        sum.hear("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s");
        sum.hear("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        sum.hear("running 3 tests");
        assert_eq!(sum, Sum { passed: 13, failed: 2 });
    }
}
