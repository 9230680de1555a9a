//! The answer to a turn: each call is checked, and all of them become one entry or none.

use super::deadlines::Deadline;
use super::launches::{is_task_id, not_launched};
use super::starvation::Strike;
use super::{Leader, Step, agents};
use crate::effect::{Effect, Effects};
use crate::entry::{Conversion, EntryKind, PooledTurn, TimerChange, Turn};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::calls::{Call, Operation};
use tepui_proto::control::{Launch, MasterMessage};
use tepui_proto::events::Refusal;
use tepui_proto::scheduler::TurnUsage;
use tepui_proto::{
    AgentId, Bundle, FrameworkId, LaunchNumber, Reason, Role, TaskId, TaskKey, TaskSpec, TaskState,
    limits,
};

/// A turn as it is put together from an answer.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) framework: FrameworkId,
    pub(super) turn: Turn,
    /// Identifiers that this turn has used.
    pub(super) task_ids: BTreeSet<TaskId>,
    last_launch: BTreeMap<AgentId, LaunchNumber>,
    /// Messages to tasks, sent once the turn is committed.
    pub(super) sends: Vec<(AgentId, MasterMessage)>,
    /// Carried out before the launches.
    pub(super) conversions: Vec<Conversion>,
    /// What launched tasks hold that do not hold just what anyone may use.
    pub(super) held: Vec<(TaskId, Bundle)>,
    /// Whether it declined offers.
    pub(super) has_declined: bool,
    /// Orders of this answer, performed once the turn is committed.
    pub(super) fx: Effects,
}

impl Draft {
    pub(super) fn refuse(&mut self, index: u32, code: &str, message: String) {
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
        if !is_task_id(status.task.as_str()) {
            status.task = TaskId("invalid".to_owned());
        }
        let name = spec.name.chars().take(limits::NAME_BYTES).collect();
        self.turn.refused_tasks.push((role, name, status));
    }

    pub(super) fn next_launch(&mut self, agent: AgentId, last: LaunchNumber) -> LaunchNumber {
        let next = self.last_launch.get(&agent).copied().unwrap_or(last).next();
        self.last_launch.insert(agent, next);
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
        let Draft { turn, sends, conversions, held, has_declined, fx: orders, .. } = draft;
        let (launches, kills) = (turn.launches.len(), turn.kills.clone());
        let keys: Vec<(AgentId, TaskId)> =
            turn.launches.iter().map(|launch| (launch.agent, launch.spec.id.clone())).collect();
        let (wants, completed) =
            (turn.wants.is_some() || turn.suppressed.is_some(), turn.completed.is_some());
        let timers = turn.timers.clone();
        if conversions.is_empty() && held.is_empty() {
            self.propose(step, EntryKind::TurnCommitted(Box::new(turn)));
        } else {
            self.mind.dirty.extend(conversions.iter().map(|conversion| conversion.agent));
            let pooled = PooledTurn { turn, conversions, held };
            self.propose(step, EntryKind::TurnPooled(Box::new(pooled)));
        }
        if launches > 0 {
            self.clear_strikes(id);
        } else if has_declined {
            self.strike(step.now, id, Strike::Declined);
        }
        step.fx.orders.extend(orders.orders);
        if launches > 0 {
            self.send_launches(id, &keys, step.fx);
        }
        for (agent, message) in sends {
            if let Some(connection) = self.mind.connection(agent) {
                step.fx.orders.push(Effect::Send { connection, message });
            }
        }
        for (task, grace) in kills {
            self.send_kill(&TaskKey { framework: id, task }, Some(grace), step.fx);
        }
        for timer in timers {
            if let TimerChange::Set(name, at) = timer {
                self.mind.deadlines.set(at, Deadline::Timer(id, name));
            }
        }
        if completed {
            self.note(step.now, id, "completed", "its scheduler says that it is done");
            return self.stop_framework(step, id);
        }
        if launches > 0 || wants {
            self.mind.asking.insert(id);
        }
        if self.mind.active.insert(id) || wants {
            self.mind.asking.insert(id);
            self.mind.all_dirty = true;
        }
    }

