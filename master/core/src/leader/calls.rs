//! Each call of an answer, checked: it becomes a part of the turn, or a refusal that the scheduler is told.

use super::Leader;
use super::answers::Draft;
use crate::allocator::{CheckedPatterns, check_constraints, patterns};
use crate::entry::{Completed, Demand, TimerChange};
use std::collections::BTreeSet;
use tepui_proto::calls::{Call, Outcome, Want};
use tepui_proto::control::MasterMessage;
use tepui_proto::events::Message;
use tepui_proto::{DurationMs, OfferId, Role, TaskId, TaskState, Timestamp, limits};

impl Leader {
    pub(super) fn on_call(
        &mut self,
        now: Timestamp,
        draft: &mut Draft,
        place: (u32, bool),
        call: Call,
    ) {
        let (index, is_last) = place;
        match call {
            Call::Accept(acceptance) => self.on_accept(now, draft, index, acceptance),
            Call::Decline { offers, refuse_for } => {
                self.on_decline(now, draft, index, &offers, refuse_for);
            }
            Call::Want(wants) => self.on_want(draft, index, wants),
            Call::Suppress(roles) => self.on_suppress(draft, &roles),
            Call::Revive(roles) => self.on_revive(draft, roles),
            Call::Kill { task, grace } => self.on_kill(draft, index, task, grace),
            Call::Reconcile(tasks) => self.on_reconcile(draft, index, tasks),
            Call::Send(message) => self.on_send(draft, index, message),
            Call::SetTimer { name, after } => {
                draft.turn.timers.push(TimerChange::Set(name, now.after(after)));
            }
            Call::CancelTimer(name) => draft.turn.timers.push(TimerChange::Cancel(name)),
            Call::Respond(response) => {
                if !(200..600).contains(&response.status)
                    || response.body.len() > limits::HTTP_BODY_BYTES
                {
                    let message =
                        format!("status 200 to 599 and at most {} bytes", limits::HTTP_BODY_BYTES);
                    draft.refuse(index, "invalid-response", message);
                    return;
                }
                let id = response.id;
                if !self.respond(draft.framework, response, &mut draft.fx) {
                    draft.refuse(
                        index,
                        "request-unknown",
                        format!("nobody waits for request {id} any more"),
                    );
                }
            }
            Call::Put { key, value } => draft.turn.writes.push((key, value)),
            Call::Complete(outcome) => self.on_complete(draft, index, is_last, outcome),
            Call::AcceptInverse(offers) => self.on_inverse(draft, index, &offers, None),
            Call::DeclineInverse { offers, refuse_for } => {
                let span = refuse_for.map_or(limits::REFUSE_MS, |span| span.0);
                let until = now.after(DurationMs(span.min(limits::REFUSE_MS_MAX)));
                self.on_inverse(draft, index, &offers, Some(until));
            }
        }
    }

    fn on_decline(
        &mut self,
        now: Timestamp,
        draft: &mut Draft,
        index: u32,
        offers: &[OfferId],
        refuse_for: Option<DurationMs>,
    ) {
        let mut missing = Missing::default();
        for id in offers {
            let held =
                self.mind.offers.get(*id).is_some_and(|offer| {
                    offer.framework == draft.framework && offer.told.is_some()
                });
            let Some(offer) = held.then(|| self.close_offer(*id)).flatten() else {
                missing.add(id);
                continue;
            };
            draft.has_declined = true;
            let bundle = offer.bundle.clone();
            self.refuse(now, &offer, bundle, refuse_for);
        }
        if let Some(which) = missing.told() {
            let message = format!("not held by this framework, or no longer: offer {which}");
            draft.refuse(index, "invalid-offer", message);
        }
    }

    fn on_inverse(
        &mut self,
        draft: &mut Draft,
        index: u32,
        offers: &[OfferId],
        refused_until: Option<Timestamp>,
    ) {
        let mut missing = Missing::default();
        for id in offers {
            if !self.answer_inverse(draft.framework, *id, refused_until) {
                missing.add(id);
            }
        }
        if let Some(which) = missing.told() {
            let message = format!("not out, or no longer: inverse offer {which}");
            draft.refuse(index, "invalid-offer", message);
        }
    }

