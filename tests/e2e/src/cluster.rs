//! One cluster: `tepui dev` and all that it starts.

use crate::api::Api;
use crate::process::{Program, Ran, Watched, children, command_line};
use crate::{PATIENCE, tepui_program};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Lines of each log that are told when a test fails.
const LAST_LINES: usize = 12;

/// A cluster that ends with its owner. Its standard input is its sign of life, so it ends even if the test is killed.
#[derive(Debug)]
pub struct Cluster {
    dev: Child,
    watched: Watched,
    /// What it says; behind a lock so that several threads of a test may share the cluster.
    words: Mutex<Receiver<String>>,
    greeting: String,
    api: Api,
    folder: TempDir,
}

impl Cluster {
    /// A master and so many agents.
    pub fn start(agents: u32) -> Self {
        Self::start_with(agents, &[])
    }

    /// A master and so many agents, with more flags of `tepui dev`.
    pub fn start_with(agents: u32, flags: &[&str]) -> Self {
        Self::start_prepared(agents, flags, |_dir| {})
    }

    /// As [`Self::start_with`], in a state folder that was made ready before.
    pub fn start_prepared(agents: u32, flags: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("tepui-e2e-").tempdir().unwrap();
        let dir = folder.path().join("c");
        prepare(&dir);
        let count = agents.to_string();
        let mut args: Vec<&OsStr> =
            ["dev", "--with-parent", "--agents", &count, "--dir"].map(OsStr::new).to_vec();
        args.push(dir.as_os_str());
        args.extend(flags.iter().map(OsStr::new));
        let mut dev = alone(Program::new(tepui_program(), args), folder.path()).spawn();
        let watched = Watched::of(dev.id());
        let (sender, words) = channel();
        let stderr = BufReader::new(dev.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Nobody may listen any more; the pipe is emptied all the same.
                let _sent = sender.send(line);
            }
        });
        let mut told = String::new();
        let greeting = loop {
            match words.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("the cluster is ready") => break line,
                Ok(line) => told.push_str(&line),
                Err(error) => panic!("the cluster did not come up ({error}): {told}"),
            }
        };
        let api = Api::new(&dir.join("context.toml"));
        Self { dev, watched, words: Mutex::new(words), greeting, api, folder }
    }

    /// What `tepui dev` said once it was there.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Its HTTP interface.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Its state folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("c")
    }

    /// A file of the test's own, removed with the cluster.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The id of `master`, `agent-1`, …, as it was started last.
    pub fn pid(&self, part: &str) -> u32 {
        let path = self.dir().join(part).join("pid");
        fs::read_to_string(&path).unwrap().trim().parse().unwrap()
    }

    /// The cells of an agent.
    pub fn cells(&self, agent: &str) -> Vec<u32> {
        let mut cells = children(self.pid(agent));
        cells.retain(|pid| command_line(*pid).get(1).is_some_and(|verb| verb == "cell"));
        cells
    }

    /// `kill -9`, and waits until `tepui dev` has seen it; it starts the part again.
    pub fn kill(&self, part: &str) {
        let victim = Watched::of(self.pid(part));
        victim.signal(Signal::KILL);
        self.hear(&format!("{part} ended"));
    }

    /// `kill -9` of every cell of an agent, and waits until they are gone; the agent starts others.
    pub fn kill_cells(&self, agent: &str) {
        let cells: Vec<Watched> = self.cells(agent).into_iter().filter_map(Watched::find).collect();
        assert!(!cells.is_empty(), "{agent} has no cell");
        for cell in cells {
            cell.signal(Signal::KILL);
            assert!(cell.ended_within(PATIENCE));
        }
    }

    /// Waits until `tepui dev` says something.
    pub fn hear(&self, what: &str) {
        let words = self.words.lock().unwrap();
        loop {
            match words.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(what) => return,
                Ok(_) => {}
                Err(error) => panic!("`tepui dev` never said `{what}`: {error}"),
            }
        }
    }

    /// The command line's program, to speak to this cluster.
    pub fn program(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        alone(Program::new(tepui_program(), args), self.folder.path())
            .env("TEPUI_CONTEXT", self.dir().join("context.toml"))
    }

    /// Runs a verb to its end.
    pub fn tepui(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        self.program(args).run()
    }

    /// Runs a verb with `-o json`; it has to succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        let all = args.iter().copied().chain(["--output", "json"]);
        self.tepui(all).good().json()
    }

    /// Submits a folder.
    pub fn submit(&self, dir: &Path) -> Ran {
        self.tepui([OsStr::new("framework"), OsStr::new("submit"), dir.as_os_str()])
    }

    /// A blob of a framework, as text.
    pub fn blob(&self, framework: &str, name: &str) -> String {
        let file = self.scratch("fetched");
        let source = format!("{framework}/{name}");
        let words = ["blob", "get", &source].map(OsStr::new);
        let _ran = self.tepui(words.into_iter().chain([file.as_os_str()])).good();
        fs::read_to_string(&file).unwrap()
    }

    /// Ends it and says whether it ended by itself.
    fn end(&mut self) -> bool {
        drop(self.dev.stdin.take());
        let in_time = self.watched.ended_within(Duration::from_secs(30));
        if !in_time {
            self.watched.signal(Signal::KILL);
        }
        self.dev.wait().unwrap();
        in_time
    }

    fn tell_last_words(&self) {
        // A thread that panicked while it listened has left it as it should be.
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        for line in words.try_iter() {
            eprintln!("tepui dev: {line}");
        }
        let logs = fs::read_dir(self.dir()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
        logs.sort();
        for path in logs {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let skipped = text.lines().count().saturating_sub(LAST_LINES);
            for line in text.lines().skip(skipped) {
                eprintln!("{}: {line}", path.file_name().unwrap_or_default().display());
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell_last_words();
        }
        let ended = self.end();
        // A second panic would hide the first.
        assert!(ended || thread::panicking(), "`tepui dev` did not end with its parent");
    }
}

/// Apart from whatever else runs on this machine.
fn alone(program: Program, home: &Path) -> Program {
    program
        .env("XDG_STATE_HOME", home.join("state"))
        .without_env("TEPUI_CONTEXT")
        .without_env("TEPUI_LOG")
}
