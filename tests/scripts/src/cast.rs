//! Who plays in a story: a leader and its log, agents by name, frameworks by name.

use crate::print::print;
use std::collections::BTreeMap;
use tepui_master_core::entry::of_modules;
use tepui_master_core::{ConnectionId, Effect, Effects, Entry, Input, Leader, State, Ticket};
use tepui_proto::api::FrameworkSpec;
use tepui_proto::calls::{Acceptance, Operation, Outcome, Want};
use tepui_proto::control::{Hello, Launch, MasterMessage, ModuleKind, Report, ReportBody};
use tepui_proto::events::{Event, Message};
use tepui_proto::scheduler::{FromScheduler, SchedulerFailure, ToScheduler, TurnMark, TurnUsage};
use tepui_proto::{
    Call, Digest, DurationMs, FrameworkId, LaunchNumber, Life, OfferId, Reason, ReportSeq,
    Resources, TaskSpec, TaskState, TaskStatus, Tenant, Term, Timestamp, Usage,
};

const SCHEDULER: Digest = Digest([1; 32]);
const TASK: Digest = Digest([2; 32]);

#[derive(Debug, Default)]
struct Actor {
    connection: u64,
    cpus: u64,
    memory_mib: u64,
    mark: LaunchNumber,
    reports: u64,
    launches: Vec<Launch>,
}

#[derive(Debug)]
pub(crate) struct Cast {
    leader: Leader,
    log: Vec<Entry>,
    now: Timestamp,
    agents: BTreeMap<String, Actor>,
    turns: BTreeMap<FrameworkId, TurnMark>,
    offers: BTreeMap<FrameworkId, Vec<OfferId>>,
    connections: u64,
}

