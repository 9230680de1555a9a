//! A leader with agents and frameworks of whom the test decides what they say. Turns are answered with nothing unless a
//! test says something, so that only what a test does happens.

mod desk;

use std::collections::BTreeMap;
use tepui_master_core::allocator::Settings;
use tepui_master_core::entry::of_modules;
use tepui_master_core::{
    ConnectionId, Effect, Effects, Entry, Input, Leader, Refusal, State, Ticket,
};
use tepui_proto::api::FrameworkSpec;
use tepui_proto::calls::{Acceptance, Operation, Response, Want};
use tepui_proto::control::{
    Hello, Launch, MasterMessage, ModuleKind, Report, ReportBody, TaskReport,
};
use tepui_proto::events::{AgentInfo, Event, InverseOffer, Offer, Refusal as Refused, Request};
use tepui_proto::roles::RoleChange;
use tepui_proto::scheduler::{FromScheduler, ToScheduler, TurnMark, TurnUsage};
use tepui_proto::tasks::{Blob, Output};
use tepui_proto::{
    AgentId, Bundle, Call, Digest, DurationMs, FrameworkId, LaunchNumber, Life, OfferId, Reason,
    ReportSeq, RequestId, Resources, TaskId, TaskKey, TaskSpec, TaskState, TaskStatus, Tenant,
    Term, Timestamp, Usage,
};

const SCHEDULER: Digest = Digest([1; 32]);
pub(crate) const TASK: Digest = Digest([2; 32]);

/// What one framework's scheduler has been told.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) mark: Option<TurnMark>,
    /// Those that it holds.
    pub(crate) offers: BTreeMap<OfferId, Offer>,
    pub(crate) agents: Vec<AgentInfo>,
    pub(crate) inverse: Vec<InverseOffer>,
    pub(crate) rescinded: Vec<OfferId>,
    /// Updates since they were last taken.
    updates: Vec<(String, TaskState, Reason)>,
    pub(crate) refusals: Vec<Refused>,
    /// Tasks that were told in pages, as to a new instance.
    pub(crate) tasks: Vec<TaskStatus>,
    pub(crate) timers: Vec<String>,
    pub(crate) messages: usize,
    requests: Vec<RequestId>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) leader: Leader,
    pub(crate) now: Timestamp,
    pub(crate) log: Vec<Entry>,
    pub(crate) inboxes: BTreeMap<FrameworkId, Inbox>,
    names: BTreeMap<FrameworkId, String>,
    pub(crate) connections: BTreeMap<String, ConnectionId>,
    /// What agents were told to run, by task.
    pub(crate) launches: BTreeMap<String, Launch>,
    /// Frames of launches, as they were sent.
    pub(crate) frames: Vec<MasterMessage>,
    /// Who was told to stop, and with how much grace.
    pub(crate) kills: Vec<(String, DurationMs)>,
    /// How many tasks each message told an agent to forget.
    pub(crate) forgotten: Vec<usize>,
    /// What was said to agents that were turned away.
    pub(crate) turned_away: Vec<String>,
    replies: BTreeMap<Ticket, Result<(), Refusal>>,
    /// Which agents were asked to judge which modules, since this was last looked at.
    asked: Vec<(ConnectionId, Digest)>,
    /// Bytes of the largest turn so far.
    pub(crate) largest_turn: usize,
    count: u64,
}

pub(crate) fn cpus(milli: u64) -> Resources {
    Resources::cpu_memory(milli, 0)
}

pub(crate) fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

pub(crate) fn hello(resources: Resources) -> Hello {
    Hello {
        life: Life(7),
        term: Term(0),
        hostname: "host".into(),
        version: "0".into(),
        resources,
        pools: Vec::new(),
        attributes: Vec::new(),
        domain: None,
        max_tasks: tepui_proto::limits::CELL_INSTANCES,
        has_room: true,
        launch_mark: LaunchNumber(0),
        tasks: Vec::new(),
        has_more_tasks: false,
        reports: Vec::new(),
    }
}

/// A task that puts these out.
pub(crate) fn putting_out(id: &str, outputs: &[Blob]) -> TaskSpec {
    let mut spec = task(id, 100);
    spec.resources.disk_bytes = 1;
    let output = |blob: &Blob| Output { path: "o".to_owned(), blob: blob.name.clone() };
    spec.outputs = outputs.iter().map(output).collect();
    spec
}

