//! What a framework has refused in one role, for a while, by agent (Mesos: offer filters).
//!
//! Part of the mind: a new leader knows none. A refusal hides what lies within it: `refused ⊇ candidate`. Where an
//! interval is set, it lasts at least until a periodic cycle has seen it, however short it was asked for (MESOS-4302).

use std::collections::BTreeMap;
use tepui_proto::{AgentId, Bundle, Timestamp};

/// The time, and how many periodic cycles have run before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) now: Timestamp,
    pub(super) cycles: u64,
    /// Whether periodic cycles are what time is made of.
    pub(super) is_periodic: bool,
}

#[derive(Debug)]
struct Refusal {
    bundle: Bundle,
    until: Timestamp,
    /// How many cycles had run when it was made.
    made: u64,
}

impl Refusal {
    fn stands(&self, clock: Clock) -> bool {
        clock.now < self.until || (clock.is_periodic && self.made == clock.cycles)
    }
}

/// Refusals of one framework in one role.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_agent: BTreeMap<AgentId, Vec<Refusal>>,
}

impl Refusals {
    pub(super) fn refuse(&mut self, agent: AgentId, bundle: Bundle, until: Timestamp, cycles: u64) {
        let list = self.by_agent.entry(agent).or_default();
        // A refusal within another that lasts as long says nothing new.
        list.retain(|old| old.until > until || !bundle.contains(&old.bundle));
        list.push(Refusal { bundle, until, made: cycles });
    }

    /// Whether all of `candidate` lies within something refused.
    pub(super) fn hide(&self, agent: AgentId, candidate: &Bundle, clock: Clock) -> bool {
        let list = self.by_agent.get(&agent);
        list.is_some_and(|list| {
            list.iter().any(|refusal| refusal.stands(clock) && refusal.bundle.contains(candidate))
        })
    }

    /// Forgets what has run out on an agent.
    pub(super) fn expire(&mut self, agent: AgentId, clock: Clock) {
        if let Some(list) = self.by_agent.get_mut(&agent) {
            list.retain(|refusal| refusal.stands(clock));
            if list.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
    }

    pub(super) fn forget_agent(&mut self, agent: AgentId) {
        self.by_agent.remove(&agent);
    }

    pub(super) fn forget(&mut self) {
        self.by_agent.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.by_agent.len()
    }
}
