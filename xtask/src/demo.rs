//! `cargo xtask demo`: wordcount over files, on a master and three agents of this machine.
//!
//! The first half sets up and becomes `tepui dev`; the second half runs as its command, with the cluster around it.

use crate::setup;
use crate::shell::{Failure, bare, print, root, say};
use crate::stage;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The word for the second half.
pub(crate) const INSIDE: &str = "--demo-inside";
const AGENTS: &str = "3";
/// Words that are printed.
const MOST: usize = 10;

/// Sets up, and becomes the cluster.
///
/// # Errors
/// When something cannot be built or started.
pub(crate) fn run(paths: &[&str]) -> Result<(), Failure> {
    let files = stage::files(paths)?;
    setup::targets()?;
    setup::guests()?;
    let tepui = setup::tepui()?;
    say(&format!("counting the words of {} files on a master and {AGENTS} agents", files.len()));
    let own = std::env::current_exe()
        .map_err(|error| Failure(format!("cannot find xtask itself: {error}")))?;
    let mut dev = bare(&tepui);
    dev.args(["dev", "--agents", AGENTS, "--"])
        .arg(own)
        .arg(INSIDE)
        .args(paths)
        .env("TEPUI_BIN", &tepui);
    // Comes back only if it fails. Without a terminal as its input, `tepui dev` ends its command's whole group.
    let error = dev.stdin(Stdio::null()).exec();
    Err(Failure::file("start", &tepui, &error))
}

/// Submits, waits, shows.
///
/// # Errors
/// When the cluster refuses, or the result is not what it should be.
pub(crate) fn inside(paths: &[&str]) -> Result<(), Failure> {
    let begun = Instant::now();
    let dir = setup::target_dir()?.join("demo").join(std::process::id().to_string());
    let shown = work(paths, &dir, begun);
    // What stays behind is in the target folder.
    let _removed = fs::remove_dir_all(&dir);
    shown
}

fn work(paths: &[&str], dir: &Path, begun: Instant) -> Result<(), Failure> {
    let tepui = PathBuf::from(std::env::var_os("TEPUI_BIN").unwrap_or_else(|| "tepui".into()));
    stage_framework(paths, dir)?;
    let ended = ask(
        &tepui,
        &["framework", "submit", &dir.display().to_string(), "--wait", "--output", "json"],
    )?;
    let agents = ask(&tepui, &["agent", "ls", "--output", "json"])?.as_array().map_or(0, Vec::len);
    let tasks: u64 = ended
        .get("tasks")
        .and_then(Value::as_object)
        .map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum());
    let name = ended.pointer("/results/0/name").and_then(Value::as_str);
    let name = name.ok_or_else(|| Failure(format!("wordcount ended without a result: {ended}")))?;
    let file = dir.join("result");
    call(&tepui, &["blob", "get", &format!("wordcount/{name}"), &file.display().to_string()])?;
    let text = fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, &error))?;
    let result = Counted::parse(&text)
        .ok_or_else(|| Failure("the result is not what wordcount writes".to_owned()))?;
    print(result.top.trim_end());
    let seconds = begun.elapsed().as_secs_f64();
    let (words, distinct) = (result.words, result.distinct);
    print(&format!(
        "demo: ok: {words} words, {distinct} distinct, {tasks} tasks on {agents} agents in {seconds:.1} s"
    ));
    Ok(())
}

/// A folder with `tepui.toml`, the modules and the input.
fn stage_framework(paths: &[&str], dir: &Path) -> Result<(), Failure> {
    let blobs = stage::pack(&stage::files(paths)?, dir)?;
    for module in ["wordcount.wasm", "wordcount-task.wasm"] {
        let (from, to) = (setup::guests_dir()?.join(module), dir.join(module));
        fs::copy(&from, &to).map_err(|error| Failure::file("copy", &from, &error))?;
    }
    let mut manifest = String::from(
        "name = \"wordcount\"\nroles = [\"*\"]\nscheduler = \"wordcount.wasm\"\n\n[modules]\ntask = \"wordcount-task.wasm\"\n\n[blobs]\n",
    );
    for blob in &blobs {
        // Writing into a string does not fail.
        let _written = writeln!(manifest, "\"{blob}\" = \"{blob}\"");
    }
    let bytes: u64 = blobs
        .iter()
        .filter_map(|blob| fs::metadata(dir.join(blob)).ok())
        .map(|file| file.len())
        .sum();
    // Some dozens of map tasks, whatever the size, as long as each has something to do.
    let split_bytes = (bytes / 24).clamp(64 << 10, 1 << 20);
    let _written = write!(manifest, "\n[config]\nsplit_bytes = \"{split_bytes}\"\n");
    let path = dir.join("tepui.toml");
    fs::write(&path, manifest).map_err(|error| Failure::file("write", &path, &error))
}

/// A result: `words TOTAL distinct N`, then `COUNT WORD` a line, most frequent first.
struct Counted {
    words: u64,
    distinct: u64,
    top: String,
}

impl Counted {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next()?.split(' ').collect();
        let ["words", words, "distinct", distinct] = head.as_slice() else { return None };
        let mut top = String::new();
        for line in lines.take(MOST) {
            let (count, word) = line.split_once(' ')?;
            count.parse::<u64>().ok()?;
            writeln!(top, "{count:>8}  {word}").ok()?;
        }
        Some(Self { words: words.parse().ok()?, distinct: distinct.parse().ok()?, top })
    }
}

fn ask(tepui: &Path, words: &[&str]) -> Result<Value, Failure> {
    let text = call(tepui, words)?;
    serde_json::from_str(&text)
        .map_err(|error| Failure(format!("`tepui {}`: {error}", words.join(" "))))
}

fn call(tepui: &Path, words: &[&str]) -> Result<String, Failure> {
    let failed = |why: String| Failure(format!("`tepui {}`: {why}", words.join(" ")));
    let mut command = Command::new(tepui);
    command.args(words).current_dir(root()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(output.status.to_string()))
    }
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn a_result_is_read_and_only_ten_words_are_shown() {
        let lines: Vec<String> = (0..20).map(|at| format!("{} w{at}\n", 100 - at)).collect();
        let lines = lines.concat();
        let result = Counted::parse(&format!("words 1810 distinct 20\n{lines}")).unwrap();
        assert_eq!((result.words, result.distinct, result.top.lines().count()), (1_810, 20, 10));
        assert!(Counted::parse("nonsense").is_none());
    }
}
