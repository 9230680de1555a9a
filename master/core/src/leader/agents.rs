//! Agents come, go, and converge: a hello tells the whole truth, and the difference goes back.

use super::answers::batches;
use super::claims::check_claims;
use super::deadlines::Deadline;
use super::mind::{RETURN_AFTER_LOSS, Session};
use super::{Leader, Step};
use crate::effect::Effect;
use crate::entry::{EntryKind, Joined, TaskChange};
use crate::input::ConnectionId;
use crate::state::{Agent, Task};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::control::{Hello, Launch, MasterMessage, TaskReport};
use tepui_proto::roles::AgentMode;
use tepui_proto::tasks::OnUnreachable;
use tepui_proto::{
    AgentId, Bundle, DurationMs, FrameworkId, LaunchNumber, Reason, TaskKey, TaskState, Timestamp,
    limits,
};

/// Whether an agent takes no more tasks: it has as many as it can run, or no room on its disk.
pub(super) fn is_full(agent: &Agent, session: Option<&Session>) -> bool {
    let most = session.map_or(limits::AGENT_TASKS, |session| session.max_tasks);
    agent.launches.len() >= most || session.is_some_and(|session| !session.has_room)
}

impl Leader {
    pub(super) fn on_agent_connected(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        name: &str,
        hello: &Hello,
    ) {
        if let Err((code, message, retry)) = self.check_hello(step, name, hello) {
            let refused = MasterMessage::Refused { code: code.to_owned(), message, retry };
            step.fx.orders.push(Effect::Send { connection, message: refused });
            step.fx.orders.push(Effect::Close { connection, code });
            return;
        }
        let id = if let Some(id) = self.state.agent_names.get(name) {
            *id
        } else {
            let agent = self.state.last_agent.next();
            self.propose(step, EntryKind::AgentAdmitted { agent, name: name.to_owned() });
            agent
        };
        if let Some(old) = self.mind.sessions.remove(&id) {
            self.mind.connections.remove(&old.connection);
            step.fx
                .orders
                .push(Effect::Close { connection: old.connection, code: "session-replaced" });
            self.lose_hosted(step, id, "its agent connected anew");
            self.rescind_agent(id);
            self.reassign_checks(id, step.fx);
        }
        self.mind.connections.insert(connection, id);
        let max_tasks = usize::try_from(hello.max_tasks).unwrap_or(limits::AGENT_TASKS);
        let session = Session {
            connection,
            heard: step.now,
            max_tasks: max_tasks.min(limits::AGENT_TASKS),
            has_room: hello.has_room,
        };
        self.mind.sessions.insert(id, session);
        self.mind
            .deadlines
            .set(step.now.after(DurationMs(limits::AGENT_TIMEOUT_MS)), Deadline::AgentSilent(id));
        self.join(step, id, hello);
        let heartbeat = DurationMs(limits::AGENT_TIMEOUT_MS / 3);
        let welcome = MasterMessage::Welcome { term: self.state.term(), now: step.now, heartbeat };
        step.fx.orders.push(Effect::Send { connection, message: welcome });
        self.take_reports(step, id, &hello.reports);
        self.send_difference(step, id, connection, hello);
        self.mind.dirty.insert(id);
        self.mind.has_new_place = true;
        self.retry_checks(step.fx);
    }

    fn check_hello(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
        hello: &Hello,
    ) -> Result<(), (&'static str, String, bool)> {
        if hello.term > self.state.term() {
            return Err((
                "stale-leader",
                format!("the agent has obeyed term {}", hello.term),
                true,
            ));
        }
        check_claims(hello).map_err(|message| ("invalid-hello", message, false))?;
        let known = self.state.agent_names.get(name);
        if known.is_some_and(|id| self.state.mode(*id) == AgentMode::Gone) {
            let message = format!("the operator has said that `{name}` is gone for good");
            return Err(("agent-gone", message, false));
        }
        let is_full = self.state.agents.len() >= limits::AGENTS;
        if known.is_none() && is_full && !self.forget_oldest_agent(step) {
            return Err((
                "too-many-agents",
                format!("the cluster has {} agents already", limits::AGENTS),
                true,
            ));
        }
        Ok(())
    }

