//! Samples over time, thinned so that a long simulation takes no more room than a short one; and what a weight entitles to.

use super::{RoleSamples, Samples};
use crate::scenario::Scenario;
use crate::tally::{Amounts, Tally};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{Resources, Role, Scalars};

/// Beyond so many samples every second one is dropped.
const SAMPLES: usize = 1_000;

/// Samples as they are taken.
#[derive(Debug)]
pub(crate) struct Series {
    /// Until the next sample.
    pub(crate) interval_ms: u64,
    pub(crate) samples: Samples,
}

impl Series {
    /// No samples of these roles.
    pub(crate) fn new(interval_ms: u64, roles: &[Role]) -> Self {
        let roles = roles
            .iter()
            .map(|role| RoleSamples { role: role.to_string(), ..RoleSamples::default() });
        Self {
            interval_ms,
            samples: Samples { interval_ms, roles: roles.collect(), ..Samples::default() },
        }
    }

    /// Takes a sample; one that was taken at the same time gives way.
    pub(crate) fn push(
        &mut self,
        now: u64,
        tally: &Tally,
        scenario: &Scenario,
        takes_part: &BTreeSet<usize>,
    ) {
        if self.samples.at_ms.last() == Some(&now) {
            self.samples.each(&mut |values| {
                values.pop();
            });
        }
        let entitled = entitlements(scenario, &tally.roles, takes_part, tally.capacity);
        let samples = &mut self.samples;
        samples.at_ms.push(now);
        samples.agents.push(tally.agents);
        samples.capacity_cpu_milli.push(tally.capacity.cpu_milli);
        samples.capacity_memory_bytes.push(tally.capacity.memory_bytes);
        for ((role, samples), entitled) in tally.now.iter().zip(&mut samples.roles).zip(entitled) {
            samples.used_cpu_milli.push(role.used.cpu_milli);
            samples.used_memory_bytes.push(role.used.memory_bytes);
            samples.offered_cpu_milli.push(role.offered.cpu_milli);
            samples.offered_memory_bytes.push(role.offered.memory_bytes);
            samples.share_milli.push(role.used.dominant_milli(tally.capacity));
            samples.entitlement_milli.push(entitled);
        }
        if samples.at_ms.len() > SAMPLES {
            samples.each(&mut |values| {
                let mut at = 0;
                values.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            });
            self.interval_ms = self.interval_ms.saturating_mul(2);
            samples.interval_ms = self.interval_ms;
        }
    }
}

impl Samples {
    /// Every list.
    fn each(&mut self, change: &mut impl FnMut(&mut Vec<u64>)) {
        change(&mut self.at_ms);
        change(&mut self.agents);
        change(&mut self.capacity_cpu_milli);
        change(&mut self.capacity_memory_bytes);
        for role in &mut self.roles {
            change(&mut role.used_cpu_milli);
            change(&mut role.used_memory_bytes);
            change(&mut role.offered_cpu_milli);
            change(&mut role.offered_memory_bytes);
            change(&mut role.share_milli);
            change(&mut role.entitlement_milli);
        }
    }
}

/// The weight of a role as the scenario sets it, in thousandths.
pub(super) fn weight_of(scenario: &Scenario, role: &str) -> u64 {
    let set = scenario.roles.iter().find(|setting| setting.role.as_str() == role);
    set.map_or(1_000, |setting| setting.weight_milli)
}

/// What the weights give each role that takes part, in thousandths: at each level of the tree a role's part is its weight
/// over the weights of those siblings below which something takes part.
fn entitlements(
    scenario: &Scenario,
    roles: &[Role],
    takes_part: &BTreeSet<usize>,
    capacity: Amounts,
) -> Vec<u64> {
    let is_in = |at: &usize| takes_part.contains(at);
    let paths = roles.iter().enumerate().filter(|(at, _)| is_in(at)).map(|(_, role)| role.as_str());
    // The children of each path that have a part; a role with children competes with them as one of them.
    let mut children: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let mut parent = "";
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let own = path.get(..at).unwrap_or(path);
            children.entry(parent).or_default().insert(own.to_owned());
            parent = own;
        }
        children.entry(parent).or_default().insert(format!("{path}/."));
    }
    let part = |path: &str| {
        let (mut milli, mut parent) = (1_000_u128, "");
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let own = path.get(..at).unwrap_or(path);
            milli =
                milli * u128::from(weight_of(scenario, own)) / sum(scenario, children.get(parent));
            milli = bound(scenario, own, milli, capacity);
            parent = own;
        }
        // What it shares with its own children.
        milli = milli * 1_000 / sum(scenario, children.get(path));
        u64::try_from(milli).unwrap_or(u64::MAX)
    };
    let entitled =
        |(at, role): (usize, &Role)| if takes_part.contains(&at) { part(role.as_str()) } else { 0 };
    roles.iter().enumerate().map(entitled).collect()
}

/// A role is entitled to its guarantee whatever its weight gives, and to its limit at most.
fn bound(scenario: &Scenario, role: &str, milli: u128, capacity: Amounts) -> u128 {
    let setting = scenario.roles.iter().find(|setting| setting.role.as_str() == role);
    let Some(setting) = setting else { return milli };
    let least = setting
        .guarantee
        .as_ref()
        .map_or(0, |amount| u128::from(Amounts::of(&flat(amount)).dominant_milli(capacity)));
    // A name that the limit leaves out is without limit; the tightest of the others counts.
    let most = setting.limit.as_ref().map_or(u128::MAX, |limit| {
        let parts = limit.iter().map(|(name, amount)| {
            let mut one = Scalars::default();
            one.set(name, amount);
            u128::from(Amounts::of(&flat(&one)).dominant_milli(capacity))
        });
        parts.min().unwrap_or(u128::MAX)
    });
    milli.max(least).min(most)
}

/// What counts for shares here.
fn flat(scalars: &Scalars) -> Resources {
    let of = |name: &str| scalars.get(name).unwrap_or(0);
    let disk_bytes = of(Scalars::DISK);
    Resources { disk_bytes, ..Resources::cpu_memory(of(Scalars::CPUS), of(Scalars::MEM)) }
}

fn sum(scenario: &Scenario, children: Option<&BTreeSet<String>>) -> u128 {
    let weights =
        children.into_iter().flatten().map(|child| u128::from(weight_of(scenario, child)));
    weights.sum::<u128>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_role_is_entitled_to_its_weight_among_those_that_take_part() {
        let text = "duration = \"1s\"\n[[agents]]\nname = \"a\"\nresources = \"cpus:1;mem:64\"\n\
                    [[frameworks]]\nname = \"f\"\nroles = [\"x\"]\nscheduler = \"sitter\"\n\
                    [[roles]]\nname = \"a\"\nweight = 3\n[[roles]]\nname = \"b\"\nguarantee = \"cpus:4\"\n[[roles]]\nname = \"c\"\nlimit = \"cpus:1\"\n";
        let scenario = Scenario::parse(Path::new("x.toml"), text, Path::new("")).unwrap();
        let whole = Amounts { cpu_milli: 10_000, memory_bytes: 1 << 30, disk_bytes: 0 };
        let roles: Vec<Role> = ["a/x", "a/y", "b", "c"].into_iter().map(Role::from).collect();
        let all = |part: &[usize]| {
            entitlements(&scenario, &roles, &part.iter().copied().collect(), whole)
        };
        assert_eq!(all(&[0, 1, 2]), [375, 375, 400, 0]);
        assert_eq!(all(&[0, 2, 3]), [600, 0, 400, 100]);
        assert_eq!(all(&[2]), [0, 0, 1_000, 0]);
    }
}
