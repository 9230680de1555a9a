//! What the loop's orders are carried out with: the session, cells, modules, schedulers, logs, and jobs.
//!
//! Owned by the loop and used by it alone, so there is no lock. Nothing here waits: what takes time is a job, and its
//! end comes back as an [`Event`]. Every queue has a bound; who does not keep up is cut off, never waited for.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use tepui_agent_core::{Effect, Input, Prepared, Refused, needs_sandbox};
use tepui_proto::cell::{CellCommand, CellEvent};
use tepui_proto::control::{AgentMessage, Launch, LogStream, MasterMessage, ModuleVerdict};
use tepui_proto::scheduler::{FromScheduler, Open, SchedulerFailure};
use tepui_proto::tasks::Output;
use tepui_proto::{FrameworkId, Incarnation, LaunchNumber, Reason, Tenant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::blobs::Blobs;
use crate::cells::{self, CellStarter};
use crate::fetch::Link;
use crate::folders::Folders;
use crate::hosting::SchedulerStream;
use crate::janitor::{Janitor, Removal};
use crate::logs::{Followers, Growth};
use crate::modules::{Key, Modules, Outcome, Step, Waiter};
use crate::room::Room;
use crate::transfers::Transfers;
use crate::{outputs, sandbox};

/// What comes to the loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// A fact for the core as it is.
    Fact(Input),
    /// A control stream is open; messages for the master go here.
    SessionOpened { id: u64, control: mpsc::Sender<AgentMessage> },
    /// That session is over.
    SessionClosed { id: u64 },
    /// A master does not want this agent for good.
    Refused { code: String, message: String },
    /// From the master of that session.
    MasterSaid { session: u64, messages: Vec<MasterMessage> },
    /// From a cell.
    CellSaid { tenant: Tenant, events: Vec<CellEvent> },
    /// The leader opened a scheduler's stream.
    SchedulerStream { open: Box<Open>, stream: SchedulerStream },
    /// Somebody wants logs; the answer is none if there are none.
    LogWanted { launch: LaunchNumber, reply: oneshot::Sender<Option<watch::Receiver<Growth>>> },
    /// What came of fetching, or of compiling.
    ModuleStep { key: Key, step: Step },
}

/// What is asked for again and again to carry out orders.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(crate) folders: Folders,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) link: Link,
    pub(crate) modules: Modules,
    pub(crate) blobs: Blobs,
    pub(crate) janitor: Janitor,
    pub(crate) followers: Followers,
    pub(crate) jobs: JoinSet<()>,
    pub(crate) executable: Arc<Path>,
    /// Sandboxes that are made.
    pub(crate) making: Transfers,
    /// Sandboxes that are emptied of their outputs.
    pub(crate) storing: Transfers,
    /// Those that are, to be left alone when their tasks are.
    pub(crate) stores: BTreeMap<LaunchNumber, AbortHandle>,
    pub(crate) room: Room,
    pub(crate) session: Option<(u64, mpsc::Sender<AgentMessage>)>,
    pub(crate) cells: BTreeMap<Tenant, mpsc::Sender<CellCommand>>,
    pub(crate) cell_tasks: JoinSet<()>,
    pub(crate) cells_started: u64,
    pub(crate) schedulers: BTreeMap<(FrameworkId, Incarnation), SchedulerStream>,
}

impl Rooms {
    /// Turns an event into facts.
    pub(crate) fn take(&mut self, event: Event, facts: &mut VecDeque<Input>) {
        match event {
            Event::Fact(fact) => {
                if let Input::CellDied { tenant, .. } = &fact {
                    self.cells.remove(tenant);
                }
                facts.push_back(fact);
            }
            Event::SessionOpened { id, control } => {
                self.session = Some((id, control));
                facts.push_back(Input::MasterConnected);
            }
            Event::SessionClosed { id } => {
                if self.session.as_ref().is_some_and(|session| session.0 == id) {
                    self.session = None;
                }
                facts.push_back(Input::MasterDisconnected);
            }
            Event::MasterSaid { session, messages } => {
                if self.session.as_ref().is_some_and(|(id, _control)| *id == session) {
                    facts.extend(messages.into_iter().map(Input::MasterSaid));
                }
            }
            Event::CellSaid { tenant, events } => {
                facts.extend(
                    events
                        .into_iter()
                        .map(|event| Input::CellSaid { tenant: tenant.clone(), event }),
                );
            }
            Event::SchedulerStream { open, stream } => {
                let key = (open.framework, open.incarnation);
                // A second stream for one instance is dropped, and so ends.
                if let std::collections::btree_map::Entry::Vacant(place) =
                    self.schedulers.entry(key)
                {
                    place.insert(stream);
                    facts.push_back(Input::SchedulerOpened(*open));
                }
            }
            Event::ModuleStep { key, step } => {
                if let Some((waiters, outcome)) = self.modules.on_step(key, step, &mut self.jobs) {
                    for waiter in waiters {
                        self.hand_out(waiter, outcome.clone(), facts);
                    }
                }
            }
            // The loop answers these itself.
            Event::Refused { .. } | Event::LogWanted { .. } => {}
        }
    }

