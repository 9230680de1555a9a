//! What of an agent a framework may be offered in a role, before anybody asks whether it wants it.
//!
//! Reservations for the role and those above it come whole; ports and items of sets come whole; what anyone may use is cut
//! to what quotas allow. A disk or volume that cannot be split comes whole or not at all.

use super::Accepts;
use super::explain::Reason;
use crate::ledger::paths;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::resources::Custom;
use tepui_proto::{Bundle, PoolKind, Resources, Role, Scalars};

/// What quotas allow of what anyone may use.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance {
    /// Towards guarantees; an absent name is nothing. None while fair shares are given out.
    pub(super) owed: Option<Scalars>,
    /// Up to limits; an absent name is without limit.
    pub(super) room: Scalars,
    /// As `room`, without what is promised to others below the same limits; at most `room`.
    pub(super) spare: Scalars,
    /// What no guarantee needs; an absent name is without limit.
    pub(super) surplus: Scalars,
}

impl Allowance {
    pub(super) fn is_unbounded(&self) -> bool {
        self.owed.is_none() && self.room.is_empty() && self.surplus.is_empty()
    }

    /// How much may be offered of a name of which there is so much.
    fn of(&self, name: &str, have: u64) -> u64 {
        let room = self.room.get(name).unwrap_or(u64::MAX);
        let owed = self.owed.as_ref().map_or(0, |owed| owed.get(name).unwrap_or(0));
        let owed = owed.min(have).min(room);
        let spare = self.spare.get(name).unwrap_or(u64::MAX).saturating_sub(owed);
        let surplus = self.surplus.get(name).unwrap_or(u64::MAX);
        (have - owed).min(spare).min(surplus).saturating_add(owed)
    }

    /// Whether some of this serves a guarantee, if that is what is given out.
    pub(super) fn is_served_by(&self, bundle: &Bundle) -> bool {
        let Some(owed) = &self.owed else { return true };
        let is_owed = |name: &str| {
            owed.get(name).is_some_and(|owed| owed > 0) && self.room.get(name) != Some(0)
        };
        let mut open = bundle.iter().filter(|(kind, _)| kind.is_open());
        open.any(|(_, amount)| Scalars::of(amount).iter().any(|(name, _)| is_owed(name)))
    }

    /// Why there is less than this: the role's limits, or what others' guarantees need.
    pub(super) fn reason(&self, need: &Scalars) -> Reason {
        let is_cut_by_limit = |(name, need): (&str, u64)| {
            let room = self.spare.get(name).unwrap_or(u64::MAX);
            room < need && room <= self.surplus.get(name).unwrap_or(u64::MAX)
        };
        let is_cut_by_headroom =
            |(name, need): (&str, u64)| self.surplus.get(name).is_some_and(|left| left < need);
        if need.iter().any(is_cut_by_limit) || !need.iter().any(is_cut_by_headroom) {
            Reason::Quota
        } else {
            Reason::Headroom
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) role: &'a Role,
    pub(super) accepts: Accepts,
    /// Shared volumes that were offered in this cycle already.
    pub(super) taken: &'a BTreeSet<PoolKind>,
}

impl Asker<'_> {
    /// Whether a pool may be offered to this one, whatever quotas say.
    fn may_have(&self, kind: &PoolKind) -> Result<(), Reason> {
        if let Some(owner) = kind.owner()
            && !is_at_or_below(self.role.as_str(), owner.as_str())
        {
            return Err(Reason::Reserved);
        }
        let is_refused = (kind.revocable && !self.accepts.revocable)
            || (kind.is_shared() && !self.accepts.shared)
            || (kind.reserved_for.len() > 1 && !self.accepts.refined);
        if is_refused {
            return Err(Reason::NotAccepted);
        }
        if kind.is_shared() && self.taken.contains(kind) {
            return Err(Reason::Held);
        }
        Ok(())
    }
}

