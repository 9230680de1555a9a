//! Virtual agents: they keep to the contract of a real one in what they tell a leader, and run nothing.
//!
//! Owns which launches each has, and the reports that no leader has acknowledged. Never decides when something happens.
//! Its one surprise: an agent that fails with its tasks comes back in another life, as one whose disk was lost does.

use crate::scenario::Scenario;
use std::collections::{BTreeMap, VecDeque};
use tepui_master_core::ConnectionId;
use tepui_proto::control::{Hello, Launch, Report, ReportBody, TaskReport};
use tepui_proto::tasks::{Blob, Output};
use tepui_proto::{
    Bundle, LaunchNumber, Life, PoolKind, Reason, ReportSeq, Resources, TaskKey, TaskState,
    TaskStatus, Term, Timestamp, Usage,
};

/// A launch that an agent has written down.
#[derive(Clone, Debug)]
struct Launched {
    key: TaskKey,
    outputs: Vec<Output>,
    state: TaskState,
    status: Option<TaskStatus>,
    /// The report of its end.
    ended: Option<ReportSeq>,
}

/// A virtual agent.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Its kind's place in the scenario.
    pub(crate) kind: usize,
    name: String,
    pub(crate) life: Life,
    connection: Option<ConnectionId>,
    mark: LaunchNumber,
    launches: BTreeMap<LaunchNumber, Launched>,
    last_report: ReportSeq,
    waiting: VecDeque<Report>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    machines: Vec<Machine>,
    by_connection: BTreeMap<ConnectionId, usize>,
    last_connection: u64,
}

/// What a task's program does next, as far as an agent can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its code runs.
    Runs,
    /// It ended by itself, with exit code 0.
    Finishes,
    /// It is stopped.
    IsKilled,
}

impl Fleet {
    /// The agents of a scenario; none has joined.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut machines = Vec::new();
        for (kind, setting) in scenario.agents.iter().enumerate() {
            for name in setting.names() {
                machines.push(Machine {
                    kind,
                    name,
                    life: Life(1),
                    connection: None,
                    mark: LaunchNumber(0),
                    launches: BTreeMap::new(),
                    last_report: ReportSeq(0),
                    waiting: VecDeque::new(),
                });
            }
        }
        Self { machines, by_connection: BTreeMap::new(), last_connection: 0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.machines.len()
    }

    /// One of them.
    pub(crate) fn machine(&self, at: usize) -> Option<&Machine> {
        self.machines.get(at)
    }

    /// Which agent has that connection.
    pub(crate) fn at(&self, connection: ConnectionId) -> Option<usize> {
        self.by_connection.get(&connection).copied()
    }

