//! The answer to a turn: each call is checked, and all of them become one entry or none.

use super::deadlines::Deadline;
use super::launches::{is_task_id, not_launched};
use super::mind::Beginning;
use super::starvation::Strike;
use super::{Leader, Step, agents, cut};
use crate::allocator::CheckedPatterns;
use crate::effect::{Effect, Effects};
use crate::entry::{Conversion, EntryKind, PooledTurn, TimerChange, Turn};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::calls::Call;
use tepui_proto::control::{Launch, MasterMessage};
use tepui_proto::events::Refusal;
use tepui_proto::scheduler::TurnUsage;
use tepui_proto::{
    AgentId, Bundle, DurationMs, FrameworkId, LaunchNumber, Reason, Role, TaskId, TaskKey,
    TaskSpec, TaskState, limits,
};

/// A turn as it is put together from an answer.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) framework: FrameworkId,
    pub(super) turn: Turn,
    /// Tasks that this turn launches, and how gently they are stopped unless another grace is given.
    pub(super) graces: BTreeMap<TaskId, DurationMs>,
    last_launch: BTreeMap<AgentId, LaunchNumber>,
    launched: BTreeMap<AgentId, usize>,
    /// What the records of launched tasks take.
    pub(super) grown: usize,
    /// Messages to tasks, sent once the turn is committed.
    pub(super) sends: Vec<(AgentId, MasterMessage)>,
    /// Carried out before the launches.
    pub(super) conversions: Vec<Conversion>,
    /// What is made of agents, after these conversions.
    pub(super) made: BTreeMap<AgentId, Bundle>,
    /// What launched tasks hold that do not hold just what anyone may use.
    pub(super) held: BTreeMap<TaskId, Bundle>,
    /// Tasks that are to be stopped, and how gently.
    pub(super) kills: BTreeMap<TaskId, DurationMs>,
    /// Tasks whose states are to be told again.
    pub(super) reconciled: BTreeSet<TaskId>,
    /// Whether all live tasks are to be told again.
    pub(super) recounts: bool,
    /// Regular expressions of its wants that were checked.
    pub(super) patterns: CheckedPatterns,
    /// How many of them were compiled for this answer.
    pub(super) compiled: usize,
    /// Whether it declined offers.
    pub(super) has_declined: bool,
    /// Orders of this answer, performed once the turn is committed.
    pub(super) fx: Effects,
}

impl Draft {
    pub(super) fn refuse(&mut self, index: u32, code: &str, mut message: String) {
        cut(&mut message);
        let turn = self.turn.number;
        self.turn.refusals.push(Refusal { turn, index, code: code.to_owned(), message });
    }

    pub(super) fn refuse_task(
        &mut self,
        role: Role,
        spec: &TaskSpec,
        why: (TaskState, Reason, String),
    ) {
        let mut status = not_launched(spec, why);
        cut(&mut status.message);
        if !is_task_id(status.task.as_str()) {
            status.task = TaskId("invalid".to_owned());
        }
        let name = spec.name.chars().take(limits::NAME_BYTES).collect();
        self.turn.refused_tasks.push((role, name, status));
    }

    /// How many tasks it has launched on an agent so far.
    pub(super) fn launches_on(&self, agent: AgentId) -> usize {
        self.launched.get(&agent).copied().unwrap_or(0)
    }

    pub(super) fn next_launch(&mut self, agent: AgentId, last: LaunchNumber) -> LaunchNumber {
        let next = self.last_launch.get(&agent).copied().unwrap_or(last).next();
        self.last_launch.insert(agent, next);
        *self.launched.entry(agent).or_default() += 1;
        next
    }
}

impl Leader {
    /// The answer has the expected mark. What it breaks is told with the name of the limit, and then nothing of it counts.
    pub(super) fn on_answer(
        &mut self,
        step: &mut Step<'_>,
        id: FrameworkId,
        calls: Vec<Call>,
        usage: TurnUsage,
    ) {
        if let Err(limit) = self.check_bounds(id, &calls) {
            return self.end_instance(
                step,
                id,
                (true, &format!("a turn was refused whole: {limit}")),
            );
        }
        let Some(mut draft) = self.begin_draft(id, usage) else { return };
        let last = calls.len().saturating_sub(1);
        for (at, call) in calls.into_iter().enumerate() {
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            self.on_call(step.now, &mut draft, (index, at == last), call);
        }
        self.commit_draft(step, draft);
    }

    /// Commits what an answer came to as one entry, and orders what follows from it.
    fn commit_draft(&mut self, step: &mut Step<'_>, draft: Draft) {
        let id = draft.framework;
        let Draft { mut turn, conversions, held, .. } = draft;
        turn.kills = draft.kills.into_iter().collect();
        turn.reconciled = draft.reconciled.into_iter().collect();
        let kills = turn.kills.clone();
        let launched: Vec<(AgentId, TaskId)> =
            turn.launches.iter().map(|launch| (launch.agent, launch.spec.id.clone())).collect();
        let (wants, completed) =
            (turn.wants.is_some() || turn.suppressed.is_some(), turn.completed.is_some());
        let refused = turn.refused_tasks.len() + turn.refusals.len();
        self.rest(step.now, id, (draft.compiled, refused));
        let timers = self.clear_timers(id, &turn.timers);
        if conversions.is_empty() && held.is_empty() {
            self.propose(step, EntryKind::TurnCommitted(Box::new(turn)));
        } else {
            self.mind.dirty.extend(conversions.iter().map(|conversion| conversion.agent));
            let pooled = PooledTurn { turn, conversions, held: held.into_iter().collect() };
            self.propose(step, EntryKind::TurnPooled(Box::new(pooled)));
        }
        self.set_timers(id, timers);
        if !launched.is_empty() {
            self.clear_strikes(id);
            self.note_full(launched.iter().map(|(agent, _)| *agent));
        } else if draft.has_declined {
            self.strike(step.now, id, Strike::Declined);
        }
        step.fx.orders.extend(draft.fx.orders);
        if !launched.is_empty() {
            self.send_launches(id, &launched, step.fx);
        }
        for (agent, message) in draft.sends {
            if let Some(connection) = self.mind.connection(agent) {
                step.fx.orders.push(Effect::Send { connection, message });
            }
        }
        for (task, grace) in kills {
            self.send_kill(&TaskKey { framework: id, task }, Some(grace), step.fx);
        }
        if let Some(hosted) = self.mind.framework(id).hosted.as_mut().filter(|_| draft.recounts) {
            hosted.beginning = Beginning::TasksAfter(None);
        }
        if completed {
            self.note(step.now, id, "completed", "its scheduler says that it is done");
            return self.stop_framework(step, id);
        }
        if !launched.is_empty() || wants {
            self.mind.asking.insert(id);
        }
        if self.mind.active.insert(id) || wants {
            self.mind.asking.insert(id);
            self.mind.all_dirty = true;
        }
    }