    /// Takes in what the agent says of itself. Another life, and its tasks of the life before are lost.
    fn join(&mut self, step: &mut Step<'_>, id: AgentId, hello: &Hello) {
        let Some(agent) = self.state.agents.get(&id) else { return };
        if agent.life != hello.life {
            let keys: Vec<TaskKey> = agent.launches.values().cloned().collect();
            self.move_tasks(
                step,
                &keys,
                TaskState::Lost,
                Reason::AgentReplaced,
                "its agent began another life",
            );
        }
        let joined = Joined {
            agent: id,
            life: hello.life,
            resources: hello.resources.clone(),
            hostname: hello.hostname.clone(),
            version: hello.version.clone(),
            attributes: hello.attributes.clone(),
            domain: hello.domain.clone(),
            launch_mark: hello.launch_mark,
        };
        self.propose(step, EntryKind::AgentJoined(Box::new(joined)));
        let declared = Bundle::try_from(hello.pools.clone()).unwrap_or_default();
        let known = self.state.provision(id).map(|provision| &provision.declared);
        if known.map_or(!declared.is_empty(), |known| *known != declared) {
            let pools = hello.pools.clone();
            self.propose(step, EntryKind::PoolsDeclared { agent: id, pools });
        }
        self.tell_site(id);
    }

    /// What the agent should do that it does not, and does that it should not.
    fn send_difference(
        &mut self,
        step: &mut Step<'_>,
        id: AgentId,
        connection: ConnectionId,
        hello: &Hello,
    ) {
        let Some(agent) = self.state.agents.get(&id) else { return };
        let told: BTreeMap<LaunchNumber, &TaskReport> =
            hello.tasks.iter().map(|task| (task.launch, task)).collect();
        let mut launches = Vec::new();
        let (mut lost, mut never_begun) = (Vec::new(), Vec::new());
        let mut kills: Vec<(LaunchNumber, TaskKey)> = Vec::new();
        for (number, key) in &agent.launches {
            let Some(task) = self.state.task(key) else { continue };
            let state = task.status.state;
            if told.contains_key(number) {
                if state == TaskState::Killing {
                    kills.push((*number, key.clone()));
                }
            } else if *number > hello.launch_mark && state == TaskState::Staging {
                launches.extend(launch_message(
                    agent,
                    self.state.framework(key.framework),
                    key,
                    task,
                ));
            } else if *number > hello.launch_mark && state == TaskState::Killing {
                never_begun.push(key.clone());
            } else {
                lost.push(key.clone());
            }
        }
        // Twins of tasks that the cluster has given up are stopped; those that have ended may be forgotten.
        let mut forgotten = Vec::new();
        for report in &hello.tasks {
            if !agent.launches.contains_key(&report.launch) {
                if report.state.is_final() {
                    forgotten.push(report.launch);
                } else {
                    kills.push((report.launch, report.key.clone()));
                }
            }
        }
        let returned = returned_tasks(agent, &self.state, &told);
        let (term, life) = (self.state.term(), hello.life);
        let mut send = |message| step.fx.orders.push(Effect::Send { connection, message });
        send(MasterMessage::Acknowledge(agent.reported));
        for launches in batches(launches) {
            send(MasterMessage::Launch { term, life, launches });
        }
        for (launch, key) in kills {
            let grace = self.grace_of(&key);
            send(MasterMessage::Kill { term, launch, key, grace });
        }
        for some in forgotten.chunks(limits::HELLO_TASKS) {
            send(MasterMessage::Forget(some.to_vec()));
        }
        self.move_tasks(
            step,
            &lost,
            TaskState::Lost,
            Reason::AgentRestarted,
            "its agent has no record of it",
        );
        let message = "it was stopped before its agent had heard of it";
        self.move_tasks(step, &never_begun, TaskState::Killed, Reason::KillRequested, message);
        let mut returned = returned;
        while !returned.is_empty() {
            let rest = returned.split_off(returned.len().min(limits::MOVES));
            self.propose(step, EntryKind::TasksMoved(std::mem::replace(&mut returned, rest)));
        }
    }

