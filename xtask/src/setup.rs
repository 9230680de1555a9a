//! What a bare machine lacks: the Wasm targets, the guests, the program.

use crate::shell::{Failure, bare, cargo, root, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const P1: &str = "wasm32-wasip1";
const P2: &str = "wasm32-wasip2";
/// Proof that the cores do no I/O.
pub(crate) const BARE: &str = "wasm32-unknown-unknown";

/// Every guest: package, target, and the name of its file in the folder of guests.
const GUESTS: &[(&str, &str, &str)] = &[
    ("wordcount", P2, "wordcount.wasm"),
    ("run", P2, "run.wasm"),
    ("fifteen", P2, "fifteen.wasm"),
    ("flood", P2, "flood.wasm"),
    ("turn-100", P2, "turn-100.wasm"),
    ("bad-scheduler", P2, "bad-scheduler.wasm"),
    ("hostile-scheduler", P2, "hostile-scheduler.wasm"),
    ("hostile-task", P1, "hostile-task.wasm"),
    ("hostile-task", P2, "hostile-task-p2.wasm"),
    ("wordcount-task", P1, "wordcount-task.wasm"),
    ("noop", P1, "noop.wasm"),
    ("hello", P1, "hello.wasm"),
    ("bad-task", P1, "bad-task.wasm"),
    ("noop", P2, "noop-p2.wasm"),
    ("hello", P2, "hello-p2.wasm"),
    ("bad-task", P2, "bad-task-p2.wasm"),
];

/// Adds the Wasm targets that are missing.
///
/// # Errors
/// When they cannot be added.
pub(crate) fn targets() -> Result<(), Failure> {
    let sysroot = said(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))?;
    let installed = |target: &&&str| {
        Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir()
    };
    let missing: Vec<&str> =
        [P1, P2, BARE].iter().filter(|target| !installed(target)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("$ rustup target add {}", missing.join(" ")));
    let hint = format!(
        "the Rust here lacks {}\nhint: with rustup: `rustup target add {}`; else install them with Rust",
        missing.join(", "),
        missing.join(" ")
    );
    match Command::new("rustup").args(["target", "add"]).args(&missing).current_dir(root()).status()
    {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failure(hint)),
    }
}

/// Builds every guest and gathers them in [`guests_dir`].
///
/// # Errors
/// When one does not build.
pub(crate) fn guests() -> Result<(), Failure> {
    let (built, gathered) = (target_dir()?.join("guests"), guests_dir()?);
    for target in [P2, P1] {
        let mut build = cargo(&[
            "build",
            "--release",
            "--manifest-path",
            "guests/Cargo.toml",
            "--target",
            target,
        ]);
        build.args(&["--target-dir", &built.display().to_string()]);
        for (package, _, _) in GUESTS.iter().filter(|guest| guest.1 == target) {
            build.args(&["--package", package]);
        }
        build.run()?;
    }
    fs::create_dir_all(&gathered).map_err(|error| Failure::file("make", &gathered, &error))?;
    for (package, target, file) in GUESTS {
        let made = artifact(&built.join(target).join("release"), package)?;
        let place = gathered.join(file);
        fs::copy(&made, &place).map_err(|error| Failure::file("write", &place, &error))?;
    }
    Ok(())
}

/// Programs keep the dashes of their package's name, libraries do not.
fn artifact(dir: &Path, package: &str) -> Result<PathBuf, Failure> {
    let names = [package.to_owned(), package.replace('-', "_")];
    let found =
        names.iter().map(|name| dir.join(format!("{name}.wasm"))).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure(format!("the guest `{package}` left no module in `{}`", dir.display()))
    })
}

/// Where the built guests are: `NAME.wasm`, those of preview 2 that have both `NAME-p2.wasm`.
///
/// # Errors
/// When cargo does not say where it builds.
pub(crate) fn guests_dir() -> Result<PathBuf, Failure> {
    Ok(target_dir()?.join("guests/wasm"))
}

/// Builds the program and says where it is.
///
/// # Errors
/// When it does not build.
pub(crate) fn tepui() -> Result<PathBuf, Failure> {
    cargo(&["build", "--package", "tepui"]).run()?;
    Ok(target_dir()?.join("debug/tepui"))
}

/// Where cargo builds.
///
/// # Errors
/// When cargo does not say.
pub(crate) fn target_dir() -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = bare(Path::new(&cargo));
    let text = said(
        command
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(root()),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Failure(format!("cargo metadata: {error}")))?;
    let dir = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    dir.map(PathBuf::from)
        .ok_or_else(|| Failure("cargo metadata names no target folder".to_owned()))
}

fn said(command: &mut Command) -> Result<String, Failure> {
    let shown = format!("{command:?}");
    match command.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            Err(Failure(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
        Err(error) => Err(Failure(format!("{shown}: {error}"))),
    }
}