impl Cast {
    pub(crate) fn new() -> Self {
        let modules = [(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let modules = modules.map(|(digest, kind)| (digest, Some(kind), 1));
        let mut cast = Self {
            leader: Leader::new(State::with_modules(modules)),
            log: of_modules(modules),
            now: Timestamp(0),
            agents: BTreeMap::new(),
            turns: BTreeMap::new(),
            offers: BTreeMap::new(),
            connections: 0,
        };
        cast.input(Input::TermWon(Term(1)));
        cast
    }

    /// Lets a line happen; none if it is not understood.
    pub(crate) fn happen(&mut self, words: &[&str]) -> Option<Vec<String>> {
        match words {
            ["agent", name, cpus, memory] => {
                let actor = self.agents.entry((*name).to_owned()).or_default();
                (actor.cpus, actor.memory_mib) = (cpus.parse().ok()?, memory.parse().ok()?);
                self.hello(name)
            }
            ["hello", name] => self.hello(name),
            ["hello", name, "forgets"] => {
                self.agents.get_mut(*name)?.launches.clear();
                self.hello(name)
            }
            ["close", name] => {
                let connection = ConnectionId(self.agents.get(*name)?.connection);
                Some(self.input(Input::AgentDisconnected(connection)))
            }
            ["submit", name, roles @ ..] => Some(self.submit(name, roles)),
            ["answer", name, calls @ ..] => self.answer(name, calls, 0),
            // With the mark of a turn that was committed already.
            ["answer-again", name, calls @ ..] => self.answer(name, calls, 1),
            ["says", agent, task, text] => self.says(agent, task, text),
            ["trap", name] => self.trap(name),
            ["report", agent, task, state] => self.report(agent, task, state),
            ["wait", ms] => {
                let ms: u64 = ms.parse().ok()?;
                self.now = self.now.after(DurationMs(ms));
                for connection in self.agents.values().map(|actor| ConnectionId(actor.connection)) {
                    let mut fx = Effects::default();
                    self.leader.handle(self.now, Input::AgentHeard(connection), &mut fx);
                }
                Some(self.settle(Effects::default()))
            }
            ["failover"] => Some(self.failover()),
            _ => None,
        }
    }

    fn input(&mut self, input: Input) -> Vec<String> {
        let mut fx = Effects::default();
        self.leader.handle(self.now, input, &mut fx);
        self.settle(fx)
    }

    fn settle(&mut self, mut fx: Effects) -> Vec<String> {
        self.leader.settle(self.now, &mut fx);
        let violation = self.leader.check().err();
        assert_eq!(violation, None, "an invariant is broken");
        self.log.extend(fx.entries);
        for order in &fx.orders {
            self.remember(order);
        }
        fx.orders.iter().filter_map(|order| print(order, &self.leader)).collect()
    }

    fn remember(&mut self, order: &Effect) {
        match order {
            Effect::SendTurn {
                framework, turn: ToScheduler::Turn { mark, events, .. }, ..
            } => {
                self.turns.insert(*framework, *mark);
                let told = events.iter().filter_map(|event| {
                    if let Event::Offers(offers) = event { Some(offers) } else { None }
                });
                let ids: Vec<OfferId> = told.flatten().map(|offer| offer.id).collect();
                self.offers.entry(*framework).or_default().extend(ids);
            }
            Effect::Send { connection, message: MasterMessage::Launch { launches, .. } } => {
                if let Some(actor) =
                    self.agents.values_mut().find(|actor| actor.connection == connection.0)
                {
                    actor.mark = launches.last().map_or(actor.mark, |launch| launch.number);
                    actor.launches.extend(launches.iter().cloned());
                }
            }
            _ => {}
        }
    }

    fn hello(&mut self, name: &str) -> Option<Vec<String>> {
        self.connections += 1;
        let connection = self.connections;
        let actor = self.agents.get_mut(name)?;
        actor.connection = connection;
        let tasks = actor.launches.iter().map(|launch| tepui_proto::control::TaskReport {
            launch: launch.number,
            key: launch.key.clone(),
            state: TaskState::Running,
        });
        let hello = Hello {
            life: Life(1),
            term: Term(0),
            hostname: name.to_owned(),
            version: "0".into(),
            resources: Resources::cpu_memory(actor.cpus * 1_000, actor.memory_mib << 20),
            pools: Vec::new(),
            attributes: Vec::new(),
            domain: None,
            max_tasks: tepui_proto::limits::CELL_INSTANCES,
            has_room: true,
            launch_mark: actor.mark,
            tasks: tasks.collect(),
            has_more_tasks: false,
            reports: Vec::new(),
        };
        let (connection, name) = (ConnectionId(connection), name.to_owned());
        Some(self.input(Input::AgentConnected { connection, name, hello: Box::new(hello) }))
    }

    fn submit(&mut self, name: &str, roles: &[&str]) -> Vec<String> {
        let spec = FrameworkSpec {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            scheduler: SCHEDULER.to_string(),
            modules: BTreeMap::from([("task".to_owned(), TASK.to_string())]),
            ..FrameworkSpec::default()
        };
        let kinds = vec![(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let tenant = Tenant::from("acme");
        self.input(Input::FrameworkSubmitted {
            ticket: Ticket(9),
            tenant,
            spec: Box::new(spec),
            kinds,
        })
    }

    fn framework(&self, name: &str) -> Option<FrameworkId> {
        self.leader.state().framework_named(&Tenant::from("acme"), name).map(|(id, _)| id)
    }

    fn answer(&mut self, name: &str, words: &[&str], late_by: u64) -> Option<Vec<String>> {
        let framework = self.framework(name)?;
        let mut mark = self.turns.get(&framework).copied()?;
        if late_by == 0 {
            self.turns.remove(&framework);
        }
        mark.number.0 -= late_by;
        let calls =
            words.iter().map(|word| self.call(framework, word)).collect::<Option<Vec<_>>>()?;
        let frame = FromScheduler::Answer {
            mark,
            calls,
            usage: TurnUsage::default(),
            log: Vec::new(),
            dropped: false,
        };
        Some(self.input(Input::SchedulerSaid { framework, incarnation: mark.incarnation, frame }))
    }

    /// `accept=a:CPU_MILLI,b:…` on the oldest offer; `decline` all; `want=COUNT:CPU_MILLI`; `put=KEY`; `kill=TASK`;
    /// `suppress`; `revive`; `timer=NAME:MS`; `cancel=NAME`; `send=TASK:TEXT`; `reconcile` all, or `reconcile=TASK`;
    /// `complete`.
    fn call(&mut self, framework: FrameworkId, word: &str) -> Option<Call> {
        let offers = self.offers.entry(framework).or_default();
        Some(match word.split_once('=').unwrap_or((word, "")) {
            ("accept", tasks) => {
                let taken = if offers.is_empty() { Vec::new() } else { vec![offers.remove(0)] };
                let launch = |task: &str| {
                    let (id, cpu) = task.split_once(':')?;
                    Some(Operation::Launch(TaskSpec::command(id, "task", size(cpu)?)))
                };
                let operations = tasks.split(',').map(launch).collect::<Option<Vec<_>>>()?;
                Call::Accept(Acceptance { offers: taken, operations, refuse_for: None })
            }
            ("decline", "") => Call::Decline { offers: std::mem::take(offers), refuse_for: None },
            ("want", want) => {
                let (count, cpu) = want.split_once(':')?;
                let role =
                    self.leader.state().framework(framework)?.submission.roles.first()?.clone();
                let (count, each) = (count.parse().ok()?, size(cpu)?);
                let want = Want {
                    id: 1,
                    role,
                    count,
                    each,
                    port_count: 0,
                    revocable: false,
                    constraints: Vec::new(),
                };
                Call::Want(Some(vec![want]))
            }
            ("put", key) => Call::Put { key: key.to_owned(), value: Some(vec![1]) },
            ("kill", task) => Call::Kill { task: task.into(), grace: None },
            ("suppress", "") => Call::Suppress(Vec::new()),
            ("timer", timer) => {
                let (name, ms) = timer.split_once(':')?;
                Call::SetTimer { name: name.to_owned(), after: DurationMs(ms.parse().ok()?) }
            }
            ("cancel", name) => Call::CancelTimer(name.to_owned()),
            ("send", message) => {
                let (task, text) = message.split_once(':')?;
                Call::Send(Message { task: task.into(), data: text.as_bytes().to_vec() })
            }
            ("reconcile", "") => Call::Reconcile(Vec::new()),
            ("reconcile", task) => Call::Reconcile(vec![task.into()]),
            ("revive", "") => Call::Revive(Vec::new()),
            ("complete", "") => Call::Complete(Outcome {
                success: true,
                message: "done".into(),
                results: Vec::new(),
            }),
            _ => return None,
        })
    }

    fn trap(&mut self, name: &str) -> Option<Vec<String>> {
        let framework = self.framework(name)?;
        let mark = self.turns.remove(&framework)?;
        self.offers.remove(&framework);
        let failure = SchedulerFailure::Trapped;
        let frame = FromScheduler::Failed {
            mark: Some(mark),
            failure,
            message: "unreachable".into(),
            log: Vec::new(),
        };
        Some(self.input(Input::SchedulerSaid { framework, incarnation: mark.incarnation, frame }))
    }

    fn report(&mut self, agent: &str, task: &str, state: &str) -> Option<Vec<String>> {
        let state = match state {
            "running" => TaskState::Running,
            "finished" => TaskState::Finished,
            "failed" => TaskState::Failed,
            "killed" => TaskState::Killed,
            _ => return None,
        };
        let actor = self.agents.get_mut(agent)?;
        let launch = actor.launches.iter().find(|launch| launch.key.task.as_str() == task)?.clone();
        if state.is_final() {
            actor.launches.retain(|other| other.number != launch.number);
        }
        actor.reports += 1;
        let body = ReportBody::Status(status(&launch, state));
        let report =
            Report { seq: ReportSeq(actor.reports), launch: launch.number, key: launch.key, body };
        let connection = ConnectionId(actor.connection);
        Some(self.input(Input::Reported { connection, reports: vec![report] }))
    }

    /// A task says something to its scheduler.
    fn says(&mut self, agent: &str, task: &str, text: &str) -> Option<Vec<String>> {
        let actor = self.agents.get_mut(agent)?;
        let launch = actor.launches.iter().find(|launch| launch.key.task.as_str() == task)?.clone();
        actor.reports += 1;
        let body = ReportBody::Message(text.as_bytes().to_vec());
        let report =
            Report { seq: ReportSeq(actor.reports), launch: launch.number, key: launch.key, body };
        let connection = ConnectionId(actor.connection);
        Some(self.input(Input::Reported { connection, reports: vec![report] }))
    }

    /// Another leader, from the log alone.
    fn failover(&mut self) -> Vec<String> {
        let mut state = State::new();
        for entry in &self.log {
            state.apply(entry);
        }
        assert_eq!(
            state.digest(),
            self.leader.state().digest(),
            "the log does not add up to the state"
        );
        let term = state.term().next();
        self.leader = Leader::new(state);
        self.turns.clear();
        self.offers.clear();
        self.input(Input::TermWon(term))
    }
}

fn size(cpu_milli: &str) -> Option<Resources> {
    Some(Resources::cpu_memory(cpu_milli.parse().ok()?, 64 << 20))
}

fn status(launch: &Launch, state: TaskState) -> TaskStatus {
    TaskStatus {
        task: launch.key.task.clone(),
        agent: None,
        state,
        reason: Reason::None,
        message: String::new(),
        exit_code: None,
        outputs: Vec::new(),
        usage: Usage::default(),
        at: Timestamp(0),
    }
}
