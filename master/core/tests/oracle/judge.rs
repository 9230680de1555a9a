//! What of an agent a framework may be given in a role: each rule in turn, over the whole agent.
//!
//! Never looks at what others would like; `cycle` does.

use super::amounts::{Amounts, NAMES};
use super::books::{Agent, Books, is_open, is_within};
use super::quota;
use super::units;
use std::collections::BTreeSet;
use tepui_master_core::allocator::Ask;
use tepui_proto::resources::Custom;
use tepui_proto::{AgentId, Bundle, FrameworkId, PoolKind, Resources, Role, Scalars};

/// What is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// What guarantees lack.
    Owed,
    /// The rest, by fair share.
    Fair,
    /// The rest and what is held for guarantees, to those who may lose it again.
    Lent,
}

/// What a framework may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// All of this.
    Whole(Bundle),
    /// Up to so many units of a want, out of this.
    Units { want: u32, most: u32, from: Bundle },
}

/// Shared volumes that were offered in this cycle.
pub(crate) type Taken = BTreeSet<(AgentId, PoolKind)>;

/// Who asks for what, where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) agent: AgentId,
    pub(crate) framework: FrameworkId,
    pub(crate) role: &'a Role,
    pub(crate) pass: Pass,
}

/// What a framework may be given of an agent, if it is open, whoever else asks.
pub(crate) fn judge(books: &Books, question: Question<'_>, taken: &Taken) -> Option<Take> {
    let Question { agent, framework, role, .. } = question;
    let (known, ask) = (books.agents.get(&agent)?, books.asks.get(&framework)?);
    if !known.site.is_open
        || !books.is_asking(framework, role)
        || !takes_agent(books, known, ask, role)
    {
        return None;
    }
    let available = books
        .free(agent)
        .retained(|kind, _| takes_pool(ask, role, kind) && !taken.contains(&(agent, kind.clone())));
    let smallest = ask.smallest.get(role).unwrap_or(&books.settings.smallest);
    if !is_enough(&available, smallest) {
        return None;
    }
    if let Some(wants) = &ask.wants {
        let cut = |pass| cut(books, &available, Question { pass, ..question });
        return units::judge(books, question, wants, &known.site, cut);
    }
    let cut = cut(books, &available, question)?;
    let is_good = is_enough(&cut, smallest) && !books.is_refused(framework, role, agent, &cut);
    is_good.then_some(Take::Whole(cut))
}

/// Whether a framework takes anything of such an agent.
fn takes_agent(books: &Books, agent: &Agent, ask: &Ask, role: &Role) -> bool {
    let site = &agent.site;
    if !site.takes_many_roles && (ask.accepts.many_roles || role.as_str().contains('/')) {
        return false;
    }
    let is_far = match (&site.domain, &books.settings.region) {
        (Some(domain), Some(own)) => domain.region != *own,
        _ => false,
    };
    let has_gpus = agent.total.iter().any(|(_, amount)| amount.custom.contains_key("gpus"));
    (!is_far || ask.accepts.other_regions) && (!has_gpus || ask.accepts.gpus)
}

/// Whether a framework may be given such a pool in a role.
fn takes_pool(ask: &Ask, role: &Role, kind: &PoolKind) -> bool {
    let wants_revocable =
        ask.wants.iter().flatten().any(|want| want.role == *role && want.revocable);
    kind.reserved_for.last().is_none_or(|owner| is_within(role, owner.as_str()))
        && (!kind.revocable || ask.accepts.revocable || wants_revocable)
        && (!kind.is_shared() || ask.accepts.shared)
        && (kind.reserved_for.len() < 2 || ask.accepts.refined)
}

/// Whether one of these smallest offers is met, with all its names; none at all is anything.
fn is_enough(bundle: &Bundle, smallest: &[Scalars]) -> bool {
    let sum = bundle.iter().fold(Amounts::default(), |sum, (_, more)| sum.plus(Amounts::of(more)));
    let of =
        |name: &str| NAMES.iter().zip(sum.0).find(|(own, _)| **own == name).map_or(0, |(_, n)| n);
    let is_met = |set: &Scalars| set.iter().all(|(name, least)| of(name) >= u128::from(least));
    !bundle.is_empty() && (smallest.is_empty() || smallest.iter().any(is_met))
}

/// Cuts what anyone may use to what quotas allow; what is reserved or revocable comes whole. Towards guarantees, only what
/// is reserved for the very role, and nothing if no guarantee would be served by it.
fn cut(books: &Books, available: &Bundle, question: Question<'_>) -> Option<Bundle> {
    let Question { role, pass, .. } = question;
    let have = open(available);
    let (room, surplus) = (quota::room(books, role), quota::surplus(books));
    let owed = match pass {
        Pass::Owed => quota::owed(books, role).least(have).within(room),
        Pass::Fair | Pass::Lent => Amounts::default(),
    };
    let mut given = owed.0.into_iter();
    let spare = quota::spare(books, role).map(|spare| {
        let given = given.next().unwrap_or(0);
        spare.map(|spare| spare.saturating_sub(given))
    });
    let surplus = if pass == Pass::Lent { [None; 4] } else { surplus };
    let extra = have.less(owed).within(spare).within(surplus);
    let mut left = owed.plus(extra);
    let mut cut = Bundle::default();
    for (kind, amount) in available.iter() {
        let part = if is_open(kind) {
            take(kind, amount, &mut left)
        } else if pass == Pass::Owed && kind.reserved_for.last().is_some_and(|owner| owner != role)
        {
            Resources::default()
        } else {
            amount.clone()
        };
        cut.add_pool(kind.clone(), part)?;
    }
    (serves(books, &cut, question) && !cut.is_empty()).then_some(cut)
}

/// Whether a bundle serves a guarantee, if that is what is given out: reservations alone do not, nor does what is not owed.
pub(crate) fn serves(books: &Books, bundle: &Bundle, question: Question<'_>) -> bool {
    let owed = quota::owed(books, question.role).within(quota::room(books, question.role));
    question.pass != Pass::Owed || !open(bundle).least(owed).is_none()
}

/// What of a bundle anyone may use.
fn open(bundle: &Bundle) -> Amounts {
    let open = bundle.iter().filter(|(kind, _)| is_open(kind));
    open.fold(Amounts::default(), |sum, (_, more)| sum.plus(Amounts::of(more)))
}

/// As much of a pool as is left; what cannot be split, whole or not at all.
fn take(kind: &PoolKind, amount: &Resources, left: &mut Amounts) -> Resources {
    let all = Amounts::of(amount);
    let is_one = kind.disk.whole.is_some() || kind.disk.volume.is_some();
    let taken = match all.least(*left) {
        part if is_one && part != all => return Resources::default(),
        part => part,
    };
    *left = left.less(taken);
    let [cpus, mem, disk, gpus] = taken.0.map(|amount| u64::try_from(amount).unwrap_or(u64::MAX));
    let mut custom = amount.custom.clone();
    custom.retain(|_, amount| matches!(amount, Custom::Items(_)));
    if gpus > 0 {
        custom.insert("gpus".to_owned(), Custom::Milli(gpus));
    }
    Resources {
        cpu_milli: cpus,
        memory_bytes: mem,
        disk_bytes: disk,
        ports: amount.ports.clone(),
        custom,
    }
}
