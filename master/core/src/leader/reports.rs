//! Reports of agents: what tasks became, and what they say. Taken once each, in order, acknowledged when committed.

use super::{Leader, Step};
use crate::effect::Effect;
use crate::entry::{EntryKind, TaskChange};
use crate::input::ConnectionId;
use std::collections::BTreeMap;
use tepui_proto::control::{MasterMessage, Report, ReportBody};
use tepui_proto::{AgentId, Reason, ReportSeq, TaskKey, TaskState, TaskStatus, Timestamp, limits};

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
            let Some(task) =
                self.state.task(&report.key).filter(|task| task.launch == report.launch)
            else {
                continue;
            };
            let state = *states.get(&report.key).unwrap_or(&task.status.state);
            match &report.body {
                ReportBody::Status(status) => {
                    if state.may_become(status.state) {
                        states.insert(&report.key, status.state);
                        let mut status = cut(status, &report.key);
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
            self.propose(
                step,
                EntryKind::Reported { agent: id, through: ReportSeq(through.0), changes, messages },
            );
        }
    }

    /// Messages to a framework that has too many events waiting are dropped, and its events say so.
    fn drop_excess(&mut self, now: Timestamp, messages: &mut Vec<(TaskKey, Vec<u8>)>) {
        let full = |state: &crate::State, key: &TaskKey| {
            state
                .framework(key.framework)
                .is_none_or(|framework| framework.queue.len() >= 2 * limits::WAITING_UPDATES)
        };
        let dropped: Vec<TaskKey> = messages
            .iter()
            .filter(|(key, _)| full(&self.state, key))
            .map(|(key, _)| key.clone())
            .collect();
        if dropped.is_empty() {
            return;
        }
        messages.retain(|(key, _)| !full(&self.state, key));
        for key in dropped {
            let line =
                format!("a message from task `{}` was dropped: too many events wait", key.task);
            self.note(now, key.framework, "message-dropped", &line);
        }
    }
}

/// What an agent says of a task, held to the task's own name and to a bounded message.
fn cut(status: &TaskStatus, key: &TaskKey) -> TaskStatus {
    let mut status = TaskStatus { task: key.task.clone(), ..status.clone() };
    let end = (0..=status.message.len().min(1024))
        .rev()
        .find(|end| status.message.is_char_boundary(*end))
        .unwrap_or(0);
    status.message.truncate(end);
    status
}
