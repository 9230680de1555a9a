//! Weighted dominant shares, worked out anew from who holds what each time.

use super::amounts::Amounts;
use super::books::Books;
use tepui_master_core::allocator::Share;
use tepui_proto::{FrameworkId, Role};

fn share(books: &Books, held: Amounts, weight_milli: u64) -> Share {
    let (held, total) = (held.quantities(), books.total().quantities());
    Share::dominant(&held, &total, weight_milli, &books.settings.excluded)
}

fn weight_milli(books: &Books, path: &str) -> u64 {
    books.policy.role(&Role::from(path)).map_or(1000, |policy| policy.weight_milli)
}

/// The share by which a subtree stands among its siblings.
pub(crate) fn subtree_share(books: &Books, path: &str) -> Share {
    share(books, books.held_within(path), weight_milli(books, path))
}

/// The share by which a role's own frameworks stand among its children.
pub(crate) fn leaf_share(books: &Books, role: &str) -> Share {
    share(books, books.held(|holding| holding.role.as_str() == role), 1000)
}

/// The share by which a framework stands in its role.
pub(crate) fn framework_share(books: &Books, role: &Role, framework: FrameworkId) -> Share {
    let own = books.held(|holding| holding.role == *role && holding.framework == framework);
    share(books, own, 1000)
}
