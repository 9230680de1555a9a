//! The order in which roles and frameworks are served: a tree of roles, kept sorted as shares move.
//!
//! A role is a node; its own frameworks are a virtual leaf `.` beside its children, with a weight of 1. Siblings stand by
//! (share, times served, path); so do frameworks by their number. Only what moved is sorted anew, so finding who comes
//! first costs the depth of the tree. Its one surprise: times served live here, not in the state: a new leader counts
//! from zero, as in Mesos.

use super::share::Share;
use crate::ledger::{Ledger, RoleSums, paths};
use crate::policy::Policy;
use crate::quantities::Quantities;
use slotmap::{SlotMap, new_key_type};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use tepui_proto::{FrameworkId, Role};

new_key_type! {
    /// A role of the tree.
    pub(super) struct NodeKey;
    /// One framework in one role.
    pub(super) struct ClientKey;
}

/// Where a child or a leaf stands among its siblings.
type Place = (Share, u64, Arc<str>);
/// Where a framework stands in its role.
type Seat = (Share, u64, FrameworkId, ClientKey);

/// Who stands there.
#[derive(Clone, Copy, Debug)]
enum Child {
    /// A role, and whoever is below it.
    Role(NodeKey),
    /// A role in which one framework alone is active, and nobody below: a walk need not look into it.
    Single(NodeKey, FrameworkId, ClientKey),
    /// The node's own frameworks.
    Leaf,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    parent: Option<NodeKey>,
    path: Arc<str>,
    /// The path of the virtual leaf.
    leaf_path: Arc<str>,
    share: Share,
    served: u64,
    leaf_share: Share,
    leaf_served: u64,
    /// Those under which somebody is active.
    order: BTreeMap<Place, Child>,
    children: BTreeSet<NodeKey>,
    seats: BTreeSet<Seat>,
    clients: BTreeMap<FrameworkId, Client>,
    /// Active frameworks of the subtree.
    active: usize,
    /// Whether the role's own guarantee is still owed something.
    is_owed: bool,
    /// Owed nodes of the subtree, this one included.
    owed: usize,
}

#[derive(Debug)]
struct Client {
    key: ClientKey,
    share: Share,
    served: u64,
    is_active: bool,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Order {
    nodes: SlotMap<NodeKey, Node>,
    by_role: BTreeMap<Role, NodeKey>,
    root: NodeKey,
    excluded: BTreeSet<String>,
    total_version: Option<u64>,
}

impl Node {
    fn new(path: &str, parent: Option<NodeKey>) -> Self {
        Self {
            role: Role::from(path),
            parent,
            path: Arc::from(path),
            leaf_path: Arc::from(format!("{path}/.")),
            share: Share::NONE,
            served: 0,
            leaf_share: Share::NONE,
            leaf_served: 0,
            order: BTreeMap::new(),
            children: BTreeSet::new(),
            seats: BTreeSet::new(),
            clients: BTreeMap::new(),
            active: 0,
            is_owed: false,
            owed: 0,
        }
    }

    fn place(&self) -> Place {
        (self.share, self.served, Arc::clone(&self.path))
    }

    fn leaf_place(&self) -> Place {
        (self.leaf_share, self.leaf_served, Arc::clone(&self.leaf_path))
    }

    /// What its parent keeps of it.
    fn as_child(&self, key: NodeKey) -> Child {
        match self.seats.first() {
            Some((_, _, framework, client)) if self.seats.len() == 1 && self.order.len() == 1 => {
                Child::Single(key, *framework, *client)
            }
            _ => Child::Role(key),
        }
    }
}

impl Order {
    pub(super) fn new(excluded: BTreeSet<String>) -> Self {
        let mut nodes = SlotMap::with_key();
        let root = nodes.insert(Node::new("", None));
        Self { nodes, by_role: BTreeMap::new(), root, excluded, total_version: None }
    }

    pub(super) fn node(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(super) fn node_of(&self, role: &str) -> Option<NodeKey> {
        self.by_role.get(role).copied()
    }

    /// Whether nobody is to be served.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.get(self.root).is_none_or(|root| root.active == 0)
    }

    /// Adds a framework to a role, not active yet.
    pub(super) fn add(&mut self, role: &Role, framework: FrameworkId, key: ClientKey) -> NodeKey {
        let mut at = self.root;
        for path in paths(role.as_str()) {
            at = match self.by_role.get(path) {
                Some(known) => *known,
                None => self.add_node(path, at),
            };
        }
        if let Some(node) = self.nodes.get_mut(at) {
            let client = Client { key, share: Share::NONE, served: 0, is_active: false };
            node.clients.insert(framework, client);
        }
        at
    }

