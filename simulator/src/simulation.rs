//! The virtual world: what is due happens, the leader decides, its orders are carried out by virtual agents.
//!
//! Owns the clock, the agenda and the leader. Never sleeps, and never decides what a leader or a scheduler would. Its one
//! surprise: what comes due while the master is at one batch is its next batch, as it is in a real one.

mod orders;
mod setup;

use crate::agents::{Fleet, Step};
use crate::chance::Chance;
use crate::report::{self, Ended, Series};
use crate::scenario::{FrameworkKind, Scenario, SchedulerKind, Spread, Until, Workload};
use crate::schedulers::component::Sandbox;
use crate::schedulers::native::Native;
use crate::tally::Tally;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use tepui_cell::SchedulerInstance;
use tepui_master_core::{ConnectionId, Effects, Input, Leader, State, Ticket};
use tepui_proto::api::FrameworkSpec;
use tepui_proto::control::{ModuleKind, ModuleVerdict, Report};
use tepui_proto::scheduler::FromScheduler;
use tepui_proto::{
    Digest, FrameworkId, Incarnation, LaunchNumber, Life, TaskKey, Term, Timestamp, limits,
};

/// From an order to the report that the task runs: sandbox, module, and the way there and back.
const START_MS: u64 = 20;
/// From sending a turn to its answer.
const TURN_MS: u64 = 3;
/// From an order to compile to its verdict.
const COMPILE_MS: u64 = 200;
/// Before an agent whose connection was closed dials again.
const REDIAL_MS: u64 = 1_000;
/// With `until idle`: so long without any progress, and nothing under way, is an end as well.
const QUIET_MS: u64 = 3_600_000;
/// How often agents are heard of.
const HEARTBEAT_MS: u64 = limits::AGENT_TIMEOUT_MS / 3;

/// A folder that could be submitted, read by whoever knows manifests.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// As it would be sent to a master.
    pub spec: FrameworkSpec,
    /// The scheduler component.
    pub scheduler: Vec<u8>,
    /// The size of each blob and module, in bytes.
    pub sizes: BTreeMap<Digest, u64>,
}

/// Why a simulation was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// The leader refused a framework, or the settings of roles.
    #[error("`{framework}` was refused: {why}")]
    Refused {
        /// Which.
        framework: String,
        /// In the leader's words.
        why: String,
    },
    /// A component cannot be run.
    #[error("the component in `{folder}` cannot be run: {why}", folder = folder.display())]
    Component {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        why: String,
    },
    /// This machine cannot run components.
    #[error("the sandbox cannot be set up: {0}")]
    Sandbox(String),
    /// A submission was not handed in.
    #[error("the folder `{folder}` was not read", folder = .0.display())]
    Unread(PathBuf),
}

/// Runs a scenario. The same scenario and seed give the same report.
///
/// # Errors
/// When the leader refuses what the scenario asks for, or a component cannot be run.
pub fn simulate(
    scenario: &Scenario,
    submissions: &BTreeMap<PathBuf, Submission>,
) -> Result<report::Report, SimulateError> {
    let mut world = World::new(scenario, submissions)?;
    let ended = world.run()?;
    Ok(world.report(ended))
}

/// Something that is due.
#[derive(Debug)]
enum Due {
    /// An agent says hello, for the first time or again.
    Hello(usize),
    Fail(usize),
    Step {
        at: usize,
        life: Life,
        launch: LaunchNumber,
        step: Step,
    },
    Checked {
        connection: ConnectionId,
        digest: Digest,
        kind: ModuleKind,
    },
    Answer {
        framework: FrameworkId,
        incarnation: Incarnation,
        frame: Box<FromScheduler>,
    },
    Report(Option<ConnectionId>, Box<Report>),
    Submit(usize),
    /// An operator does something; its place in the scenario.
    Event(usize),
    Heartbeat,
    Sample,
}

/// A framework of the scenario.
#[derive(Debug)]
struct Framework {
    /// Its kind's place in the scenario.
    group: usize,
    name: String,
    seed: u64,
    /// None for a component.
    native: Option<Native>,
    id: Option<FrameworkId>,
    has_ended: bool,
}

/// What was asked of the leader.
#[derive(Debug)]
enum Asked {
    /// Without it there is nothing to simulate: a framework, or the settings of roles.
    Needed(String),
    /// What an operator does to an agent. If it is refused, the cluster goes on.
    Event(String),
}

/// Where a scheduler is hosted.
#[derive(Debug)]
struct Hosted {
    incarnation: Incarnation,
    at: usize,
    /// For a component.
    instance: Option<SchedulerInstance>,
}

