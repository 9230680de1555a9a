//! The order in which roles and frameworks are to be served, sorted from nothing each time.
//!
//! Siblings stand by (share, times served, path), a role's own frameworks as a leaf `.` of weight 1 beside its children.

use super::books::{Books, is_within};
use super::served::Served;
use super::shares;
use std::collections::BTreeSet;
use tepui_master_core::allocator::Share;
use tepui_proto::{FrameworkId, Role};

/// Where something stands among its siblings, and what it is: the path of a child, or the leaf.
type Place = (Share, u64, String, Option<String>);

/// Whoever asks, the lowest share first.
pub(crate) fn order(books: &Books, served: &Served) -> Vec<(Role, FrameworkId)> {
    let asking = books.clients().filter(|(framework, role, _)| books.is_asking(*framework, role));
    let asking: Vec<(Role, FrameworkId)> = asking.map(|(f, role, _)| (role.clone(), f)).collect();
    below(books, served, &asking, None)
}

/// Those of a subtree, or of everything.
fn below(
    books: &Books,
    served: &Served,
    asking: &[(Role, FrameworkId)],
    at: Option<&str>,
) -> Vec<(Role, FrameworkId)> {
    let mut places: Vec<Place> = Vec::new();
    let prefix = at.map_or_else(String::new, |path| format!("{path}/"));
    let mut children = BTreeSet::new();
    for (role, _) in asking {
        if let Some(rest) = role.as_str().strip_prefix(&prefix) {
            let name = rest.split('/').next().unwrap_or_default();
            children.insert(format!("{prefix}{name}"));
        }
    }
    for path in children {
        let share = shares::subtree_share(books, &path);
        places.push((share, served.of_subtree(&path), path.clone(), Some(path)));
    }
    if let Some(path) = at.filter(|path| asking.iter().any(|(role, _)| role.as_str() == *path)) {
        let leaf =
            (shares::leaf_share(books, path), served.of_leaf(path), format!("{path}/."), None);
        places.push(leaf);
    }
    places.sort();
    let mut order = Vec::new();
    for (_, _, _, child) in places {
        match (child, at) {
            (Some(path), _) => {
                let own = asking.iter().filter(|(role, _)| is_within(role, &path));
                let own: Vec<(Role, FrameworkId)> = own.cloned().collect();
                order.extend(below(books, served, &own, Some(&path)));
            }
            (None, Some(path)) => order.extend(seats(books, served, asking, path)),
            (None, None) => {}
        }
    }
    order
}

/// A role's own frameworks.
fn seats(
    books: &Books,
    served: &Served,
    asking: &[(Role, FrameworkId)],
    path: &str,
) -> Vec<(Role, FrameworkId)> {
    let own = asking.iter().filter(|(role, _)| role.as_str() == path);
    let mut seats: Vec<(Share, u64, FrameworkId, Role)> = own
        .map(|(role, framework)| {
            let share = shares::framework_share(books, role, *framework);
            (share, served.of_framework(role, *framework), *framework, role.clone())
        })
        .collect();
    seats.sort();
    seats.into_iter().map(|(_, _, framework, role)| (role, framework)).collect()
}