    fn add_node(&mut self, path: &str, parent: NodeKey) -> NodeKey {
        let key = self.nodes.insert(Node::new(path, Some(parent)));
        self.by_role.insert(Role::from(path), key);
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.children.insert(key);
        }
        key
    }

    /// Takes a framework out of a role; roles without any are forgotten, and how often they were served.
    pub(super) fn remove(&mut self, role: &Role, framework: FrameworkId) {
        self.set_active(role, framework, false);
        let Some(mut key) = self.node_of(role.as_str()) else { return };
        if let Some(node) = self.nodes.get_mut(key) {
            node.clients.remove(&framework);
            if node.clients.is_empty() {
                node.leaf_served = 0;
            }
        }
        while let Some(node) = self.nodes.get(key) {
            let Some(parent) = node.parent else { return };
            if !node.clients.is_empty() || !node.children.is_empty() {
                return;
            }
            let role = node.role.clone();
            self.set_owed(role.as_str(), false);
            if let Some(gone) = self.nodes.remove(key) {
                self.by_role.remove(&gone.role);
            }
            if let Some(above) = self.nodes.get_mut(parent) {
                above.children.remove(&key);
            }
            key = parent;
        }
    }

    /// Whether a framework is to be served in a role.
    pub(super) fn set_active(&mut self, role: &Role, framework: FrameworkId, is_active: bool) {
        let Some(key) = self.node_of(role.as_str()) else { return };
        let Some(node) = self.nodes.get_mut(key) else { return };
        let Some(client) = node.clients.get_mut(&framework) else { return };
        if client.is_active == is_active {
            return;
        }
        client.is_active = is_active;
        let seat = (client.share, client.served, framework, client.key);
        let (place, was_empty) = (node.leaf_place(), node.seats.is_empty());
        if is_active {
            node.seats.insert(seat);
        } else {
            node.seats.remove(&seat);
        }
        if node.seats.is_empty() {
            node.order.remove(&place);
        } else if was_empty {
            node.order.insert(place, Child::Leaf);
        }
        self.count_active(key, is_active);
    }

    fn count_active(&mut self, from: NodeKey, more: bool) {
        let mut key = from;
        while let Some(node) = self.nodes.get_mut(key) {
            node.active = if more { node.active + 1 } else { node.active.saturating_sub(1) };
            let (place, child, is_active) = (node.place(), node.as_child(key), node.active > 0);
            let Some(parent) = node.parent else { return };
            if let Some(above) = self.nodes.get_mut(parent) {
                if is_active {
                    above.order.insert(place, child);
                } else {
                    above.order.remove(&place);
                }
            }
            key = parent;
        }
    }

    /// Counts one more allocation, and reads what is held now.
    pub(super) fn served(
        &mut self,
        role: &Role,
        framework: FrameworkId,
        ledger: &Ledger,
        policy: &Policy,
    ) {
        self.update(role, Some(framework), 1, ledger, policy);
    }

    /// Reads what a role, those above it, and a framework in it hold now.
    pub(super) fn refresh(
        &mut self,
        role: &Role,
        framework: Option<FrameworkId>,
        ledger: &Ledger,
        policy: &Policy,
    ) {
        self.update(role, framework, 0, ledger, policy);
    }

    fn update(
        &mut self,
        role: &Role,
        framework: Option<FrameworkId>,
        served: u64,
        ledger: &Ledger,
        policy: &Policy,
    ) {
        // What is held in a role that nobody here is in counts for the roles above it.
        let nearest = paths(role.as_str()).filter_map(|path| self.node_of(path)).last();
        let Some(nearest) = nearest else { return };
        if self.nodes.get(nearest).is_some_and(|node| node.role == *role) {
            self.update_leaf(nearest, framework, served, ledger);
        }
        let mut at = Some(nearest);
        while let Some(key) = at {
            at = self.update_node(key, served, ledger, policy);
        }
    }

    fn update_leaf(
        &mut self,
        key: NodeKey,
        framework: Option<FrameworkId>,
        served: u64,
        ledger: &Ledger,
    ) {
        let total = ledger.total();
        let Some(node) = self.nodes.get_mut(key) else { return };
        let sums = ledger.role(node.role.as_str());
        let place = node.leaf_place();
        let was_here = node.order.remove(&place).is_some();
        node.leaf_served += served;
        node.leaf_share = share(sums.map(RoleSums::own), total, 1000, &self.excluded);
        if was_here {
            node.order.insert(node.leaf_place(), Child::Leaf);
        }
        let Some(id) = framework else { return };
        let Some(client) = node.clients.get_mut(&id) else { return };
        let was_here = node.seats.remove(&(client.share, client.served, id, client.key));
        client.served += served;
        let held = sums.and_then(|sums| sums.framework(id));
        client.share = share(held, total, 1000, &self.excluded);
        if was_here {
            node.seats.insert((client.share, client.served, id, client.key));
        }
    }

