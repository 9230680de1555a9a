//! A committed turn: launches, kills, writes, timers, wants, and the events that it has seen, as one.

use super::{Framework, Live, State, Task, Waiting};
use crate::entry::{Demand, LaunchDecided, TimerChange, Turn};
use crate::ledger::Holder;
use std::sync::Arc;
use tepui_proto::api::FrameworkPhase;
use tepui_proto::{FrameworkId, Reason, TaskState, TaskStatus, Usage};

impl Framework {
    /// A task that was launched, maybe for one of its wants.
    fn begin_task(&mut self, task: Task, want: Option<u32>) {
        self.live += 1;
        self.live_bytes += task.live_weight().unwrap_or_default();
        self.live_used = self.live_used.plus_scalars(&task.resources);
        self.count(None, TaskState::Staging);
        self.tasks.insert(task.status.task.clone(), task);
        if let Some(want) = want {
            self.launched_for(want);
        }
    }
}

impl State {
    pub(super) fn apply_turn(&mut self, turn: &Turn) {
        let id = turn.framework;
        if self.frameworks.get(&id).is_none_or(|framework| turn.number <= framework.turns) {
            return;
        }
        let launched = turn.launches.iter();
        let launched: Vec<(Task, Option<u32>)> =
            launched.filter_map(|launch| self.take_for(id, launch)).collect();
        // At once: what the digest has of a framework is made anew with each change.
        self.with_framework(id, |framework| {
            framework.turns = turn.number;
            framework.fuel = framework.fuel.saturating_add(turn.fuel);
            let instance = framework.instance.as_mut();
            if instance.is_some_and(|instance| std::mem::replace(&mut instance.has_begun, true)) {
                framework.failures = 0;
                // What kept it from running is over.
                framework.message.clear();
            }
            if framework.phase == FrameworkPhase::Submitted {
                framework.phase = FrameworkPhase::Running;
            }
            framework.seen(&turn.seen);
            for (task, want) in launched {
                framework.begin_task(task, want);
            }
        });
        self.apply_refused_tasks(id, turn);
        self.apply_kills(id, turn);
        self.apply_writes(id, turn);
        let bound = self.bounds;
        self.with_framework(id, |framework| {
            for refusal in &turn.refusals {
                framework.wait(Waiting::Refusal(refusal.clone()));
            }
            for task in &turn.reconciled {
                framework.wait_update(task, bound);
            }
            for timer in &turn.timers {
                match timer {
                    TimerChange::Set(name, at) => framework.set_timer(name, Some(*at)),
                    TimerChange::Cancel(name) => framework.set_timer(name, None),
                };
            }
            match &turn.wants {
                None => {}
                Some(Demand::Anything) => framework.set_wants(None),
                Some(Demand::Only(wants)) => framework.set_wants(Some(wants.clone())),
            }
            if let Some(suppressed) = &turn.suppressed {
                framework.set_suppressed(suppressed.iter().cloned().collect());
            }
            if let Some(completed) = &turn.completed {
                framework.phase = FrameworkPhase::Stopping;
                framework.message.clone_from(&completed.message);
                framework.completed = Some(completed.clone());
            }
        });
    }

    /// Takes what a task is launched on off its agent; the task, and the want that it answers.
    fn take_for(&mut self, id: FrameworkId, launch: &LaunchDecided) -> Option<(Task, Option<u32>)> {
        let now = self.now;
        let agent = self.agents.get(&launch.agent)?;
        let task_id = launch.spec.id.clone();
        let task = Task {
            role: launch.role.clone(),
            name: launch.spec.name.clone(),
            agent: Some(launch.agent),
            launch: launch.number,
            resources: launch.spec.resources.clone(),
            status: TaskStatus {
                task: task_id.clone(),
                agent: Some(agent.name.clone()),
                state: TaskState::Staging,
                reason: Reason::None,
                message: String::new(),
                exit_code: None,
                outputs: Vec::new(),
                usage: Usage::default(),
                at: now,
            },
            live: Some(Box::new(Live {
                module: launch.module,
                kind: launch.kind,
                inputs: launch.inputs.clone(),
                spec: launch.spec.clone(),
            })),
            queued: None,
        };
        // The leader has checked that the offer held it.
        let holder = Holder { role: &task.role, framework: id };
        let key = tepui_proto::TaskKey { framework: id, task: task_id };
        let held = self.held_by(&key, &task.resources);
        let _balanced = self.ledger.take(launch.agent, holder, &held, false);
        self.with_agent(launch.agent, |agent| {
            agent.last_launch = agent.last_launch.max(launch.number);
            agent.launches.insert(launch.number, key);
        });
        self.digest.add(&task.mark(id));
        Some((task, launch.want))
    }

    /// Tasks that never ran are told and kept like ended ones.
    fn apply_refused_tasks(&mut self, id: FrameworkId, turn: &Turn) {
        let (now, bound) = (self.now, self.bounds);
        for (role, name, status) in &turn.refused_tasks {
            let status = TaskStatus { at: now, ..status.clone() };
            let Some(framework) = self.frameworks.get_mut(&id).map(Arc::make_mut) else { return };
            if framework.tasks.contains_key(&status.task) {
                // The identifier is taken: the update is told, the task that has it stays as it is.
                self.with_framework(id, |framework| {
                    framework.wait(Waiting::Update(Box::new(status)));
                });
                continue;
            }
            let task_id = status.task.clone();
            let task = Task {
                role: role.clone(),
                name: name.clone(),
                agent: None,
                launch: tepui_proto::LaunchNumber(0),
                resources: tepui_proto::Resources::default(),
                status,
                live: None,
                queued: None,
            };
            let weight = task.ended_weight();
            self.digest.add(&task.mark(id));
            self.with_framework(id, |framework| {
                framework.count(None, task.status.state);
                framework.tasks.insert(task_id.clone(), task);
                framework.wait_update(&task_id, bound);
            });
            self.retain_ended(id, task_id, weight);
        }
    }

    fn apply_kills(&mut self, id: FrameworkId, turn: &Turn) {
        for (task, _grace) in &turn.kills {
            let Some(record) =
                self.frameworks.get(&id).and_then(|framework| framework.tasks.get(task))
            else {
                continue;
            };
            let status = super::tasks::decided(
                &record.status,
                TaskState::Killing,
                Reason::KillRequested,
                "",
            );
            self.apply_change(&crate::entry::TaskChange { framework: id, status });
        }
    }

    fn apply_writes(&mut self, id: FrameworkId, turn: &Turn) {
        let Some(framework) = self.frameworks.get_mut(&id).map(Arc::make_mut) else { return };
        self.bytes -= framework.weight();
        for (key, value) in &turn.writes {
            if let Some(old) = framework.keys.remove(key) {
                self.digest.remove(&("key", id, key, &old));
                framework.keys_bytes -= key.len() + old.len();
            }
            if let Some(value) = value {
                self.digest.add(&("key", id, key, value));
                framework.keys_bytes += key.len() + value.len();
                framework.keys.insert(key.clone(), value.clone());
            }
        }
        self.bytes += framework.weight();
    }
}
