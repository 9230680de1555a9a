//! What single facts cost a leader of 50,000 agents and 200 frameworks, `handle` and its share of `settle` together, in
//! batches as the shell makes them; and what an agent and a task take of memory.
//!
//! `inputs-hello-50k`: every agent says hello to a leader that knows them all, as after a change of leaders. `inputs-turn-50k`:
//! a scheduler answers a turn with one launch on one offer; what is left of the agent is offered to others, and the next turn
//! goes out. `inputs-update-50k`: an agent reports that a task runs, and later that it has finished, which frees the agent
//! and is offered again; `…-runs` and `…-ends` are its two halves.
//! Memory is what the process holds more (`VmRSS`), state and mind together, after a first hello of each agent, and after
//! the launches.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tepui_figures::{Failure, Row, machine, say};
use tepui_master_core::{ConnectionId, Effect, Effects, Input, Leader, State, Ticket};
use tepui_proto::api::FrameworkSpec;
use tepui_proto::calls::{Acceptance, Operation};
use tepui_proto::control::{Hello, Launch, MasterMessage, ModuleKind, Report, ReportBody};
use tepui_proto::events::{AttributeValue, Event, Offer};
use tepui_proto::scheduler::{FromScheduler, ToScheduler, TurnMark, TurnUsage};
use tepui_proto::{
    Call, Digest, FrameworkId, LaunchNumber, Life, Reason, ReportSeq, Resources, TaskSpec,
    TaskState, TaskStatus, Tenant, Term, Timestamp, Usage,
};

const AGENTS: u32 = 50_000;
const FRAMEWORKS: u64 = 200;
/// Inputs of a batch.
const BATCH: usize = 256;
/// Launches in all; one a turn.
const LAUNCHES: usize = 50_000;
const SCHEDULER: Digest = Digest([1; 32]);
const TASK: Digest = Digest([2; 32]);

/// A leader, and what it has said that has to be answered.
struct Cluster {
    leader: Leader,
    now: Timestamp,
    /// Turns that wait for an answer, with offers that were told and not used.
    turns: BTreeMap<FrameworkId, TurnMark>,
    offers: BTreeMap<FrameworkId, VecDeque<Offer>>,
    launches: Vec<(ConnectionId, Launch)>,
    tasks: u64,
}

pub(crate) fn measure(is_asked: &impl Fn(&str) -> bool) -> Result<Vec<Row>, Failure> {
    if !["inputs", "memory"].into_iter().any(is_asked) {
        return Ok(Vec::new());
    }
    let before = rss()?;
    let mut cluster = Cluster::new();
    cluster.submit()?;
    let (_, first) = cluster.run(hellos(0))?;
    let admitted = rss()?;
    let mut rows = vec![memory("memory-agent-50k", before, admitted, u64::from(AGENTS))];
    // Another term: all agents are known, and none is connected.
    cluster.turns.clear();
    cluster.run(vec![Input::TermWon(Term(2))])?;
    let (spans, hello) = cluster.run(hellos(1))?;
    say(&format!("first hellos took {first:.2?}"));
    rows.push(rate("inputs-hello-50k", AGENTS as usize, hello, spans));

    cluster.answer_first_turns()?;
    let before = rss()?;
    let (mut spans, mut sum) = (Vec::new(), Duration::ZERO);
    while cluster.launches.len() < LAUNCHES {
        let answers = cluster.answers();
        if answers.is_empty() {
            return Err("no scheduler has an offer".into());
        }
        let (batch, all) = cluster.run(answers)?;
        spans.extend(batch);
        sum += all;
    }
    let launched = cluster.launches.len();
    rows.push(memory("memory-task-50k", before, rss()?, launched as u64));
    rows.push(rate("inputs-turn-50k", launched, sum, spans));

    let launches = std::mem::take(&mut cluster.launches);
    let running = reports(&launches, TaskState::Running, 1);
    let finished = reports(&launches, TaskState::Finished, 2);
    let (runs, took) = cluster.run(running)?;
    let (ends, rest) = cluster.run(finished)?;
    let both = runs.iter().chain(&ends).copied().collect();
    rows.push(rate("inputs-update-50k", 2 * launched, took + rest, both));
    rows.push(rate("inputs-update-runs-50k", launched, took, runs));
    rows.push(rate("inputs-update-ends-50k", launched, rest, ends));
    Ok(rows)
}

