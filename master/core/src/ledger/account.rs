//! One pool of one agent: what there is, what is offered, what is used, what is free.
//!
//! An agent may have a thousand kinds of resources, and each task moves a few: whatever moves some costs as much as those
//! do. A shared volume is free however often it is held, so it has no part in the balance.

use super::LedgerError;
use tepui_proto::{Bundle, PoolKind, PortSet, Resources};

/// One pool of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// All that there is.
    pub total: Bundle,
    /// Held by offers.
    pub offered: Bundle,
    /// Held by tasks and schedulers.
    pub used: Bundle,
    /// Neither; kept beside the others since the allocator reads it all the time.
    free: Bundle,
}

/// What is moved into or out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Offered,
    Used,
}

impl Account {
    /// Neither offered nor used. Empty, resource by resource, while there is overdraft. Shared volumes are always here.
    pub fn free(&self) -> &Bundle {
        &self.free
    }

    /// Offered and used.
    pub fn out(&self) -> Option<Bundle> {
        self.offered.checked_add(&self.used)
    }

    /// What is out beyond the total.
    pub fn overdraft(&self) -> Bundle {
        let out = self.out().unwrap_or_default();
        out.saturating_sub(&self.total).retained(|kind, _| !kind.is_shared())
    }

    /// All of it is as its kinds say, after a change of what there is.
    pub(super) fn balance(&mut self) -> Result<(), LedgerError> {
        let free = self
            .total
            .iter()
            .map(|(kind, total)| Ok((kind.clone(), free_of(kind, total, &self.out_of(kind)?))));
        let free = free.collect::<Result<Vec<_>, LedgerError>>()?;
        self.free = Bundle::default();
        for (kind, amount) in free {
            self.free.set(&kind, amount);
        }
        Ok(())
    }

    fn out_of(&self, kind: &PoolKind) -> Result<Resources, LedgerError> {
        self.offered.get(kind).checked_add(self.used.get(kind)).ok_or(LedgerError::Short)
    }

    /// Free becomes part of this, or what is out gets an overdraft.
    ///
    /// # Errors
    /// If a sum is over the range. Nothing has changed then.
    pub(super) fn put(&mut self, part: Part, bundle: &Bundle) -> Result<(), LedgerError> {
        self.shift(part, bundle, Resources::checked_add)
    }

    /// Part of this becomes free, or covers overdraft.
    ///
    /// # Errors
    /// Unless all of it is there. Nothing has changed then.
    pub(super) fn take(&mut self, part: Part, bundle: &Bundle) -> Result<(), LedgerError> {
        self.shift(part, bundle, |have, less| {
            have.contains(less).then(|| have.saturating_sub(less))
        })
    }

    fn shift(
        &mut self,
        part: Part,
        bundle: &Bundle,
        change: impl Fn(&Resources, &Resources) -> Option<Resources>,
    ) -> Result<(), LedgerError> {
        let moved = bundle.iter().map(|(kind, amount)| {
            let (have, others) = match part {
                Part::Offered => (self.offered.get(kind), self.used.get(kind)),
                Part::Used => (self.used.get(kind), self.offered.get(kind)),
            };
            let now = change(have, amount)?;
            let free = free_of(kind, self.total.get(kind), &now.checked_add(others)?);
            Some((kind, now, free))
        });
        let moved = moved.collect::<Option<Vec<_>>>().ok_or(LedgerError::Short)?;
        for (kind, now, free) in moved {
            match part {
                Part::Offered => self.offered.set(kind, now),
                Part::Used => self.used.set(kind, now),
            }
            self.free.set(kind, free);
        }
        Ok(())
    }

    pub(super) fn is_balanced(&self) -> bool {
        let Some(out) = self.out() else { return false };
        let own = |bundle: &Bundle| bundle.retained(|kind, _| !kind.is_shared());
        let (total, out, free) = (own(&self.total), own(&out), own(&self.free));
        let overdraft = out.saturating_sub(&total);
        let kinds: Vec<_> = [&total, &out, &free]
            .into_iter()
            .flat_map(Bundle::iter)
            .map(|(kind, _)| kind)
            .collect();
        kinds.iter().all(|kind| {
            let of = |bundle: &Bundle| countable(bundle.get(kind));
            of(&total).checked_add(&of(&overdraft)) == of(&free).checked_add(&of(&out))
        }) && kinds.iter().all(|kind| !free.get(kind).ports.overlaps(&out.get(kind).ports))
    }
}

/// What is free of a kind of which so much is out.
fn free_of(kind: &PoolKind, total: &Resources, out: &Resources) -> Resources {
    if kind.is_shared() { total.clone() } else { total.saturating_sub(out) }
}

fn countable(resources: &Resources) -> Resources {
    Resources { ports: PortSet::default(), ..resources.clone() }
}