/// Whether `role` is `above` or below it.
pub(crate) fn is_at_or_below(role: &str, above: &str) -> bool {
    role.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is free of an agent, its pools found by who owns them: there may be a thousand, and thousands ask.
#[derive(Debug)]
pub(super) struct Free {
    bundle: Bundle,
    /// Pools that are reserved, by their owner.
    owned: BTreeMap<Role, Vec<PoolKind>>,
    /// Other pools, the plain one aside.
    others: Vec<PoolKind>,
}

impl Free {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let (mut owned, mut others) = (BTreeMap::<Role, Vec<PoolKind>>::new(), Vec::new());
        for (kind, _) in bundle.pools() {
            match kind.owner() {
                None => others.push(kind.clone()),
                Some(owner) => match owned.get_mut(owner) {
                    Some(kinds) => kinds.push(kind.clone()),
                    None => drop(owned.insert(owner.clone(), vec![kind.clone()])),
                },
            }
        }
        Self { bundle: bundle.clone(), owned, others }
    }

    pub(super) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What is free for the role at all, whatever quotas say.
    ///
    /// # Errors
    /// Why nothing is: of the last kind, where they differ.
    pub(super) fn available(&self, asker: Asker<'_>) -> Result<Cow<'_, Bundle>, Reason> {
        if self.bundle.is_plain() {
            return Ok(Cow::Borrowed(&self.bundle));
        }
        let owned = paths(asker.role.as_str()).filter_map(|path| self.owned.get(path)).flatten();
        let mut available = Bundle::from(self.bundle.plain().clone());
        for kind in self.others.iter().chain(owned) {
            if asker.may_have(kind).is_ok() {
                let amount = self.bundle.get(kind).clone();
                // Each kind is there once.
                available.add_pool(kind.clone(), amount).ok_or(Reason::Held)?;
            }
        }
        if !available.is_empty() {
            return Ok(Cow::Owned(available));
        }
        let last = self.bundle.pools().last();
        Err(last.and_then(|(kind, _)| asker.may_have(kind).err()).unwrap_or(Reason::Held))
    }
}

/// Cuts what is available to what quotas allow.
///
/// # Errors
/// Why nothing is left, or, towards guarantees, why there is nothing to be given.
pub(super) fn candidate<'a>(
    available: &'a Bundle,
    role: &Role,
    allowance: &Allowance,
) -> Result<Cow<'a, Bundle>, Reason> {
    if allowance.is_unbounded() {
        return Ok(Cow::Borrowed(available));
    }
    let mut open = Scalars::default();
    for (kind, amount) in available.iter() {
        if kind.is_open() {
            crate::policy::add(&mut open, &Scalars::of(amount));
        }
    }
    let mut left = Scalars::default();
    for (name, have) in open.iter() {
        left.set(name, allowance.of(name, have));
    }
    let mut candidate = Bundle::default();
    for (kind, amount) in available.iter() {
        let part = if kind.is_open() {
            take(kind, amount, &mut left)
        } else if allowance.owed.is_some() && kind.owner().is_some_and(|owner| owner != role) {
            // An ancestor's reservation is shared out by fair share.
            Resources::default()
        } else {
            amount.clone()
        };
        if !part.is_empty() {
            candidate.add_pool(kind.clone(), part).ok_or(Reason::Held)?;
        }
    }
    if !allowance.is_served_by(&candidate) {
        // Reservations alone, or a disk that is too large, are no reason to be served first.
        return Err(Reason::Quota);
    }
    if candidate.is_empty() { Err(allowance.reason(&open)) } else { Ok(Cow::Owned(candidate)) }
}

/// Takes as much of a pool as is left, by name; what cannot be split, whole or not at all. Ports and items come along.
fn take(kind: &PoolKind, amount: &Resources, left: &mut Scalars) -> Resources {
    if kind.is_whole() || kind.disk.volume.is_some() {
        let have = left.get(Scalars::DISK).unwrap_or(0);
        if amount.disk_bytes > have {
            return Resources::default();
        }
        left.set(Scalars::DISK, have - amount.disk_bytes);
        return amount.clone();
    }
    let mut part = |name: &str, have: u64| {
        let taken = left.get(name).unwrap_or(0).min(have);
        left.set(name, left.get(name).unwrap_or(0) - taken);
        taken
    };
    let cpu_milli = part(Scalars::CPUS, amount.cpu_milli);
    let memory_bytes = part(Scalars::MEM, amount.memory_bytes);
    let disk_bytes = part(Scalars::DISK, amount.disk_bytes);
    let custom = amount.custom.iter().filter_map(|(name, amount)| match amount {
        Custom::Milli(milli) => {
            let taken = part(name, *milli);
            (taken > 0).then(|| (name.clone(), Custom::Milli(taken)))
        }
        Custom::Items(items) => Some((name.clone(), Custom::Items(items.clone()))),
    });
    let custom = custom.collect();
    Resources { cpu_milli, memory_bytes, disk_bytes, ports: amount.ports.clone(), custom }
}

/// Whether these meet a smallest offer: one of the sets, with all its names. No set at all is anything.
pub(super) fn is_worth_offering(bundle: &Bundle, smallest: &[Scalars]) -> bool {
    if smallest.is_empty() {
        return true;
    }
    let flat;
    let all = if bundle.is_plain() {
        bundle.plain()
    } else {
        flat = bundle.flat().unwrap_or_default();
        &flat
    };
    let of = |name: &str| match name {
        Scalars::CPUS => all.cpu_milli,
        Scalars::MEM => all.memory_bytes,
        Scalars::DISK => all.disk_bytes,
        _ => match all.custom.get(name) {
            Some(Custom::Milli(milli)) => *milli,
            _ => 0,
        },
    };
    smallest.iter().any(|set| set.iter().all(|(name, least)| of(name) >= least))
}
