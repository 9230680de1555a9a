//! Watches the tasks of one run to their end: logs as they come, exit codes, outputs.
//!
//! Never starts anything. Its one surprise: the end of a task and the end of its logs come by different ways, in either
//! order, and both are waited for.

use super::FRAMEWORK;
use super::later::{Later, later};
use super::waiting::{self, Shown, run_of};
use crate::blob;
use crate::client::Client;
use crate::error::{CliError, Exit};
use crate::logs::{self, LogEnd, Prefixed, Told, Wanted};
use crate::out;
use crate::task::{tell_dropped, to_streams};
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tepui_proto::TaskState;
use tepui_proto::api::TaskView;
use tepui_proto::control::LogStream;
use tepui_proto::limits;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Instances watched at once: each takes two streams of one connection, and a server allows some 200.
const WATCHED: usize = 64;
/// How long one question for the end of a task may wait.
const WAIT_MS: &str = "20000";
/// How long logs may trail behind the end of their task.
const LOG_GRACE: Duration = Duration::from_secs(5);
/// How often logs are asked for in vain once their task has ended.
const TRIES_AFTER_END: u32 = 4;
/// First and longest pause before asking for what is not there yet.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_MOST: Duration = Duration::from_millis(200);
/// Questions in a row that may go unanswered: a master that is killed is back within half a minute.
const UNREACHED_MOST: u32 = 150;
/// What shells give for a program that Ctrl-C ended.
pub(super) const INTERRUPTED: u8 = 130;
/// What becomes of a run that nobody follows any more.
const LEFT_ALONE: &str =
    "the run goes on: what has begun runs to its end, and what waits begins once there is room";
const NOT_OVER: &str = "the run was asked to stop, and has not ended yet";

