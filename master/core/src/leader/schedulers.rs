//! Schedulers get a place, are started anew when they fail, and are held when they fail too often.

use super::deadlines::Deadline;
use super::mind::{Beginning, Hosted};
use super::places::load;
use super::{Leader, Step, cut};
use crate::effect::Effect;
use crate::entry::EntryKind;
use crate::refusal::{Code, Refusal};
use std::collections::BTreeSet;
use std::ops::Bound;
use tepui_proto::api::FrameworkPhase;
use tepui_proto::events::StartCause;
use tepui_proto::scheduler::{FromScheduler, Level, Open, ToScheduler};
use tepui_proto::{
    AgentId, DurationMs, FrameworkId, Incarnation, Reason, Resources, TaskKey, TaskState,
    Timestamp, TurnNumber, limits,
};

/// Between the end of an instance that failed by no fault of the tenant's and the next.
const REPLACE_MS: u64 = 50;

impl Leader {
    /// Begins to care for a framework that is in the state.
    pub(super) fn adopt_framework(&mut self, now: Timestamp, id: FrameworkId) {
        let Some(framework) = self.state.frameworks.get(&id) else { return };
        match framework.phase {
            FrameworkPhase::Submitted | FrameworkPhase::Running => {
                self.mind.unplaced.insert(id);
            }
            FrameworkPhase::Stopping => {
                self.mind.stopping.insert(id);
                self.mind.stops.insert(id, None);
            }
            FrameworkPhase::Held | FrameworkPhase::Ended => {}
        }
        for (name, at) in &framework.timers {
            self.mind.deadlines.set((*at).max(now), Deadline::Timer(id, name.clone()));
        }
    }

    pub(super) fn place_schedulers(&mut self, step: &mut Step<'_>) {
        let mut unplaced = std::mem::take(&mut self.mind.unplaced);
        if std::mem::take(&mut self.mind.has_new_place) {
            let waits = |id: &FrameworkId| {
                self.state.frameworks.get(id).is_some_and(|f| f.is_active() && f.instance.is_none())
            };
            unplaced.extend(self.mind.frameworks.keys().copied().filter(waits));
        }
        let mut places = None;
        // What not even taking offers back would make room for.
        let mut hopeless: Option<Resources> = None;
        for id in unplaced {
            let Some(framework) = self.state.frameworks.get(&id) else { continue };
            if !framework.is_active() || framework.instance.is_some() {
                continue;
            }
            let restart_at = self.mind.framework(id).restart_at;
            if restart_at > step.now {
                self.mind.deadlines.set(restart_at, Deadline::Restart(id));
                continue;
            }
            let need = Resources::cpu_memory(
                framework.submission.cpu_milli,
                framework.submission.memory_bytes,
            );
            let places = places.get_or_insert_with(|| self.places());
            let avoid = self.mind.framework(id).avoided(step.now);
            let mut place = places.find(&self.state.ledger, &need, &avoid);
            if place.is_none() && hopeless.as_ref().is_none_or(|less| !need.contains(less)) {
                // Schedulers go before offers: what is only on offer is theirs to have.
                if let Some(agent) = places.find_offered(&self.state.ledger, &need) {
                    self.rescind_agent(agent);
                    places.freed();
                    place = places.find(&self.state.ledger, &need, &avoid);
                } else {
                    hopeless = Some(need.clone());
                }
            }
            let Some((agent, held_back)) = place else {
                // It is tried again when an agent connects or something is freed.
                let at = step.now.after(DurationMs(limits::ALLOCATION_INTERVAL_MS));
                self.mind.deadlines.set(at, Deadline::Restart(id));
                continue;
            };
            let before = load(&self.state.ledger, agent);
            self.begin_instance(step, id, (agent, held_back, need));
            let hosts = self.mind.hosting.get(&agent).map_or(0, BTreeSet::len);
            places.moved(&self.state.ledger, agent, before, hosts);
        }
    }

    fn begin_instance(
        &mut self,
        step: &mut Step<'_>,
        id: FrameworkId,
        place: (AgentId, bool, Resources),
    ) {
        let (agent, held_back, resources) = place;
        let Some(framework) = self.state.frameworks.get(&id) else { return };
        let (incarnation, cause) = (framework.incarnation.next(), framework.next_cause);
        let cause = if framework.turns == TurnNumber(0) { StartCause::Submitted } else { cause };
        self.propose(
            step,
            EntryKind::InstanceBegan {
                framework: id,
                incarnation,
                cause,
                agent,
                resources,
                held_back,
            },
        );
        let Some(framework) = self.state.frameworks.get(&id) else { return };
        let Some(connection) = self.mind.connection(agent) else { return };
        let open = Open {
            framework: id,
            tenant: framework.submission.tenant.clone(),
            name: framework.submission.name.clone(),
            term: self.state.term(),
            incarnation,
            module: framework.submission.scheduler,
            memory_bytes: framework.submission.memory_bytes,
            turn_fuel: limits::TURN_FUEL,
            turn_wall_ms: limits::TURN_WALL_MS,
        };
        let pages = state_pages(framework.keys.iter());
        step.fx.orders.push(Effect::OpenScheduler { connection, open, pages });
        let beginning = Beginning::Start;
        let hosted = Hosted {
            incarnation,
            agent,
            beginning,
            in_flight: None,
            has_answered: false,
            told: BTreeSet::new(),
        };
        self.mind.framework(id).hosted = Some(hosted);
        self.mind.hosting.entry(agent).or_default().insert(id);
        self.mind.touched.insert(id);
        let name = self.state.agents.get(&agent).map_or("", |agent| agent.name.as_str()).to_owned();
        self.note(
            step.now,
            id,
            "scheduler-placed",
            &format!("instance {incarnation} begins on agent `{name}`"),
        );
    }