/// Of so many thousandths of a core, and enough memory for what tests run.
pub(crate) fn task(id: &str, cpu_milli: u64) -> TaskSpec {
    TaskSpec::command(id, "task", Resources::cpu_memory(cpu_milli, 64 << 20))
}

pub(crate) fn revocable(id: &str, cpu_milli: u64) -> TaskSpec {
    TaskSpec { unsupported: vec![TaskSpec::REVOCABLE.to_owned()], ..task(id, cpu_milli) }
}

pub(crate) fn want(role: &str, count: u32, cpu_milli: u64) -> Want {
    Want {
        id: 1,
        role: role.into(),
        count,
        each: Resources::cpu_memory(cpu_milli, 64 << 20),
        port_count: 0,
        revocable: false,
        constraints: Vec::new(),
    }
}

pub(crate) fn change(role: &str) -> RoleChange {
    RoleChange {
        role: role.into(),
        weight_milli: None,
        guarantee: None,
        limit: None,
        packing: None,
    }
}

pub(crate) fn limit(role: &str, text: &str) -> RoleChange {
    RoleChange { limit: Some(text.parse().unwrap()), ..change(role) }
}

pub(crate) fn guarantee(role: &str, text: &str) -> RoleChange {
    RoleChange { guarantee: Some(text.parse().unwrap()), ..change(role) }
}

/// On these offers, with what is left over not refused.
pub(crate) fn accept(offers: &[OfferId], operations: Vec<Operation>) -> Call {
    let refuse_for = Some(DurationMs(0));
    Call::Accept(Acceptance { offers: offers.to_vec(), operations, refuse_for })
}

pub(crate) fn launch(spec: TaskSpec) -> Operation {
    Operation::Launch(spec)
}

