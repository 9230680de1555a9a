//! The role tree, and the order in which roles and frameworks are served (Mesos: `sorter/drf/sorter.cpp`).
//!
//! Shares are fractions compared exactly by cross-multiplication; memory and disk count in MiB. A role that also has
//! children is a virtual leaf `.` beside them. Ties go to whoever was served less often in this run, then by name.

use super::wants_offers;
use crate::ledger::Quantities;
use crate::state::State;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{FrameworkId, Resources, Role};

const MIB: u128 = 1 << 20;

/// A dominant share, divided by weight: a fraction that is never rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u128,
    whole: u128,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self { part: 0, whole: 1 };

    /// The largest of the shares by resource, of a role or framework with this weight.
    pub fn dominant(held: &Quantities, total: &Quantities, weight_milli: u64) -> Self {
        let custom = held
            .custom
            .iter()
            .map(|(name, part)| (*part, total.custom.get(name).copied().unwrap_or(0)));
        let fixed = [
            (held.cpu_milli, total.cpu_milli),
            (held.memory_bytes / MIB, total.memory_bytes / MIB),
            (held.disk_bytes / MIB, total.disk_bytes / MIB),
        ];
        let weight = u128::from(weight_milli.max(1));
        let share = |(part, whole): (u128, u128)| Self { part: part * 1000, whole: whole * weight };
        let shares = fixed.into_iter().chain(custom).filter(|(_, whole)| *whole > 0).map(share);
        shares.max().unwrap_or(Self::NONE)
    }

    /// In thousandths, rounded down.
    pub fn milli(self) -> u64 {
        u64::try_from(self.part * 1000 / self.whole.max(1)).unwrap_or(u64::MAX)
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        // Claims are bounded so that this does not saturate (`CLAIM_BYTES` in `leader/agents.rs`).
        self.part.saturating_mul(other.whole).cmp(&other.part.saturating_mul(self.whole))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Node {
    held: Quantities,
    served: u64,
    weight_milli: u64,
    children: BTreeSet<String>,
    /// If frameworks are in this very role.
    leaf: Option<Leaf>,
}

#[derive(Debug, Default)]
struct Leaf {
    held: Quantities,
    served: u64,
    frameworks: BTreeMap<FrameworkId, (Quantities, u64)>,
}

/// The roles of frameworks that can be offered something, with what each role and its subtree hold.
#[derive(Debug)]
pub struct RoleTree {
    nodes: BTreeMap<String, Node>,
    total: Quantities,
}

impl RoleTree {
    /// Reads the ledger. What roles hold counts whether or not their frameworks are active.
    pub fn new(state: &State, active: &BTreeSet<FrameworkId>) -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), total: state.ledger.total().clone() };
        for id in active {
            let Some(framework) = state.frameworks.get(id) else { continue };
            for role in
                framework.submission.roles.iter().filter(|role| wants_offers(framework, role))
            {
                tree.insert(role, *id, state);
            }
        }
        for (role, frameworks) in state.ledger.held() {
            for (framework, held) in frameworks {
                tree.hold(role, *framework, held);
            }
        }
        tree
    }

    /// Whether nobody can be offered anything.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn insert(&mut self, role: &Role, framework: FrameworkId, state: &State) {
        let mut parent = "";
        for path in paths(role) {
            let weight_milli = state.weights.get(&Role(path.to_owned())).copied().unwrap_or(1000);
            self.nodes.entry(parent.to_owned()).or_default().children.insert(path.to_owned());
            let node = self.nodes.entry(path.to_owned()).or_default();
            node.weight_milli = weight_milli;
            parent = path;
        }
        if let Some(node) = self.nodes.get_mut(role.as_str()) {
            node.leaf.get_or_insert_default().frameworks.entry(framework).or_default();
        }
    }

    /// Counts what is held into the nodes that are there.
    fn hold(&mut self, role: &Role, framework: FrameworkId, held: &Quantities) {
        for path in paths(role) {
            if let Some(node) = self.nodes.get_mut(path) {
                sum(&mut node.held, held);
            }
        }
        let Some(leaf) = self.nodes.get_mut(role.as_str()).and_then(|node| node.leaf.as_mut())
        else {
            return;
        };
        sum(&mut leaf.held, held);
        if let Some((own, _)) = leaf.frameworks.get_mut(&framework) {
            sum(own, held);
        }
    }

    /// Counts a grant.
    pub fn add(&mut self, role: &Role, framework: FrameworkId, resources: &Resources) {
        for path in paths(role) {
            if let Some(node) = self.nodes.get_mut(path) {
                node.held.add(resources);
                node.served += 1;
            }
        }
        let Some(leaf) = self.nodes.get_mut(role.as_str()).and_then(|node| node.leaf.as_mut())
        else {
            return;
        };
        leaf.held.add(resources);
        leaf.served += 1;
        if let Some((own, served)) = leaf.frameworks.get_mut(&framework) {
            own.add(resources);
            *served += 1;
        }
    }

    /// Roles in the order in which they are to be served, each with its frameworks in theirs.
    pub fn order(&self) -> Vec<(Role, FrameworkId)> {
        let mut order = Vec::new();
        self.visit("", &mut order);
        order
    }

    /// Depth is bounded by the length of a role path.
    fn visit(&self, path: &str, order: &mut Vec<(Role, FrameworkId)>) {
        let Some(node) = self.nodes.get(path) else { return };
        let virtual_leaf = format!("{path}/.");
        let mut clients: Vec<(Share, u64, &str)> = Vec::new();
        for child in &node.children {
            if let Some(child_node) = self.nodes.get(child) {
                clients.push((
                    Share::dominant(&child_node.held, &self.total, child_node.weight_milli),
                    child_node.served,
                    child,
                ));
            }
        }
        if let Some(leaf) = &node.leaf {
            clients.push((
                Share::dominant(&leaf.held, &self.total, 1000),
                leaf.served,
                &virtual_leaf,
            ));
        }
        clients.sort();
        for (_, _, client) in clients {
            match &node.leaf {
                Some(leaf) if client == virtual_leaf => self.visit_leaf(path, leaf, order),
                _ => self.visit(client, order),
            }
        }
    }

    fn visit_leaf(&self, path: &str, leaf: &Leaf, order: &mut Vec<(Role, FrameworkId)>) {
        let share = |(id, (held, served)): (&FrameworkId, &(Quantities, u64))| {
            (Share::dominant(held, &self.total, 1000), *served, *id)
        };
        let mut frameworks: Vec<_> = leaf.frameworks.iter().map(share).collect();
        frameworks.sort();
        order.extend(frameworks.into_iter().map(|(_, _, id)| (Role(path.to_owned()), id)));
    }
}

fn sum(into: &mut Quantities, more: &Quantities) {
    into.cpu_milli += more.cpu_milli;
    into.memory_bytes += more.memory_bytes;
    into.disk_bytes += more.disk_bytes;
    for (name, amount) in &more.custom {
        *into.custom.entry(name.clone()).or_default() += amount;
    }
}

/// `a/b/c` is `a`, `a/b`, `a/b/c`.
fn paths(role: &Role) -> impl Iterator<Item = &str> {
    let text = role.as_str();
    let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
    ends.filter_map(move |end| text.get(..end))
}
