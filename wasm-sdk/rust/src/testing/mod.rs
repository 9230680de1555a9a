//! A small cluster that is not there: drives a [`Scheduler`] natively, a turn at a time.
//!
//! [`FakeCluster`] offers what its agents have, checks what the scheduler asks for as the cluster would, keeps its
//! durable state, and lets a test say how tasks end. It runs no task and shares nothing between frameworks. Its
//! surprise is that it helps to find what a scheduler forgets: [`FakeCluster::drop_instance`] takes its memory away,
//! and [`FakeCluster::lose_next_turn`] takes a turn.
//!
//! ```
//! # use tepui_sdk::{Cx, Offer, Scheduler, Task};
//! # #[derive(Default)]
//! # struct Hello;
//! # impl Scheduler for Hello {
//! #     fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
//! #         let task = Task::command("hello", "hello").cpu_milli(100).memory_mib(32);
//! #         cx.accept(&offers[0]).launch(task);
//! #         cx.want(Vec::new());
//! #     }
//! # }
//! use tepui_sdk::testing::FakeCluster;
//!
//! let mut cluster = FakeCluster::new().agent("a1", 1_000, 512).submit::<Hello>(&[]);
//! cluster.step();
//! assert_eq!(cluster.live(), ["hello"]);
//! cluster.finish_task("hello").step();
//! ```

#![expect(clippy::panic, reason = "these are tests: what a test gets wrong must stop it")]

mod apply;
mod tasks;
mod turns;

use crate::log::native;
use crate::wire::protocol::Timer;
use crate::{
    AgentInfo, Blob, Event, Level, Offer, Outcome, Request, Resources, Response, Runner, Scheduler,
    Task, TaskStatus, Want,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

pub use tasks::FakeTask;

/// How much time a step takes.
pub const STEP_MS: u64 = 100;
/// How long an offer stands.
pub const OFFER_TIMEOUT_MS: u64 = 10_000;
/// Where the clock begins.
pub const BEGINNING_MS: u64 = 1_700_000_000_000;

/// A scheduler of any type, with its memory.
trait Instance {
    fn turn(
        &mut self,
        state: &BTreeMap<String, Vec<u8>>,
        now: u64,
        events: Vec<Event>,
    ) -> Vec<crate::Call>;
}

impl<S: Scheduler> Instance for Runner<S> {
    fn turn(
        &mut self,
        state: &BTreeMap<String, Vec<u8>>,
        now: u64,
        events: Vec<Event>,
    ) -> Vec<crate::Call> {
        self.cx.store.committed = crate::store::Committed::Copy(state.clone());
        Self::turn(self, now, events)
    }
}

fn instance<S: Scheduler + 'static>() -> Box<dyn Instance> {
    Box::new(Runner::<S>::hosted())
}

/// An agent: what it has, and what of it is neither offered nor used.
#[derive(Debug)]
struct FakeAgent {
    info: AgentInfo,
    free: Resources,
    /// Not to be offered before.
    refused_until: u64,
}

/// A small cluster with one framework on it.
pub struct FakeCluster {
    now: u64,
    /// Turns that were committed.
    turns: u64,
    next_id: u64,
    agents: BTreeMap<String, FakeAgent>,
    offers: BTreeMap<u64, Offer>,
    tasks: BTreeMap<String, FakeTask>,
    /// Identifiers in the order in which they were launched.
    launched: Vec<String>,
    wants: Option<Vec<Want>>,
    suppressed: bool,
    config: Vec<(String, String)>,
    roles: Vec<String>,
    blobs: BTreeMap<String, Vec<u8>>,
    state: BTreeMap<String, Vec<u8>>,
    timers: BTreeMap<String, u64>,
    waiting: Vec<Event>,
    responses: BTreeMap<u64, Response>,
    outcome: Option<Outcome>,
    refusals: Vec<String>,
    expired: usize,
    make: Option<fn() -> Box<dyn Instance>>,
    instance: Option<Box<dyn Instance>>,
    /// Whether this framework ever had an instance.
    has_started: bool,
    loses_turn: bool,
    lines: Vec<(Level, String)>,
}

