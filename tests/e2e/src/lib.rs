//! A cluster of real processes for the tests in `tests/`: started, asked, killed in parts, ended.
//!
//! Owns the processes that it starts and their folders. Never sleeps and never looks twice where it could wait: a
//! process ends, a line is written, a long poll answers. Its one surprise: everything here panics when it fails, since
//! that fails the test, and a panic prints the last words of every part.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness of tests: what goes wrong here has to fail the test, with words"
)]

mod api;
mod cluster;
mod folder;
mod process;
mod words;

pub use api::{Api, Reply};
pub use cluster::Cluster;
pub use folder::Folder;
pub use process::{Program, Ran, Watched, children, command_line, memory_bytes};
pub use words::{count, scramble};

use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take before the test fails. Far above what it takes on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The `tepui` program.
pub fn tepui_program() -> PathBuf {
    found("TEPUI_BIN", "target/debug/tepui")
}

/// A guest, such as `hello.wasm`.
pub fn guest(file: &str) -> PathBuf {
    let path = found("TEPUI_GUESTS", "target/guests/wasm").join(file);
    assert!(path.is_file(), "there is no `{}`: run `cargo xtask test`", path.display());
    path
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn found(variable: &str, otherwise: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| root().join(otherwise), PathBuf::from);
    assert!(path.exists(), "there is no `{}`: run `cargo xtask test`", path.display());
    path
}