struct World<'a> {
    scenario: &'a Scenario,
    submissions: &'a BTreeMap<PathBuf, Submission>,
    leader: Leader,
    now: u64,
    agenda: BTreeMap<u64, Vec<Due>>,
    fleet: Fleet,
    /// One stream of chance per agent, for its failures.
    chances: Vec<Chance>,
    sandbox: Option<Sandbox>,
    frameworks: Vec<Framework>,
    by_name: BTreeMap<String, usize>,
    by_id: BTreeMap<FrameworkId, usize>,
    hosted: BTreeMap<FrameworkId, Hosted>,
    tally: Tally,
    series: Series,
    /// Ends of tasks that are on the agenda.
    ends_ahead: u64,
    failures: u64,
    progress_at: u64,
    last_ticket: u64,
    /// What a ticket was for.
    asked: BTreeMap<Ticket, Asked>,
}

impl<'a> World<'a> {
    fn new(
        scenario: &'a Scenario,
        submissions: &'a BTreeMap<PathBuf, Submission>,
    ) -> Result<Self, SimulateError> {
        let has_components = !scenario.components().is_empty();
        let roles = setup::roles(scenario, submissions)?;
        let frameworks = setup::frameworks(scenario, submissions)?;
        let fleet = Fleet::new(scenario);
        let mut world = Self {
            scenario,
            submissions,
            leader: Leader::new(State::with_modules(setup::modules(submissions))),
            now: 0,
            agenda: BTreeMap::new(),
            chances: (0..fleet.len() as u64).map(|at| Chance::new(scenario.seed, at)).collect(),
            fleet,
            sandbox: has_components.then(|| Sandbox::new(submissions)).transpose()?,
            by_name: frameworks.iter().enumerate().map(|(at, f)| (f.name.clone(), at)).collect(),
            frameworks,
            by_id: BTreeMap::new(),
            hosted: BTreeMap::new(),
            series: Series::new(scenario.sample_ms, &roles),
            tally: Tally::new(scenario, roles),
            ends_ahead: 0,
            failures: 0,
            progress_at: 0,
            last_ticket: 0,
            asked: BTreeMap::new(),
        };
        world.begin()?;
        Ok(world)
    }

    /// A leader that knows the modules, and an agenda with all that a scenario fixes.
    fn begin(&mut self) -> Result<(), SimulateError> {
        let mut fx = Effects::default();
        self.leader.handle(Timestamp(0), Input::TermWon(Term(1)), &mut fx);
        let changes = setup::role_changes(self.scenario);
        if !changes.is_empty() {
            // No agent has joined, so what the cluster has is not asked about.
            let ticket = self.ticket();
            self.asked.insert(ticket, Asked::Needed("roles".to_owned()));
            let changed = Input::RolesChanged { ticket, changes, force: true };
            self.leader.handle(Timestamp(0), changed, &mut fx);
        }
        self.carry_out(fx)?;
        for at in 0..self.fleet.len() {
            let joins_at = setup::joins_at(self.scenario, &self.fleet, at);
            self.at(joins_at, Due::Hello(at));
        }
        for at in 0..self.frameworks.len() {
            if let Some(kind) = self.kind_of(at) {
                self.at(kind.submitted_at_ms, Due::Submit(at));
            }
        }
        for (at, event) in self.scenario.events.iter().enumerate() {
            self.at(event.at_ms, Due::Event(at));
        }
        self.at(HEARTBEAT_MS, Due::Heartbeat);
        self.at(0, Due::Sample);
        Ok(())
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn at(&mut self, time: u64, due: Due) {
        self.agenda.entry(time).or_default().push(due);
    }

    fn after(&mut self, span: u64, due: Due) {
        self.at(self.now.saturating_add(span.max(1)), due);
    }

    fn kind_of(&self, framework: usize) -> Option<&'a FrameworkKind> {
        self.scenario.frameworks.get(self.frameworks.get(framework)?.group)
    }

    fn run(&mut self) -> Result<Ended, SimulateError> {
        let until = match self.scenario.until {
            Until::Time(ms) => ms,
            Until::Idle => u64::MAX,
        };
        let mut first = true;
        loop {
            let deadline = self.leader.next_deadline().map(|at| at.0);
            let ahead = self.agenda.first_key_value().map(|(time, _)| *time);
            let next = deadline.into_iter().chain(ahead).min().unwrap_or(u64::MAX);
            // A master that is busy takes what comes meanwhile as its next batch.
            let free_at = self.now.saturating_add(self.scenario.batch_ms);
            let next = if first { next } else { next.max(free_at) };
            first = false;
            if next > until {
                self.now = until;
                return Ok(Ended::Duration);
            }
            self.now = next;
            self.step()?;
            if self.scenario.until == Until::Idle {
                if self.is_idle() {
                    return Ok(Ended::Idle);
                }
                if self.is_quiet() {
                    return Ok(Ended::Quiet);
                }
            }
        }
    }

