//! A cluster of release processes on loopback: `tepui dev` with one agent.
//!
//! Its one surprise: `tepui dev` ends, with all that it started, when its standard input does; so nothing outlives this
//! process, however it goes.

use crate::{Bench, Failure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The agent's name, and its host's.
pub(crate) const AGENT: &str = "agent-1";
/// Room for 1,000 small tasks at once beside what is held back, whatever the machine has: no-ops need none of it.
const CPUS: &str = "12";
const MEMORY: &str = "8GiB";
const START_MOST: Duration = Duration::from_mins(1);
const STOP_MOST: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    dev: Child,
    tepui: PathBuf,
    /// Its state folder.
    pub(crate) dir: PathBuf,
}

impl Cluster {
    pub(crate) fn start(bench: &Bench) -> Result<Self, Failure> {
        let dir = bench.dir().join("k");
        let mut command = Command::new(&bench.tepui);
        command.args(["dev", "--agents", "1", "--with-parent", "--cpus", CPUS, "--memory", MEMORY]);
        command.arg("--dir").arg(&dir);
        // Other shells of this user need not find it.
        command.env("XDG_STATE_HOME", bench.dir());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut cluster = Self { dev: command.spawn()?, tepui: bench.tepui.clone(), dir };
        let begun = Instant::now();
        while !cluster.context().exists() {
            if let Some(status) = cluster.dev.try_wait()? {
                return Err(format!("the cluster did not start: {status}").into());
            }
            if begun.elapsed() > START_MOST {
                return Err("the cluster did not start in time".into());
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(cluster)
    }

    fn context(&self) -> PathBuf {
        self.dir.join("context.toml")
    }

    /// A verb of the program, for this cluster.
    pub(crate) fn verb(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.tepui);
        command.args(words).env("TEPUI_CONTEXT", self.context()).stdin(Stdio::null());
        command
    }

    /// What a verb prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<Vec<u8>, Failure> {
        let output = self.verb(words).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`tepui {}`: {}", words.join(" "), said.trim()).into())
    }

    /// Submits a framework from modules and the text of its manifest.
    pub(crate) fn submit(
        &self,
        bench: &Bench,
        framework: (&str, &str),
        modules: &[&str],
        flags: &[&str],
    ) -> Result<Vec<u8>, Failure> {
        let (name, manifest) = framework;
        let dir = bench.dir().join(name);
        std::fs::create_dir_all(&dir)?;
        for module in modules {
            std::fs::copy(bench.guest(module), dir.join(module))?;
        }
        std::fs::write(dir.join("tepui.toml"), manifest)?;
        let dir = dir.display().to_string();
        let words = [&["framework", "submit", &dir, "--output", "json"], flags].concat();
        self.ask(&words)
    }

    /// The process of the master.
    pub(crate) fn master_pid(&self) -> Result<u32, Failure> {
        let text = std::fs::read_to_string(self.dir.join("master/pid"))?;
        Ok(text.trim().parse()?)
    }

    /// Where the master listens for agents.
    pub(crate) fn quic(&self) -> Result<SocketAddr, Failure> {
        let text = std::fs::read_to_string(self.dir.join("master/addresses"))?;
        let addresses: serde_json::Value = serde_json::from_str(&text)?;
        let quic = addresses.get("quic").and_then(serde_json::Value::as_str);
        Ok(quic.ok_or("the master told no address")?.parse()?)
    }

    /// The folder of the cluster's authority.
    pub(crate) fn authority(&self) -> PathBuf {
        Path::new(&self.dir).join("authority")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.dev.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < STOP_MOST {
            if !matches!(self.dev.try_wait(), Ok(None)) {
                return;
            }
            std::thread::park_timeout(LOOK);
        }
        // Its parts see the end of their own standard input.
        let _killed = self.dev.kill();
        let _reaped = self.dev.wait();
    }
}