    fn on_want(&mut self, draft: &mut Draft, index: u32, wants: Option<Vec<Want>>) {
        let Some(framework) = self.state.frameworks.get(&draft.framework) else { return };
        let before = match &draft.turn.wants {
            None => framework.wants.as_deref(),
            Some(Demand::Anything) => None,
            Some(Demand::Only(wants)) => Some(wants.as_slice()),
        };
        let has_changed = before != wants.as_deref();
        let stated = wants.as_deref().filter(|_| has_changed).unwrap_or_default();
        let roles = &framework.submission.roles;
        if has_changed && draft.patterns.is_empty() {
            // What it wants already was checked when it said so.
            let wants = framework.wants.iter().flatten();
            let known = wants.flat_map(|want| patterns(&want.constraints));
            draft.patterns.extend(known.map(|pattern| (pattern.to_owned(), Ok(()))));
        }
        let known = draft.patterns.len();
        let verdict = check_wants(roles, stated, &mut draft.patterns);
        draft.compiled += draft.patterns.len() - known;
        if let Err((code, message)) = verdict {
            return draft.refuse(index, code, message);
        }
        if has_changed {
            // A want that changed is asked for afresh.
            self.mind.allocator.forget_refusals(draft.framework, &framework.submission.roles);
        }
        // Launches of this turn lower the counts of before, so the same wants stated after them are not the same.
        if has_changed || !draft.turn.launches.is_empty() {
            draft.turn.wants = Some(wants.map_or(Demand::Anything, Demand::Only));
        }
    }

    fn suppressed_so_far(&self, draft: &Draft) -> Vec<Role> {
        let stored = || {
            self.state
                .frameworks
                .get(&draft.framework)
                .map(|f| f.suppressed.iter().cloned().collect())
        };
        draft.turn.suppressed.clone().or_else(stored).unwrap_or_default()
    }

    fn on_suppress(&mut self, draft: &mut Draft, roles: &[Role]) {
        let Some(framework) = self.state.frameworks.get(&draft.framework) else { return };
        let mut suppressed = self.suppressed_so_far(draft);
        let own = framework.submission.roles.iter();
        suppressed.extend(own.filter(|role| roles.is_empty() || roles.contains(role)).cloned());
        suppressed.sort();
        suppressed.dedup();
        draft.turn.suppressed = Some(suppressed);
    }

    fn on_revive(&mut self, draft: &mut Draft, roles: Vec<Role>) {
        let Some(framework) = self.state.frameworks.get(&draft.framework) else { return };
        let roles = if roles.is_empty() { framework.submission.roles.clone() } else { roles };
        let mut suppressed = self.suppressed_so_far(draft);
        suppressed.retain(|role| !roles.contains(role));
        draft.turn.suppressed = Some(suppressed);
        self.mind.allocator.forget_refusals(draft.framework, &roles);
    }

    fn on_kill(&mut self, draft: &mut Draft, index: u32, task: TaskId, grace: Option<DurationMs>) {
        let record = self
            .state
            .frameworks
            .get(&draft.framework)
            .and_then(|framework| framework.tasks.get(&task));
        let live = record.and_then(|record| record.live.as_ref()).map(|live| live.spec.grace());
        // Of this very turn it is there once the turn is.
        if let Some(own) = live.or_else(|| draft.graces.get(&task).copied()) {
            let grace = grace.unwrap_or(own).min(DurationMs(limits::KILL_GRACE_MS_MAX));
            // Killed twice in a turn, it has the shorter grace.
            let known = draft.kills.entry(task).or_insert(grace);
            *known = grace.min(*known);
        } else if record.is_some() {
            // It has ended: its last word is told again.
            draft.reconciled.insert(task);
        } else {
            draft.refuse(index, "task-unknown", format!("there is no task `{task}`"));
        }
    }