impl Stage {
    /// A leader without agents and frameworks.
    pub(crate) fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    pub(crate) fn with_settings(settings: Settings) -> Self {
        let modules = [(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let modules = modules.map(|(digest, kind)| (digest, Some(kind), 10));
        let mut stage = Self {
            leader: Leader::with_settings(State::with_modules(modules), settings),
            now: Timestamp(1_000),
            log: of_modules(modules),
            inboxes: BTreeMap::new(),
            names: BTreeMap::new(),
            connections: BTreeMap::new(),
            launches: BTreeMap::new(),
            frames: Vec::new(),
            kills: Vec::new(),
            forgotten: Vec::new(),
            turned_away: Vec::new(),
            replies: BTreeMap::new(),
            asked: Vec::new(),
            largest_turn: 0,
            count: 0,
        };
        stage.input(Input::TermWon(Term(1)));
        stage
    }

    /// One of one agent with so many thousandths of a core to offer, and one framework in one role, which holds it all.
    pub(crate) fn small(cpu_milli: u64, role: &str) -> (Self, FrameworkId) {
        let mut stage = Self::new();
        stage.agent("a", cpu_milli);
        let framework = stage.framework("f", &[role]);
        (stage, framework)
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.count += 1;
        Ticket(self.count)
    }

    /// Takes one fact in, and settles.
    pub(crate) fn input(&mut self, input: Input) {
        let mut fx = Effects::default();
        self.leader.handle(self.now, input, &mut fx);
        self.leader.settle(self.now, &mut fx);
        self.perform(fx);
    }

    fn perform(&mut self, fx: Effects) {
        self.leader.check().unwrap();
        self.log.extend(fx.entries);
        for order in fx.orders {
            self.order(order);
        }
    }

    fn order(&mut self, order: Effect) {
        match order {
            Effect::SendTurn {
                framework, turn: ToScheduler::Turn { mark, events, .. }, ..
            } => {
                let bytes = postcard::to_stdvec(&events).unwrap().len();
                self.largest_turn = self.largest_turn.max(bytes);
                self.inboxes.entry(framework).or_default().read(mark, events);
            }
            Effect::CloseScheduler { framework, .. } => {
                let inbox = self.inboxes.entry(framework).or_default();
                inbox.mark = None;
                inbox.offers.clear();
                inbox.inverse.clear();
            }
            Effect::Send { connection, message } => match message {
                MasterMessage::CheckModule { digest, .. } => self.asked.push((connection, digest)),
                MasterMessage::Launch { term, life, launches } => {
                    self.frames.push(MasterMessage::Launch {
                        term,
                        life,
                        launches: launches.clone(),
                    });
                    let launches = launches.into_iter();
                    let by_task = launches.map(|launch| (launch.key.task.0.clone(), launch));
                    self.launches.extend(by_task);
                }
                MasterMessage::Kill { key, grace, .. } => self.kills.push((key.task.0, grace)),
                MasterMessage::Forget(launches) => self.forgotten.push(launches.len()),
                MasterMessage::Refused { code, .. } => self.turned_away.push(code),
                _ => {}
            },
            Effect::Reply { ticket, result } => {
                self.replies.insert(ticket, result.map(|_body| ()));
            }
            _ => {}
        }
    }

    /// Lets time pass; agents are heard, and schedulers answer nothing.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = Timestamp(self.now.0 + ms);
        loop {
            self.rest();
            let due = self.leader.next_deadline().filter(|due| *due < until);
            self.now = self.now.max(due.unwrap_or(until));
            let mut fx = Effects::default();
            for connection in self.connections.values() {
                self.leader.handle(self.now, Input::AgentHeard(*connection), &mut fx);
            }
            self.leader.settle(self.now, &mut fx);
            self.perform(fx);
            if due.is_none() {
                return self.rest();
            }
        }
    }

    /// Schedulers answer nothing until none of them is asked.
    pub(crate) fn rest(&mut self) {
        while let Some((framework, mark)) =
            self.inboxes.iter().find_map(|(id, inbox)| Some((*id, inbox.mark?)))
        {
            self.answer(framework, mark, Vec::new());
        }
    }

    pub(crate) fn answer(&mut self, framework: FrameworkId, mark: TurnMark, calls: Vec<Call>) {
        let inbox = self.inboxes.get_mut(&framework).unwrap();
        inbox.mark = None;
        let mut calls = calls;
        for id in std::mem::take(&mut inbox.requests) {
            let response = Response { id, status: 200, headers: Vec::new(), body: Vec::new() };
            calls.insert(0, Call::Respond(response));
        }
        for call in &calls {
            match call {
                Call::Accept(Acceptance { offers, .. }) | Call::Decline { offers, .. } => {
                    inbox.offers.retain(|id, _| !offers.contains(id));
                }
                _ => {}
            }
        }
        let usage = TurnUsage::default();
        let frame = FromScheduler::Answer { mark, calls, usage, log: Vec::new(), dropped: false };
        let incarnation = mark.incarnation;
        self.input(Input::SchedulerSaid { framework, incarnation, frame });
    }

    // Agents.

    /// An agent with so many thousandths of a core to offer, beside what is held back, and plenty of memory and disk.
    pub(crate) fn agent(&mut self, name: &str, cpu_milli: u64) -> AgentId {
        self.agent_with(name, hello(whole(cpu_milli)))
    }

    pub(crate) fn agent_with(&mut self, name: &str, hello: Hello) -> AgentId {
        let connection = ConnectionId(1_000 + self.ticket().0);
        self.connections.insert(name.to_owned(), connection);
        let (name, hello) = (name.to_owned(), Box::new(hello));
        self.input(Input::AgentConnected { connection, name: name.clone(), hello });
        self.agent_id(&name)
    }

    /// An agent that says hello anew, with all that it runs.
    pub(crate) fn return_of(&mut self, name: &str, resources: Resources) {
        let tasks: Vec<TaskReport> = self.running(name);
        let mark = tasks.iter().map(|task| task.launch).max().unwrap_or(LaunchNumber(0));
        let hello = Hello { tasks, launch_mark: mark, ..hello(resources) };
        self.agent_with(name, hello);
    }

    fn running(&self, name: &str) -> Vec<TaskReport> {
        let id = self.agent_id(name);
        let owed = &self.leader.state().agent(id).unwrap().launches;
        let report = |(launch, key): (&LaunchNumber, &TaskKey)| {
            let state = self.leader.state().task(key).unwrap().status.state;
            TaskReport { launch: *launch, key: key.clone(), state }
        };
        owed.iter().map(report).collect()
    }

    pub(crate) fn agent_id(&self, name: &str) -> AgentId {
        self.leader.state().agent_id(name).unwrap()
    }

    pub(crate) fn disconnect(&mut self, name: &str) {
        let connection = self.connections.remove(name).unwrap();
        self.input(Input::AgentDisconnected(connection));
    }

    /// A task's agent says what became of it.
    pub(crate) fn report(&mut self, task: &str, state: TaskState) {
        self.report_with(task, state, Vec::new());
    }

    pub(crate) fn report_with(&mut self, task: &str, state: TaskState, outputs: Vec<Blob>) {
        let (connection, report) = self.report_of(task, state, outputs);
        self.input(Input::Reported { connection, reports: vec![report] });
    }

    /// The agents of many tasks say what became of them, each all at once.
    pub(crate) fn report_all(&mut self, tasks: &[String], state: TaskState) {
        let mut by_agent: BTreeMap<ConnectionId, Vec<Report>> = BTreeMap::new();
        for task in tasks {
            let (connection, mut report) = self.report_of(task, state, Vec::new());
            let reports = by_agent.entry(connection).or_default();
            report.seq.0 += reports.len() as u64;
            reports.push(report);
        }
        for (connection, reports) in by_agent {
            self.input(Input::Reported { connection, reports });
        }
    }

    fn report_of(
        &self,
        task: &str,
        state: TaskState,
        outputs: Vec<Blob>,
    ) -> (ConnectionId, Report) {
        let launch = self.launches[task].clone();
        let agent = self.leader.state().task(&launch.key).unwrap().agent.unwrap();
        let record = self.leader.state().agent(agent).unwrap();
        let (seq, connection) = (ReportSeq(record.reported.0 + 1), self.connections[&record.name]);
        let status = TaskStatus {
            task: launch.key.task.clone(),
            agent: None,
            state,
            reason: match state {
                TaskState::Killed => Reason::KillRequested,
                _ => Reason::None,
            },
            message: "as the agent says".to_owned(),
            exit_code: None,
            outputs,
            usage: Usage::default(),
            at: Timestamp(0),
        };
        let body = ReportBody::Status(status);
        (connection, Report { seq, launch: launch.number, key: launch.key, body })
    }

    // Frameworks.

    pub(crate) fn framework(&mut self, name: &str, roles: &[&str]) -> FrameworkId {
        let spec = FrameworkSpec {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            scheduler: SCHEDULER.to_string(),
            modules: BTreeMap::from([("task".to_owned(), TASK.to_string())]),
            ..FrameworkSpec::default()
        };
        let (ticket, tenant) = (self.ticket(), Tenant::from("acme"));
        let kinds = vec![(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        self.input(Input::FrameworkSubmitted { ticket, tenant, spec: Box::new(spec), kinds });
        self.replies.remove(&ticket).unwrap().unwrap();
        let id = FrameworkId(self.names.len() as u64 + 1);
        self.names.insert(id, name.to_owned());
        self.rest();
        id
    }

    /// Submits a framework again, with these blobs.
    pub(crate) fn upgrade(
        &mut self,
        name: &str,
        roles: &[&str],
        blobs: BTreeMap<String, String>,
    ) -> Result<(), tepui_master_core::Code> {
        let spec = FrameworkSpec {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            scheduler: SCHEDULER.to_string(),
            modules: BTreeMap::from([("task".to_owned(), TASK.to_string())]),
            blobs,
            ..FrameworkSpec::default()
        };
        let (ticket, tenant) = (self.ticket(), Tenant::from("acme"));
        let kinds = vec![(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        self.input(Input::FrameworkSubmitted { ticket, tenant, spec: Box::new(spec), kinds });
        self.replies.remove(&ticket).unwrap().map_err(|refusal| refusal.code)
    }

    /// Its scheduler is given a turn, answers with these calls, and then rests. Others stay as they are.
    pub(crate) fn say(&mut self, framework: FrameworkId, calls: Vec<Call>) {
        self.say_and_wait(framework);
        let mark = self.inbox(framework).mark.unwrap();
        self.answer(framework, mark, calls);
        self.rest();
    }

    /// Why a ticket was refused.
    pub(crate) fn refused(&self, ticket: Ticket) -> String {
        self.replies[&ticket].as_ref().unwrap_err().message.clone()
    }

    /// Whether a ticket was answered, in any way.
    pub(crate) fn is_answered(&self, ticket: Ticket) -> bool {
        self.replies.contains_key(&ticket)
    }

    /// Timers that it was told of since this was last asked.
    pub(crate) fn take_timers(&mut self, framework: FrameworkId) -> Vec<String> {
        std::mem::take(&mut self.inboxes.get_mut(&framework).unwrap().timers)
    }

    pub(crate) fn asked(&mut self) -> Vec<(ConnectionId, Digest)> {
        std::mem::take(&mut self.asked)
    }

    /// Its scheduler is given a turn, unless it has one, and does not answer yet.
    pub(crate) fn say_and_wait(&mut self, framework: FrameworkId) {
        if self.inbox(framework).mark.is_some() {
            return;
        }
        let (ticket, tenant) = (self.ticket(), Tenant::from("acme"));
        let request = Request {
            id: RequestId(0),
            method: "GET".into(),
            path: "/".into(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let (framework, request) = (self.names[&framework].clone(), Box::new(request));
        self.input(Input::RequestReceived { ticket, tenant, framework, request });
    }

    /// A turn of it, once it has rested if it does.
    pub(crate) fn turn_of(&mut self, framework: FrameworkId) -> TurnMark {
        self.say_and_wait(framework);
        self.next_turn_of(framework)
    }

    /// The turn that it is due, once it has rested if it does.
    pub(crate) fn next_turn_of(&mut self, framework: FrameworkId) -> TurnMark {
        let from = self.now;
        while self.inbox(framework).mark.is_none() {
            assert!(self.now.since(from).0 <= 600_000, "it is never given a turn again");
            self.settle_at(1);
        }
        self.inbox(framework).mark.unwrap()
    }

    /// What is due next happens, if it is within this time; else the time passes.
    pub(crate) fn settle_once(&mut self, ms: u64) {
        let until = Timestamp(self.now.0 + ms);
        self.now = self.now.max(self.leader.next_deadline().map_or(until, |due| due.min(until)));
        let mut fx = Effects::default();
        self.leader.settle(self.now, &mut fx);
        self.perform(fx);
    }

    /// Lets time pass and what is due happen; nobody answers anything, and agents are heard.
    pub(crate) fn settle_at(&mut self, ms: u64) {
        let until = Timestamp(self.now.0 + ms);
        while self.now < until {
            let due = self.leader.next_deadline().map_or(until, |due| due.min(until));
            self.now = self.now.max(due);
            let mut fx = Effects::default();
            for connection in self.connections.values() {
                self.leader.handle(self.now, Input::AgentHeard(*connection), &mut fx);
            }
            self.leader.settle(self.now, &mut fx);
            self.perform(fx);
        }
    }

    pub(crate) fn inbox(&self, framework: FrameworkId) -> &Inbox {
        &self.inboxes[&framework]
    }

    /// The offers that it holds.
    pub(crate) fn held(&self, framework: FrameworkId) -> Vec<OfferId> {
        self.inbox(framework).offers.keys().copied().collect()
    }

    /// The only offer that it holds.
    pub(crate) fn offer(&self, framework: FrameworkId) -> Offer {
        let offers = &self.inbox(framework).offers;
        assert_eq!(offers.len(), 1, "of framework {framework}: {offers:?}");
        offers.values().next().unwrap().clone()
    }

    /// Thousandths of a core that it is offered, of every kind.
    pub(crate) fn offered(&self, framework: FrameworkId) -> u64 {
        let offers = self.inbox(framework).offers.values();
        let all = offers.map(|offer| {
            let pools = offer.pools.iter().map(|(_, amount)| amount.cpu_milli);
            offer.resources.cpu_milli + pools.sum::<u64>()
        });
        all.sum()
    }

    /// It gives back all that it holds, and wants nothing from now on.
    pub(crate) fn nothing(&mut self, framework: FrameworkId) {
        let (offers, refuse_for) = (self.held(framework), None);
        let decline = Call::Decline { offers, refuse_for };
        self.say(framework, vec![decline, Call::Want(Some(Vec::new()))]);
        assert_eq!(self.held(framework), []);
    }

    /// It gives back all that it holds, and wants this alone from now on.
    pub(crate) fn wants(&mut self, framework: FrameworkId, want: Want) {
        let (offers, refuse_for) = (self.held(framework), Some(DurationMs(0)));
        let decline = Call::Decline { offers, refuse_for };
        self.say(framework, vec![decline, Call::Want(Some(vec![want]))]);
    }

    /// Runs these on one agent, of which it holds an offer, and gives back all the rest.
    pub(crate) fn run_on(&mut self, framework: FrameworkId, agent: &str, tasks: Vec<TaskSpec>) {
        let agent = self.agent_id(agent).0;
        let offers = self.inbox(framework).offers.values();
        let (there, elsewhere): (Vec<_>, Vec<_>) = offers.partition(|o| o.agent.0 == agent);
        let ids = |offers: Vec<&Offer>| offers.iter().map(|o| o.id).collect::<Vec<_>>();
        let (there, offers) = (ids(there), ids(elsewhere));
        let accept = accept(&there, tasks.into_iter().map(launch).collect());
        self.say(
            framework,
            vec![accept, Call::Decline { offers, refuse_for: Some(DurationMs(0)) }],
        );
    }

    /// Accepts all that it holds of one agent, with these tasks.
    pub(crate) fn run(&mut self, framework: FrameworkId, tasks: Vec<TaskSpec>) {
        let operations = tasks.into_iter().map(launch).collect();
        self.accept(framework, operations);
    }

    pub(crate) fn accept(&mut self, framework: FrameworkId, operations: Vec<Operation>) {
        let held = self.held(framework);
        self.say(framework, vec![accept(&held, operations)]);
    }

    /// Updates that it was told since it was last asked.
    pub(crate) fn updates(&mut self, framework: FrameworkId) -> Vec<(String, TaskState, Reason)> {
        std::mem::take(&mut self.inboxes.get_mut(&framework).unwrap().updates)
    }

    /// Codes of refused calls that it was told since it was last asked.
    pub(crate) fn refusals(&mut self, framework: FrameworkId) -> Vec<String> {
        let refusals = std::mem::take(&mut self.inboxes.get_mut(&framework).unwrap().refusals);
        refusals.into_iter().map(|refusal| refusal.code).collect()
    }

    pub(crate) fn state_of(&self, framework: FrameworkId, task: &str) -> TaskState {
        let key = TaskKey { framework, task: TaskId(task.to_owned()) };
        self.leader.state().task(&key).unwrap().status.state
    }
}

impl Inbox {
    fn read(&mut self, mark: TurnMark, events: Vec<Event>) {
        assert!(self.mark.is_none(), "one turn at a time");
        self.mark = Some(mark);
        for event in events {
            match event {
                Event::Offers(offers) => {
                    self.offers.extend(offers.into_iter().map(|offer| (offer.id, offer)));
                }
                Event::Rescinded(ids) => {
                    self.offers.retain(|id, _| !ids.contains(id));
                    self.inverse.retain(|offer| !ids.contains(&offer.id));
                    self.rescinded.extend(ids);
                }
                Event::Agents(agents) => self.agents.extend(agents),
                Event::InverseOffers(offers) => self.inverse.extend(offers),
                Event::TaskUpdated(status) => {
                    self.updates.push((status.task.0, status.state, status.reason));
                }
                Event::Refused(refusal) => self.refusals.push(refusal),
                Event::Tasks { tasks, .. } => self.tasks.extend(tasks),
                Event::Timer(name) => self.timers.push(name),
                Event::Message(_) => self.messages += 1,
                Event::Request(request) => self.requests.push(request.id),
                _ => {}
            }
        }
    }
}

/// All that an agent has so that so much can be offered: a twentieth is held back, at least 0.2.
pub(crate) fn whole(cpu_milli: u64) -> Resources {
    let held_back = (cpu_milli / 19).max(200);
    Resources { disk_bytes: 1 << 40, ..Resources::cpu_memory(cpu_milli + held_back, 64 << 30) }
}
