//! The world: takes the next thing from the agenda and lets it happen.

use crate::chance::Chance;
use crate::invariants::{
    books, drained, events::Events, finality::Finality, launches::Launches, limits::Limits, pools,
    replicas,
};
use crate::jobs;
use crate::machine::Machine;
use crate::master::{Crash, Master};
use crate::operator::Acts;
use crate::wire::{Agenda, Down, Event, Link, Up};
use std::collections::{BTreeMap, BTreeSet};
use tepui_agent_core::Input as AgentInput;
use tepui_master_core::{ConnectionId, Effect, Entry, Input};
use tepui_proto::api::FrameworkPhase;
use tepui_proto::cell::CellEvent;
use tepui_proto::control::{AgentMessage, MasterStream};
use tepui_proto::{Digest, FrameworkId, Tenant};

pub(crate) const SCHEDULER: Digest = Digest([1; 32]);
pub(crate) const TASK: Digest = Digest([2; 32]);

/// How often what goes wrong, in a million messages or steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A message is lost, and its connection with it.
    pub lost: u32,
    /// A message on a control stream arrives twice.
    pub doubled: u32,
    /// The master dies.
    pub master_dies: u32,
    /// An agent dies.
    pub agent_dies: u32,
    /// An agent that has died never comes back.
    pub stays_away: u32,
    /// A scheduler traps.
    pub scheduler_traps: u32,
    /// A task fails.
    pub task_fails: u32,
    /// An agent, alive and at work, is cut off from the master for 5 to 120 s; half of the time it only hears nothing.
    pub partitioned: u32,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Decides everything.
    pub seed: u64,
    /// How many.
    pub agents: usize,
    /// Frameworks, each a job.
    pub jobs: u64,
    /// Tasks of each.
    pub tasks: u64,
    /// Until the healing.
    pub faults: Faults,
    /// Whether operators do things, until the healing; then they undo them.
    pub operators: bool,
    /// When everything heals.
    pub heal_at: u64,
    /// Every so many steps the books are checked; the log is replayed a hundred times less often.
    pub check_every: u64,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) chance: Chance,
    /// The time.
    pub now: u64,
    pub(crate) agenda: Agenda,
    /// The master.
    pub master: Master,
    pub(crate) machines: Vec<Machine>,
    pub(crate) links: BTreeMap<ConnectionId, Link>,
    pub(crate) last_connection: u64,
    steps: u64,
    /// Of them, those since time last went on.
    steps_at: u64,
    pub(crate) submitted: u64,
    /// Inputs that came at one instant and were not handled yet.
    batch: Vec<Input>,
    /// What somebody was told is done: submitted jobs, and after how many records the state had which digest.
    told_jobs: BTreeSet<u64>,
    told: Option<(usize, u128)>,
    /// How often agents were cut off.
    pub partitions: u64,
    pub(crate) launches: Launches,
    finality: Finality,
    events: Events,
    limits: Limits,
    /// What operators did.
    pub acts: Acts,
    pub(crate) operator_tickets: u64,
    /// How often the master died.
    pub master_deaths: u64,
    /// How often an agent died.
    pub agent_deaths: u64,
}

impl World {
    /// A world at its beginning.
    pub fn new(setup: Setup) -> Self {
        let mut world = Self {
            setup,
            chance: Chance::new(setup.seed),
            now: 1_000,
            agenda: Agenda::default(),
            master: Master::new(),
            machines: (0..setup.agents).map(Machine::new).collect(),
            links: BTreeMap::new(),
            last_connection: 0,
            steps: 0,
            steps_at: 0,
            submitted: 0,
            batch: Vec::new(),
            told_jobs: BTreeSet::new(),
            told: None,
            partitions: 0,
            launches: Launches::default(),
            finality: Finality::default(),
            events: Events::default(),
            limits: Limits::default(),
            acts: Acts::default(),
            operator_tickets: 0,
            master_deaths: 0,
            agent_deaths: 0,
        };
        world.start_master();
        for agent in 0..setup.agents {
            world.agenda.at(world.now + agent as u64 % 50, Event::AgentRestart(agent));
        }
        if setup.operators {
            world.agenda.at(world.now + 1_000, Event::Operator);
        }
        world
    }