    /// Carries out an order. Facts that are known at once are added to `facts`.
    pub(crate) fn perform(&mut self, order: Effect, facts: &mut VecDeque<Input>) {
        match order {
            Effect::SendToMaster(message) => self.perform_send(message),
            Effect::CloseSession { code } => {
                tracing::warn!(code, "leaving this master");
                self.session = None;
            }
            Effect::StartCell(tenant) => self.perform_start_cell(tenant),
            Effect::ToCell { tenant, command } => self.perform_command(&tenant, command),
            Effect::Prepare(launch) if !self.room.is_there() => {
                let message = "the agent's disk is full".to_owned();
                facts.push_back(refusal(launch.number, Reason::AgentFailed, message));
            }
            Effect::Prepare(launch) => {
                self.perform_want((launch.module, launch.kind), Waiter::Task(launch), facts);
            }
            Effect::StoreOutputs { launch, framework, outputs } => {
                self.perform_store(launch, framework, outputs);
            }
            Effect::CheckModule { digest, kind } => {
                self.perform_want((digest, kind), Waiter::Check((digest, kind)), facts);
            }
            Effect::PrepareScheduler(open) => {
                let key = (open.module, tepui_proto::control::ModuleKind::Scheduler);
                let waiter =
                    Waiter::Scheduler { framework: open.framework, incarnation: open.incarnation };
                self.perform_want(key, waiter, facts);
            }
            Effect::ReadSchedulerStream { framework, incarnation } => {
                let gate = self
                    .schedulers
                    .get_mut(&(framework, incarnation))
                    .and_then(|stream| stream.gate.take());
                if let Some(gate) = gate {
                    // The stream may have ended.
                    let _ = gate.send(());
                }
            }
            Effect::ToSchedulerStream { framework, incarnation, frame } => {
                self.perform_answer((framework, incarnation), frame, facts);
            }
            Effect::CloseSchedulerStream { framework, incarnation } => {
                self.schedulers.remove(&(framework, incarnation));
            }
            Effect::LogGrew { launch, stream, size } => {
                self.followers.on_grown(launch, stream, size);
            }
            Effect::EndLogs { launch, dropped } => self.followers.on_ended(launch, dropped),
            Effect::RemoveSandbox(launch) => {
                // Whether its outputs are stored or not, nobody waits for them any more.
                if let Some(store) = self.stores.remove(&launch) {
                    store.abort();
                }
                self.janitor.remove(Removal::Sandbox(launch));
            }
            Effect::RemoveLogs(launch) => self.janitor.remove(Removal::Logs(launch)),
        }
    }

    /// Forgets jobs that are done.
    pub(crate) fn reap(&mut self) {
        while self.jobs.try_join_next().is_some() {}
        while self.cell_tasks.try_join_next().is_some() {}
    }

    fn perform_send(&mut self, message: AgentMessage) {
        let Some((_id, control)) = &self.session else { return };
        if control.try_send(message).is_err() {
            // Too slow, or gone. What was not said is said in the next session.
            tracing::warn!("the master does not keep up; hanging up");
            self.session = None;
        }
    }

    fn perform_start_cell(&mut self, tenant: Tenant) {
        self.cells_started += 1;
        let starter = CellStarter {
            executable: Arc::clone(&self.executable),
            sockets: Arc::clone(&self.folders.sockets),
            inbox: self.inbox.clone(),
        };
        let (commands, task) = cells::start(starter, tenant.clone(), self.cells_started);
        self.cells.insert(tenant, commands);
        self.cell_tasks.spawn(task);
    }

    fn perform_command(&mut self, tenant: &Tenant, command: CellCommand) {
        let Some(commands) = self.cells.get(tenant) else { return };
        if commands.try_send(command).is_err() {
            // It has died, and says so soon; or it takes nothing any more, and dropping this ends it.
            tracing::warn!(%tenant, "the cell takes no commands");
            self.cells.remove(tenant);
        }
    }

