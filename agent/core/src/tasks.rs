//! The life of a task: launched, prepared, running, its outputs stored, ended.
//!
//! The only writer of launches and their ends. A task that has not ended has an entry in `live`; what is there ends with
//! the process, and a task with it: it is never started again.

use std::collections::VecDeque;
use tepui_proto::cell::{CellCommand, CommandEnd, RunCommand};
use tepui_proto::control::{Launch, ReportBody};
use tepui_proto::tasks::{Blob, Workload};
use tepui_proto::{
    DurationMs, LaunchNumber, Reason, TaskKey, TaskSpec, TaskState, TaskStatus, Tenant, Timestamp,
    Usage, limits,
};

use crate::agent::Agent;
use crate::book::Record;
use crate::input::{Effect, Effects, Prepared, Refused};

/// Text for people in a status is cut here, so that a hello with thousands of tasks fits into a frame.
const STATUS_TEXT_BYTES: usize = 512;

/// How far a task has come.
#[derive(Clone, Debug)]
enum Phase {
    /// The shell makes its sandbox ready.
    Preparing,
    /// Its cell was told to run it.
    Commanded,
    /// Its code runs.
    Running,
    /// Its code has ended so, and the shell keeps its outputs.
    Storing(Box<CommandEnd>),
}

/// What is known of a task that has not ended, beside what is written down.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) tenant: Tenant,
    key: TaskKey,
    phase: Phase,
    /// The last message of the task that was taken; its numbers rise.
    last_message: u64,
    /// Its messages that are written down and not acknowledged.
    unheard: usize,
    /// Messages beyond the limit: the guest waits until they are written down.
    held: VecDeque<(u64, Vec<u8>)>,
}

impl Agent {
    /// Ends what an earlier process left behind.
    pub(crate) fn end_recovered(&mut self, now: Timestamp, effects: &mut Effects) {
        let lost: Vec<(LaunchNumber, TaskKey)> = self
            .tasks()
            .filter(|(_launch, task)| !task.status.state.is_final())
            .map(|(launch, task)| (launch, task.key.clone()))
            .collect();
        for (launch, key) in lost {
            let status = self.status(now, &key, TaskState::Lost, Reason::AgentRestarted);
            self.end(now, launch, key, with_message(status, "its agent restarted"), effects);
        }
    }

    pub(crate) fn on_launch(&mut self, now: Timestamp, launch: Launch, effects: &mut Effects) {
        if launch.number <= self.book.mark {
            return;
        }
        if self.book.fenced.contains(&launch.number) {
            return;
        }
        self.record(Record::Launched(Box::new(launch.clone())), effects);
        let live = Live {
            tenant: launch.tenant.clone(),
            key: launch.key.clone(),
            phase: Phase::Preparing,
            last_message: 0,
            unheard: 0,
            held: VecDeque::new(),
        };
        self.live.insert(launch.number, live);
        // Whether it may be stopped for others is the master's business.
        let unsupported =
            launch.spec.unsupported.iter().filter(|name| *name != TaskSpec::REVOCABLE);
        let unsupported: Vec<&str> = unsupported.map(String::as_str).collect();
        if launch.spec.workload != Workload::Command || !unsupported.is_empty() {
            let status = self.status(now, &launch.key, TaskState::Error, Reason::Unsupported);
            let message = format!("not in this version: {}", unsupported.join(", "));
            self.end(now, launch.number, launch.key, with_message(status, &message), effects);
            return;
        }
        effects.order(Effect::Prepare(Box::new(launch)));
    }

    pub(crate) fn on_prepared(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        result: Result<Prepared, Refused>,
        effects: &mut Effects,
    ) {
        let is_waiting =
            self.live.get(&launch).is_some_and(|live| matches!(live.phase, Phase::Preparing));
        if !is_waiting {
            // It was killed meanwhile.
            if result.is_ok_and(|prepared| prepared.sandbox.is_some()) {
                effects.order(Effect::RemoveSandbox(launch));
            }
            return;
        }
        match result {
            Ok(prepared) => self.start(launch, prepared, effects),
            Err(refused) => {
                let Some(key) = self.live.get(&launch).map(|live| live.key.clone()) else { return };
                let status =
                    self.status(now, &key, state_of_refusal(refused.reason), refused.reason);
                self.end(now, launch, key, with_message(status, &refused.message), effects);
            }
        }
    }