fn rss() -> Result<u64, Failure> {
    Ok(machine::rss_kib(std::process::id()).ok_or("this process has no size")?)
}

fn memory(name: &str, before: u64, after: u64, count: u64) -> Row {
    let each = (after.saturating_sub(before) << 10) / count.max(1);
    say(&format!("{name}: {each} bytes each"));
    Row::named(name).with("bytes_each", each.into())
}

/// Times are those of a batch, divided by its inputs.
fn rate(name: &str, count: usize, sum: Duration, spans: Vec<Duration>) -> Row {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let per_second = Some(count as f64 / sum.as_secs_f64());
    Row { per_second, ..Row::of(name, spans) }
}

impl Cluster {
    fn new() -> Self {
        Self {
            leader: Leader::new(State::with_modules([
                (SCHEDULER, Some(ModuleKind::Scheduler), 1),
                (TASK, Some(ModuleKind::CommandP1), 1),
            ])),
            now: Timestamp(1_000_000),
            turns: BTreeMap::new(),
            offers: BTreeMap::new(),
            launches: Vec::new(),
            tasks: 0,
        }
    }

    /// Handles inputs in batches. Only `handle` and `settle` count: what they led to is read and dropped after.
    fn run(&mut self, inputs: Vec<Input>) -> Result<(Vec<Duration>, Duration), Failure> {
        let (mut spans, mut sum) = (Vec::new(), Duration::ZERO);
        let mut inputs = inputs.into_iter();
        loop {
            let batch: Vec<Input> = inputs.by_ref().take(BATCH).collect();
            let count = u32::try_from(batch.len())?;
            if count == 0 {
                return Ok((spans, sum));
            }
            self.now = Timestamp(self.now.0 + 1);
            let mut fx = Effects::default();
            let begun = Instant::now();
            for input in batch {
                self.leader.handle(self.now, input, &mut fx);
            }
            self.leader.settle(self.now, &mut fx);
            let span = begun.elapsed();
            spans.push(span / count);
            sum += span;
            fx.orders.into_iter().for_each(|order| self.perform(order));
        }
    }

    fn perform(&mut self, order: Effect) {
        match order {
            Effect::SendTurn {
                framework, turn: ToScheduler::Turn { mark, events, .. }, ..
            } => {
                self.turns.insert(framework, mark);
                let offers = self.offers.entry(framework).or_default();
                for event in events {
                    match event {
                        Event::Offers(more) => offers.extend(more),
                        Event::Rescinded(gone) => offers.retain(|offer| !gone.contains(&offer.id)),
                        _ => {}
                    }
                }
            }
            Effect::Send { connection, message: MasterMessage::Launch { launches, .. } } => {
                self.launches.extend(launches.into_iter().map(|launch| (connection, launch)));
            }
            _ => {}
        }
    }

