//! One pool of one agent: what there is, what is offered, what is used, what is free.
//!
//! Its one surprise: a shared volume is free however often it is held, so it has no part in the balance.

use super::LedgerError;
use tepui_proto::{Bundle, PortSet, Resources};

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

    pub(super) fn balance(&mut self) -> Result<(), LedgerError> {
        let mut free = self.total.saturating_sub(&self.out().ok_or(LedgerError::Short)?);
        if !self.total.is_plain() {
            free = free.retained(|kind, _| !kind.is_shared());
            for (kind, amount) in self.total.pools().filter(|(kind, _)| kind.is_shared()) {
                free.add_pool(kind.clone(), amount.clone()).ok_or(LedgerError::Short)?;
            }
        }
        self.free = free;
        Ok(())
    }

    pub(super) fn offer(&mut self, bundle: &Bundle) -> Result<(), LedgerError> {
        if !self.free.contains(bundle) {
            return Err(LedgerError::Short);
        }
        self.offered = self.offered.checked_add(bundle).ok_or(LedgerError::Short)?;
        if bundle.is_plain() {
            self.free = self.free.saturating_sub(bundle);
            Ok(())
        } else {
            self.balance()
        }
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

fn countable(resources: &Resources) -> Resources {
    Resources { ports: PortSet::default(), ..resources.clone() }
}
