//! Reports of agents: what tasks became, and what they say. Taken once each, in order, acknowledged when committed.

use super::{Leader, Step, cut};
use crate::effect::Effect;
use crate::entry::{EntryKind, TaskChange};
use crate::input::ConnectionId;
use crate::state::{Class, Count, EVENT_BYTES, Framework, Task};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::control::{MasterMessage, Report, ReportBody};
use tepui_proto::{
    AgentId, FrameworkId, Reason, ReportSeq, TaskKey, TaskState, TaskStatus, Timestamp, limits,
};

impl Leader {
    pub(super) fn on_reported(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        reports: &[Report],
    ) {
        let Some(id) = self.mind.connections.get(&connection).copied() else { return };
        self.on_agent_heard(step.now, connection);
        self.take_reports(step, id, reports);
        let Some(agent) = self.state.agents.get(&id) else { return };
        step.fx
            .orders
            .push(Effect::Send { connection, message: MasterMessage::Acknowledge(agent.reported) });
    }

    /// Takes reports that are new.
    pub(super) fn take_reports(&mut self, step: &mut Step<'_>, id: AgentId, reports: &[Report]) {
        let Some(agent) = self.state.agents.get(&id) else { return };
        let mut through = agent.reported;
        let mut changes = Vec::new();
        let mut messages = Vec::new();
        // What the changes of this batch have led to, since they are applied only with the entry.
        let mut states: BTreeMap<&TaskKey, TaskState> = BTreeMap::new();
        for report in reports.iter().filter(|report| report.seq > agent.reported) {
            through = through.max(report.seq);
            // An agent speaks only for what is on it.
            let is_its = |task: &&Task| task.launch == report.launch && task.agent == Some(id);
            let Some(task) = self.state.task(&report.key).filter(is_its) else { continue };
            let state = *states.get(&report.key).unwrap_or(&task.status.state);
            match &report.body {
                ReportBody::Status(status) => {
                    if state.may_become(status.state) {
                        states.insert(&report.key, status.state);
                        let mut status = held_to(status, &report.key, task);
                        if task.status.state == TaskState::Killing
                            && (status.state, status.reason)
                                == (TaskState::Killed, Reason::KillRequested)
                        {
                            // The agent knows that it was told to; why, is known here.
                            status.reason = task.status.reason;
                            if !task.status.message.is_empty() {
                                status.message.clone_from(&task.status.message);
                            }
                        }
                        changes.push(TaskChange { framework: report.key.framework, status });
                    }
                }
                ReportBody::Message(data) if data.len() <= limits::MESSAGE_BYTES => {
                    messages.push((report.key.clone(), data.clone()));
                }
                ReportBody::Message(_) => {}
            }
        }
        if through > agent.reported {
            self.drop_excess(step.now, &mut messages);
            self.note_forgotten_outputs(step.now, &changes);
            self.propose(
                step,
                EntryKind::Reported { agent: id, through: ReportSeq(through.0), changes, messages },
            );
        }
    }

    /// Of the names that a framework's tasks gave only the newest are kept; its events say when the oldest go.
    fn note_forgotten_outputs(&mut self, now: Timestamp, changes: &[TaskChange]) {
        let mut named: BTreeMap<FrameworkId, usize> = BTreeMap::new();
        for change in changes.iter().filter(|change| change.status.state.is_final()) {
            let Some(framework) = self.state.framework(change.framework) else { continue };
            let outputs = change.status.outputs.iter();
            let new = outputs.filter(|blob| !framework.blobs.contains_key(&blob.name)).count();
            *named.entry(change.framework).or_default() += new;
        }
        for (id, new) in named.into_iter().filter(|(_, new)| *new > 0) {
            let kept = self.state.framework(id).map_or(0, |framework| framework.outputs.len());
            let gone = (kept + new).saturating_sub(limits::KEPT_OUTPUTS);
            if gone > 0 {
                let line = format!(
                    "the names of the {gone} oldest outputs are forgotten: {} are kept",
                    limits::KEPT_OUTPUTS
                );
                self.note(now, id, "outputs-forgotten", &line);
            }
        }
    }

    /// Messages to a framework of which too many wait, or too many bytes, are dropped, and its events say so.
    fn drop_excess(&mut self, now: Timestamp, messages: &mut Vec<(TaskKey, Vec<u8>)>) {
        let mut counts: BTreeMap<FrameworkId, Count> = BTreeMap::new();
        // What these add to what waits already, of all frameworks.
        let mut more = 0;
        let mut dropped: BTreeMap<FrameworkId, usize> = BTreeMap::new();
        messages.retain(|(key, data)| {
            let id = key.framework;
            let waiting = || {
                let framework = self.state.framework(id);
                framework
                    .map(|framework| framework.queue.count(Class::Messages))
                    .unwrap_or_default()
            };
            let count = counts.entry(id).or_insert_with(waiting);
            count.entries += 1;
            count.bytes += data.len() + key.task.as_str().len();
            let own = self.state.framework(id).map_or(0, Framework::weight);
            let is_kept = count.entries <= limits::WAITING_MESSAGES
                && count.bytes <= limits::WAITING_MESSAGE_BYTES
                && self.check_share(own, more + data.len() + EVENT_BYTES).is_ok();
            if is_kept {
                more += data.len() + EVENT_BYTES;
            } else {
                *dropped.entry(id).or_default() += 1;
            }
            is_kept
        });
        for (id, count) in dropped {
            let line = format!("{count} messages of tasks were dropped: too many wait");
            self.note(now, id, "message-dropped", &line);
        }
    }
}

/// What an agent says of a task, held to the task's own name, a bounded message, and the outputs that it was to put out.
fn held_to(status: &TaskStatus, key: &TaskKey, task: &Task) -> TaskStatus {
    let mut status = TaskStatus { task: key.task.clone(), ..status.clone() };
    cut(&mut status.message);
    if status.outputs.is_empty() {
        return status;
    }
    let asked = task.live.iter().flat_map(|live| &live.spec.outputs);
    let mut asked: BTreeSet<&str> = asked.map(|output| output.blob.as_str()).collect();
    let is_finished = status.state == TaskState::Finished;
    status.outputs.retain(|output| is_finished && asked.remove(output.name.as_str()));
    status
}