    /// Takes the deadlines of timers that a turn changes away; gives their names, each once.
    fn clear_timers(&mut self, id: FrameworkId, changes: &[TimerChange]) -> BTreeSet<String> {
        let name = |change: &TimerChange| match change {
            TimerChange::Set(name, _) | TimerChange::Cancel(name) => name.clone(),
        };
        let names: BTreeSet<String> = changes.iter().map(name).collect();
        let timers = self.state.frameworks.get(&id).map(|framework| &framework.timers);
        for name in &names {
            if let Some(at) = timers.and_then(|timers| timers.get(name)) {
                self.mind.deadlines.clear(*at, Deadline::Timer(id, name.clone()));
            }
        }
        names
    }

    fn set_timers(&mut self, id: FrameworkId, names: BTreeSet<String>) {
        for name in names {
            let framework = self.state.frameworks.get(&id);
            if let Some(at) = framework.and_then(|framework| framework.timers.get(&name)) {
                self.mind.deadlines.set(*at, Deadline::Timer(id, name));
            }
        }
    }

    fn begin_draft(&mut self, id: FrameworkId, usage: TurnUsage) -> Option<Draft> {
        let mind = self.mind.framework(id);
        let in_flight = mind.hosted.as_mut()?.in_flight.take()?;
        let late = Deadline::Answer(id, in_flight.mark.incarnation, in_flight.mark.number);
        self.mind.deadlines.clear(in_flight.due, late);
        if let Some(hosted) = self.mind.framework(id).hosted.as_mut() {
            hosted.has_answered = true;
        }
        let waiting: Vec<_> = in_flight
            .requests
            .into_iter()
            .filter(|request| self.mind.callers.contains_key(request))
            .collect();
        self.mind.framework(id).open_requests.extend(waiting);
        let turn = Turn {
            framework: id,
            number: in_flight.mark.number,
            fuel: usage.fuel,
            seen: in_flight.seen,
            launches: Vec::new(),
            refused_tasks: Vec::new(),
            refusals: Vec::new(),
            kills: Vec::new(),
            reconciled: Vec::new(),
            writes: Vec::new(),
            timers: Vec::new(),
            wants: None,
            suppressed: None,
            completed: None,
        };
        Some(Draft {
            framework: id,
            turn,
            graces: BTreeMap::new(),
            last_launch: BTreeMap::new(),
            launched: BTreeMap::new(),
            grown: 0,
            sends: Vec::new(),
            conversions: Vec::new(),
            made: BTreeMap::new(),
            held: BTreeMap::new(),
            kills: BTreeMap::new(),
            reconciled: BTreeSet::new(),
            recounts: false,
            patterns: CheckedPatterns::new(),
            compiled: 0,
            has_declined: false,
            fx: Effects::default(),
        })
    }

    /// Sends what was launched, a message per agent.
    fn send_launches(&mut self, id: FrameworkId, launched: &[(AgentId, TaskId)], fx: &mut Effects) {
        let mut by_agent: BTreeMap<AgentId, Vec<Launch>> = BTreeMap::new();
        let framework = self.state.framework(id);
        for (agent_id, task) in launched {
            let key = TaskKey { framework: id, task: task.clone() };
            let (Some(agent), Some(task)) =
                (self.state.agents.get(agent_id), self.state.task(&key))
            else {
                continue;
            };
            by_agent
                .entry(*agent_id)
                .or_default()
                .extend(agents::launch_message(agent, framework, &key, task));
        }
        for (agent_id, launches) in by_agent {
            let Some((agent, connection)) =
                self.state.agents.get(&agent_id).zip(self.mind.connection(agent_id))
            else {
                continue;
            };
            let (term, life) = (self.state.term(), agent.life);
            for batch in batches(launches) {
                fx.orders.push(Effect::Send {
                    connection,
                    message: MasterMessage::Launch { term, life, launches: batch },
                });
            }
        }
    }
}

/// Launches in batches that fit a frame, whatever their records hold.
pub(super) fn batches(launches: Vec<Launch>) -> Vec<Vec<Launch>> {
    let mut batches: Vec<Vec<Launch>> = Vec::new();
    let mut bytes = usize::MAX;
    for launch in launches {
        let weight = launch.weight();
        if bytes.saturating_add(weight) > limits::LAUNCH_FRAME_BYTES {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += weight;
        if let Some(batch) = batches.last_mut() {
            batch.push(launch);
        }
    }
    batches
}