    fn start(&mut self, launch: LaunchNumber, prepared: Prepared, effects: &mut Effects) {
        let Some(taken) = self.book.tasks.get(&launch).and_then(|task| task.launch.as_deref())
        else {
            return;
        };
        let command = run_command(taken, self.name(), prepared);
        let Some(live) = self.live.get_mut(&launch) else { return };
        live.phase = Phase::Commanded;
        let tenant = live.tenant.clone();
        self.tell_cell(&tenant, CellCommand::Run(Box::new(command)), effects);
    }

    pub(crate) fn on_started(
        &mut self,
        now: Timestamp,
        tenant: &Tenant,
        launch: LaunchNumber,
        effects: &mut Effects,
    ) {
        let Some(live) = self.live.get_mut(&launch).filter(|live| live.tenant == *tenant) else {
            return;
        };
        if matches!(live.phase, Phase::Commanded) {
            live.phase = Phase::Running;
            let key = live.key.clone();
            let status = self.status(now, &key, TaskState::Running, Reason::None);
            self.report(now, launch, key, ReportBody::Status(status), effects);
        }
    }

    pub(crate) fn on_ended(
        &mut self,
        now: Timestamp,
        tenant: &Tenant,
        launch: LaunchNumber,
        end: CommandEnd,
        effects: &mut Effects,
    ) {
        let Some(live) = self.live.get_mut(&launch).filter(|live| live.tenant == *tenant) else {
            return;
        };
        if !matches!(live.phase, Phase::Commanded | Phase::Running) {
            return;
        }
        live.held.clear();
        if end.log_dropped != (0, 0) {
            self.record(Record::LogsCut { launch, dropped: end.log_dropped }, effects);
        }
        let outputs = self.outputs_of(launch);
        if end.state == TaskState::Finished && !outputs.is_empty() {
            if let Some(live) = self.live.get_mut(&launch) {
                live.phase = Phase::Storing(Box::new(end));
                let framework = live.key.framework;
                effects.order(Effect::StoreOutputs { launch, framework, outputs });
            }
            return;
        }
        self.end_as(now, launch, &end, Vec::new(), effects);
    }

    fn outputs_of(&self, launch: LaunchNumber) -> Vec<tepui_proto::tasks::Output> {
        let taken = self.book.tasks.get(&launch).and_then(|task| task.launch.as_ref());
        taken.map(|launch| launch.spec.outputs.clone()).unwrap_or_default()
    }

    pub(crate) fn on_outputs_stored(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        result: Result<Vec<Blob>, Refused>,
        effects: &mut Effects,
    ) {
        let Some(Phase::Storing(end)) = self.live.get(&launch).map(|live| live.phase.clone())
        else {
            return;
        };
        match result {
            Ok(blobs) => self.end_as(now, launch, &end, blobs, effects),
            Err(Refused { reason, message }) => {
                let end = CommandEnd { state: TaskState::Failed, reason, message, ..*end };
                self.end_as(now, launch, &end, Vec::new(), effects);
            }
        }
    }

    fn end_as(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        end: &CommandEnd,
        outputs: Vec<Blob>,
        effects: &mut Effects,
    ) {
        let Some(key) = self.live.get(&launch).map(|live| live.key.clone()) else { return };
        // A cell that says that a task ended without ending is wrong; the task has ended all the same.
        let state = if end.state.is_final() { end.state } else { TaskState::Lost };
        let status = TaskStatus {
            exit_code: end.exit_code,
            outputs,
            usage: end.usage,
            ..self.status(now, &key, state, end.reason)
        };
        self.end(now, launch, key, with_message(status, &end.message), effects);
    }

