//! Builds the guests that the binary brings along, from source: the scheduler behind `tepui run`.
//!
//! The nested build has a target folder of its own and none of this build's settings, so that neither waits for nor
//! disturbs the other.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
const GUEST: &str = "run";
/// Settings of a person's cargo, which the nested one needs as well.
const KEPT: &[&str] = &[
    "CARGO_HOME",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
];
/// What cargo or clippy tell a build script and would mislead the nested build.
const DROPPED: &[&str] = &[
    "RUSTFLAGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
    "MAKEFLAGS",
    "MFLAGS",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for watched in ["guests/Cargo.toml", "guests/run", "wasm-sdk", "cli/build.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let built = build(&root, &out)?;
    fs::copy(&built, out.join("run.wasm"))
        .map_err(|error| format!("cannot copy `{}`: {error}", built.display()))?;
    Ok(())
}

fn build(root: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let manifest = root.join("guests/Cargo.toml");
    let target_dir = out.join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--target", TARGET, "--package", GUEST, "--manifest-path"])
        .arg(&manifest);
    cargo.arg("--target-dir").arg(&target_dir);
    if root.join("guests/Cargo.lock").is_file() {
        cargo.arg("--locked");
    }
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
        if ours || name.starts_with("DEP_") || DROPPED.contains(&name) {
            cargo.env_remove(name);
        }
    }
    // Outside of the folder whose settings name this workspace's own target folder.
    cargo.current_dir(root.join("guests"));
    let output = cargo
        .output()
        .map_err(|error| format!("cannot start cargo for `guests/{GUEST}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lacks_target = said.contains("target may not be installed")
            || said.contains("can't find crate for `std`");
        let hint = if lacks_target {
            format!("\nhint: rustup target add {TARGET}")
        } else {
            String::new()
        };
        return Err(format!("cannot build `guests/{GUEST}` for {TARGET}:\n{said}{hint}").into());
    }
    Ok(target_dir.join(TARGET).join("release").join(format!("{GUEST}.wasm")))
}
