//! Why a framework was not offered what an agent has: counts per reason, recorded as the allocator runs.
//!
//! A count costs one addition beside the look that it counts. A tally begins anew when everything is looked at; what
//! single agents were looked at for since then is added. Never decides anything.

use tepui_proto::Timestamp;

/// Why an agent, or what is left of it, was not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Too little CPU is free.
    NoCpus,
    /// Too little memory is free.
    NoMemory,
    /// Too little disk is free.
    NoDisk,
    /// Too few ports are free.
    NoPorts,
    /// Too little is free of a resource that the operator named.
    NoCustom,
    /// What is free is reserved for other roles.
    Reserved,
    /// The role, or one above it, is at its limit.
    Quota,
    /// What is free is held for other roles' guarantees.
    Headroom,
    /// The framework has refused it for a while.
    Filter,
    /// The agent does not meet the want's constraints.
    Constraint,
    /// What is free is less than the smallest offer.
    SmallestOffer,
    /// The framework does not take such resources: revocable ones, shared volumes, GPUs, other regions.
    NotAccepted,
    /// All of it is used or offered, or a framework with a lower share took it.
    Held,
    /// The agent is drained, deactivated, or away.
    Drained,
    /// The agent has as many tasks as it takes, or no room on its disk.
    Full,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NoCpus,
        Self::NoMemory,
        Self::NoDisk,
        Self::NoPorts,
        Self::NoCustom,
        Self::Reserved,
        Self::Quota,
        Self::Headroom,
        Self::Filter,
        Self::Constraint,
        Self::SmallestOffer,
        Self::NotAccepted,
        Self::Held,
        Self::Drained,
        Self::Full,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoCpus => "no-cpus",
            Self::NoMemory => "no-mem",
            Self::NoDisk => "no-disk",
            Self::NoPorts => "no-ports",
            Self::NoCustom => "no-custom",
            Self::Reserved => "reserved",
            Self::Quota => "quota",
            Self::Headroom => "headroom",
            Self::Filter => "filter",
            Self::Constraint => "constraint",
            Self::SmallestOffer => "smallest-offer",
            Self::NotAccepted => "not-accepted",
            Self::Held => "held",
            Self::Drained => "drained",
            Self::Full => "full",
        }
    }
}

/// What came of the looks of one framework, in one role or for one want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// When everything was last looked at.
    pub since: Timestamp,
    /// Agents that it was considered for, a new look at one counting again.
    pub considered: u64,
    /// Of them, those of which something was offered.
    pub offered: u64,
    counts: [u64; Reason::ALL.len()],
}

impl Tally {
    /// Begins anew.
    pub(super) fn reset(&mut self, now: Timestamp) {
        *self = Self { since: now, ..Self::default() };
    }

    /// One look that ended with this.
    pub(super) fn see(&mut self, reason: Option<Reason>) {
        self.considered += 1;
        match reason {
            None => self.offered += 1,
            Some(reason) => self.add(reason, 1),
        }
    }

    /// So many looks that ended with this.
    pub(super) fn pass_over(&mut self, reason: Reason, looks: u64) {
        self.considered += looks;
        self.add(reason, looks);
    }

    /// More of one reason, without a look.
    pub(super) fn add(&mut self, reason: Reason, more: u64) {
        if let Some(at) = Reason::ALL.iter().position(|other| *other == reason)
            && let Some(count) = self.counts.get_mut(at)
        {
            *count += more;
        }
    }

    /// How many agents were left out for a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.reasons().find(|(other, _)| *other == reason).map_or(0, |(_, count)| count)
    }

    /// All reasons with their counts, in a fixed order.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.counts)
    }
}