/// Ctrl-C, and SIGTERM, by which others ask for the same.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, CliError> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| CliError::failed("cannot listen to signals").because(&error))
        };
        let (interrupt, terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next one. May be dropped and called again.
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Follows every task; the exit code is the first that is not 0, in the order of the instances.
///
/// # Errors
/// The first task that did not end by itself, and outputs that cannot be written.
pub(crate) async fn follow_all(
    client: &Client,
    tasks: &[String],
    files: &[PathBuf],
) -> Result<ExitCode, CliError> {
    let many = tasks.len() > 1;
    let mut signals = Signals::listen()?;
    let watched = stream::iter(tasks.iter().enumerate())
        .map(|(at, task)| async move {
            let prefix = if many { format!("[{at}] ") } else { String::new() };
            let view = watch_instance(client, (at, task), &prefix).await?;
            judge(&view).map(|code| (at, view, code))
        })
        .buffered(WATCHED)
        .collect::<Vec<_>>();
    tokio::pin!(watched);
    let mut telling = Box::pin(waiting::tell(client, tasks));
    let mut is_told = false;
    let ends = loop {
        tokio::select! {
            ends = &mut watched => break ends,
            () = &mut telling, if !is_told => is_told = true,
            () = signals.recv() => {
                Box::pin(interrupted(client, tasks, watched, &mut signals)).await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    };
    let mut exit = 0;
    for end in ends {
        let (at, view, code) = end?;
        if code == 0 {
            keep_outputs(client, &view, files, many.then_some(at)).await?;
        } else if many {
            out::note(format_args!("[{at}] exited with code {code}"));
        }
        if exit == 0 {
            exit = code;
        }
    }
    Ok(ExitCode::from(exit))
}

/// Stops the run, unless it is to be left alone, and says what becomes of it.
async fn interrupted<T>(
    client: &Client,
    tasks: &[String],
    watched: impl Future<Output = T>,
    signals: &mut Signals,
) {
    out::note("stopping the run; Ctrl-C again does not wait for its end");
    let is_stopped = Cell::new(false);
    let what = tokio::select! {
        what = stop_and_watch(client, tasks, watched, &is_stopped) => what,
        () = signals.recv() => Some(if is_stopped.get() { NOT_OVER } else { LEFT_ALONE }),
    };
    if let Some(what) = what {
        out::note(format_args!("note: {what}; see `tepui task ls --framework {FRAMEWORK}`"));
    }
}

/// Asks for the end and goes on telling logs until it has come, or the grace of a task is long over. Says what else
/// there is to know.
async fn stop_and_watch<T>(
    client: &Client,
    tasks: &[String],
    watched: impl Future<Output = T>,
    is_stopped: &Cell<bool>,
) -> Option<&'static str> {
    let run = tasks.first().and_then(|task| run_of(task))?;
    if !stop(client, run).await {
        return Some(LEFT_ALONE);
    }
    is_stopped.set(true);
    let grace = Duration::from_millis(limits::KILL_GRACE_MS) + LOG_GRACE;
    tokio::pin!(watched);
    tokio::select! {
        // How they ended is not told any more.
        _ends = &mut watched => return None,
        () = over(client, run) => {}
        () = tokio::time::sleep(grace) => return Some(NOT_OVER),
    }
    // The last lines of those that ran; what never began has none, and no end that could be waited for.
    if has_any_run(client, tasks).await {
        tokio::time::timeout(LOG_GRACE, watched).await.ok();
    }
    None
}

/// Whether a task of those that are watched had a sandbox.
async fn has_any_run(client: &Client, tasks: &[String]) -> bool {
    let run = tasks.first().and_then(|task| run_of(task)).unwrap_or_default();
    let shown = Shown::get(client, run).await.ok();
    for (at, first) in tasks.iter().enumerate().take(WATCHED) {
        let task = shown.as_ref().and_then(|shown| shown.task(at));
        let task = task.as_ref().unwrap_or(first);
        let view = client.get::<TaskView>(&["tasks", FRAMEWORK, task]).await;
        if view.is_ok_and(|view| has_run(&view)) {
            return true;
        }
    }
    false
}

/// Waits until a run is over as its framework has it: what never began has no end that could be waited for.
async fn over(client: &Client, run: &str) {
    loop {
        if Shown::get(client, run).await.is_ok_and(|shown| shown.is_over()) {
            return;
        }
        tokio::time::sleep(PAUSE_MOST).await;
    }
}

/// Logs and end of one instance: if its task never began, of the one that was launched in its place.
async fn watch_instance(
    client: &Client,
    (at, first): (usize, &str),
    prefix: &str,
) -> Result<TaskView, CliError> {
    let mut task = first.to_owned();
    loop {
        let view = watch(client, &task, prefix.to_owned()).await?;
        if view.state != TaskState::Dropped {
            return Ok(view);
        }
        let Some(next) = next_task(client, at, &task).await else { return Ok(view) };
        task = next;
    }
}

/// The task that was launched, or will be, in the place of one that was dropped; none if that was its end.
async fn next_task(client: &Client, at: usize, task: &str) -> Option<String> {
    let run = run_of(task)?;
    for _ in 0..UNREACHED_MOST {
        match Shown::get(client, run).await {
            // Its framework has not heard of the end yet.
            Ok(shown) if shown.is_under_way(task) => {}
            Ok(shown) => return shown.task(at).filter(|next| next != task),
            Err(error) if error.has_code("run-unknown") => return None,
            // Its scheduler may be on its way to another agent.
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE_MOST).await;
    }
    None
}

/// Logs and end of one task.
async fn watch(client: &Client, task: &str, prefix: String) -> Result<TaskView, CliError> {
    let (mut lines_out, mut lines_err) = (Prefixed::new(prefix.clone()), Prefixed::new(prefix));
    let view = {
        let mut sink = |stream, bytes: &[u8]| match stream {
            LogStream::Stdout => to_streams(stream, &lines_out.push(bytes)),
            LogStream::Stderr => to_streams(stream, &lines_err.push(bytes)),
        };
        let ended = Cell::new(false);
        let logs = all_logs(client, task, &ended, &mut sink);
        let end = wait_final(client, task);
        tokio::pin!(logs, end);
        let (view, dropped) = tokio::select! {
            dropped = &mut logs => (end.await?, dropped?),
            view = &mut end => {
                let view = view?;
                ended.set(true);
                let dropped = if has_run(&view) { tokio::time::timeout(LOG_GRACE, logs).await.unwrap_or(Ok(0))? } else { 0 };
                (view, dropped)
            }
        };
        tell_dropped(&view.id, dropped);
        view
    };
    to_streams(LogStream::Stdout, &lines_out.finish())?;
    to_streams(LogStream::Stderr, &lines_err.finish())?;
    Ok(view)
}

/// Tells both logs to their end; gives the bytes that were not kept.
async fn all_logs(
    client: &Client,
    task: &str,
    ended: &Cell<bool>,
    sink: &mut impl FnMut(LogStream, &[u8]) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    let mut told = Told::default();
    let mut pause = PAUSE_FIRST;
    let mut tries_left = TRIES_AFTER_END;
    loop {
        let before = told;
        match logs::read(
            client,
            Wanted { framework: FRAMEWORK, task, follow: true },
            &mut told,
            sink,
        )
        .await
        {
            Ok(LogEnd::Complete { stdout_dropped, stderr_dropped }) => {
                return Ok(stdout_dropped + stderr_dropped);
            }
            Ok(LogEnd::Cut) => {}
            Err(error) if error.exit == Exit::Unreachable => {}
            Err(error) => return Err(error),
        }
        if told != before {
            pause = PAUSE_FIRST;
        } else if ended.get() {
            // A task that never wrote anything may have no logs at all.
            tries_left -= 1;
            if tries_left == 0 {
                return Ok(0);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Waits until a task has ended; one that is not there yet waits for room.
async fn wait_final(client: &Client, task: &str) -> Result<TaskView, CliError> {
    let mut pause = PAUSE_FIRST;
    let mut unreached = 0;
    let mut is_over = false;
    loop {
        let request = client
            .request(Method::GET, &["tasks", FRAMEWORK, task])
            .query(&[("wait", "final"), ("timeout_ms", WAIT_MS)]);
        match client.json::<TaskView>(request).await {
            Ok(view) if view.state.is_final() => return Ok(view),
            Ok(_) => unreached = 0,
            Err(error) if error.has_code("task-unknown") => {
                unreached = 0;
                // It may have begun and ended since it was asked for: only who is over and still unknown never began, or
                // is forgotten by all but its framework.
                match later(client, task).await {
                    Later::Comes => {}
                    _ if !std::mem::replace(&mut is_over, true) => {}
                    Later::Ended(view) => return Ok(*view),
                    Later::Never => {
                        return Err(CliError::failed("it was stopped before it began")
                            .cause(format_args!("task `{FRAMEWORK}/{task}`")));
                    }
                }
            }
            Err(error) if error.exit == Exit::Unreachable && unreached < UNREACHED_MOST => {
                unreached += 1;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Whether there can be logs: its sandbox was made.
fn has_run(view: &TaskView) -> bool {
    matches!(view.state, TaskState::Finished | TaskState::Failed | TaskState::Killed)
        && view.agent.is_some()
}

/// The exit code of a program that ended by itself.
fn judge(view: &TaskView) -> Result<u8, CliError> {
    match (view.state, view.exit_code) {
        (TaskState::Finished, code) => Ok(exit_byte(code.unwrap_or(0))),
        (TaskState::Failed, Some(code)) if code != 0 => Ok(exit_byte(code)),
        _ => Err(ended_badly(view)),
    }
}

/// Codes that do not fit a process's are told as 1.
fn exit_byte(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(1)
}

fn ended_badly(view: &TaskView) -> CliError {
    let what = if view.message.is_empty() { &view.reason } else { &view.message };
    let place = view.agent.as_ref().map(|agent| format!(" on agent `{agent}`")).unwrap_or_default();
    let error = CliError::failed(what.clone()).cause(format_args!(
        "task `{}` {}{place}: {}",
        view.id,
        verb(view.state),
        view.reason
    ));
    match hint(&view.reason) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn verb(state: TaskState) -> &'static str {
    match state {
        TaskState::Killed => "was killed",
        TaskState::Lost | TaskState::Gone => "was lost",
        TaskState::Error | TaskState::Dropped => "did not start",
        _ => "failed",
    }
}

fn hint(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "out-of-memory" => {
            "raise the limit with `--memory`, or see who has room: `tepui agent ls --free`"
        }
        "out-of-fuel" => "raise the limit with `--fuel`",
        "wall-time-exceeded" => "raise the limit with `--time`",
        "disk-exceeded" => {
            "raise the limit with `--disk`, or make fewer files: no disk has room for more than 65,536"
        }
        "output-unavailable" => "see that the program writes every file that `--output` names",
        "input-unavailable" => "see `tepui blob ls`",
        "module-imports" => "build it with `--target wasm32-wasip1` or `--target wasm32-wasip2`",
        "cell-died" | "agent-restarted" | "agent-replaced" | "agent-unreachable" => {
            "run it again; see the agents: `tepui agent ls`"
        }
        _ => return None,
    })
}

/// Asks the framework to end every task, and to forget those that were not launched yet. Says whether it will.
async fn stop(client: &Client, run: &str) -> bool {
    let request = client.request(Method::DELETE, &["frameworks", FRAMEWORK, "http", "runs", run]);
    let stopped = client.send(request).await;
    if let Err(error) = &stopped {
        out::note(format_args!("warning: the run cannot be stopped: {}", error.message));
    }
    stopped.is_ok()
}

async fn keep_outputs(
    client: &Client,
    view: &TaskView,
    files: &[PathBuf],
    instance: Option<usize>,
) -> Result<(), CliError> {
    if view.outputs.len() < files.len() {
        return Err(CliError::failed(format!(
            "task `{}` left {} of {} outputs",
            view.id,
            view.outputs.len(),
            files.len()
        )));
    }
    // A task's outputs come in the order in which they were asked for.
    for (output, file) in view.outputs.iter().zip(files) {
        blob::fetch(client, output.digest, Some(&numbered(file, instance))).await?;
    }
    Ok(())
}

pub(super) fn numbered(file: &Path, instance: Option<usize>) -> PathBuf {
    match instance {
        None => file.to_owned(),
        Some(at) => PathBuf::from(format!("{}.{at}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_proto::{Resources, Usage};

    fn ended(state: TaskState, reason: &str, exit_code: Option<i32>) -> TaskView {
        TaskView {
            id: "run/r1-0".to_owned(),
            framework: "run".to_owned(),
            task: "r1-0".to_owned(),
            name: "x".to_owned(),
            role: "run".to_owned(),
            agent: Some("agent-1".to_owned()),
            state,
            reason: reason.to_owned(),
            message: String::new(),
            exit_code,
            resources: Resources::default(),
            outputs: Vec::new(),
            usage: Usage::default(),
            at: 0,
        }
    }

    #[test]
    fn a_program_gives_its_own_exit_code() {
        assert_eq!(judge(&ended(TaskState::Finished, "none", Some(0))).unwrap(), 0);
        assert_eq!(judge(&ended(TaskState::Failed, "exited-nonzero", Some(7))).unwrap(), 7);
        assert_eq!(judge(&ended(TaskState::Failed, "exited-nonzero", Some(-1))).unwrap(), 1);
    }

    #[test]
    fn a_program_that_was_ended_is_told_with_its_reason_and_a_hint() {
        let error = judge(&ended(TaskState::Failed, "out-of-fuel", None)).unwrap_err();
        let words = error.render(false);
        assert!(
            words.contains("task `run/r1-0` failed on agent `agent-1`: out-of-fuel"),
            "{words}"
        );
        assert!(words.contains("--fuel"), "{words}");
    }
}
