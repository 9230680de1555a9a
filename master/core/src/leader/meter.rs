//! The meter of a turn: all that an answer makes the leader look at, keep, write, send or compile, counted before any of
//! it is done.
//!
//! An answer over a bound is refused whole, with the name of the bound, and counts as a failure of its scheduler. What is
//! checked call by call (whether an offer is held, a task is there) is in `calls` and `launches`: those refuse one call.

use super::Leader;
use crate::allocator::patterns;
use crate::state::{Class, EVENT_BYTES, Framework, KEY_BYTES};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::calls::{Acceptance, Call, Operation, Want};
use tepui_proto::{FrameworkId, limits};

/// What the calls of one answer come to.
#[derive(Debug, Default)]
struct Meter<'a> {
    operations: usize,
    launches: usize,
    conversions: usize,
    /// Records of the tasks that it launches.
    launch_bytes: usize,
    /// Offers, tasks, roles and results.
    names: usize,
    sends: usize,
    wants: usize,
    want_bytes: usize,
    constraints: usize,
    patterns: BTreeSet<&'a str>,
    /// Calls and operations that may be refused, each with an event.
    refusable: usize,
    timers: BTreeSet<&'a str>,
}

impl<'a> Meter<'a> {
    fn read(calls: &'a [Call]) -> Self {
        let mut meter = Self::default();
        for call in calls {
            meter.count(call);
        }
        meter
    }

    fn count(&mut self, call: &'a Call) {
        match call {
            Call::Accept(acceptance) => self.count_acceptance(acceptance),
            Call::Decline { offers, .. }
            | Call::AcceptInverse(offers)
            | Call::DeclineInverse { offers, .. } => {
                self.names += offers.len();
                self.refusable += 1;
            }
            Call::Want(wants) => {
                let wants = wants.as_deref().unwrap_or_default();
                self.wants += wants.len();
                self.want_bytes += wants.iter().map(Want::weight).sum::<usize>();
                self.constraints += wants.iter().map(|want| want.constraints.len()).sum::<usize>();
                self.patterns.extend(wants.iter().flat_map(|want| patterns(&want.constraints)));
                self.refusable += 1;
            }
            Call::Suppress(roles) | Call::Revive(roles) => self.names += roles.len(),
            Call::Reconcile(tasks) => {
                self.names += tasks.len();
                self.refusable += tasks.len() + 1;
            }
            Call::Send(_) => {
                self.sends += 1;
                self.refusable += 1;
            }
            Call::SetTimer { name, .. } => {
                self.timers.insert(name);
            }
            Call::Complete(outcome) => {
                self.names += outcome.results.len();
                self.refusable += 1;
            }
            Call::Kill { .. } | Call::Respond(_) => self.refusable += 1,
            Call::CancelTimer(_) | Call::Put { .. } => {}
        }
    }

    fn count_acceptance(&mut self, acceptance: &'a Acceptance) {
        self.names += acceptance.offers.len();
        self.operations += acceptance.operations.len();
        self.refusable += acceptance.operations.len();
        for operation in &acceptance.operations {
            match operation {
                Operation::Launch(spec) => {
                    self.launches += 1;
                    self.launch_bytes += spec.weight();
                }
                Operation::LaunchGroup(tasks) => self.launches += tasks.len(),
                Operation::Reserve(_)
                | Operation::Unreserve(_)
                | Operation::CreateVolume(_)
                | Operation::DestroyVolume(_) => self.conversions += 1,
            }
        }
    }

    /// What the framework may come to take more than before, durable keys and tasks aside: launches are refused one by one.
    /// One that lets go of what it has is never refused for what its calls may lead to, unless it does not take in what they
    /// led to.
    fn growth(&self, framework: &Framework) -> usize {
        let refusals = if framework.is_behind() { self.refusable * EVENT_BYTES } else { 0 };
        let wanted = framework.wants.iter().flatten().map(Want::weight);
        let wants = if self.wants > 0 { self.want_bytes.saturating_sub(wanted.sum()) } else { 0 };
        let timers = self.timers.iter().filter(|name| !framework.timers.contains_key(**name));
        refusals + wants + timers.count() * limits::KEY_BYTES
    }

    /// What does not depend on the framework.
    fn check(&self) -> Result<(), String> {
        let bounds = [
            (self.operations, limits::OPERATIONS, "operations of acceptances"),
            (self.launches, limits::LAUNCHES, "launches"),
            (self.conversions, limits::CONVERSIONS, "reservations and volumes"),
            (self.names, limits::NAMES, "names of offers, tasks, roles and results"),
            (self.sends, limits::SENDS, "messages to tasks"),
            (self.wants, limits::TURN_WANTS, "wants in all"),
            (self.constraints, limits::TURN_CONSTRAINTS, "constraints of wants in all"),
            (self.patterns.len(), limits::PATTERNS, "different regular expressions"),
        ];
        bounds.into_iter().try_for_each(within)
    }