    /// Returns the parent.
    fn update_node(
        &mut self,
        key: NodeKey,
        served: u64,
        ledger: &Ledger,
        policy: &Policy,
    ) -> Option<NodeKey> {
        let node = self.nodes.get_mut(key)?;
        let parent = node.parent?;
        let before = node.place();
        node.served += served;
        let held = ledger.role(node.role.as_str()).map(RoleSums::held);
        let weight = policy.weight_milli(node.role.as_str());
        node.share = share(held, ledger.total(), weight, &self.excluded);
        let after = node.place();
        if let Some(above) = self.nodes.get_mut(parent)
            && let Some(child) = above.order.remove(&before)
        {
            above.order.insert(after, child);
        }
        Some(parent)
    }

    /// Reads everything anew if the cluster's total, or some weight, has changed.
    pub(super) fn refresh_all(&mut self, ledger: &Ledger, policy: &Policy, weights_changed: bool) {
        if !weights_changed && self.total_version == Some(ledger.total_version()) {
            return;
        }
        self.total_version = Some(ledger.total_version());
        let keys: Vec<NodeKey> = self.nodes.keys().collect();
        for key in keys {
            let Some(node) = self.nodes.get(key) else { continue };
            let frameworks: Vec<FrameworkId> = node.clients.keys().copied().collect();
            self.update_leaf(key, None, 0, ledger);
            for framework in frameworks {
                self.update_leaf(key, Some(framework), 0, ledger);
            }
            self.update_node(key, 0, ledger, policy);
        }
    }

    /// Whether a guarantee of this role is still owed something.
    pub(super) fn set_owed(&mut self, role: &str, is_owed: bool) {
        let Some(mut key) = self.node_of(role) else { return };
        let Some(node) = self.nodes.get_mut(key) else { return };
        if node.is_owed == is_owed {
            return;
        }
        node.is_owed = is_owed;
        while let Some(node) = self.nodes.get_mut(key) {
            node.owed = if is_owed { node.owed + 1 } else { node.owed.saturating_sub(1) };
            let Some(parent) = node.parent else { return };
            key = parent;
        }
    }

    /// No role is owed anything.
    pub(super) fn clear_owed(&mut self) {
        for node in self.nodes.values_mut() {
            node.is_owed = false;
            node.owed = 0;
        }
    }

    /// Who is to be served, lowest share first, until `visit` breaks. With `owed`, only roles to which, or below an
    /// ancestor to which, a guarantee is still owed.
    pub(super) fn walk(
        &self,
        owed: bool,
        visit: &mut impl FnMut(NodeKey, FrameworkId, ClientKey) -> ControlFlow<()>,
    ) {
        let _end = self.walk_node(self.root, owed, visit);
    }

    /// Depth is bounded by the length of a role's path.
    fn walk_node(
        &self,
        key: NodeKey,
        owed: bool,
        visit: &mut impl FnMut(NodeKey, FrameworkId, ClientKey) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(node) = self.nodes.get(key) else { return ControlFlow::Continue(()) };
        if owed && node.owed == 0 {
            return ControlFlow::Continue(());
        }
        // Below a role that is owed, everyone may serve its guarantee.
        let owed = owed && !node.is_owed;
        for child in node.order.values() {
            match child {
                Child::Role(child) => self.walk_node(*child, owed, visit)?,
                Child::Single(role, framework, client) => {
                    if !owed || self.nodes.get(*role).is_some_and(|node| node.is_owed) {
                        visit(*role, *framework, *client)?;
                    }
                }
                Child::Leaf if owed => {}
                Child::Leaf => {
                    for (_, _, framework, client) in &node.seats {
                        visit(key, *framework, *client)?;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The share by which a role's own frameworks are served, if there are any: the role's, or that of its virtual leaf
    /// where it has children.
    pub(super) fn share(&self, role: &str) -> Option<Share> {
        let node = self.nodes.get(self.node_of(role)?)?;
        let share = if node.children.is_empty() { node.share } else { node.leaf_share };
        (!node.clients.is_empty()).then_some(share)
    }
}

fn share(
    held: Option<&Quantities>,
    total: &Quantities,
    weight_milli: u64,
    excluded: &BTreeSet<String>,
) -> Share {
    held.map_or(Share::NONE, |held| Share::dominant(held, total, weight_milli, excluded))
}
