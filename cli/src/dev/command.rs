//! The command that `tepui dev` runs against its cluster.

use super::Signals;
use crate::error::CliError;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// What shells give for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;
/// How long the command may take to stop before it is killed.
const STOP_MOST: Duration = Duration::from_secs(5);

/// Runs it and gives its exit code; 128 and the signal's number if a signal ended it.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn run(
    words: &[OsString],
    context: &Path,
    with_parent: bool,
    signals: &mut Signals,
) -> Result<ExitCode, CliError> {
    let Some((program, args)) = words.split_first() else { return Ok(ExitCode::SUCCESS) };
    let failed = |error: std::io::Error| {
        CliError::usage(format!("cannot start `{}`", program.display())).because(&error)
    };
    let mut command = Command::new(resolve(program).map_err(failed)?);
    command.args(args).env("TEPUI_CONTEXT", context).kill_on_drop(true);
    if with_parent {
        // Standard input is the parent's sign of life, not the command's.
        command.stdin(Stdio::null());
    }
    // At a terminal the command shares it, and Ctrl-C reaches it there. Elsewhere it gets a group of its own, so that it
    // can be ended with all that it started.
    let own_group = with_parent || !std::io::stdin().is_terminal();
    if own_group {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(failed)?;
    tokio::select! {
        status = child.wait() => Ok(code(status.map_err(failed)?)),
        () = signals.recv() => {
            end(child, own_group).await;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// `tepui` means this program, whatever the search path says.
fn resolve(program: &OsString) -> std::io::Result<OsString> {
    if program == "tepui" { std::env::current_exe().map(Into::into) } else { Ok(program.clone()) }
}

async fn end(mut child: Child, own_group: bool) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let send = |signal| match pid {
        Some(pid) if own_group => kill_process_group(pid, signal),
        Some(pid) => kill_process(pid, signal),
        None => Ok(()),
    };
    // It may have ended by itself, here and below.
    let _asked = send(Signal::TERM);
    if tokio::time::timeout(STOP_MOST, child.wait()).await.is_err() {
        let _killed = send(Signal::KILL);
        let _reaped = child.wait().await;
    }
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