    /// How gently a task is stopped if nobody says otherwise: with its own grace, and no more than its agent's drain.
    pub(super) fn grace_of(&self, key: &TaskKey) -> DurationMs {
        let live = self.state.task(key).and_then(|task| task.live.as_ref());
        live.map_or(DurationMs(0), |live| self.drain_grace(key).min(live.spec.grace()))
    }

    /// The most grace that a task's agent leaves it.
    pub(super) fn drain_grace(&self, key: &TaskKey) -> DurationMs {
        let agent = self.state.task(key).and_then(|task| task.agent);
        match agent.map(|agent| self.state.mode(agent)) {
            Some(AgentMode::Draining { grace, .. }) => grace,
            _ => DurationMs(limits::KILL_GRACE_MS_MAX),
        }
    }

    pub(super) fn on_agent_heard(&mut self, now: Timestamp, connection: ConnectionId) {
        if let Some(id) = self.mind.connections.get(&connection)
            && let Some(session) = self.mind.sessions.get_mut(id)
        {
            session.heard = now;
        }
    }

    /// An agent without room is not offered, and what is on offer of it would be dropped.
    pub(super) fn on_agent_room_changed(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        has_room: bool,
    ) {
        self.on_agent_heard(step.now, connection);
        let Some(id) = self.mind.connections.get(&connection).copied() else { return };
        let Some(session) = self.mind.sessions.get_mut(&id) else { return };
        if std::mem::replace(&mut session.has_room, has_room) == has_room {
            return;
        }
        if !has_room {
            self.rescind_agent(id);
        }
        self.note_full([id]);
        self.mind.dirty.insert(id);
    }

    /// How many tasks an agent takes.
    pub(super) fn max_tasks(&self, id: AgentId) -> usize {
        self.mind.sessions.get(&id).map_or(limits::AGENT_TASKS, |session| session.max_tasks)
    }

    /// What a connected agent said of itself: how many tasks it can run at once, and whether its disk has room.
    pub(crate) fn capacity_of(&self, id: AgentId) -> Option<(usize, bool)> {
        self.mind.sessions.get(&id).map(|session| (session.max_tasks, session.has_room))
    }

    pub(super) fn on_agent_silent(&mut self, step: &mut Step<'_>, id: AgentId) {
        let Some(session) = self.mind.sessions.get(&id) else { return };
        let due = session.heard.after(DurationMs(limits::AGENT_TIMEOUT_MS));
        if due > step.now {
            self.mind.deadlines.set(due, Deadline::AgentSilent(id));
            return;
        }
        let connection = session.connection;
        step.fx.orders.push(Effect::Close { connection, code: "silent" });
        self.on_agent_disconnected(step, connection);
    }

    pub(super) fn on_agent_disconnected(&mut self, step: &mut Step<'_>, connection: ConnectionId) {
        let Some(id) = self.mind.connections.remove(&connection) else { return };
        self.mind.sessions.remove(&id);
        self.mind.allocator.set_open(id, false);
        self.lose_hosted(step, id, "its agent's connection was lost");
        self.rescind_agent(id);
        self.reassign_checks(id, step.fx);
        self.mind.deadlines.set(step.now.after(RETURN_AFTER_LOSS), Deadline::AgentReturn(id));
    }

    /// Its tasks have been killed or are about to be; there is nothing to wait for.
    pub(super) fn on_agent_goodbye(&mut self, step: &mut Step<'_>, connection: ConnectionId) {
        self.on_agent_disconnected(step, connection);
    }

    /// An agent that did not come back in time.
    pub(super) fn on_agent_missing(&mut self, step: &mut Step<'_>, id: AgentId) {
        let Some(agent) = self.state.agents.get(&id).filter(|agent| agent.reachable) else {
            return;
        };
        if self.mind.sessions.contains_key(&id) {
            return;
        }
        let keys: Vec<TaskKey> = agent.launches.values().cloned().collect();
        let name = agent.name.clone();
        self.propose(step, EntryKind::AgentUnreachable(id));
        let frameworks: BTreeSet<FrameworkId> = keys.iter().map(|key| key.framework).collect();
        for framework in frameworks {
            self.mind.framework(framework).lost_agents.insert(name.clone());
            self.mind.touched.insert(framework);
        }
        let message = "its agent cannot be reached";
        self.move_tasks(step, &keys, TaskState::Unreachable, Reason::AgentUnreachable, message);
        self.plan_losses(&keys);
    }