    pub(super) fn on_scheduler_said(
        &mut self,
        step: &mut Step<'_>,
        id: FrameworkId,
        incarnation: Incarnation,
        frame: FromScheduler,
    ) {
        if !self.is_current(id, incarnation) {
            return;
        }
        match frame {
            FromScheduler::Answer { mark, calls, usage, log, dropped } => {
                self.note_log(step.now, id, &log);
                let expected = self
                    .mind
                    .framework(id)
                    .hosted
                    .as_ref()
                    .and_then(|hosted| hosted.in_flight.as_ref());
                if expected.is_none_or(|in_flight| in_flight.mark != mark) {
                    return;
                }
                self.on_answer(step, id, calls, usage);
                if dropped && self.is_current(id, incarnation) {
                    self.end_instance(
                        step,
                        id,
                        (false, "its memory was nearly full, so it begins anew"),
                    );
                }
            }
            FromScheduler::Failed { failure, message, log, .. } => {
                self.note_log(step.now, id, &log);
                let message = format!("{}: {message}", failure.code());
                if !failure.is_tenants() {
                    self.avoid_host(step.now, id);
                }
                self.end_instance(step, id, (failure.is_tenants(), &message));
            }
        }
    }

    fn note_log(&mut self, now: Timestamp, id: FrameworkId, log: &[(Level, String)]) {
        for (level, line) in log {
            let kind = match level {
                Level::Trace => "log-trace",
                Level::Debug => "log-debug",
                Level::Info => "log-info",
                Level::Warn => "log-warn",
                Level::Error => "log-error",
            };
            self.note(now, id, kind, line);
        }
    }

    pub(super) fn on_scheduler_stream_ended(
        &mut self,
        step: &mut Step<'_>,
        id: FrameworkId,
        incarnation: Incarnation,
    ) {
        if self.is_current(id, incarnation) {
            self.end_instance(step, id, (false, "its stream ended"));
        }
    }

    pub(super) fn on_answer_late(
        &mut self,
        step: &mut Step<'_>,
        id: FrameworkId,
        (incarnation, number): (Incarnation, TurnNumber),
    ) {
        let hosted = self.mind.frameworks.get(&id).and_then(|framework| framework.hosted.as_ref());
        let late = hosted
            .and_then(|hosted| hosted.in_flight.as_ref())
            .is_some_and(|turn| turn.mark.incarnation == incarnation && turn.mark.number == number);
        if late {
            self.avoid_host(step.now, id);
            self.end_instance(step, id, (false, "no answer to a turn came in time"));
        }
    }

    /// Its agent has failed a scheduler, which goes to another for a while, if there is one.
    fn avoid_host(&mut self, now: Timestamp, id: FrameworkId) {
        let mind = self.mind.framework(id);
        let Some(agent) = mind.hosted.as_ref().map(|hosted| hosted.agent) else { return };
        let (until, span) = mind.avoid.get(&agent).copied().unwrap_or((now, limits::AVOID_MS / 2));
        let is_over = until.after(DurationMs(limits::AVOID_MS_MAX)) < now;
        let span = if is_over { limits::AVOID_MS } else { (2 * span).min(limits::AVOID_MS_MAX) };
        mind.avoid.insert(agent, (now.after(DurationMs(span)), span));
    }

    fn is_current(&self, id: FrameworkId, incarnation: Incarnation) -> bool {
        let hosted = self.mind.frameworks.get(&id).and_then(|framework| framework.hosted.as_ref());
        hosted.is_some_and(|hosted| hosted.incarnation == incarnation)
    }

    /// An agent is gone, and the schedulers on it with it. No tenant is to blame.
    pub(super) fn lose_hosted(&mut self, step: &mut Step<'_>, agent: AgentId, message: &str) {
        let ids = self.mind.hosting.get(&agent).cloned().unwrap_or_default();
        for id in ids {
            self.end_instance(step, id, (false, message));
        }
    }

