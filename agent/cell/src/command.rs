//! Running one command, from its frame to its end.
//!
//! Owns the order of steps: store, instance, call, measure. Never knows of sockets; [`crate::serve`] and the
//! benchmarks call [`run_command`] alike. Its one surprise: nothing here makes a file, a thread or a timer unless
//! the command gives a reason to, since an empty one takes a few microseconds in all.

use crate::disk::Full;
use crate::engine::{EngineError, engine_command};
use crate::link::{Outgoing, TaskLink};
use crate::load::{self, LoadError};
use crate::outcome::{self, Outcome};
use crate::watch::{Watch, Watched};
use crate::{p1, p2};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use tepui_proto::cell::{CommandEnd, RunCommand};
use tepui_proto::control::{LogStream, ModuleKind};
use tepui_proto::{Reason, TaskState, Usage, limits};
use wasmtime::{Engine, Linker, Store, component};

/// What commands are run with: one engine, and what each kind may import.
pub struct CommandHost {
    engine: Engine,
    p1: Linker<p1::State>,
    p2: component::Linker<p2::State>,
}

impl std::fmt::Debug for CommandHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandHost").finish_non_exhaustive()
    }
}

/// A compiled and linked command.
pub struct CommandModule(Kind);

enum Kind {
    P1(p1::Linked),
    P2(p2::Linked),
}

impl std::fmt::Debug for CommandModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandModule").finish_non_exhaustive()
    }
}

impl CommandHost {
    /// Sets up the engine with its pool.
    ///
    /// # Errors
    /// If the pool's address space cannot be had.
    pub fn new() -> Result<Self, EngineError> {
        Self::with_engine(engine_command()?)
    }

    pub(crate) fn with_engine(engine: Engine) -> Result<Self, EngineError> {
        let (p1, p2) = (p1::linker(&engine)?, p2::linker(&engine)?);
        Ok(Self { engine, p1, p2 })
    }

    /// The engine, for measurements beside it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Loads what this machine's own compiler child wrote.
    ///
    /// # Errors
    /// If it is not there, not of this version, or does not link.
    pub fn load(&self, kind: ModuleKind, compiled: &Path) -> Result<CommandModule, LoadError> {
        match kind {
            ModuleKind::CommandP1 => self.link_module(&load::module(&self.engine, compiled)?),
            ModuleKind::CommandP2 => self.link_component(&load::component(&self.engine, compiled)?),
            ModuleKind::Scheduler => {
                Err(LoadError::Link("a scheduler is not a command".to_owned()))
            }
        }
    }

    pub(crate) fn link_module(
        &self,
        module: &wasmtime::Module,
    ) -> Result<CommandModule, LoadError> {
        Ok(CommandModule(Kind::P1(p1::link(&self.p1, module)?)))
    }

    pub(crate) fn link_component(
        &self,
        component: &component::Component,
    ) -> Result<CommandModule, LoadError> {
        Ok(CommandModule(Kind::P2(p2::link(&self.p2, component)?)))
    }
}

/// Runs a command to its end. Emits [`tepui_proto::cell::CellEvent::Started`] and what it logs and sends to the link's
/// outbox, but not its end. A command that ends within its first slice and says nothing is not said to have started: its
/// end is told at once, and saves the agent a record and the scheduler an event. Needs a tokio runtime with time.
pub async fn run_command(
    module: &CommandModule,
    mut run: RunCommand,
    link: &Arc<TaskLink>,
) -> CommandEnd {
    let mut watch = Watch::new(link.begun(), run.wall_ms).for_task(run.cpu_milli, link);
    let (outcome, mut usage) = match &module.0 {
        Kind::P1(linked) => match p1::store(linked, &mut run, link) {
            Ok(mut store) => {
                let watched = prepare(&mut store, run.fuel);
                let watched = match watched {
                    Ok(()) => watch.over(pin!(p1::call(linked, &mut store))).await,
                    Err(error) => Watched::Done(Err(error)),
                };
                let limiter = &store.data().limiter;
                (conclude(watched, limiter, run.disk_bytes), measured(&run, &store, limiter.peak()))
            }
            Err(error) => not_begun(&error),
        },
        Kind::P2(linked) => match p2::store(linked, &mut run, link) {
            Ok(mut store) => {
                let watched = prepare(&mut store, run.fuel);
                let watched = match watched {
                    Ok(()) => watch.over(pin!(p2::call(linked, &mut store))).await,
                    Err(error) => Watched::Done(Err(error)),
                };
                let limiter = &store.data().limiter;
                (conclude(watched, limiter, run.disk_bytes), measured(&run, &store, limiter.peak()))
            }
            Err(error) => not_begun(&error),
        },
    };
    usage.cpu_us = micros(watch.cpu);
    finish(outcome, usage, link).await
}

