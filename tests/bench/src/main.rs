//! `cargo xtask bench NAME`: measures this machine's Tepui and prints a table, or one JSON object.
//!
//! Owns what is measured and how; every module says it for its row. Never measures a debug build: `cargo xtask bench`
//! builds the release and names it in `TEPUI_BIN`. Its one surprise: it is an agent of its own cluster for a while, since
//! a guest has no clock that is fine enough for the time from an accepted offer to a terminal status.

mod cluster;
mod commands;
mod disk;
mod flood;
mod hop;
mod ping;
mod shell;
mod turn;

use cluster::Cluster;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tepui_figures::row::Row;
use tepui_figures::{Failure, machine, program, row};

/// What is measured with, and where.
#[derive(Debug)]
struct Bench {
    /// The release program.
    tepui: PathBuf,
    /// The folder of built guests.
    guests: PathBuf,
    /// For everything that is written; on a real disk, and short enough for a socket's path.
    dir: tempfile::TempDir,
}

impl Bench {
    fn open() -> Result<Self, Failure> {
        let named = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.exists())
                .ok_or_else(|| format!("{name} names nothing; use `cargo xtask bench`"))
        };
        let (tepui, guests) = (named("TEPUI_BIN")?, named("TEPUI_GUESTS")?);
        let above = guests.parent().unwrap_or_else(|| Path::new("."));
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(above)?;
        Ok(Self { tepui, guests, dir })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn guest(&self, file: &str) -> PathBuf {
        self.guests.join(file)
    }
}

fn main() -> ExitCode {
    program::run("launch", "raw", "launch [--json]", |words| match words {
        ["launch"] => Some(launch()),
        _ => None,
    })
}

/// Everything between a decision and a running task, from the inside out.
fn launch() -> Result<Vec<Row>, Failure> {
    let bench = Bench::open()?;
    let mut rows = vec![commands::raw(&bench)?];
    let raw = rows.first().and_then(|row| row.median_us).unwrap_or(f64::NAN);
    rows.push(commands::cell(&bench)?);
    rows.push(hop::measure(&bench)?);
    let sync = disk::measure(&bench)?;
    let turn = turn::measure(&bench)?;
    let cluster = Cluster::start(&bench)?;
    let tasks = flood::measure(&bench, &cluster)?;
    let shell = shell::measure(&bench, &cluster)?;
    rows.push(ping::measure(&bench, &cluster)?);
    drop(cluster);
    rows.extend([sync, shell, tasks, turn]);
    for row in &mut rows {
        row.ratio = row.median_us.map(|median| median / raw);
    }
    Ok(rows)
}