    /// Connections that are open, in the order in which they were made.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.by_connection.keys().copied()
    }

    /// An agent says hello on a new connection.
    pub(crate) fn connect(
        &mut self,
        scenario: &Scenario,
        at: usize,
        term: Term,
    ) -> Option<(ConnectionId, String, Box<Hello>)> {
        let machine = self.machines.get_mut(at).filter(|machine| machine.connection.is_none())?;
        let kind = scenario.agents.get(machine.kind)?;
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        machine.connection = Some(connection);
        self.by_connection.insert(connection, at);
        let told = |(number, launched): (&LaunchNumber, &Launched)| {
            let state = launched.status.as_ref()?.state;
            Some(TaskReport { launch: *number, key: launched.key.clone(), state })
        };
        let hello = Hello {
            life: machine.life,
            term,
            hostname: machine.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            resources: kind.resources.plain().clone(),
            pools: pools(&kind.resources),
            attributes: kind.attributes.clone(),
            domain: kind.domain.clone(),
            max_tasks: tepui_proto::limits::CELL_INSTANCES,
            has_room: true,
            launch_mark: machine.mark,
            tasks: machine.launches.iter().filter_map(told).collect(),
            has_more_tasks: false,
            reports: machine.waiting.iter().cloned().collect(),
        };
        Some((connection, machine.name.clone(), Box::new(hello)))
    }

    /// A connection is no more.
    pub(crate) fn disconnect(&mut self, at: usize) -> Option<ConnectionId> {
        let connection = self.machines.get_mut(at)?.connection.take()?;
        self.by_connection.remove(&connection);
        Some(connection)
    }

    /// Everything on an agent is gone; what comes back is another life.
    pub(crate) fn lose_disk(&mut self, at: usize) {
        if let Some(machine) = self.machines.get_mut(at) {
            machine.life = machine.life.next();
            machine.mark = LaunchNumber(0);
            machine.launches.clear();
            machine.last_report = ReportSeq(0);
            machine.waiting.clear();
        }
    }

    /// An agent writes launches down; says which are new.
    pub(crate) fn launch(
        &mut self,
        at: usize,
        life: Life,
        launches: Vec<Launch>,
        now: Timestamp,
    ) -> Vec<(LaunchNumber, TaskKey)> {
        let Some(machine) = self.machines.get_mut(at).filter(|machine| machine.life == life) else {
            return Vec::new();
        };
        let (mark, mut new) = (machine.mark, Vec::new());
        for launch in launches.into_iter().filter(|launch| launch.number > mark) {
            machine.mark = machine.mark.max(launch.number);
            new.push((launch.number, launch.key.clone()));
            let status = status(&launch.key, &machine.name, TaskState::Starting, now);
            machine.launches.insert(
                launch.number,
                Launched {
                    key: launch.key,
                    outputs: launch.spec.outputs,
                    state: TaskState::Starting,
                    status: Some(status),
                    ended: None,
                },
            );
        }
        new
    }

    /// Whether a launch is on an agent and has not ended.
    pub(crate) fn is_live(&self, at: usize, launch: LaunchNumber) -> bool {
        let launched = self.machines.get(at).and_then(|machine| machine.launches.get(&launch));
        launched.is_some_and(|launched| !launched.state.is_final())
    }

    /// A task goes on. The report, where to send it, and what the task has put out; none if nothing changes.
    pub(crate) fn step(
        &mut self,
        at: usize,
        life: Life,
        launch: LaunchNumber,
        step: (Step, Timestamp),
    ) -> Option<(Option<ConnectionId>, Report)> {
        let (step, now) = step;
        let machine = self.machines.get_mut(at).filter(|machine| machine.life == life)?;
        let launched = machine.launches.get_mut(&launch)?;
        let (state, reason) = match step {
            Step::Runs => (TaskState::Running, Reason::None),
            Step::Finishes => (TaskState::Finished, Reason::None),
            Step::IsKilled => (TaskState::Killed, Reason::KillRequested),
        };
        if !launched.state.may_become(state) {
            return None;
        }
        let mut status = status(&launched.key, &machine.name, state, now);
        status.reason = reason;
        if step == Step::Finishes {
            status.exit_code = Some(0);
            status.outputs =
                launched.outputs.iter().map(|output| blob(&launched.key, output)).collect();
        }
        machine.last_report = machine.last_report.next();
        launched.state = state;
        launched.status = Some(status.clone());
        launched.ended = state.is_final().then_some(machine.last_report);
        let body = ReportBody::Status(status);
        let report = Report { seq: machine.last_report, launch, key: launched.key.clone(), body };
        machine.waiting.push_back(report.clone());
        Some((machine.connection, report))
    }

    /// An agent that does not know a launch says that it is lost.
    pub(crate) fn unknown(
        &mut self,
        at: usize,
        launch: LaunchNumber,
        key: TaskKey,
        now: Timestamp,
    ) -> Option<(Option<ConnectionId>, Report)> {
        let machine =
            self.machines.get_mut(at).filter(|machine| !machine.launches.contains_key(&launch))?;
        machine.last_report = machine.last_report.next();
        let status = TaskStatus {
            reason: Reason::AgentRestarted,
            ..status(&key, &machine.name, TaskState::Lost, now)
        };
        let report =
            Report { seq: machine.last_report, launch, key, body: ReportBody::Status(status) };
        machine.waiting.push_back(report.clone());
        Some((machine.connection, report))
    }

    /// Reports up to this one are committed.
    pub(crate) fn acknowledge(&mut self, at: usize, through: ReportSeq) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        while machine.waiting.front().is_some_and(|report| report.seq <= through) {
            if let Some(report) = machine.waiting.pop_front() {
                let is_over = machine
                    .launches
                    .get(&report.launch)
                    .is_some_and(|launched| launched.ended.is_some_and(|ended| ended <= through));
                if is_over {
                    machine.launches.remove(&report.launch);
                }
            }
        }
    }
}

/// What is not for anyone: reserved, revocable, disks that cannot be split.
fn pools(resources: &Bundle) -> Vec<(PoolKind, Resources)> {
    resources.pools().map(|(kind, amount)| (kind.clone(), amount.clone())).collect()
}

/// Bytes that every output is said to have.
const OUTPUT_BYTES: u64 = 64 << 10;

/// A file that nobody wrote: its digest is made of the names, so that no two are equal.
fn blob(key: &TaskKey, output: &Output) -> Blob {
    let mut digest = [0; 32];
    let text = format!("{}/{}/{}", key.framework, key.task, output.blob);
    for (at, place) in (0_u64..).zip(digest.chunks_exact_mut(8)) {
        let number = crate::chance::number_of(&format!("{at}:{text}"));
        place.copy_from_slice(&number.to_le_bytes());
    }
    Blob {
        name: output.blob.clone(),
        digest: tepui_proto::Digest(digest),
        size_bytes: OUTPUT_BYTES,
    }
}

fn status(key: &TaskKey, agent: &str, state: TaskState, now: Timestamp) -> TaskStatus {
    TaskStatus {
        task: key.task.clone(),
        agent: Some(agent.to_owned()),
        state,
        reason: Reason::None,
        message: String::new(),
        exit_code: None,
        outputs: Vec::new(),
        usage: Usage::default(),
        at: now,
    }
}