    /// What the framework has already counts as well.
    fn check_with(&self, framework: &Framework, told: &[u64]) -> Result<(), String> {
        let set = framework.timers.keys().map(String::as_str);
        let timers: BTreeSet<&str> = set.chain(self.timers.iter().copied()).collect();
        if let Some(long) = timers.iter().find(|name| name.len() > limits::KEY_BYTES) {
            return Err(format!(
                "a timer's name of {} bytes; at most {}",
                long.len(),
                limits::KEY_BYTES
            ));
        }
        // What the turn that is answered has told leaves the queue with the answer.
        let rang = framework.queue.untold(Class::Timers, told);
        let refused = framework.queue.untold(Class::Refusals, told);
        // A turn that can lead to no refusal, and sets no timer, is not to be refused for those that wait already.
        let refusable = if self.refusable > 0 { refused + self.refusable } else { 0 };
        let timed = if self.timers.is_empty() { 0 } else { timers.len() + rang };
        let bounds = [
            (framework.live + self.launches, limits::LIVE_TASKS, "live tasks"),
            (
                framework.live_bytes + self.launch_bytes,
                limits::LIVE_TASK_BYTES,
                "bytes of records of live tasks",
            ),
            (timed, limits::TIMERS, "timers, set or waiting to be told"),
            (
                refusable,
                limits::WAITING_REFUSALS,
                "refusals, waiting to be told or possible in this turn",
            ),
        ];
        bounds.into_iter().try_for_each(within)
    }
}

fn within((have, most, what): (usize, usize, &str)) -> Result<(), String> {
    if have > most { Err(format!("{have} {what}; at most {most}")) } else { Ok(()) }
}

impl Leader {
    /// Limits that a turn may not break at all.
    pub(super) fn check_bounds(&self, id: FrameworkId, calls: &[Call]) -> Result<(), String> {
        within((calls.len(), limits::CALLS, "calls"))?;
        let meter = Meter::read(calls);
        meter.check()?;
        let Some(framework) = self.state.frameworks.get(&id) else { return Ok(()) };
        let hosted = self.mind.frameworks.get(&id).and_then(|mind| mind.hosted.as_ref());
        let told = hosted.and_then(|hosted| hosted.in_flight.as_ref()).map(|turn| &turn.seen);
        meter.check_with(framework, told.map_or(&[], Vec::as_slice))?;
        let written = check_writes(framework, calls)?;
        self.check_share(framework.weight(), meter.growth(framework) + written)
    }

    /// What all frameworks take of the master's memory is bounded: once it is full, none grows beyond an equal share.
    pub(super) fn check_share(&self, own: usize, more: usize) -> Result<(), String> {
        let all = self.state.bytes + more;
        let live = self.state.frameworks.len() - self.state.ended_frameworks.len();
        let most = self.mind.state_bytes;
        let share = most / live.max(1);
        if more == 0 || all <= most || own + more <= share {
            return Ok(());
        }
        Err(format!(
            "{all} bytes of state of all frameworks; at most {most}, and then {share} for each"
        ))
    }
}

/// Keys, values and their sums stay within bounds. Says by how much they grow.
fn check_writes(framework: &Framework, calls: &[Call]) -> Result<usize, String> {
    let mut bytes = framework.keys_bytes;
    let mut keys = framework.keys.len();
    // What each key that is written takes so far; none if it is not there.
    let mut sizes: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for call in calls {
        let Call::Put { key, value } = call else { continue };
        let value_bytes = value.as_ref().map_or(0, Vec::len);
        if key.is_empty() || key.len() > limits::KEY_BYTES {
            return Err(format!("a key of {} bytes; 1 to {}", key.len(), limits::KEY_BYTES));
        }
        within((value_bytes, limits::VALUE_BYTES, "bytes of a value"))?;
        let stored = || framework.keys.get(key).map(|old| key.len() + old.len());
        let before = sizes.get(key.as_str()).copied().unwrap_or_else(stored);
        let after = value.as_ref().map(|value| key.len() + value.len());
        bytes = bytes.saturating_sub(before.unwrap_or(0)) + after.unwrap_or(0);
        keys = keys - usize::from(before.is_some()) + usize::from(after.is_some());
        sizes.insert(key, after);
    }
    within((bytes, limits::STATE_BYTES, "bytes of durable state"))?;
    within((keys, limits::KEYS, "keys of durable state"))?;
    Ok((bytes + keys * KEY_BYTES)
        .saturating_sub(framework.keys_bytes + framework.keys.len() * KEY_BYTES))
}