    /// A task whose agent stayed away too long. A twin that returns later is stopped.
    pub(super) fn on_task_lost(&mut self, step: &mut Step<'_>, key: &TaskKey) {
        let Some(due) = self.lost_at(key) else { return };
        if due > step.now {
            // Its agent was back in between, and went away again.
            return self.mind.deadlines.set(due, Deadline::Lost(key.clone()));
        }
        let message = "its agent could not be reached for too long";
        self.move_tasks(
            step,
            std::slice::from_ref(key),
            TaskState::Lost,
            Reason::AgentUnreachable,
            message,
        );
    }

    /// When a task whose agent is away is given up.
    fn lost_at(&self, key: &TaskKey) -> Option<Timestamp> {
        let task = self.state.task(key)?;
        let OnUnreachable::LostAfter(span) = task.live.as_ref()?.spec.on_unreachable else {
            return None;
        };
        let is_away = matches!(task.status.state, TaskState::Unreachable | TaskState::Killing)
            && task.agent.is_some_and(|agent| !self.mind.sessions.contains_key(&agent));
        is_away.then(|| task.status.at.after(span))
    }

    /// Sets the deadline of each task that is given up if its agent stays away.
    pub(super) fn plan_losses(&mut self, keys: &[TaskKey]) {
        for key in keys {
            if let Some(due) = self.lost_at(key) {
                self.mind.deadlines.set(due, Deadline::Lost(key.clone()));
            }
        }
    }

    /// Moves tasks by the leader's own decision.
    pub(super) fn move_tasks(
        &mut self,
        step: &mut Step<'_>,
        keys: &[TaskKey],
        to: TaskState,
        reason: Reason,
        message: &str,
    ) {
        let change = |key: &TaskKey| {
            let task = self.state.task(key).filter(|task| task.status.state.may_become(to))?;
            Some(TaskChange {
                framework: key.framework,
                status: crate::state::decided(&task.status, to, reason, message),
            })
        };
        let mut changes: Vec<TaskChange> = keys.iter().filter_map(change).collect();
        self.mind.moved += changes.len();
        // However many they are, no record is large.
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(limits::MOVES));
            self.propose(step, EntryKind::TasksMoved(std::mem::replace(&mut changes, rest)));
        }
    }
}

/// A launch as it goes over the wire.
pub(super) fn launch_message(
    agent: &Agent,
    framework: Option<&crate::state::Framework>,
    key: &TaskKey,
    task: &Task,
) -> Option<Launch> {
    let live = task.live.as_ref()?;
    debug_assert!(
        agent.launches.contains_key(&task.launch),
        "a launch that the agent does not owe"
    );
    Some(Launch {
        number: task.launch,
        key: key.clone(),
        tenant: framework?.submission.tenant.clone(),
        module: live.module,
        kind: live.kind,
        inputs: live.inputs.clone(),
        spec: live.spec.clone(),
    })
}

/// Unreachable tasks that the agent still has are again what it says they are.
fn returned_tasks(
    agent: &Agent,
    state: &crate::State,
    told: &BTreeMap<LaunchNumber, &TaskReport>,
) -> Vec<TaskChange> {
    let change = |(number, key): (&LaunchNumber, &TaskKey)| {
        let task = state.task(key).filter(|task| task.status.state == TaskState::Unreachable)?;
        let to = if told.get(number)?.state == TaskState::Running {
            TaskState::Running
        } else {
            TaskState::Starting
        };
        let status = crate::state::decided(&task.status, to, Reason::None, "its agent is back");
        Some(TaskChange { framework: key.framework, status })
    };
    agent.launches.iter().filter_map(change).collect()
}
