//! Tenants' own schedulers, in the sandbox that a cell runs them in.
//!
//! Owns the sandbox's engine and the compiled components. Never judges what a component does: the limits of a turn are
//! those of a cell. Its one surprise: the wall time of a turn is not bounded by a cell's second but by minutes, since
//! how fast this machine is must not decide what comes out; fuel bounds a turn as it does everywhere.

use crate::simulation::{SimulateError, Submission};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tepui_cell::{SchedulerHost, SchedulerInstance, SchedulerModule};
use tepui_proto::control::ModuleKind;
use tepui_proto::scheduler::{FromScheduler, Open, TurnMark, TurnUsage};
use tepui_proto::{Event, Timestamp};

/// Far above what a turn's fuel takes on any machine.
const TURN_WALL_MS: u64 = 600_000;

/// What components are run with.
#[derive(Debug)]
pub(crate) struct Sandbox {
    runtime: tokio::runtime::Runtime,
    modules: BTreeMap<PathBuf, SchedulerModule>,
    /// Modules are made by it, and are of no use without.
    _host: SchedulerHost,
}

impl Sandbox {
    /// Compiles the schedulers of all submissions.
    ///
    /// # Errors
    /// When one does not compile or link, or the sandbox cannot be set up.
    pub(crate) fn new(submissions: &BTreeMap<PathBuf, Submission>) -> Result<Self, SimulateError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| SimulateError::Sandbox(error.to_string()))?;
        let host =
            SchedulerHost::new().map_err(|error| SimulateError::Sandbox(error.to_string()))?;
        let mut modules = BTreeMap::new();
        for (folder, submission) in submissions {
            let refused = |why: String| SimulateError::Component { folder: folder.clone(), why };
            let compiled = tepui_cell::compile(ModuleKind::Scheduler, &submission.scheduler)
                .map_err(|error| refused(error.to_string()))?;
            // Compiled code is mapped from a file, which may go once it is loaded.
            let file = tempfile::NamedTempFile::new().and_then(|file| {
                std::fs::write(file.path(), compiled)?;
                Ok(file)
            });
            let file = file.map_err(|error| SimulateError::Sandbox(error.to_string()))?;
            let module = host.load(file.path()).map_err(|error| refused(error.to_string()))?;
            modules.insert(folder.clone(), module);
        }
        Ok(Self { runtime, modules, _host: host })
    }

    /// An instance that has not begun.
    pub(crate) fn begin(
        &self,
        folder: &Path,
        open: Open,
        pairs: BTreeMap<String, Vec<u8>>,
    ) -> Option<SchedulerInstance> {
        let module = self.modules.get(folder)?;
        Some(SchedulerInstance::new(module, Open { turn_wall_ms: TURN_WALL_MS, ..open }, pairs))
    }

    /// One turn. What was measured rather than counted is left out, so that it is the same in every run.
    pub(crate) fn turn(
        &self,
        instance: &mut SchedulerInstance,
        mark: TurnMark,
        now: Timestamp,
        given: (u64, Vec<Event>),
    ) -> FromScheduler {
        let (seed, events) = given;
        let said = self.runtime.block_on(instance.turn(mark, now, seed, events));
        match said {
            FromScheduler::Answer { mark, calls, usage, log, dropped } => {
                let usage = TurnUsage { cpu_us: 0, ..usage };
                FromScheduler::Answer { mark, calls, usage, log, dropped }
            }
            failed @ FromScheduler::Failed { .. } => failed,
        }
    }
}