    fn submit(&mut self) -> Result<(), Failure> {
        let kinds = vec![(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let mut inputs = vec![Input::TermWon(Term(1))];
        for at in 0..FRAMEWORKS {
            let spec = FrameworkSpec {
                name: format!("framework-{at}"),
                roles: vec![format!("team-{at}")],
                scheduler: SCHEDULER.to_string(),
                modules: BTreeMap::from([("task".to_owned(), TASK.to_string())]),
                ..FrameworkSpec::default()
            };
            inputs.push(Input::FrameworkSubmitted {
                ticket: Ticket(at),
                tenant: Tenant::from("acme"),
                spec: Box::new(spec),
                kinds: kinds.clone(),
            });
        }
        self.run(inputs)?;
        let frameworks = self.leader.state().framework(FrameworkId(FRAMEWORKS)).is_some();
        if frameworks { Ok(()) } else { Err("the frameworks were refused".into()) }
    }

    /// Schedulers answer that they have started; from then on they are offered what is free.
    fn answer_first_turns(&mut self) -> Result<(), Failure> {
        if self.turns.len() as u64 != FRAMEWORKS {
            return Err(format!("only {} schedulers have a place", self.turns.len()).into());
        }
        let turns = std::mem::take(&mut self.turns);
        let answers = turns.into_iter().map(|(id, mark)| answer(id, mark, Vec::new()));
        let answers: Vec<Input> = answers.collect();
        self.run(answers)?;
        Ok(())
    }

    /// Each scheduler that has a turn and an offer launches one task on it.
    fn answers(&mut self) -> Vec<Input> {
        let mut answers = Vec::new();
        let turns = std::mem::take(&mut self.turns);
        for (id, mark) in turns {
            let Some(offer) = self.offers.get_mut(&id).and_then(VecDeque::pop_front) else {
                self.turns.insert(id, mark);
                continue;
            };
            self.tasks += 1;
            let resources = Resources::cpu_memory(500, 256 << 20);
            let spec = TaskSpec::command(&format!("task-{}", self.tasks), "task", resources);
            let acceptance = Acceptance {
                offers: vec![offer.id],
                operations: vec![Operation::Launch(spec)],
                refuse_for: None,
            };
            answers.push(answer(id, mark, vec![Call::Accept(acceptance)]));
        }
        answers
    }
}

fn answer(framework: FrameworkId, mark: TurnMark, calls: Vec<Call>) -> Input {
    let usage = TurnUsage::default();
    let frame = FromScheduler::Answer { mark, calls, usage, log: Vec::new(), dropped: false };
    Input::SchedulerSaid { framework, incarnation: mark.incarnation, frame }
}

fn hellos(round: u64) -> Vec<Input> {
    let hello = |agent: u32| Input::AgentConnected {
        connection: ConnectionId(round * u64::from(AGENTS) + u64::from(agent)),
        name: format!("agent-{agent}"),
        hello: Box::new(Hello {
            life: Life(u64::from(agent)),
            term: Term(round),
            hostname: format!("host-{agent}"),
            version: "bench".to_owned(),
            resources: Resources::cpu_memory(16_000, 64 << 30),
            pools: Vec::new(),
            attributes: vec![("rack".to_owned(), AttributeValue::Text(format!("r{}", agent % 10)))],
            domain: None,
            max_tasks: tepui_proto::limits::CELL_INSTANCES,
            has_room: true,
            launch_mark: LaunchNumber(0),
            tasks: Vec::new(),
            has_more_tasks: false,
            reports: Vec::new(),
        }),
    };
    (0..AGENTS).map(hello).collect()
}

fn reports(launches: &[(ConnectionId, Launch)], state: TaskState, nth: u64) -> Vec<Input> {
    // An agent's reports are numbered over all of its tasks.
    let mut counts: BTreeMap<ConnectionId, u64> = BTreeMap::new();
    let mut each: BTreeMap<ConnectionId, u64> = BTreeMap::new();
    for (connection, _) in launches {
        *each.entry(*connection).or_default() += 1;
    }
    let report = |(connection, launch): &(ConnectionId, Launch)| {
        let count = counts.entry(*connection).or_default();
        *count += 1;
        let before = each.get(connection).copied().unwrap_or(0) * (nth - 1);
        let status = TaskStatus {
            task: launch.key.task.clone(),
            agent: None,
            state,
            reason: Reason::None,
            message: String::new(),
            exit_code: None,
            outputs: Vec::new(),
            usage: Usage::default(),
            at: Timestamp(0),
        };
        let report = Report {
            seq: ReportSeq(before + *count),
            launch: launch.number,
            key: launch.key.clone(),
            body: ReportBody::Status(status),
        };
        Input::Reported { connection: *connection, reports: vec![report] }
    };
    launches.iter().map(report).collect()
}