    /// Limits that a turn may not break at all.
    fn check_bounds(&self, id: FrameworkId, calls: &[Call]) -> Result<(), String> {
        if calls.len() > limits::CALLS {
            return Err(format!("{} calls; at most {}", calls.len(), limits::CALLS));
        }
        let operations = calls.iter().flat_map(|call| match call {
            Call::Accept(acceptance) => acceptance.operations.as_slice(),
            _ => &[],
        });
        let launches: usize = operations
            .map(|operation| match operation {
                Operation::Launch(_) => 1,
                Operation::LaunchGroup(tasks) => tasks.len(),
                Operation::Reserve(_)
                | Operation::Unreserve(_)
                | Operation::CreateVolume(_)
                | Operation::DestroyVolume(_) => 0,
            })
            .sum();
        if launches > limits::LAUNCHES {
            return Err(format!("{launches} launches; at most {}", limits::LAUNCHES));
        }
        let Some(framework) = self.state.frameworks.get(&id) else { return Ok(()) };
        if framework.live + launches > limits::LIVE_TASKS {
            return Err(format!(
                "{} live tasks; at most {}",
                framework.live + launches,
                limits::LIVE_TASKS
            ));
        }
        check_writes(framework, calls)?;
        let set = calls.iter().filter_map(|call| {
            if let Call::SetTimer { name, .. } = call { Some(name.as_str()) } else { None }
        });
        let timers: BTreeSet<&str> =
            framework.timers.keys().map(String::as_str).chain(set).collect();
        if timers.len() > limits::TIMERS || timers.iter().any(|name| name.len() > limits::KEY_BYTES)
        {
            return Err(format!(
                "at most {} timers, with names of at most {} bytes",
                limits::TIMERS,
                limits::KEY_BYTES
            ));
        }
        Ok(())
    }

    fn begin_draft(&mut self, id: FrameworkId, usage: TurnUsage) -> Option<Draft> {
        let mind = self.mind.framework(id);
        let in_flight = mind.hosted.as_mut()?.in_flight.take()?;
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
            task_ids: BTreeSet::new(),
            last_launch: BTreeMap::new(),
            sends: Vec::new(),
            conversions: Vec::new(),
            held: Vec::new(),
            has_declined: false,
            fx: Effects::default(),
        })
    }

    /// Sends what was launched, a message per agent.
    fn send_launches(&mut self, id: FrameworkId, launched: &[(AgentId, TaskId)], fx: &mut Effects) {
        let mut by_agent: BTreeMap<AgentId, Vec<Launch>> = BTreeMap::new();
        let framework = self.state.frameworks.get(&id);
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
fn batches(launches: Vec<Launch>) -> Vec<Vec<Launch>> {
    const MOST: usize = limits::FRAME_BYTES / (2 * limits::TASK_BYTES);
    let small = launches.iter().all(|launch| {
        launch.spec.stdin.is_none() && launch.spec.inputs.len() + launch.spec.env.len() < 8
    });
    let size = if small { 256 } else { MOST };
    let mut batches = Vec::new();
    let mut rest = launches.into_iter().peekable();
    while rest.peek().is_some() {
        batches.push(rest.by_ref().take(size).collect());
    }
    batches
}

/// Keys, values and their sum stay within bounds.
fn check_writes(framework: &crate::state::Framework, calls: &[Call]) -> Result<(), String> {
    let mut bytes = framework.keys_bytes;
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        let Call::Put { key, value } = call else { continue };
        let value_bytes = value.as_ref().map_or(0, Vec::len);
        if key.is_empty() || key.len() > limits::KEY_BYTES {
            return Err(format!("a key of {} bytes; 1 to {}", key.len(), limits::KEY_BYTES));
        }
        if value_bytes > limits::VALUE_BYTES {
            return Err(format!("a value of {value_bytes} bytes; at most {}", limits::VALUE_BYTES));
        }
        let stored = || framework.keys.get(key).map_or(0, |old| key.len() + old.len());
        let before = sizes.get(key.as_str()).copied().unwrap_or_else(stored);
        let after = value.as_ref().map_or(0, |value| key.len() + value.len());
        bytes = bytes.saturating_sub(before) + after;
        sizes.insert(key, after);
    }
    if bytes > limits::STATE_BYTES {
        return Err(format!("durable state of {bytes} bytes; at most {}", limits::STATE_BYTES));
    }
    Ok(())
}