impl std::fmt::Debug for FakeCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeCluster")
            .field("now", &self.now)
            .field("turns", &self.turns)
            .field("agents", &self.agents)
            .field("offers", &self.offers)
            .field("tasks", &self.tasks)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Default for FakeCluster {
    fn default() -> Self {
        Self::new()
    }
}

// ---- setting up --------------------------------------------------------------------------------

impl FakeCluster {
    /// A cluster without agents, blobs, or a framework.
    pub fn new() -> Self {
        Self {
            now: BEGINNING_MS,
            turns: 0,
            next_id: 1,
            agents: BTreeMap::new(),
            offers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            launched: Vec::new(),
            wants: None,
            suppressed: false,
            config: Vec::new(),
            roles: vec!["*".to_owned()],
            blobs: BTreeMap::new(),
            state: BTreeMap::new(),
            timers: BTreeMap::new(),
            waiting: Vec::new(),
            responses: BTreeMap::new(),
            outcome: None,
            refusals: Vec::new(),
            expired: 0,
            make: None,
            instance: None,
            has_started: false,
            loses_turn: false,
            lines: Vec::new(),
        }
    }

    /// Adds an agent: CPU in thousandths of a core, memory in MiB, and plenty of disk. Also later, in the midst.
    #[must_use]
    pub fn agent(mut self, name: &str, cpu_milli: u64, memory_mib: u64) -> Self {
        self.add_agent(name, cpu_milli, memory_mib);
        self
    }

    /// Adds an agent to a cluster that runs.
    pub fn add_agent(&mut self, name: &str, cpu_milli: u64, memory_mib: u64) -> &mut Self {
        let free =
            Resources { disk_bytes: 1 << 40, ..Resources::cpu_memory(cpu_milli, memory_mib) };
        let info = AgentInfo {
            handle: u32::try_from(self.fresh_id()).unwrap_or(u32::MAX),
            id: name.to_owned(),
            hostname: name.to_owned(),
            domain: None,
            attributes: Vec::new(),
            unavailability: None,
            extra: Vec::new(),
        };
        self.agents.insert(name.to_owned(), FakeAgent { info, free, refused_until: 0 });
        self
    }

    /// Adds a blob that the framework is submitted with.
    #[must_use]
    pub fn blob(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.blobs.insert(name.to_owned(), bytes.into());
        self
    }

    /// Submits a scheduler with its settings. Its first instance begins at the next step.
    #[must_use]
    pub fn submit<S: Scheduler + 'static>(mut self, config: &[(&str, &str)]) -> Self {
        self.config =
            config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.make = Some(instance::<S>);
        self
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

// ---- looking -----------------------------------------------------------------------------------

impl FakeCluster {
    /// The clock, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now
    }

    /// Turns that were committed.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Identifiers of all tasks that were ever launched, in order.
    pub fn launched(&self) -> &[String] {
        &self.launched
    }

    /// Identifiers of the tasks that have not ended, sorted.
    pub fn live(&self) -> Vec<&str> {
        self.tasks
            .iter()
            .filter(|(_, task)| !task.state().is_final())
            .map(|(id, _)| id.as_str())
            .collect()
    }

    /// A task that was launched.
    pub fn task(&self, id: &str) -> Option<&FakeTask> {
        self.tasks.get(id)
    }

