//! Wants: a framework that says what it wants is offered at most that, cut to size.
//!
//! Units are cut from what is available, from the most refined reservation first, then from what anyone may use;
//! revocable units from revocable pools, then from what anyone may use, held for guarantees or not. Ports are chosen, the
//! lowest first.

use super::explain::{Reason, Tally};
use super::sites::{Constraints, Patterns};
use tepui_proto::calls::Want;
use tepui_proto::resources::Custom;
use tepui_proto::{Bundle, PoolKind, Resources, Scalars};

/// One want of a framework.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) want: Want,
    pub(super) constraints: Constraints,
    /// Units that are on offer.
    pub(super) offered: u32,
    pub(super) tally: Tally,
    /// The last look that was counted.
    pub(super) counted: u64,
}

impl Wanted {
    pub(super) fn new(
        want: &Want,
        offered: u32,
        (patterns, before): (&mut Patterns, &Patterns),
    ) -> Self {
        Self {
            constraints: Constraints::new(&want.constraints, patterns, before),
            want: want.clone(),
            offered,
            tally: Tally::default(),
            counted: 0,
        }
    }

    /// Counts what came of a look, once.
    pub(super) fn see(&mut self, look: u64, reason: Option<Reason>) {
        if std::mem::replace(&mut self.counted, look) != look {
            self.tally.see(reason);
        }
    }

    /// Units that are wanted and not on offer yet.
    pub(super) fn left(&self) -> u32 {
        self.want.count.saturating_sub(self.offered)
    }

    /// How many units fit into a bundle.
    pub(super) fn fitting(&self, bundle: &Bundle) -> u32 {
        let want = &self.want;
        if bundle.is_plain() {
            return fitting(bundle.plain(), want, self.left());
        }
        let usable = bundle.retained(|kind, _| self.may_use(kind));
        usable.flat().map_or(0, |flat| fitting(&flat, want, self.left()))
    }

    /// How many units it takes to hold all of this that a unit has any of; at least one.
    pub(super) fn covering(&self, amounts: &Scalars) -> u32 {
        let each = Scalars::of(&self.want.each);
        let units = each.iter().filter(|(_, each)| *each > 0).map(|(name, each)| {
            let units = amounts.get(name).unwrap_or(0).div_ceil(each);
            u32::try_from(units).unwrap_or(u32::MAX)
        });
        units.max().unwrap_or(1).max(1)
    }

    /// Which resource is too little for one unit.
    pub(super) fn missing(&self, bundle: &Bundle) -> Reason {
        let usable;
        let flat = if bundle.is_plain() {
            bundle.plain()
        } else {
            usable = bundle.retained(|kind, _| self.may_use(kind)).flat().unwrap_or_default();
            &usable
        };
        let each = &self.want.each;
        if flat.cpu_milli < each.cpu_milli {
            Reason::NoCpus
        } else if flat.memory_bytes < each.memory_bytes {
            Reason::NoMemory
        } else if flat.disk_bytes < each.disk_bytes {
            Reason::NoDisk
        } else if flat.ports.count() < self.want.port_count || !flat.ports.contains(&each.ports) {
            Reason::NoPorts
        } else {
            Reason::NoCustom
        }
    }

    /// Cuts so many units out of a bundle; none if they do not fit after all.
    pub(super) fn cut(&self, bundle: &Bundle, units: u32) -> Option<Bundle> {
        let want = &self.want;
        let mut need = Resources::scaled(&want.each, units)?;
        let ports = want.port_count.checked_mul(units)?;
        if bundle.is_plain() {
            let rest = bundle.plain().ports.minus(&want.each.ports);
            let chosen = want.each.ports.union(&rest.lowest(ports));
            return Some(Bundle::from(Resources { ports: chosen, ..need }));
        }
        need.ports = want.each.ports.clone();
        let mut ports = ports;
        let mut cut = Bundle::default();
        let mut kinds: Vec<_> = bundle.iter().filter(|(kind, _)| self.may_use(kind)).collect();
        kinds.sort_by_key(|(kind, _)| std::cmp::Reverse((kind.revocable, kind.reserved_for.len())));
        for (kind, have) in kinds {
            let part = part_of(have, &mut need, &mut ports);
            if !part.is_empty() {
                cut.add_pool(kind.clone(), part)?;
            }
        }
        (need.is_empty() && ports == 0).then_some(cut)
    }

    /// Volumes and whole disks are asked for by name, never counted.
    fn may_use(&self, kind: &PoolKind) -> bool {
        let is_meant = if self.want.revocable { !kind.is_reserved() } else { !kind.revocable };
        is_meant && !kind.is_whole() && kind.disk.volume.is_none()
    }
}

/// How many units fit into these, up to so many.
pub(crate) fn fitting(flat: &Resources, want: &Want, most: u32) -> u32 {
    let named = &want.each.ports;
    if !flat.ports.contains(named) {
        return 0;
    }
    // A port that is named is had once.
    let most = if named.is_empty() { most } else { most.min(1) };
    let left = flat.ports.count() - named.count();
    let ports = left.checked_div(want.port_count).unwrap_or(u32::MAX);
    flat.times(&want.each, most).min(ports)
}

/// Takes what is still needed out of one pool.
fn part_of(have: &Resources, need: &mut Resources, ports: &mut u32) -> Resources {
    let take = |have: u64, need: &mut u64| {
        let taken = have.min(*need);
        *need -= taken;
        taken
    };
    let cpu_milli = take(have.cpu_milli, &mut need.cpu_milli);
    let memory_bytes = take(have.memory_bytes, &mut need.memory_bytes);
    let disk_bytes = take(have.disk_bytes, &mut need.disk_bytes);
    let named = need.ports.minus(&need.ports.minus(&have.ports));
    let chosen = have.ports.minus(&named).lowest(*ports);
    *ports -= chosen.count();
    need.ports = need.ports.minus(&named);
    let chosen = chosen.union(&named);
    let mut custom = std::collections::BTreeMap::new();
    need.custom.retain(|name, need| match (have.custom.get(name), need) {
        (Some(Custom::Milli(have)), Custom::Milli(need)) => {
            let taken = take(*have, need);
            if taken > 0 {
                custom.insert(name.clone(), Custom::Milli(taken));
            }
            *need > 0
        }
        (Some(Custom::Items(have)), Custom::Items(need)) if have.is_superset(need) => {
            custom.insert(name.clone(), Custom::Items(std::mem::take(need)));
            false
        }
        _ => true,
    });
    Resources { cpu_milli, memory_bytes, disk_bytes, ports: chosen, custom }
}