    pub(crate) fn faults(&self) -> Faults {
        if self.now < self.setup.heal_at { self.setup.faults } else { Faults::default() }
    }

    /// Runs until every job has ended. Says how long that took in virtual time.
    pub fn run_to_rest(&mut self, until: u64) -> u64 {
        while !self.is_at_rest() {
            assert!(
                self.now < until,
                "seed {} is not at rest at {} ms: {}",
                self.setup.seed,
                self.now,
                self.describe()
            );
            self.step();
        }
        self.finality.at_rest();
        self.events.at_rest();
        replicas::check(&self.master);
        self.check_home();
        self.now
    }

    fn describe(&self) -> String {
        let Some(leader) = &self.master.leader else { return "no leader".to_owned() };
        let views = leader.framework_views(&Tenant::from("acme"), None, 100).items;
        let line = |view: &tepui_proto::api::FrameworkView| {
            format!("{} {:?} {:?} {}", view.name, view.phase, view.tasks, view.message)
        };
        views.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn is_at_rest(&self) -> bool {
        let Some(leader) = &self.master.leader else { return false };
        if self.submitted < self.setup.jobs || self.now < self.setup.heal_at {
            return false;
        }
        let views = leader.framework_views(&Tenant::from("acme"), None, usize::MAX).items;
        views.len() as u64 == self.setup.jobs
            && views.iter().all(|view| view.phase == FrameworkPhase::Ended)
            && leader
                .state()
                .ledger()
                .agents()
                .all(|(id, _)| leader.state().provision(id).is_none_or(|made| made.made.is_empty()))
    }

    /// Every resource is free again.
    fn check_home(&self) {
        let leader = self.master.leader.as_ref().expect("a leader at rest");
        for (id, accounts) in leader.state().ledger().agents() {
            let own = leader.state().agent(id).map(|agent| agent.resources.clone());
            let whole = own.and_then(|own| own.checked_sub(accounts.held_back.total.plain()));
            let free = accounts.offerable.free();
            assert!(free.is_plain(), "agent {id} has something that is not anyone's: {free}");
            assert_eq!(
                Some(free.plain()),
                whole.as_ref(),
                "agent {id} has not got everything back"
            );
        }
    }

    /// A hash of everything that was ever committed.
    pub fn digest(&self) -> u128 {
        let mut sum: u128 = 0;
        for bytes in &self.master.log {
            for byte in bytes {
                sum = sum
                    .wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
                    .wrapping_add(u128::from(*byte) + 1);
            }
        }
        sum
    }

    /// Machines that are down now.
    pub fn machines_down(&self) -> usize {
        self.machines.iter().filter(|machine| machine.agent.is_none()).count()
    }

    /// Tasks that began to run, and tasks that were committed.
    pub fn counts(&self) -> (usize, usize) {
        (self.launches.count(), self.finality.count())
    }

    fn step(&mut self) {
        let before = self.now;
        self.step_once();
        self.steps_at = if self.now == before { self.steps_at + 1 } else { 0 };
        assert!(
            self.steps_at < 100_000,
            "seed {}: time stands still at {before} ms",
            self.setup.seed
        );
    }

    fn step_once(&mut self) {
        let due = self
            .master
            .leader
            .as_ref()
            .and_then(tepui_master_core::Leader::next_deadline)
            .map(|at| at.0);
        let next = self.agenda.next_time();
        match (due, next) {
            // What came at this instant is handled before time goes on.
            (_, next) if !self.batch.is_empty() && next != Some(self.now) => self.handle_batch(),
            (Some(due), next) if next.is_none_or(|next| due <= next) => {
                self.now = self.now.max(due);
                self.handle_batch();
            }
            (_, Some(next)) => {
                self.now = self.now.max(next);
                if let Some(event) = self.agenda.pop() {
                    self.happen(event);
                }
            }
            (_, None) => panic!("nothing is left to happen: {}", self.describe()),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up(connection, up) => {
                if self.links.get(&connection).is_some_and(|link| link.master_open) {
                    self.master_hears(connection, up);
                }
            }
            Event::Down(connection, down) => {
                let link = self.links.get(&connection).copied();
                if let Some(link) = link.filter(|link| {
                    link.agent_open && self.machines[link.agent].process == link.process
                }) {
                    self.agent_hears(link.agent, down);
                }
            }
            Event::MasterSawClose(connection) => {
                let link = self.links.get_mut(&connection).expect("a link");
                if std::mem::take(&mut link.master_open) {
                    self.master_input(Input::AgentDisconnected(connection));
                }
            }
            Event::AgentSawClose(connection) => self.agent_saw_close(connection),
            Event::Dial(agent) => self.dial(agent),
            Event::AgentTick(agent) => {
                self.machines[agent].tick_at = None;
                self.agent_input(agent, AgentInput::Tick);
            }
            Event::AgentRestart(agent) => self.restart_agent(agent),
            Event::Started(agent, process, launch, told) => {
                self.task_started(agent, process, launch, told);
            }
            Event::Ended(agent, process, launch) => self.task_ended(agent, process, launch),
            Event::TurnOver(agent, process, framework, incarnation, frame) => {
                if self.machines[agent].process == process {
                    let tenant = Tenant::from("acme");
                    let event = CellEvent::Scheduler { framework, incarnation, frame: *frame };
                    self.agent_input(agent, AgentInput::CellSaid { tenant, event });
                }
            }
            Event::MasterRestart => self.start_master(),
            Event::Operator => self.operate(),
        }
    }

    // ---- the master's side

    fn start_master(&mut self) {
        let (entries, orders) = self.master.start(self.now);
        self.after_master(&entries, orders);
        // Whatever somebody was told before the crash is still so.
        if let Some((records, digest)) = self.told {
            let state = self.master.replay(records);
            assert_eq!(state.digest(), digest, "what was told is not what was committed");
        }
        let tenant = Tenant::from("acme");
        for job in 0..self.setup.jobs {
            let leader = self.master.leader.as_ref();
            let known = leader.is_some_and(|leader| {
                leader.state().framework_named(&tenant, &jobs::name(job)).is_some()
            });
            assert!(known || !self.told_jobs.contains(&job), "job {job} was accepted, and is lost");
            if !known {
                self.submit(job);
            }
        }
    }

    fn master_hears(&mut self, connection: ConnectionId, up: Up) {
        let name = self.machines[self.links[&connection].agent].name();
        let input = match up {
            Up::Message(AgentMessage::Hello(hello)) => {
                Input::AgentConnected { connection, name, hello }
            }
            Up::Message(AgentMessage::HelloTasks { .. }) => {
                panic!("a hello of more tasks than a page has room for")
            }
            Up::Message(AgentMessage::Reports(reports)) => Input::Reported { connection, reports },
            Up::Message(AgentMessage::ModuleChecked { digest, kind, verdict }) => {
                Input::ModuleChecked { connection, digest, kind, verdict }
            }
            Up::Message(AgentMessage::Heartbeat) => Input::AgentHeard(connection),
            Up::Message(AgentMessage::RoomChanged { has_room }) => {
                Input::AgentRoomChanged { connection, has_room }
            }
            Up::Message(AgentMessage::Goodbye) => Input::AgentSaidGoodbye(connection),
            Up::Scheduler(framework, incarnation, frame) => {
                Input::SchedulerSaid { framework, incarnation, frame }
            }
            Up::StreamEnded(framework, incarnation) => {
                Input::SchedulerStreamEnded { framework, incarnation }
            }
        };
        self.master_input(input);
    }

    /// An input for the master: handled at once, or in a batch with what else comes at this instant.
    pub(crate) fn master_input(&mut self, input: Input) {
        if self.master.leader.is_none() {
            return;
        }
        self.batch.push(input);
        let more = self.agenda.next_time() == Some(self.now);
        if !(more && self.chance.in_a_million(500_000)) {
            self.handle_batch();
        }
    }

    fn handle_batch(&mut self) {
        self.steps += 1;
        let inputs = std::mem::take(&mut self.batch);
        if self.master.leader.is_none() {
            return;
        }
        let dies = self.chance.in_a_million(self.faults().master_dies);
        let crash = dies.then(|| {
            if self.chance.in_a_million(500_000) { Crash::BeforeCommit } else { Crash::AfterCommit }
        });
        let (entries, orders) = self.master.step(self.now, inputs, crash);
        self.after_master(&entries, orders);
        if crash.is_some() {
            self.master_deaths += 1;
            self.lose_all_links();
            let pause = self.chance.between(10, 3_000);
            self.agenda.at(self.now + pause, Event::MasterRestart);
        } else if self.chance.in_a_million(10_000) {
            self.master.take_snapshot();
        }
    }

    fn after_master(&mut self, entries: &[Entry], orders: Vec<Effect>) {
        let replayed;
        let state = if let Some(leader) = &self.master.leader {
            leader.state()
        } else {
            replayed = self.master.replay(self.master.log.len());
            &replayed
        };
        for entry in entries {
            self.acts.committed(entry);
            drained::committed(entry, state);
            self.events.committed(entry, state);
            self.finality.committed(entry, state);
        }
        if let Some(leader) = &self.master.leader
            && self.steps.is_multiple_of(self.setup.check_every)
        {
            books::check(leader);
            drained::check(leader);
            pools::check(leader);
            self.limits.check(leader);
            if self.steps.is_multiple_of(self.setup.check_every * 100) {
                replicas::check(&self.master);
            }
        }
        for order in orders {
            self.events.ordered(&order);
            self.perform(order);
        }
    }

    fn perform(&mut self, order: Effect) {
        match order {
            Effect::Send { connection, message } => {
                self.send_down(connection, Down::Message(message));
            }
            Effect::Close { connection, .. } => {
                if let Some(link) = self.links.get_mut(&connection) {
                    link.master_open = false;
                }
                self.agenda.at(self.now + 5, Event::AgentSawClose(connection));
            }
            Effect::OpenScheduler { connection, open, pages } => {
                let (framework, incarnation) = (open.framework, open.incarnation);
                let _first_frame = MasterStream::Scheduler(open.clone());
                self.send_down(connection, Down::Open(open));
                for page in pages {
                    self.send_down(connection, Down::Scheduler(framework, incarnation, page));
                }
            }
            Effect::SendTurn { framework, incarnation, turn } => {
                if let Some(connection) = self.host_of(framework) {
                    self.send_down(connection, Down::Scheduler(framework, incarnation, turn));
                }
            }
            Effect::CloseScheduler { framework, incarnation } => {
                for connection in self.open_links() {
                    self.send_down(connection, Down::StreamEnded(framework, incarnation));
                }
            }
            Effect::Reply { ticket, result: Err(refusal) } => self.acts.refused(ticket, &refusal),
            Effect::Reply { ticket, result: Ok(_) } => {
                if let Some(job) = ticket.0.checked_sub(100).filter(|job| *job < 100) {
                    self.told_jobs.insert(job);
                }
                let leader = self.master.leader.as_ref();
                self.told = leader.map(|l| (self.master.log.len(), l.state().digest()));
            }
            Effect::ForgetBlobs(_) => {}
        }
    }

    fn host_of(&self, framework: FrameworkId) -> Option<ConnectionId> {
        let leader = self.master.leader.as_ref()?;
        let instance = leader.state().framework(framework)?.instance.as_ref()?;
        leader.connection_of(instance.agent)
    }

    fn open_links(&self) -> Vec<ConnectionId> {
        self.links.iter().filter(|(_, link)| link.master_open).map(|(id, _)| *id).collect()
    }

    fn lose_all_links(&mut self) {
        for connection in self.open_links() {
            self.links.get_mut(&connection).expect("a link").master_open = false;
            let delay = self.chance.between(1, 200);
            self.agenda.at(self.now + delay, Event::AgentSawClose(connection));
        }
    }
}