    fn on_reconcile(&mut self, draft: &mut Draft, index: u32, tasks: Vec<TaskId>) {
        let Some(framework) = self.state.frameworks.get(&draft.framework) else { return };
        if tasks.is_empty() {
            // All of them are told as they are to a new instance, a page at a time.
            draft.recounts = true;
            return;
        }
        let mut missing = Missing::default();
        for task in tasks {
            if framework.tasks.contains_key(&task) {
                draft.reconciled.insert(task);
            } else {
                missing.add(&format_args!("`{task}`"));
            }
        }
        if let Some(which) = missing.told() {
            draft.refuse(index, "task-unknown", format!("there is no task {which}"));
        }
    }

    fn on_send(&mut self, draft: &mut Draft, index: u32, message: Message) {
        if message.data.len() > limits::MESSAGE_BYTES {
            let text = format!(
                "a message of {} bytes; at most {}",
                message.data.len(),
                limits::MESSAGE_BYTES
            );
            return draft.refuse(index, "message-too-large", text);
        }
        let record = self
            .state
            .frameworks
            .get(&draft.framework)
            .and_then(|framework| framework.tasks.get(&message.task));
        let running = record
            .filter(|task| task.status.state == TaskState::Running)
            .and_then(|task| task.agent.zip(Some(task.launch)));
        match running {
            Some((agent, launch)) => {
                draft.sends.push((agent, MasterMessage::Message { launch, data: message.data }));
            }
            None => draft.refuse(
                index,
                "task-unknown",
                format!("there is no running task `{}`", message.task),
            ),
        }
    }

    fn on_complete(&mut self, draft: &mut Draft, index: u32, is_last: bool, outcome: Outcome) {
        if !is_last || !draft.turn.launches.is_empty() {
            let text =
                "`complete` must be the last call of a turn that launches nothing".to_owned();
            return draft.refuse(index, "complete-not-last", text);
        }
        let Some(framework) = self.state.frameworks.get(&draft.framework) else { return };
        if let Some(name) = outcome.results.iter().find(|name| !framework.blobs.contains_key(*name))
        {
            return draft.refuse(
                index,
                "blob-unknown",
                format!("there is no blob `{name}` to be kept as a result"),
            );
        }
        let mut message = outcome.message;
        message.truncate(message.floor_char_boundary(4 * limits::TEXT_BYTES));
        draft.turn.completed =
            Some(Completed { success: outcome.success, message, results: outcome.results });
    }
}

/// What a call names that is not there: the first, and how many more. One refusal tells of all.
#[derive(Debug, Default)]
struct Missing {
    first: Option<String>,
    more: usize,
}

impl Missing {
    fn add(&mut self, what: &dyn std::fmt::Display) {
        match &self.first {
            None => self.first = Some(what.to_string()),
            Some(_) => self.more += 1,
        }
    }

    fn told(self) -> Option<String> {
        let mut first = self.first?;
        first.truncate(first.floor_char_boundary(limits::TEXT_BYTES / 2));
        Some(if self.more == 0 { first } else { format!("{first}, and {} more", self.more) })
    }
}

/// Wants are bounded, of the framework's own roles, and of what this version does.
fn check_wants(
    roles: &[Role],
    wants: &[Want],
    checked: &mut CheckedPatterns,
) -> Result<(), (&'static str, String)> {
    if wants.len() > limits::WANTS {
        return Err((
            "too-many-wants",
            format!("{} wants; at most {}", wants.len(), limits::WANTS),
        ));
    }
    let mut ids = BTreeSet::new();
    for want in wants {
        if !roles.contains(&want.role) {
            return Err((
                "role-unknown",
                format!("want {}: `{}` is not a role of this framework", want.id, want.role),
            ));
        }
        if !ids.insert(want.id) {
            return Err(("want-duplicate", format!("want {} stands twice", want.id)));
        }
        if want.each.is_empty() && want.port_count == 0 {
            return Err(("want-empty", format!("want {} is for nothing", want.id)));
        }
        check_constraints(&want.constraints, checked)
            .map_err(|error| ("constraint-invalid", format!("want {}: {error}", want.id)))?;
    }
    Ok(())
}
