//! Processes: run to their end within a time, watched, looked at through `/proc`.

use crate::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; 128 and the signal's number if one ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Fails the test unless the exit code is 0.
    #[must_use]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.text(), self.stderr);
        self
    }
}

/// A program to be run, and ended with the test.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Vec<u8>,
}

impl Program {
    /// A program with its arguments; without input.
    pub fn new(path: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: Vec::new() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in a folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// What it reads from standard input.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Starts it and leaves its streams to the caller.
    pub fn spawn(mut self) -> Child {
        self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command))
    }

    /// Runs it to its end.
    pub fn run(self) -> Ran {
        self.run_within(PATIENCE)
    }

    /// Runs it to its end, and fails the test if that takes longer.
    pub fn run_within(self, most: Duration) -> Ran {
        let shown = format!("{:?}", self.command);
        let input = self.input.clone();
        let mut child = self.spawn();
        // A program that does not read its input is no error.
        let _written = child.stdin.take().unwrap().write_all(&input);
        let watched = Watched::of(child.id());
        let stdout = drain(child.stdout.take().unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        let in_time = watched.ended_within(most);
        if !in_time {
            // It is ours and not reaped, so the id is still its own.
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let ran = Ran {
            code: status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap(),
            stdout: stdout.recv_timeout(PATIENCE).expect("standard output is closed at the end"),
            stderr: String::from_utf8_lossy(
                &stderr.recv_timeout(PATIENCE).expect("standard error is closed at the end"),
            )
            .into_owned(),
        };
        assert!(in_time, "{shown} took longer than {most:?}: {ran:?}");
        ran
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth telling.
        let _read = stream.read_to_end(&mut bytes);
        // The test may be over.
        let _sent = sender.send(bytes);
    });
    receiver
}

/// A process that is watched by a handle of its own, so that another of the same id is never taken for it.
#[derive(Debug)]
pub struct Watched {
    handle: OwnedFd,
    /// Its id.
    pub pid: u32,
}

impl Watched {
    /// Watches a process that runs.
    pub fn of(pid: u32) -> Self {
        Self::find(pid).unwrap_or_else(|| panic!("process {pid} does not run"))
    }

    /// Watches a process if it runs.
    pub fn find(pid: u32) -> Option<Self> {
        let id = Pid::from_raw(i32::try_from(pid).ok()?)?;
        pidfd_open(id, PidfdFlags::empty()).ok().map(|handle| Self { handle, pid })
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        // It may have ended.
        let _sent = pidfd_send_signal(&self.handle, signal);
    }

    /// Waits for its end; false if it takes longer.
    pub fn ended_within(&self, most: Duration) -> bool {
        let limit = Timespec::try_from(most).unwrap();
        let mut handles = [PollFd::new(&self.handle, PollFlags::IN)];
        poll(&mut handles, Some(&limit)).unwrap() > 0
    }
}

/// The children of a process, by id.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|child| parent(*child) == Some(pid))
        .collect();
    found.sort_unstable();
    found
}

/// Field 4 of `proc_pid_stat(5)`; none of a process that is gone.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// The words with which a process was started.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// The memory that a process holds now.
pub fn memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}
