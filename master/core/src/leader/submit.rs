//! What tenants submit and ask for: frameworks, modules to be judged, stops and kills.

use super::deadlines::Deadline;
use super::mind::Check;
use super::{Leader, Step, reply};
use crate::effect::{Effect, Effects, ReplyBody};
use crate::entry::{EntryKind, Submission};
use crate::input::{ConnectionId, Ticket};
use crate::refusal::{Code, Refusal};
use crate::state::{Framework, name_weight};
use std::collections::BTreeMap;
use tepui_proto::api::{FrameworkPhase, FrameworkSpec};
use tepui_proto::control::{MasterMessage, ModuleKind, ModuleVerdict};
use tepui_proto::{
    AgentId, Digest, DurationMs, FrameworkId, Reason, Role, TaskKey, TaskState, Tenant, Timestamp,
    limits, names,
};

/// The most CPU of a scheduler, in thousandths: one turn is in flight at a time, so more than a core is of no use.
const SCHEDULER_CPU_MILLI_MAX: u64 = 1_000;

/// What a framework takes more than before with a submission: all of it, or what an upgrade adds.
fn grows_by(known: Option<&Framework>, submission: &Submission) -> usize {
    let Some(known) = known else { return submission.weight() };
    let is_new = |(name, _): &&(String, Digest)| !known.blobs.contains_key(name);
    let names = submission.blobs.iter().filter(is_new).map(|(name, _)| name_weight(name));
    submission.weight().saturating_sub(known.submission.weight()) + names.sum::<usize>()
}

/// A submission that waits for verdicts on its modules.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) tenant: Tenant,
    pub(super) spec: Box<FrameworkSpec>,
    pub(super) kinds: Vec<(Digest, ModuleKind)>,
}

impl Leader {
    pub(super) fn on_submitted(&mut self, step: &mut Step<'_>, pending: Pending) {
        let ticket = pending.ticket;
        let submission = match self.check_spec(&pending) {
            Ok(submission) => submission,
            Err(refusal) => return reply(step.fx, ticket, Err(refusal)),
        };
        let unjudged =
            pending.kinds.iter().find(|module| !self.state.modules.contains(module)).copied();
        if let Some((digest, kind)) = unjudged {
            self.mind.checks.entry((digest, kind)).or_default().submissions.push(pending);
            return self.ask_for_verdict(digest, kind, step.fx);
        }
        let existing = self.state.framework_named(&submission.tenant, &submission.name);
        let existing = existing
            .filter(|(_, framework)| !framework.has_ended())
            .map(|(id, framework)| (id, framework.phase));
        let (id, upgraded) = match existing {
            Some((_, FrameworkPhase::Stopping)) => {
                let message = format!(
                    "framework `{}` is stopping; submit it again when it has ended",
                    submission.name
                );
                return reply(step.fx, ticket, Err(Refusal::new(Code::FrameworkEnded, message)));
            }
            Some((id, _)) => (id, true),
            None => (self.state.last_framework.next(), false),
        };
        let known = self.state.framework(id);
        let own = known.map_or(0, Framework::weight);
        let full = self.check_share(own, grows_by(known, &submission));
        let full = full.map_err(|message| Refusal::new(Code::LimitReached, message));
        if let Err(refusal) = full.and_then(|()| self.check_names(id, &submission)) {
            return reply(step.fx, ticket, Err(refusal));
        }
        let submission = Box::new(Submission { framework: id, ..submission });
        let mut wait = DurationMs(0);
        if upgraded {
            if self.mind.framework(id).hosted.is_some() {
                self.end_instance(step, id, (false, "a new version was submitted"));
            }
            wait = self.begin_upgraded(step.now, id);
            self.propose(step, EntryKind::FrameworkUpgraded(submission));
        } else {
            self.propose(step, EntryKind::FrameworkSubmitted(submission));
        }
        let message = match (upgraded, wait.0) {
            (false, _) => "it was submitted".to_owned(),
            (true, 0) => "a new version was submitted".to_owned(),
            (true, ms) => format!(
                "a new version was submitted; it begins in {ms} ms, since another came shortly before"
            ),
        };
        self.note(step.now, id, "submitted", &message);
        self.mind.unplaced.insert(id);
        if let Some(view) = self.framework_view_of(id) {
            reply(step.fx, ticket, Ok(ReplyBody::Framework { view: Box::new(view), upgraded }));
        }
    }

