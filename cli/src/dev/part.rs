//! One process of a development cluster: started, watched, started again when it dies, ended.
//!
//! Never ends a process that it did not start. Its one surprise: a part is told to stop by closing its standard input,
//! which happens by itself when `tepui dev` is killed.

use crate::context::write_private;
use crate::error::CliError;
use crate::out;
use crate::parts::Ready;
use crate::setup::make_dir;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a part may take to stop before it is killed.
const STOP_MOST: Duration = Duration::from_secs(5);
/// First and longest pause before a part that died is started again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(5);
/// A part that ran so long is well: its next end is a first one.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// Lines of a log that are told when a part does not start.
const LOG_LINES: usize = 5;

/// How to start a process.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    name: String,
    executable: PathBuf,
    args: Vec<OsString>,
    /// Holds its process id, for those who want to try what a kill does.
    pid_file: PathBuf,
    log: PathBuf,
}

/// A process that is watched.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    watch: JoinHandle<()>,
}

impl Part {
    /// A part of this program; its folder is made.
    ///
    /// # Errors
    /// When the folder cannot be made, or the program cannot be found.
    pub(crate) fn new(
        name: &str,
        args: Vec<OsString>,
        dir: &Path,
        log: PathBuf,
    ) -> Result<Self, CliError> {
        make_dir(dir)?;
        let executable = std::env::current_exe()
            .map_err(|error| CliError::failed("cannot find the program itself").because(&error))?;
        Ok(Self { name: name.to_owned(), executable, args, pid_file: dir.join("pid"), log })
    }

    /// Starts it and watches it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(self) -> Result<Running, CliError> {
        let child = self.spawn(Stdio::null())?;
        Ok(self.keep(child))
    }

    /// Starts it with its standard output kept, for [`first_words`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn_heard(&self) -> Result<Child, CliError> {
        self.spawn(Stdio::piped())
    }

    /// Watches a process that was started as this part.
    pub(crate) fn keep(self, child: Child) -> Running {
        let (stop, stopped) = oneshot::channel();
        Running { stop: Some(stop), watch: tokio::spawn(self.watch(child, stopped)) }
    }

    /// Why it did not come up, with the end of its log.
    pub(crate) async fn failed_to_start(&self, child: Child) -> CliError {
        end(child).await;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        let error = CliError::failed(format!("the {} did not start", self.name));
        let error = lines.into_iter().rev().fold(error, CliError::cause);
        error.hint(format!("its log is `{}`", self.log.display()))
    }

    fn spawn(&self, stdout: Stdio) -> Result<Child, CliError> {
        let failed = |error: std::io::Error| {
            CliError::failed(format!("cannot start the {}", self.name)).because(&error)
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(failed)?;
        let mut command = Command::new(&self.executable);
        command
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(log)
            .kill_on_drop(true);
        // Ctrl-C is for `tepui dev`, which then ends its parts in order.
        command.process_group(0);
        let child = command.spawn().map_err(failed)?;
        if let Some(pid) = child.id() {
            write_private(&self.pid_file, format!("{pid}\n").as_bytes())?;
        }
        Ok(child)
    }

    async fn watch(self, mut child: Child, mut stopped: oneshot::Receiver<()>) {
        let mut pause = BACKOFF_FIRST;
        loop {
            let begun = Instant::now();
            // A part that says nothing more must not be ended by a full pipe.
            let words = child.stdout.take().map(|stdout| tokio::spawn(discard(stdout)));
            // `wait` would close it, which tells the part to stop.
            let held = child.stdin.take();
            let status = tokio::select! {
                // `Err` means that the cluster was dropped, which is a stop as well.
                _ = &mut stopped => {
                    drop(held);
                    return end(child).await;
                }
                status = child.wait() => status,
            };
            drop((held, words));
            if begun.elapsed() > WELL_AFTER {
                pause = BACKOFF_FIRST;
            }
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            out::note(format_args!(
                "{} ended ({how}); starting it again; its log: {}",
                self.name,
                self.log.display()
            ));
            child = loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(BACKOFF_MOST);
                match self.spawn(Stdio::null()) {
                    Ok(child) => break child,
                    Err(error) => out::note(error.render(false).trim_end()),
                }
            };
        }
    }
}

impl Running {
    /// Asks it to stop; does not wait.
    pub(crate) fn ask_to_stop(mut self) -> Self {
        if let Some(stop) = self.stop.take() {
            // Its watch may be over.
            let _asked = stop.send(());
        }
        self
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) {
        // A watch that panicked has dropped its process, which kills it.
        let _joined = self.watch.await;
    }
}

/// Closes its standard input, gives it time, kills it.
async fn end(mut child: Child) {
    drop(child.stdin.take());
    drop(child.stdout.take());
    if tokio::time::timeout(STOP_MOST, child.wait()).await.is_err() {
        // It may have ended this moment.
        let _killed = child.kill().await;
    }
}

async fn discard(mut stdout: tokio::process::ChildStdout) {
    // Whatever it was.
    let _copied = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
}

/// What a master says once it listens; none if it ends before.
pub(crate) async fn first_words(child: &mut Child) -> Option<Ready> {
    let stdout = child.stdout.take()?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = loop {
        match lines.next_line().await {
            Ok(Some(line)) => {
                if let Some(ready) = Ready::from_line(&line) {
                    break ready;
                }
            }
            _ => return None,
        }
    };
    child.stdout = Some(lines.into_inner().into_inner());
    Some(ready)
}