    pub(crate) fn on_kill(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        key: &TaskKey,
        grace: DurationMs,
        effects: &mut Effects,
    ) {
        let Some(live) = self.live.get(&launch) else {
            self.on_kill_of_unknown(now, launch, key, effects);
            return;
        };
        match live.phase {
            Phase::Preparing => {
                let key = live.key.clone();
                let status = self.status(now, &key, TaskState::Killed, Reason::KillRequested);
                self.end(now, launch, key, status, effects);
            }
            Phase::Commanded | Phase::Running => {
                let tenant = live.tenant.clone();
                self.tell_cell(&tenant, CellCommand::Kill { launch, grace_ms: grace.0 }, effects);
            }
            // Its code has ended by itself; what it made is not waited for.
            Phase::Storing(ref end) => {
                let key = live.key.clone();
                let status = TaskStatus {
                    exit_code: end.exit_code,
                    usage: end.usage,
                    ..self.status(now, &key, TaskState::Killed, Reason::KillRequested)
                };
                let message = "its program had finished, and its outputs were not stored yet";
                self.end(now, launch, key, with_message(status, message), effects);
            }
        }
    }

    fn on_kill_of_unknown(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        key: &TaskKey,
        effects: &mut Effects,
    ) {
        let has_ended = self.book.tasks.contains_key(&launch)
            || self.book.kept.iter().any(|logs| logs.launch == launch);
        if has_ended {
            return;
        }
        // The launch may still be on its way; once its end is told it must not begin.
        if launch > self.book.mark {
            self.record(Record::Fenced(launch), effects);
        }
        let status = self.status(now, key, TaskState::Lost, Reason::AgentRestarted);
        let status = with_message(status, "its agent has no record of it");
        self.report(now, launch, key.clone(), ReportBody::Status(status), effects);
    }

    pub(crate) fn on_cell_died(
        &mut self,
        now: Timestamp,
        tenant: &Tenant,
        message: &str,
        effects: &mut Effects,
    ) {
        self.cells.remove(tenant);
        let was_in_cell = |live: &Live| {
            live.tenant == *tenant && matches!(live.phase, Phase::Commanded | Phase::Running)
        };
        let dead: Vec<(LaunchNumber, TaskKey)> = self
            .live
            .iter()
            .filter(|(_launch, live)| was_in_cell(live))
            .map(|(launch, live)| (*launch, live.key.clone()))
            .collect();
        for (launch, key) in dead {
            let status = self.status(now, &key, TaskState::Failed, Reason::CellDied);
            self.end(now, launch, key, with_message(status, message), effects);
        }
        self.fail_schedulers_of(tenant, message, effects);
    }

    pub(crate) fn on_message_for_task(
        &mut self,
        launch: LaunchNumber,
        data: Vec<u8>,
        effects: &mut Effects,
    ) {
        let Some(live) = self.live.get(&launch) else { return };
        if matches!(live.phase, Phase::Commanded | Phase::Running)
            && data.len() <= limits::MESSAGE_BYTES
        {
            let tenant = live.tenant.clone();
            self.tell_cell(&tenant, CellCommand::Message { launch, data }, effects);
        }
    }

    pub(crate) fn on_message_from_task(
        &mut self,
        now: Timestamp,
        tenant: &Tenant,
        launch: LaunchNumber,
        message: (u64, Vec<u8>),
        effects: &mut Effects,
    ) {
        let Some(live) = self.live.get_mut(&launch).filter(|live| live.tenant == *tenant) else {
            return;
        };
        let is_new = matches!(live.phase, Phase::Commanded | Phase::Running)
            && message.0 > live.last_message;
        if !is_new
            || message.1.len() > limits::MESSAGE_BYTES
            || live.held.len() >= limits::MESSAGES_WAITING
        {
            return;
        }
        live.last_message = message.0;
        live.held.push_back(message);
        self.take_message(now, launch, effects);
    }

    /// One of a task's messages was acknowledged, so another one may be written down.
    pub(crate) fn on_message_heard(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        effects: &mut Effects,
    ) {
        if let Some(live) = self.live.get_mut(&launch) {
            live.unheard = live.unheard.saturating_sub(1);
            self.take_message(now, launch, effects);
        }
    }