    /// An upgraded scheduler begins at once; one that is upgraded again and again begins the later the oftener it was,
    /// since each beginning reads all of its durable state. Says after how long.
    fn begin_upgraded(&mut self, now: Timestamp, id: FrameworkId) -> DurationMs {
        let mind = self.mind.framework(id);
        let is_again = now < mind.upgrades_forgotten_at;
        mind.upgrades = if is_again { mind.upgrades + 1 } else { 0 };
        let wait = match mind.upgrades {
            0 => 0,
            times => limits::RESTART_BACKOFF_MS << (times - 1).min(20),
        };
        let wait = wait.min(limits::RESTART_BACKOFF_MS_MAX);
        let forgotten = limits::UPGRADES_FORGOTTEN_MS.max(4 * wait);
        mind.upgrades_forgotten_at = now.after(DurationMs(forgotten));
        mind.restart_at = now.after(DurationMs(wait));
        DurationMs(wait)
    }

    /// All names that a framework was submitted with, by every version of it, are told to each instance: together they are
    /// no more than those of one.
    fn check_names(&self, id: FrameworkId, submission: &Submission) -> Result<(), Refusal> {
        let Some(known) = self.state.frameworks.get(&id) else { return Ok(()) };
        let is_other = |(name, digest): &&(String, Digest)| {
            known.blobs.get(name).is_some_and(|kept| kept.digest != *digest)
        };
        if let Some((name, _)) = submission.blobs.iter().find(is_other) {
            let message = format!(
                "the blob `{name}` is there with other bytes, and a name is written once; use another name"
            );
            return Err(Refusal::new(Code::InvalidSpec, message));
        }
        let new = submission.blobs.iter().filter(|(name, _)| !known.blobs.contains_key(name));
        let names = known.blobs.len() - known.outputs.len() + new.count();
        if names + submission.modules.len() > limits::BUNDLE_ENTRIES {
            let message = format!(
                "with those of earlier versions {names} blobs; at most {} modules and blobs",
                limits::BUNDLE_ENTRIES
            );
            return Err(Refusal::new(Code::LimitReached, message));
        }
        Ok(())
    }

    /// Checks all that can be checked without an agent.
    fn check_spec(&self, pending: &Pending) -> Result<Submission, Refusal> {
        let spec = &pending.spec;
        let invalid = |message: String| Refusal::new(Code::InvalidSpec, message);
        names::check_name(&spec.name)
            .map_err(|error| invalid(format!("the name `{}`: {error}", spec.name)))?;
        if spec.roles.is_empty() || spec.roles.len() > limits::ROLES {
            return Err(invalid(format!("a framework has 1 to {} roles", limits::ROLES)));
        }
        let mut roles: Vec<Role> = Vec::new();
        for role in &spec.roles {
            names::check_role(role)
                .map_err(|error| invalid(format!("the role `{role}`: {error}")))?;
            if roles.iter().any(|have| have.as_str() == role) {
                return Err(invalid(format!("the role `{role}` stands twice")));
            }
            roles.push(Role(role.clone()));
        }
        if spec.modules.len() + spec.blobs.len() > limits::BUNDLE_ENTRIES {
            return Err(Refusal::new(
                Code::LimitReached,
                format!("at most {} modules and blobs", limits::BUNDLE_ENTRIES),
            ));
        }
        let config: usize = spec.config.iter().map(|(key, value)| key.len() + value.len()).sum();
        if config > limits::CONFIG_BYTES {
            return Err(Refusal::new(
                Code::LimitReached,
                format!("settings of {config} bytes; at most {}", limits::CONFIG_BYTES),
            ));
        }
        let cpu_milli = spec.cpu_milli.unwrap_or(limits::SCHEDULER_CPU_MILLI);
        let memory_bytes = spec.memory_bytes.unwrap_or(limits::SCHEDULER_MEMORY_BYTES);
        if !(limits::TASK_MEMORY_BYTES_MIN..=limits::SCHEDULER_MEMORY_BYTES_MAX)
            .contains(&memory_bytes)
        {
            let range = (limits::TASK_MEMORY_BYTES_MIN, limits::SCHEDULER_MEMORY_BYTES_MAX);
            return Err(invalid(format!(
                "a scheduler's memory is {} to {} bytes, not {memory_bytes}",
                range.0, range.1
            )));
        }
        if !(1..=SCHEDULER_CPU_MILLI_MAX).contains(&cpu_milli) {
            let message = format!(
                "a scheduler has 1 to {SCHEDULER_CPU_MILLI_MAX} thousandths of a core, not {cpu_milli}"
            );
            return Err(invalid(message));
        }
        let frameworks = self.state.frameworks.len() - self.state.ended_frameworks.len();
        if frameworks >= limits::FRAMEWORKS {
            return Err(Refusal::new(
                Code::LimitReached,
                format!("the cluster has {frameworks} frameworks already"),
            ));
        }
        Ok(Submission {
            framework: FrameworkId(0),
            tenant: pending.tenant.clone(),
            name: spec.name.clone(),
            roles,
            scheduler: self.resolve("the scheduler", &spec.scheduler)?,
            modules: self.resolve_all("module", &spec.modules)?,
            blobs: self.resolve_all("blob", &spec.blobs)?,
            config: spec.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            cpu_milli,
            memory_bytes,
        })
    }