/// The end of a command that never ran.
pub(crate) fn never_ran(state: TaskState, reason: Reason, message: String) -> CommandEnd {
    CommandEnd {
        state,
        reason,
        message,
        exit_code: None,
        usage: Usage::default(),
        log_dropped: (0, 0),
    }
}

fn prepare<T>(store: &mut Store<T>, fuel: u64) -> wasmtime::Result<()> {
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(limits::FUEL_SLICE))
}

fn measured<T>(run: &RunCommand, store: &Store<T>, memory_bytes_peak: u64) -> Usage {
    let fuel = run.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
    Usage { fuel, memory_bytes_peak, ..Usage::default() }
}

fn not_begun(error: &wasmtime::Error) -> (Outcome, Usage) {
    let message = outcome::cut(format!("its sandbox cannot be opened: {error:#}"));
    (Outcome::new(TaskState::Dropped, Reason::AgentFailed, message), Usage::default())
}

fn conclude(
    watched: Watched<wasmtime::Result<()>>,
    limiter: &crate::limiter::Limiter,
    disk: u64,
) -> Outcome {
    match watched {
        Watched::Done(Err(error)) if error.is::<Full>() => over_its_disk(disk),
        Watched::Done(result) => outcome::of_command(result, limiter),
        Watched::Killed => {
            Outcome::new(TaskState::Killed, Reason::KillRequested, "it was asked to stop")
        }
        Watched::TooLong | Watched::TooMuch => Outcome::new(
            TaskState::Failed,
            Reason::WallTimeExceeded,
            "it ran longer than its wall time",
        ),
        Watched::Panicked => Outcome::new(
            TaskState::Failed,
            Reason::AgentFailed,
            "the cell failed under it; this is a defect of Tepui",
        ),
    }
}

async fn finish(mut outcome: Outcome, mut usage: Usage, link: &Arc<TaskLink>) -> CommandEnd {
    usage.disk_bytes = link.disk.files().await;
    if usage.disk_bytes > link.disk.limit() && outcome.state == TaskState::Finished {
        outcome = over_its_disk(link.disk.limit());
    }
    let (stdout, stderr) = (link.log(LogStream::Stdout), link.log(LogStream::Stderr));
    for stream in [LogStream::Stdout, LogStream::Stderr] {
        if link.log(stream).is_untold() {
            // Nobody may be left to hear it; the command is then about to be dropped.
            drop(link.outbox.send(Outgoing::Grown(Arc::clone(link), stream)).await);
        }
    }
    usage.log_bytes = stdout.written() + stderr.written();
    let lost = stdout.lost() + stderr.lost();
    if lost > 0 {
        let gap = if outcome.message.is_empty() { "" } else { "; " };
        let words = format!("{gap}{lost} bytes of its logs are lost: its agent's disk is full");
        outcome.message.push_str(&words);
    }
    usage.wall_us = micros(link.begun().elapsed());
    CommandEnd {
        state: outcome.state,
        reason: outcome.reason,
        message: outcome.message,
        exit_code: outcome.exit_code,
        usage,
        log_dropped: (stdout.dropped(), stderr.dropped()),
    }
}

fn over_its_disk(limit: u64) -> Outcome {
    let limit = tepui_proto::resources::Bytes(limit);
    let most = limits::SANDBOX_ENTRIES;
    let message = format!(
        "its files and logs are more than its disk of {limit}, or its files and folders more than {most}"
    );
    Outcome::new(TaskState::Failed, Reason::DiskExceeded, message)
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
