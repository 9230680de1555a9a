//! Orders of the leader, carried out by virtual agents and by schedulers; and what comes back of them.

use super::{
    Asked, COMPILE_MS, Due, Hosted, REDIAL_MS, START_MS, SimulateError, TURN_MS, World, setup,
};
use crate::agents::Step;
use crate::chance::mean;
use crate::scenario::SchedulerKind;
use crate::tally::Said;
use crate::workload::duration_of_named;
use std::collections::BTreeMap;
use tepui_master_core::{ConnectionId, Effect, Effects, EntryKind, Input, ReplyBody};
use tepui_proto::api::FrameworkPhase;
use tepui_proto::control::{Launch, MasterMessage, Report, ReportBody};
use tepui_proto::scheduler::{FromScheduler, Open, ToScheduler, TurnUsage};
use tepui_proto::{FrameworkId, Incarnation, Life, TaskKey, Timestamp};

impl World<'_> {
    /// What a batch led to: entries are counted, orders carried out.
    pub(super) fn carry_out(&mut self, fx: Effects) -> Result<(), SimulateError> {
        let mut began = Vec::new();
        for entry in &fx.entries {
            match &entry.kind {
                EntryKind::FrameworkSubmitted(submission) => {
                    if let Some(at) = self.by_name.get(&submission.name).copied()
                        && let Some(framework) = self.frameworks.get_mut(at)
                    {
                        framework.id = Some(submission.framework);
                        self.by_id.insert(submission.framework, at);
                        let group = framework.group;
                        self.tally.framework_accepted(
                            submission.framework,
                            group,
                            &submission.roles,
                        );
                    }
                }
                EntryKind::FrameworkMoved { framework, phase: FrameworkPhase::Ended, .. } => {
                    self.progress_at = self.now;
                    let at = self.by_id.get(framework).copied();
                    if let Some(framework) = at.and_then(|at| self.frameworks.get_mut(at)) {
                        framework.has_ended = true;
                    }
                }
                _ => {}
            }
            self.tally.committed(entry, &mut began);
        }
        self.began(began);
        fx.orders.into_iter().try_for_each(|order| self.perform(order))
    }

    fn perform(&mut self, order: Effect) -> Result<(), SimulateError> {
        match order {
            Effect::Send { connection, message } => self.tell_agent(connection, message),
            Effect::Close { connection, .. } => {
                if let Some(at) = self.fleet.at(connection) {
                    self.leave(at);
                    self.after(REDIAL_MS, Due::Hello(at));
                }
            }
            Effect::OpenScheduler { connection, open, pages } => {
                self.open_scheduler(connection, open, pages);
            }
            Effect::SendTurn { framework, incarnation, turn } => {
                self.turn(framework, incarnation, turn);
            }
            Effect::CloseScheduler { framework, incarnation } => {
                if self
                    .hosted
                    .get(&framework)
                    .is_some_and(|hosted| hosted.incarnation == incarnation)
                {
                    self.hosted.remove(&framework);
                }
            }
            Effect::Reply { ticket, result } => match result {
                Ok(ReplyBody::Done | ReplyBody::Framework { .. } | ReplyBody::Response(_)) => {}
                Err(refusal) => match self.asked.remove(&ticket) {
                    // It has not joined yet, or is drained already.
                    Some(Asked::Event(agent)) => {
                        let problem = format!("an event for `{agent}` was refused: {refusal}");
                        self.tally.problem(problem);
                    }
                    Some(Asked::Needed(framework)) => {
                        return Err(SimulateError::Refused { framework, why: refusal.to_string() });
                    }
                    // A blob; those are never refused.
                    None => self.tally.problem(format!("the leader refused: {refusal}")),
                },
            },
            Effect::ForgetBlobs(_) => {}
        }
        Ok(())
    }

    // ---- agents

    pub(super) fn join(&mut self, at: usize, fx: &mut Effects) {
        let term = self.leader.state().term();
        let Some((connection, name, hello)) = self.fleet.connect(self.scenario, at, term) else {
            return;
        };
        for report in &hello.reports {
            self.store_outputs(report, fx);
        }
        self.handle(Input::AgentConnected { connection, name, hello }, fx);
        let kind =
            self.fleet.machine(at).and_then(|machine| self.scenario.agents.get(machine.kind));
        if let Some(kind) = kind {
            self.tally.agent_joined(&kind.resources);
        }
        let failures = kind.and_then(|kind| kind.failures);
        if let Some((failures, chance)) = failures.zip(self.chances.get_mut(at)) {
            let lasts = chance.exponential(mean(failures.mean_between_ms));
            self.after(lasts, Due::Fail(at));
        }
    }

    pub(super) fn fail(&mut self, at: usize, fx: &mut Effects) {
        let kind =
            self.fleet.machine(at).and_then(|machine| self.scenario.agents.get(machine.kind));
        let Some(failures) = kind.and_then(|kind| kind.failures) else { return };
        let Some(connection) = self.leave(at) else { return };
        self.failures += 1;
        if !failures.keeps_tasks {
            self.fleet.lose_disk(at);
        }
        self.handle(Input::AgentDisconnected(connection), fx);
        if let Some(chance) = self.chances.get_mut(at) {
            let away = chance.exponential(mean(failures.mean_return_ms));
            self.after(away, Due::Hello(at));
        }
    }

    /// An agent's connection is no more, and neither are the schedulers on it.
    fn leave(&mut self, at: usize) -> Option<ConnectionId> {
        let connection = self.fleet.disconnect(at)?;
        self.hosted.retain(|_, hosted| hosted.at != at);
        let kind =
            self.fleet.machine(at).and_then(|machine| self.scenario.agents.get(machine.kind));
        if let Some(kind) = kind {
            self.tally.agent_left(&kind.resources);
        }
        Some(connection)
    }

    fn tell_agent(&mut self, connection: ConnectionId, message: MasterMessage) {
        let Some(at) = self.fleet.at(connection) else { return };
        match message {
            MasterMessage::Launch { life, launches, .. } => self.launch(at, life, launches),
            MasterMessage::Kill { launch, key, grace, .. } => {
                let now = Timestamp(self.now);
                let life = self.fleet.machine(at).map(|machine| machine.life);
                if self.fleet.is_live(at, launch) {
                    let due = Due::Step {
                        at,
                        life: life.unwrap_or_default(),
                        launch,
                        step: Step::IsKilled,
                    };
                    self.after(grace.0, due);
                } else if let Some((connection, report)) = self.fleet.unknown(at, launch, key, now)
                {
                    self.after(1, Due::Report(connection, Box::new(report)));
                }
            }
            MasterMessage::Acknowledge(through) => self.fleet.acknowledge(at, through),
            MasterMessage::CheckModule { digest, kind } => {
                self.after(COMPILE_MS, Due::Checked { connection, digest, kind });
            }
            MasterMessage::Refused { message, .. } => {
                self.tally.problem(format!("an agent was refused: {message}"));
            }
            MasterMessage::Welcome { .. }
            | MasterMessage::Message { .. }
            | MasterMessage::Forget(_) => {}
        }
    }

    fn launch(&mut self, at: usize, life: Life, launches: Vec<Launch>) {
        for (launch, key) in self.fleet.launch(at, life, launches, Timestamp(self.now)) {
            self.progress_at = self.now;
            self.after(START_MS, Due::Step { at, life, launch, step: Step::Runs });
            if let Some(lasts) = self.duration_of(&key) {
                self.ends_ahead += 1;
                let due = Due::Step { at, life, launch, step: Step::Finishes };
                self.after(lasts.saturating_add(START_MS), due);
            }
        }
    }

    /// How long a task runs; none is for ever.
    fn duration_of(&self, key: &TaskKey) -> Option<u64> {
        let at = self.by_id.get(&key.framework).copied()?;
        let framework = self.frameworks.get(at)?;
        match &framework.native {
            Some(native) => native.duration_of(&key.task),
            None => {
                duration_of_named(&self.kind_of(at)?.workload, framework.seed, key.task.as_str())
            }
        }
    }

    /// A report reaches the leader, and before it the outputs that it names.
    pub(super) fn report_in(
        &mut self,
        connection: Option<ConnectionId>,
        report: Report,
        fx: &mut Effects,
    ) {
        self.progress_at = self.now;
        // An agent that is away keeps it for its next hello.
        let Some(connection) = connection else { return };
        self.store_outputs(&report, fx);
        self.handle(Input::Reported { connection, reports: vec![report] }, fx);
    }

    fn store_outputs(&mut self, report: &Report, fx: &mut Effects) {
        let ReportBody::Status(status) = &report.body else { return };
        for blob in &status.outputs {
            let (ticket, digest, size_bytes) = (self.ticket(), blob.digest, blob.size_bytes);
            self.handle(Input::BlobStored { ticket, digest, size_bytes }, fx);
        }
    }

    // ---- schedulers

    pub(super) fn submit(&mut self, at: usize, fx: &mut Effects) {
        let Some((kind, framework)) = self.kind_of(at).zip(self.frameworks.get(at)) else { return };
        let (spec, kinds) = setup::spec(kind, framework, self.submissions);
        let (name, tenant) = (framework.name.clone(), kind.tenant.clone());
        let ticket = self.ticket();
        self.asked.insert(ticket, Asked::Needed(name));
        self.handle(Input::FrameworkSubmitted { ticket, tenant, spec: Box::new(spec), kinds }, fx);
    }

    /// An operator's verb, for each agent that it names.
    pub(super) fn operate(&mut self, at: usize, fx: &mut Effects) {
        let Some(event) = self.scenario.events.get(at) else { return };
        for agent in &event.agents {
            let (ticket, mode) = (self.ticket(), event.mode);
            self.asked.insert(ticket, Asked::Event(agent.clone()));
            self.handle(Input::AgentModeRequested { ticket, agent: agent.clone(), mode }, fx);
        }
    }

    fn open_scheduler(&mut self, connection: ConnectionId, open: Open, pages: Vec<ToScheduler>) {
        let Some(at) = self.fleet.at(connection) else { return };
        let (id, incarnation) = (open.framework, open.incarnation);
        let kind = self.by_id.get(&id).and_then(|at| self.kind_of(*at));
        let instance = match kind.map(|kind| &kind.scheduler) {
            Some(SchedulerKind::Component(folder)) => {
                let pairs: BTreeMap<String, Vec<u8>> = pages
                    .into_iter()
                    .flat_map(|page| match page {
                        ToScheduler::State { pairs, .. } => pairs,
                        _ => Vec::new(),
                    })
                    .collect();
                self.sandbox.as_ref().and_then(|sandbox| sandbox.begin(folder, open, pairs))
            }
            _ => None,
        };
        self.hosted.insert(id, Hosted { incarnation, at, instance });
    }

    fn turn(&mut self, id: FrameworkId, incarnation: Incarnation, turn: ToScheduler) {
        let ToScheduler::Turn { mark, now, seed, events } = turn else { return };
        self.tally.told(id, now, &events);
        let Some(framework) = self.by_id.get(&id).and_then(|at| self.frameworks.get_mut(*at))
        else {
            return;
        };
        let Some(hosted) =
            self.hosted.get_mut(&id).filter(|hosted| hosted.incarnation == incarnation)
        else {
            return;
        };
        let frame = match (&mut framework.native, &mut hosted.instance, &self.sandbox) {
            (Some(native), _, _) => {
                let calls = native.turn(mark, now.0, &events);
                let (usage, log) = (TurnUsage::default(), Vec::new());
                FromScheduler::Answer { mark, calls, usage, log, dropped: false }
            }
            (None, Some(instance), Some(sandbox)) => {
                sandbox.turn(instance, mark, now, (seed, events))
            }
            _ => return,
        };
        let frame = Box::new(frame);
        self.after(TURN_MS, Due::Answer { framework: id, incarnation, frame });
    }

    pub(super) fn answer(
        &mut self,
        id: FrameworkId,
        incarnation: Incarnation,
        frame: FromScheduler,
        fx: &mut Effects,
    ) {
        if self.hosted.get(&id).is_none_or(|hosted| hosted.incarnation != incarnation) {
            return;
        }
        let (said, is_over) = match &frame {
            FromScheduler::Answer { calls, dropped, .. } => (Some(Said::of(calls)), *dropped),
            FromScheduler::Failed { .. } => (None, true),
        };
        if is_over {
            self.hosted.remove(&id);
        }
        let is_native = self
            .by_id
            .get(&id)
            .and_then(|at| self.frameworks.get(*at))
            .is_some_and(|f| f.native.is_some());
        let before = fx.entries.len();
        self.handle(Input::SchedulerSaid { framework: id, incarnation, frame }, fx);
        if let Some((said, entries)) = said.zip(fx.entries.get(before..)) {
            let said = if is_native { said.without_wants() } else { said };
            self.tally.answered(id, said, entries, self.now);
        }
    }
}