    /// Ends an instance: its offers come back without a filter, and another begins after a while.
    pub(super) fn end_instance(&mut self, step: &mut Step<'_>, id: FrameworkId, why: (bool, &str)) {
        let (counted, message) = why;
        let mut message = message.to_owned();
        cut(&mut message);
        let Some(hosted) = self.mind.framework(id).hosted.take() else { return };
        let incarnation = hosted.incarnation;
        if let Some(turn) = &hosted.in_flight {
            let late = Deadline::Answer(id, incarnation, turn.mark.number);
            self.mind.deadlines.clear(turn.due, late);
        }
        if let Some(ids) = self.mind.hosting.get_mut(&hosted.agent) {
            ids.remove(&id);
            if ids.is_empty() {
                self.mind.hosting.remove(&hosted.agent);
            }
        }
        step.fx.orders.push(Effect::CloseScheduler { framework: id, incarnation });
        self.propose(
            step,
            EntryKind::InstanceEnded {
                framework: id,
                incarnation,
                counted,
                message: message.clone(),
            },
        );
        self.note(
            step.now,
            id,
            "scheduler-ended",
            &format!("instance {incarnation} ended: {message}"),
        );
        self.mind.active.remove(&id);
        self.rescind_framework(id);
        self.mind.asking.insert(id);
        self.forget_refusals(id);
        let framework = self.mind.framework(id);
        framework.rescinded.clear();
        self.forget_inverse(id);
        let framework = self.mind.framework(id);
        let in_flight = hosted.in_flight.map(|turn| turn.requests).unwrap_or_default();
        let refusal =
            Refusal::new(Code::SchedulerFailed, format!("its scheduler failed: {message}"));
        let open: Vec<_> =
            std::mem::take(&mut framework.open_requests).into_iter().chain(in_flight).collect();
        for request in open {
            self.refuse_request(request, &refusal, step.fx);
        }
        self.plan_restart(step, id, counted);
    }

    fn plan_restart(&mut self, step: &mut Step<'_>, id: FrameworkId, counted: bool) {
        let Some(framework) = self.state.frameworks.get(&id) else { return };
        if framework.phase == FrameworkPhase::Held {
            let message = format!(
                "held after {} failures in a row: {}",
                framework.failures, framework.message
            );
            self.note(step.now, id, "held", &message);
            self.refuse_waiting_requests(id, &Refusal::new(Code::FrameworkHeld, message), step.fx);
            return;
        }
        let wait = if counted {
            let doubled = limits::RESTART_BACKOFF_MS
                .saturating_mul(1 << framework.failures.saturating_sub(1).min(20));
            doubled.min(limits::RESTART_BACKOFF_MS_MAX)
        } else {
            REPLACE_MS
        };
        self.mind.framework(id).restart_at = step.now.after(DurationMs(wait));
        self.mind.unplaced.insert(id);
    }

    /// No more offers and turns; its tasks are stopped; once the last has ended it is over.
    pub(super) fn stop_framework(&mut self, step: &mut Step<'_>, id: FrameworkId) {
        if self.mind.framework(id).hosted.is_some() {
            self.end_instance(step, id, (false, "its framework is stopping"));
        }
        self.mind.unplaced.remove(&id);
        self.mind.resting.remove(&id);
        self.mind.stopping.insert(id);
        self.refuse_waiting_requests(
            id,
            &Refusal::new(Code::FrameworkEnded, "the framework is stopping"),
            step.fx,
        );
        // The next settling begins.
        self.mind.stops.insert(id, None);
    }

    /// Stops tasks of frameworks that are stopping: so many in a batch, each framework in its turn.
    pub(super) fn stop_tasks_of_frameworks(&mut self, step: &mut Step<'_>) {
        let mut left = limits::MOVES;
        while left > 0
            && let Some((id, after)) = self.mind.stops.pop_first()
        {
            let Some(framework) = self.state.frameworks.get(&id) else { continue };
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let tasks = framework.tasks.range((start, Bound::Unbounded));
            let live = tasks.filter(|(_, task)| task.live.is_some());
            let keys: Vec<TaskKey> = live
                .take(left)
                .map(|(task, _)| TaskKey { framework: id, task: task.clone() })
                .collect();
            if keys.len() == left
                && let Some(last) = keys.last()
            {
                self.mind.stops.insert(id, Some(last.task.clone()));
                self.mind.deadlines.set(step.now, Deadline::GoOn);
            }
            left -= keys.len();
            let message = "its framework is stopping";
            self.move_tasks(step, &keys, TaskState::Killing, Reason::FrameworkEnded, message);
            for key in &keys {
                self.send_kill(key, None, step.fx);
            }
        }
        if !self.mind.stops.is_empty() {
            self.mind.deadlines.set(step.now, Deadline::GoOn);
        }
    }
}

/// Durable state in pages that fit a frame; at least one, since the last one says that it is.
fn state_pages<'a>(keys: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) -> Vec<ToScheduler> {
    let mut pages: Vec<Vec<(String, Vec<u8>)>> = vec![Vec::new()];
    let mut bytes = 0;
    for (key, value) in keys {
        bytes += key.len() + value.len();
        if bytes > limits::STATE_PAGE_BYTES {
            pages.push(Vec::new());
            bytes = key.len() + value.len();
        }
        if let Some(page) = pages.last_mut() {
            page.push((key.clone(), value.clone()));
        }
    }
    let count = pages.len();
    let page = |(at, pairs)| ToScheduler::State { pairs, last: at + 1 == count };
    pages.into_iter().enumerate().map(page).collect()
}