    fn perform_answer(
        &mut self,
        key: (FrameworkId, Incarnation),
        frame: FromScheduler,
        facts: &mut VecDeque<Input>,
    ) {
        let Some(stream) = self.schedulers.get(&key) else { return };
        if stream.to_leader.try_send(frame).is_err() {
            self.schedulers.remove(&key);
            facts.push_back(Input::SchedulerStreamEnded { framework: key.0, incarnation: key.1 });
        }
    }

    fn perform_want(&mut self, key: Key, waiter: Waiter, facts: &mut VecDeque<Input>) {
        if let Some((waiter, outcome)) = self.modules.want(key, waiter, &mut self.jobs) {
            self.hand_out(waiter, outcome, facts);
        }
    }

    fn hand_out(&mut self, waiter: Waiter, outcome: Outcome, facts: &mut VecDeque<Input>) {
        match waiter {
            Waiter::Check((digest, kind)) => {
                let verdict = match outcome {
                    Outcome::Ready { compile_ms, .. } => ModuleVerdict::Good { compile_ms },
                    Outcome::Bad { code, message } => ModuleVerdict::Bad { code, message },
                    Outcome::Missing(message) | Outcome::Failed(message) => {
                        ModuleVerdict::Unknown(message)
                    }
                };
                facts.push_back(Input::ModuleChecked { digest, kind, verdict });
            }
            Waiter::Scheduler { framework, incarnation } => {
                let result = match outcome {
                    Outcome::Ready { path, .. } => Ok(path.as_ref().to_owned()),
                    Outcome::Bad { code, message } => {
                        Err((SchedulerFailure::Module, format!("{message} ({code})")))
                    }
                    Outcome::Missing(message) => Err((SchedulerFailure::Module, message)),
                    Outcome::Failed(message) => Err((SchedulerFailure::Agent, message)),
                };
                facts.push_back(Input::SchedulerPrepared { framework, incarnation, result });
            }
            Waiter::Task(launch) => match outcome {
                Outcome::Ready { path, .. } => self.make_sandbox(launch, &path, facts),
                Outcome::Bad { code, message } => {
                    facts.push_back(refusal(launch.number, reason_of(&code), message));
                }
                Outcome::Missing(message) => {
                    facts.push_back(refusal(launch.number, Reason::ModuleUnknown, message));
                }
                Outcome::Failed(message) => {
                    facts.push_back(refusal(launch.number, Reason::AgentFailed, message));
                }
            },
        }
    }

    fn make_sandbox(&mut self, launch: Box<Launch>, compiled: &str, facts: &mut VecDeque<Input>) {
        let number = launch.number;
        let mut prepared = Prepared {
            compiled: compiled.to_owned(),
            sandbox: None,
            stdout: self.folders.log(number, LogStream::Stdout),
            stderr: self.folders.log(number, LogStream::Stderr),
        };
        if !needs_sandbox(&launch) {
            facts.push_back(Input::TaskPrepared { launch: number, result: Ok(prepared) });
            return;
        }
        let transfers = self.making.of(launch.key.framework);
        let (blobs, inbox) = (self.blobs.clone(), self.inbox.clone());
        let path = self.folders.sandbox(number);
        self.jobs.spawn(async move {
            let permit = transfers.acquire().await;
            let result = sandbox::make(&path, &launch, &blobs).await.map(|()| {
                prepared.sandbox = Some(path);
                prepared
            });
            drop(permit);
            // The loop may have stopped.
            drop(inbox.send(Event::Fact(Input::TaskPrepared { launch: number, result })).await);
        });
    }

    fn perform_store(
        &mut self,
        launch: LaunchNumber,
        framework: FrameworkId,
        outputs: Vec<Output>,
    ) {
        let transfers = self.storing.of(framework);
        let (link, inbox) = (self.link.clone(), self.inbox.clone());
        let path = self.folders.sandbox(launch);
        let store = self.jobs.spawn(async move {
            let permit = transfers.acquire().await;
            let result = outputs::store(path, launch, outputs, link).await;
            drop(permit);
            // The loop may have stopped.
            drop(inbox.send(Event::Fact(Input::OutputsStored { launch, result })).await);
        });
        self.stores.insert(launch, store);
    }
}

fn refusal(launch: LaunchNumber, reason: Reason, message: String) -> Input {
    Input::TaskPrepared { launch, result: Err(Refused { reason, message }) }
}

fn reason_of(code: &str) -> Reason {
    match code {
        "module-imports" => Reason::ModuleImports,
        "module-invalid" => Reason::ModuleInvalid,
        _ => Reason::ModuleUncompilable,
    }
}