    /// All that is due now, as one batch.
    fn step(&mut self) -> Result<(), SimulateError> {
        let mut fx = Effects::default();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| *entry.key() <= self.now) {
            for due in entry.remove() {
                self.happen(due, &mut fx);
            }
        }
        self.leader.settle(Timestamp(self.now), &mut fx);
        self.carry_out(fx)
    }

    fn handle(&mut self, input: Input, fx: &mut Effects) {
        self.leader.handle(Timestamp(self.now), input, fx);
    }

    fn happen(&mut self, due: Due, fx: &mut Effects) {
        match due {
            Due::Hello(at) => self.join(at, fx),
            Due::Fail(at) => self.fail(at, fx),
            Due::Step { at, life, launch, step } => {
                if step == Step::Finishes {
                    self.ends_ahead = self.ends_ahead.saturating_sub(1);
                }
                let now = Timestamp(self.now);
                if let Some((connection, report)) = self.fleet.step(at, life, launch, (step, now)) {
                    self.report_in(connection, report, fx);
                }
            }
            Due::Checked { connection, digest, kind } => {
                let verdict = ModuleVerdict::Good { compile_ms: COMPILE_MS };
                self.handle(Input::ModuleChecked { connection, digest, kind, verdict }, fx);
            }
            Due::Answer { framework, incarnation, frame } => {
                self.answer(framework, incarnation, *frame, fx);
            }
            Due::Report(connection, report) => self.report_in(connection, *report, fx),
            Due::Submit(at) => self.submit(at, fx),
            Due::Event(at) => self.operate(at, fx),
            Due::Heartbeat => {
                let connections: Vec<_> = self.fleet.connections().collect();
                for connection in connections {
                    self.handle(Input::AgentHeard(connection), fx);
                }
                self.after(HEARTBEAT_MS, Due::Heartbeat);
            }
            Due::Sample => {
                self.sample();
                let interval = self.series.interval_ms;
                self.after(interval, Due::Sample);
            }
        }
    }

    fn sample(&mut self) {
        let mut takes_part: BTreeSet<usize> = BTreeSet::new();
        for (role, now) in self.tally.now.iter().enumerate() {
            if now.used.dominant_milli(self.tally.capacity) > 0 {
                takes_part.insert(role);
            }
        }
        for framework in &self.frameworks {
            let Some(id) = framework.id.filter(|_| !framework.has_ended) else { continue };
            let waiting = framework.native.as_ref().map_or(0, Native::waiting);
            if waiting > 0 || self.tally.wanted_units(id) > 0 {
                takes_part.extend(self.tally.roles_of(id));
            }
        }
        self.series.push(self.now, &self.tally, self.scenario, &takes_part);
    }

    fn is_idle(&self) -> bool {
        let is_done = |framework: &Framework| {
            framework.has_ended
                || !self.scenario.frameworks.get(framework.group).is_some_and(can_end)
        };
        self.frameworks.iter().all(is_done)
    }

    /// Nothing is under way, and nothing has moved for long: what still waits will wait for ever.
    fn is_quiet(&self) -> bool {
        let arrives = |framework: &Framework| {
            framework.native.as_ref().is_some_and(|native| native.next_arrival().is_some())
        };
        self.now.saturating_sub(self.progress_at) >= QUIET_MS
            && self.ends_ahead == 0
            && !self.frameworks.iter().any(arrives)
    }

    fn began(&mut self, began: Vec<TaskKey>) {
        for key in began {
            self.progress_at = self.now;
            let Some(at) = self.by_id.get(&key.framework).copied() else { continue };
            let Some(framework) = self.frameworks.get_mut(at) else { continue };
            let came = framework.native.as_mut().and_then(|native| native.began(&key.task));
            if let Some((came, group)) = came.zip(self.tally.groups.get_mut(framework.group)) {
                group.waits.push(self.now.saturating_sub(came));
            }
        }
    }

    fn report(self, ended: Ended) -> report::Report {
        let mut this = self;
        this.sample();
        let World { scenario, frameworks, tally, series, now, failures, .. } = this;
        let waiting = setup::waiting(scenario, &frameworks, &tally, now);
        report::make(scenario, tally, series, report::End { ended, now, failures, waiting })
    }
}

/// Whether frameworks of this kind end by themselves.
fn can_end(kind: &FrameworkKind) -> bool {
    let for_ever = matches!(
        &kind.workload,
        Workload::Tasks(Spread::Forever) | Workload::Steady { duration: Spread::Forever, .. }
    );
    !for_ever && !matches!(kind.scheduler, SchedulerKind::Sitter | SchedulerKind::Decliner)
}