    /// A value of durable state.
    pub fn state<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.state.get(key).and_then(|bytes| postcard::from_bytes(bytes).ok())
    }

    /// The keys of durable state, sorted.
    pub fn keys(&self) -> Vec<&str> {
        self.state.keys().map(String::as_str).collect()
    }

    /// Bytes of durable state, keys and values.
    pub fn state_bytes(&self) -> usize {
        self.state.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// What the scheduler wants; none is anything.
    pub fn wants(&self) -> Option<&[Want]> {
        self.wants.as_deref()
    }

    /// A blob that was submitted, or put out by a task.
    pub fn blob_bytes(&self, name: &str) -> Option<&[u8]> {
        self.blobs.get(name).map(Vec::as_slice)
    }

    /// The answer to a request.
    pub fn response(&self, request: u64) -> Option<&Response> {
        self.responses.get(&request)
    }

    /// How the framework ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Codes and words of the calls that were refused.
    pub fn refusals(&self) -> &[String] {
        &self.refusals
    }

    /// Offers that the scheduler neither used nor gave back in time.
    pub fn expired_offers(&self) -> usize {
        self.expired
    }

    /// Offers that are out now.
    pub fn open_offers(&self) -> usize {
        self.offers.len()
    }

    /// What the scheduler has logged.
    pub fn log(&self) -> &[(Level, String)] {
        &self.lines
    }

    /// A task's inputs as its sandbox would hold them: paths and bytes.
    ///
    /// # Panics
    /// If there is no such task, or no such blob.
    pub fn inputs(&self, id: &str) -> Vec<(String, Vec<u8>)> {
        let Some(task) = self.tasks.get(id) else { panic!("no task `{id}` was launched") };
        task.spec.inputs.iter().map(|input| (input.path.clone(), self.input_bytes(input))).collect()
    }

    fn input_bytes(&self, input: &crate::Input) -> Vec<u8> {
        let name = input.source.strip_prefix("blob:").unwrap_or(&input.source);
        let Some(bytes) = self.blobs.get(name) else { panic!("there is no blob `{name}`") };
        let Some((first, length)) = input.range else { return bytes.clone() };
        let range = usize::try_from(first).ok().zip(usize::try_from(first + length).ok());
        match range.and_then(|(first, end)| bytes.get(first..end)) {
            Some(part) => part.to_vec(),
            None => panic!("blob `{name}` has {} bytes, not {length} from {first} on", bytes.len()),
        }
    }
}

// ---- acting ------------------------------------------------------------------------------------

impl FakeCluster {
    /// Sends a request to the framework's HTTP address; [`Self::response`] has the answer to the number returned.
    pub fn request(&mut self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> u64 {
        let id = self.fresh_id();
        let (method, path) = (method.to_owned(), path.to_owned());
        let request = Request { id, method, path, headers: Vec::new(), body: body.into() };
        self.waiting.push(Event::Request(request));
        id
    }

    /// Takes the scheduler's memory away. The next step begins another instance over the same state.
    pub fn drop_instance(&mut self) -> &mut Self {
        self.instance = None;
        self.recall_offers();
        self
    }

    /// The next turn will be taken, but its answer is lost: nothing of it happens, and its events come again.
    pub fn lose_next_turn(&mut self) -> &mut Self {
        self.loses_turn = true;
        self
    }

    /// Takes an agent away, with its offers; its tasks end as `lost`.
    pub fn lose_agent(&mut self, name: &str) -> &mut Self {
        let Some(agent) = self.agents.remove(name) else { return self };
        let gone: Vec<u64> = self
            .offers
            .values()
            .filter(|offer| offer.agent == agent.info.handle)
            .map(|offer| offer.id)
            .collect();
        self.offers.retain(|id, _| !gone.contains(id));
        if !gone.is_empty() {
            self.waiting.push(Event::Rescinded(gone));
        }
        self.waiting.push(Event::AgentLost(name.to_owned()));
        let tasks: Vec<String> = self.live_on(name);
        for id in tasks {
            self.end_task(&id, crate::TaskState::Lost, "agent-unreachable", None);
        }
        self
    }

    /// Steps until the framework has ended, and each time lets `act` do something first, such as ending tasks.
    ///
    /// # Panics
    /// If the framework has not ended after so many steps.
    pub fn run(&mut self, steps: usize, mut act: impl FnMut(&mut Self)) -> &Outcome {
        for _ in 0..steps {
            if self.outcome.is_some() {
                break;
            }
            act(self);
            self.step();
        }
        match &self.outcome {
            Some(outcome) => outcome,
            None => {
                panic!("the framework has not ended after {steps} steps; live: {:?}", self.live())
            }
        }
    }

    fn blob_list(&self) -> Vec<Blob> {
        self.blobs.iter().map(|(name, bytes)| tasks::blob_of(name, bytes)).collect()
    }

    fn take_lines(&mut self) {
        self.lines.extend(native::take());
    }

    fn push_timer(&mut self, timer: Timer) {
        self.timers.insert(timer.name, self.now + timer.after);
    }

    fn status_of(&self, id: &str) -> Option<TaskStatus> {
        self.tasks.get(id).map(|task| task.status.clone())
    }

    fn spec_of(&self, id: &str) -> Option<&Task> {
        self.tasks.get(id).map(|task| &task.spec)
    }
}
