//! How often each role and framework was served: the one thing that does not follow from who holds what.
//!
//! A count begins with the first framework in a role, and is gone with the last one.

use super::books::{Books, is_within, path};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{FrameworkId, Role};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Of a role and all below it.
    subtrees: BTreeMap<Role, u64>,
    /// Of a role's own frameworks.
    leaves: BTreeMap<Role, u64>,
    frameworks: BTreeMap<(Role, FrameworkId), u64>,
    /// Who was there when it was last looked.
    clients: BTreeSet<(Role, FrameworkId)>,
}

impl Served {
    pub(crate) fn count(&mut self, role: &Role, framework: FrameworkId) {
        for above in path(role) {
            *self.subtrees.entry(above).or_default() += 1;
        }
        *self.leaves.entry(role.clone()).or_default() += 1;
        *self.frameworks.entry((role.clone(), framework)).or_default() += 1;
    }

    /// Forgets whoever is not in a role any more. Who moves to another role has left before it comes.
    pub(crate) fn follow(&mut self, books: &Books) {
        let now: BTreeSet<(Role, FrameworkId)> =
            books.clients().map(|(id, role, _)| (role.clone(), id)).collect();
        let stayed: BTreeSet<&(Role, FrameworkId)> = self.clients.intersection(&now).collect();
        let is_there = |role: &Role| stayed.iter().any(|(own, _)| is_within(own, role.as_str()));
        self.subtrees.retain(|role, _| is_there(role));
        self.leaves.retain(|role, _| stayed.iter().any(|(own, _)| own == role));
        self.frameworks.retain(|client, _| stayed.contains(client));
        self.clients = now;
    }

    pub(crate) fn of_subtree(&self, role: &str) -> u64 {
        self.subtrees.get(role).copied().unwrap_or(0)
    }

    pub(crate) fn of_leaf(&self, role: &str) -> u64 {
        self.leaves.get(role).copied().unwrap_or(0)
    }

    pub(crate) fn of_framework(&self, role: &Role, framework: FrameworkId) -> u64 {
        self.frameworks.get(&(role.clone(), framework)).copied().unwrap_or(0)
    }
}