    fn resolve(&self, what: &str, text: &str) -> Result<Digest, Refusal> {
        let digest: Digest = text.parse().map_err(|error| {
            Refusal::new(Code::InvalidSpec, format!("{what}, `{text}`: {error}"))
        })?;
        if self.state.blobs.contains_key(&digest) {
            return Ok(digest);
        }
        Err(Refusal::new(Code::ModuleUnknown, format!("{what}, {digest}, was not uploaded")))
    }

    fn resolve_all(
        &self,
        what: &str,
        named: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, Digest)>, Refusal> {
        let resolve = |(name, text): (&String, &String)| {
            if name.is_empty()
                || name.len() > limits::BLOB_NAME_BYTES
                || name.chars().any(char::is_control)
            {
                return Err(Refusal::new(
                    Code::InvalidSpec,
                    format!("the name of {what} `{}` is not valid", name.escape_debug()),
                ));
            }
            Ok((name.clone(), self.resolve(&format!("{what} `{name}`"), text)?))
        };
        named.iter().map(resolve).collect()
    }

    pub(super) fn on_check_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        digest: Digest,
        kind: ModuleKind,
    ) {
        if self.state.modules.contains(&(digest, kind)) {
            self.renew_blob(step, digest);
            return reply(step.fx, ticket, Ok(ReplyBody::Done));
        }
        self.mind.checks.entry((digest, kind)).or_default().tickets.push(ticket);
        self.ask_for_verdict(digest, kind, step.fx);
    }

    /// Has the agent with the fewest launches compile a module, unless one does already.
    fn ask_for_verdict(&mut self, digest: Digest, kind: ModuleKind, fx: &mut Effects) {
        let Some(check) = self.mind.checks.get(&(digest, kind)) else { return };
        if check.agent.is_some() {
            return;
        }
        // One without room could not keep what it compiles.
        let is_short = |id: &AgentId| self.capacity_of(*id).is_some_and(|(_, has_room)| !has_room);
        let load = |id: &AgentId| self.state.agents.get(id).map_or(0, |agent| agent.launches.len());
        let untried = self.mind.sessions.keys().copied().filter(|id| !check.tried.contains(id));
        let agent = untried.min_by_key(|id| (is_short(id), load(id), *id));
        let connection = agent.and_then(|agent| self.mind.connection(agent));
        let Some((agent, connection)) = agent.zip(connection) else {
            let refusal =
                Refusal::new(Code::NoAgents, "no agent is there that could compile the module");
            return self.end_check(digest, kind, &refusal, fx);
        };
        if let Some(check) = self.mind.checks.get_mut(&(digest, kind)) {
            check.agent = Some(agent);
        }
        let late = self.now().after(DurationMs(limits::CHECK_MS));
        self.mind.deadlines.set(late, Deadline::Check(digest, kind, agent));
        fx.orders.push(Effect::Send {
            connection,
            message: MasterMessage::CheckModule { digest, kind },
        });
    }

    fn end_check(&mut self, digest: Digest, kind: ModuleKind, refusal: &Refusal, fx: &mut Effects) {
        let Some(check) = self.mind.checks.remove(&(digest, kind)) else { return };
        let submitters = check.submissions.into_iter().map(|pending| pending.ticket);
        for ticket in check.tickets.into_iter().chain(submitters) {
            reply(fx, ticket, Err(refusal.clone()));
        }
    }

    pub(super) fn on_module_checked(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        (digest, kind): (Digest, ModuleKind),
        verdict: ModuleVerdict,
    ) {
        // Only who was asked has a say.
        let asked = self.mind.checks.get(&(digest, kind)).and_then(|check| check.agent);
        if asked.is_none() || self.mind.connections.get(&connection).copied() != asked {
            return;
        }
        match verdict {
            ModuleVerdict::Good { .. } => {
                if !self.state.modules.contains(&(digest, kind))
                    && self.state.blobs.contains_key(&digest)
                {
                    self.propose(step, EntryKind::ModuleAccepted { digest, kind });
                }
                let Some(check) = self.mind.checks.remove(&(digest, kind)) else { return };
                for ticket in check.tickets {
                    reply(step.fx, ticket, Ok(ReplyBody::Done));
                }
                for pending in check.submissions {
                    self.on_submitted(step, pending);
                }
            }
            ModuleVerdict::Bad { code, message } => {
                let codes = [Code::ModuleImports, Code::ModuleUncompilable];
                let code = codes
                    .into_iter()
                    .find(|known| known.as_str() == code)
                    .unwrap_or(Code::ModuleInvalid);
                self.end_check(digest, kind, &Refusal::new(code, message), step.fx);
            }
            ModuleVerdict::Unknown(_) => self.ask_another(step, digest, kind),
        }
    }

    fn ask_another(&mut self, step: &mut Step<'_>, digest: Digest, kind: ModuleKind) {
        if let Some(Check { agent, tried, .. }) = self.mind.checks.get_mut(&(digest, kind)) {
            tried.extend(agent.take());
            self.ask_for_verdict(digest, kind, step.fx);
        }
    }

    /// An agent that was asked has not answered in time.
    pub(super) fn on_check_late(
        &mut self,
        step: &mut Step<'_>,
        (digest, kind): (Digest, ModuleKind),
        agent: AgentId,
    ) {
        let asked = self.mind.checks.get(&(digest, kind)).and_then(|check| check.agent);
        if asked == Some(agent) {
            self.ask_another(step, digest, kind);
        }
    }

    /// An agent that was to judge is gone; another is asked.
    pub(super) fn reassign_checks(&mut self, gone: AgentId, fx: &mut Effects) {
        for check in self.mind.checks.values_mut().filter(|check| check.agent == Some(gone)) {
            check.agent = None;
        }
        self.retry_checks(fx);
    }

    pub(super) fn retry_checks(&mut self, fx: &mut Effects) {
        let open: Vec<(Digest, ModuleKind)> = self.mind.checks.keys().copied().collect();
        for (digest, kind) in open {
            self.ask_for_verdict(digest, kind, fx);
        }
    }

    pub(super) fn on_stop_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        tenant: &Tenant,
        name: &str,
    ) {
        let Some((id, framework)) = self.state.framework_named(tenant, name) else {
            return reply(
                step.fx,
                ticket,
                Err(Refusal::new(
                    Code::FrameworkUnknown,
                    format!("there is no framework `{name}`"),
                )),
            );
        };
        if !matches!(framework.phase, FrameworkPhase::Stopping | FrameworkPhase::Ended) {
            let message = "its tenant stopped it".to_owned();
            self.note(step.now, id, "stopping", &message);
            self.propose(
                step,
                EntryKind::FrameworkMoved {
                    framework: id,
                    phase: FrameworkPhase::Stopping,
                    message,
                },
            );
            self.stop_framework(step, id);
        }
        reply(step.fx, ticket, Ok(ReplyBody::Done));
    }

    pub(super) fn on_kill_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        tenant: &Tenant,
        names: &(String, String),
    ) {
        let (framework, task) = names;
        let Some((id, record)) = self.state.framework_named(tenant, framework) else {
            return reply(
                step.fx,
                ticket,
                Err(Refusal::new(
                    Code::FrameworkUnknown,
                    format!("there is no framework `{framework}`"),
                )),
            );
        };
        let key = TaskKey { framework: id, task: task.as_str().into() };
        if !record.tasks.contains_key(&key.task) {
            return reply(
                step.fx,
                ticket,
                Err(Refusal::new(
                    Code::TaskUnknown,
                    format!("there is no task `{framework}/{task}`"),
                )),
            );
        }
        let message = "its tenant asked for it";
        self.move_tasks(
            step,
            std::slice::from_ref(&key),
            TaskState::Killing,
            Reason::KillRequested,
            message,
        );
        self.send_kill(&key, None, step.fx);
        reply(step.fx, ticket, Ok(ReplyBody::Done));
    }

    /// Tells the agent of a live task to stop it. Away agents are told when they say hello.
    pub(super) fn send_kill(&mut self, key: &TaskKey, grace: Option<DurationMs>, fx: &mut Effects) {
        let Some(task) = self.state.task(key).filter(|task| task.live.is_some()) else { return };
        let launch = task.launch;
        if let Some(connection) = task.agent.and_then(|agent| self.mind.connection(agent)) {
            let grace = grace.unwrap_or_else(|| self.grace_of(key));
            let grace = grace.min(self.drain_grace(key));
            let message =
                MasterMessage::Kill { term: self.state.term(), launch, key: key.clone(), grace };
            fx.orders.push(Effect::Send { connection, message });
        }
    }
}
