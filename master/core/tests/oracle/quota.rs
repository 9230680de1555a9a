//! What guarantees still require and limits still leave, read from nothing each time.
//!
//! A role with a quota requires what its guarantee lacks, or what the nearest roles with a quota below it require
//! together, whichever is more, but no more than its limit leaves. What its guarantee lacks beyond what is promised to
//! those below is for anybody at or below it.

use super::amounts::{Amounts, Bounds, amounts, bounds};
use super::books::{Books, is_within};
use tepui_master_core::policy::RolePolicy;
use tepui_proto::Role;

fn with_quota(books: &Books) -> impl Iterator<Item = (&Role, &RolePolicy)> {
    let all = books.policy.roles();
    all.filter(|(_, policy)| !policy.guarantee.is_empty() || !policy.limit.is_empty())
}

/// Strictly below.
fn is_below(role: &Role, above: &Role) -> bool {
    role != above && is_within(role, above.as_str())
}

/// The nearest roles with a quota below a role, or the topmost ones.
fn nearest_below<'a>(books: &'a Books, above: Option<&Role>) -> Vec<&'a Role> {
    let is_under = |role: &Role| above.is_none_or(|above| is_below(role, above));
    let under: Vec<&Role> =
        with_quota(books).map(|(role, _)| role).filter(|r| is_under(r)).collect();
    let is_nearest = |role: &&&Role| !under.iter().any(|other| is_below(role, other));
    under.iter().filter(is_nearest).copied().collect()
}

/// What the nearest below require together.
fn promised(books: &Books, above: Option<&Role>) -> Amounts {
    let below = nearest_below(books, above);
    below.into_iter().fold(Amounts::default(), |sum, role| sum.plus(required_by(books, role)))
}

/// What a guarantee lacks.
fn missing(books: &Books, role: &Role) -> Amounts {
    let guarantee = books.policy.role(role).map(|policy| amounts(&policy.guarantee));
    guarantee.unwrap_or_default().less(books.consumed(role.as_str()))
}

/// What one role's own limit leaves beside something.
fn left(books: &Books, role: &Role, beside: Amounts) -> Bounds {
    let limit = books.policy.role(role).map(|policy| bounds(&policy.limit)).unwrap_or_default();
    let mut taken = books.consumed(role.as_str()).plus(beside).0.into_iter();
    limit.map(|most| {
        let taken = taken.next().unwrap_or(0);
        most.map(|most| most.saturating_sub(taken))
    })
}

fn required_by(books: &Books, role: &Role) -> Amounts {
    missing(books, role).most(promised(books, Some(role))).within(left(
        books,
        role,
        Amounts::default(),
    ))
}

/// What is to stay free for guarantees, over all roles.
pub(crate) fn required(books: &Books) -> Amounts {
    promised(books, None)
}

/// What frameworks of a role may be given first.
pub(crate) fn owed(books: &Books, role: &Role) -> Amounts {
    let mut owed = Amounts::default();
    for (above, _) in with_quota(books).filter(|(above, _)| is_within(role, above.as_str())) {
        owed = owed.plus(missing(books, above).less(promised(books, Some(above))));
    }
    owed
}

/// How much more a role may hold, by its limit and all above it.
pub(crate) fn room(books: &Books, role: &Role) -> Bounds {
    least_left(books, role, |_| Amounts::default())
}

/// As `room`, without what is promised to roles below those limits: that is for what is owed to them alone.
pub(crate) fn spare(books: &Books, role: &Role) -> Bounds {
    least_left(books, role, |above| promised(books, Some(above)))
}

fn least_left(books: &Books, role: &Role, beside: impl Fn(&Role) -> Amounts) -> Bounds {
    let mut room: Bounds = [None; 4];
    for (above, _) in with_quota(books).filter(|(above, _)| is_within(role, above.as_str())) {
        for (least, left) in room.iter_mut().zip(left(books, above, beside(above))) {
            *least = match (*least, left) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    room
}

/// How much of what is idle no guarantee needs, for the names that some guarantee needs.
pub(crate) fn surplus(books: &Books) -> Bounds {
    let idle = books.idle(|site| site.is_open);
    let mut idle = idle.0.into_iter();
    required(books).0.map(|required| {
        let idle = idle.next().unwrap_or(0);
        (required > 0).then(|| idle.saturating_sub(required))
    })
}