    fn take_message(&mut self, now: Timestamp, launch: LaunchNumber, effects: &mut Effects) {
        let Some(live) =
            self.live.get_mut(&launch).filter(|live| live.unheard < limits::MESSAGES_WAITING)
        else {
            return;
        };
        let framework = live.key.framework;
        let waiting = self.unheard.get(&framework).copied().unwrap_or(0);
        if waiting >= limits::AGENT_MESSAGE_BYTES && !live.held.is_empty() {
            self.blocked.entry(framework).or_default().insert(launch);
            return;
        }
        let Some((number, data)) = live.held.pop_front() else { return };
        live.unheard += 1;
        *self.unheard.entry(framework).or_default() += data.len();
        let (tenant, key) = (live.tenant.clone(), live.key.clone());
        self.report(now, launch, key, ReportBody::Message(data), effects);
        self.tell_cell(&tenant, CellCommand::MessageStored { launch, number }, effects);
    }

    /// Fewer of a framework's messages wait: its tasks may go on, until as many wait again.
    pub(crate) fn unblock(
        &mut self,
        now: Timestamp,
        framework: tepui_proto::FrameworkId,
        effects: &mut Effects,
    ) {
        let blocked = self.blocked.remove(&framework).unwrap_or_default();
        for launch in blocked {
            // Those for which there is no room still are put back.
            self.take_message(now, launch, effects);
        }
    }

    /// Ends a task: its report, its logs, its sandbox. Nothing leads back.
    fn end(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        key: TaskKey,
        status: TaskStatus,
        effects: &mut Effects,
    ) {
        let Some(task) = self.book.tasks.get(&launch).filter(|task| !task.status.state.is_final())
        else {
            return;
        };
        let dropped = task.dropped;
        let has_sandbox = task.launch.as_ref().is_some_and(|launch| needs_sandbox(launch));
        self.live.remove(&launch);
        self.report(now, launch, key, ReportBody::Status(status), effects);
        effects.order(Effect::EndLogs { launch, dropped });
        if has_sandbox {
            effects.order(Effect::RemoveSandbox(launch));
        }
    }

    fn status(
        &self,
        now: Timestamp,
        key: &TaskKey,
        state: TaskState,
        reason: Reason,
    ) -> TaskStatus {
        TaskStatus {
            task: key.task.clone(),
            agent: Some(self.name().to_owned()),
            state,
            reason,
            message: String::new(),
            exit_code: None,
            outputs: Vec::new(),
            usage: Usage::default(),
            at: now,
        }
    }
}

/// Whether a task sees a folder at all: it has disk, inputs or outputs.
pub fn needs_sandbox(launch: &Launch) -> bool {
    launch.spec.resources.disk_bytes > 0
        || !launch.spec.inputs.is_empty()
        || !launch.spec.outputs.is_empty()
}

fn with_message(mut status: TaskStatus, message: &str) -> TaskStatus {
    let mut end = message.len().min(STATUS_TEXT_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default().clone_into(&mut status.message);
    status
}

/// Which end a task comes to that never ran.
fn state_of_refusal(reason: Reason) -> TaskState {
    match reason {
        Reason::ModuleInvalid
        | Reason::ModuleImports
        | Reason::ModuleUncompilable
        | Reason::InvalidTask
        | Reason::Unsupported => TaskState::Error,
        Reason::DiskExceeded => TaskState::Failed,
        _ => TaskState::Dropped,
    }
}

fn run_command(launch: &Launch, agent: &str, prepared: Prepared) -> RunCommand {
    let spec = &launch.spec;
    let mut args = Vec::with_capacity(spec.args.len() + 1);
    args.push(if spec.name.is_empty() { spec.id.0.clone() } else { spec.name.clone() });
    args.extend(spec.args.iter().cloned());
    RunCommand {
        launch: launch.number,
        task: format!("{}/{}", launch.key.framework, launch.key.task),
        framework: launch.key.framework,
        agent: agent.to_owned(),
        compiled: prepared.compiled,
        kind: launch.kind,
        args,
        env: spec.env.clone(),
        stdin: spec.stdin.clone().unwrap_or_default(),
        sandbox: prepared.sandbox,
        stdout: prepared.stdout,
        stderr: prepared.stderr,
        log_bytes: spec.log_bytes(),
        cpu_milli: spec.resources.cpu_milli,
        memory_bytes: spec.resources.memory_bytes,
        disk_bytes: spec.resources.disk_bytes,
        fuel: spec.fuel(),
        wall_ms: spec.wall_time().0,
    }
}
