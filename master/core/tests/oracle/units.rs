//! Wants: which of a framework's can be answered on an agent, and what a number of units is cut from.

use super::amounts::Amounts;
use super::books::Books;
use super::judge::{Pass, Question, Take, serves};
use std::collections::BTreeSet;
use tepui_master_core::allocator::Site;
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::events::AttributeValue;
use tepui_proto::resources::{Custom, PortRange, PortSet};
use tepui_proto::{Bundle, DiskKind, FrameworkId, PoolKind, Resources, Role};

/// Wants of a role with units left, where their constraints hold.
pub(crate) fn asking<'a>(
    books: &'a Books,
    framework: FrameworkId,
    role: &'a Role,
    wants: &'a [Want],
    site: &'a Site,
) -> impl Iterator<Item = (&'a Want, u32)> {
    let own = wants.iter().filter(move |want| want.role == *role);
    let left = own.map(move |want| (want, books.units_left(framework, want)));
    left.filter(|(want, left)| *left > 0 && want.constraints.iter().all(|c| holds(c, site)))
}

/// The first want of which a unit fits into what there is to be given, as many units as do, unless they are refused.
/// Revocable units serve no guarantee, and may be lent.
pub(crate) fn judge(
    books: &Books,
    question: Question<'_>,
    wants: &[Want],
    site: &Site,
    given: impl Fn(Pass) -> Option<Bundle>,
) -> Option<Take> {
    let Question { framework, role, agent, pass } = question;
    asking(books, framework, role, wants, site).find_map(|(want, left)| {
        let from = &match (want.revocable, pass) {
            (true, Pass::Owed) => None,
            (true, _) => given(Pass::Lent),
            (false, pass) => given(pass),
        }?;
        let fits = |units: &u32| cut(want, from, *units).is_some();
        let most = (1..=left).rev().find(fits)?;
        // Who has refused one unit is not asked about two.
        let one = cut(want, from, 1)?;
        let is_good =
            serves(books, &one, question) && !books.is_refused(framework, role, agent, &one);
        is_good.then(|| Take::Units { want: want.id, most, from: from.clone() })
    })
}

/// So many units of a want, from the most refined reservation first and what anyone may use last; revocable ones from what
/// is revocable first, and never from reservations. The lowest ports.
pub(crate) fn cut(want: &Want, from: &Bundle, units: u32) -> Option<Bundle> {
    let times = |amount: u128| amount * u128::from(units);
    let mut need = Amounts(Amounts::of(&want.each).0.map(times));
    let mut ports = want.port_count * units;
    let mut items: Vec<(&str, &BTreeSet<String>)> = Vec::new();
    for (name, amount) in &want.each.custom {
        if let Custom::Items(set) = amount {
            items.push((name, set));
        }
    }
    if units > 1 && !items.is_empty() {
        return None;
    }
    let usable = |kind: &PoolKind| {
        let is_meant = if want.revocable { !kind.is_reserved() } else { !kind.revocable };
        is_meant && kind.disk == DiskKind::default()
    };
    let mut kinds: Vec<(&PoolKind, &Resources)> = from.iter().filter(|(k, _)| usable(k)).collect();
    kinds.sort_by_key(|(kind, _)| (!kind.revocable, usize::MAX - kind.reserved_for.len()));
    let mut cut = Bundle::default();
    for (kind, have) in kinds {
        let part = Amounts::of(have).least(need);
        need = need.less(part);
        let [cpus, mem, disk, gpus] =
            part.0.map(|amount| u64::try_from(amount).unwrap_or(u64::MAX));
        let chosen = lowest(&have.ports, ports);
        ports -= chosen.count();
        let mut custom = std::collections::BTreeMap::new();
        if gpus > 0 {
            custom.insert("gpus".to_owned(), Custom::Milli(gpus));
        }
        items.retain(|(name, set)| match have.custom.get(*name) {
            Some(Custom::Items(all)) if all.is_superset(set) => {
                custom.insert((*name).to_owned(), Custom::Items((*set).clone()));
                false
            }
            _ => true,
        });
        let part = Resources {
            cpu_milli: cpus,
            memory_bytes: mem,
            disk_bytes: disk,
            ports: chosen,
            custom,
        };
        cut.add_pool(kind.clone(), part)?;
    }
    (need.is_none() && ports == 0 && items.is_empty()).then_some(cut)
}

/// Port by port.
fn lowest(ports: &PortSet, most: u32) -> PortSet {
    let all = ports.ranges().iter().flat_map(|range| range.first..=range.last);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    all.take(most).map(|port| PortRange { first: port, last: port }).collect::<Vec<_>>().into()
}

/// Whether an agent is like that. What is not text passes whatever is asked of its text.
fn holds(constraint: &Constraint, site: &Site) -> bool {
    let value = match constraint.attribute.as_str() {
        "@hostname" => Some(AttributeValue::Text(site.hostname.clone())),
        "@region" => site.domain.as_ref().map(|domain| AttributeValue::Text(domain.region.clone())),
        "@zone" => site.domain.as_ref().map(|domain| AttributeValue::Text(domain.zone.clone())),
        name => site.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()),
    };
    let operand = constraint.operand.as_str();
    let text = |test: &dyn Fn(&str) -> bool, absent: bool| match &value {
        None => absent,
        Some(AttributeValue::Text(text)) => test(text),
        Some(_) => true,
    };
    match constraint.comparison {
        Comparison::Exists => value.is_some(),
        Comparison::Absent => value.is_none(),
        Comparison::Equals => text(&|text| text == operand, false),
        Comparison::Differs => text(&|text| text != operand, true),
        Comparison::Matches => text(&|text| matches(operand, text), false),
        Comparison::MatchesNot => text(&|text| !matches(operand, text), true),
    }
}

/// The few patterns that random constraints have.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^r[12]$" => text == "r1" || text == "r2",
        "2" => text.contains('2'),
        _ => false,
    }
}
