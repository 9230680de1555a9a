//! Compares what was offered since the last check with what a case expects.
//!
//! A check is all expectations that stand together. Where it speaks of offers, each offer must be expected by some line
//! of it; where it only speaks of shares, or of inverse offers, offers are not looked at. Inverse offers must be exactly
//! those expected if it speaks of them, or says `none`.

use super::bundles::{sum, unnamed};
use super::step::{Check, Decimal, Inverse, Offered};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use tepui_master_core::allocator::Share;
use tepui_proto::{Bundle, Role};

/// What came of the events since the last check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Since {
    pub(crate) offers: Vec<Offered>,
    pub(crate) inverses: Vec<Inverse>,
}

impl Since {
    /// Each framework once.
    pub(crate) fn offered_to(&self) -> BTreeSet<&str> {
        self.offers.iter().map(|offer| offer.framework.as_str()).collect()
    }

    fn to<'a>(&'a self, framework: &'a str) -> impl Iterator<Item = &'a Offered> {
        self.offers.iter().filter(move |offer| offer.framework == framework)
    }
}

/// Holds a check against what was offered.
pub(crate) fn judge(
    checks: &[&Check],
    mut since: Since,
    mut share: impl FnMut(&Role) -> Option<Share>,
) -> Result<(), String> {
    since.offers.sort();
    since.inverses.sort();
    let mut wrong = !are_offers_right(checks, &since)?;
    wrong |= !are_inverses_right(checks, &since);
    let mut shares = Vec::new();
    for check in checks {
        if let Check::Share { role, expected } = check {
            let actual = share(role);
            wrong |= !is_share(*expected, actual);
            shares.push((role, actual));
        }
    }
    if wrong { Err(report(checks, &since, &shares)) } else { Ok(()) }
}

fn are_offers_right(checks: &[&Check], since: &Since) -> Result<bool, String> {
    // Which offers some line has spoken of.
    let mut left: Vec<(&Offered, bool)> = since.offers.iter().map(|offer| (offer, false)).collect();
    let mut are_judged = false;
    let mut are_right = true;
    for check in checks {
        are_judged |= !matches!(check, Check::Share { .. } | Check::Inverse(_));
        match check {
            Check::Nothing => are_right &= since.offers.is_empty(),
            Check::Offer(expected) => {
                let found =
                    left.iter_mut().find(|(offer, is_seen)| !is_seen && is_same(offer, expected));
                match found {
                    Some((_, is_seen)) => *is_seen = true,
                    None => are_right = false,
                }
            }
            _ => {}
        }
    }
    // Sums speak of all offers to a framework, also of those that have a line of their own.
    for check in checks {
        match check {
            Check::OfferTotal { framework, role, sum: expected } => {
                let all = since.to(framework).filter(|offer| offer.role == *role);
                are_right &= sum(all.map(|offer| &offer.bundle))? == sum([expected])?;
                see(&mut left, |offer| offer.framework == *framework && offer.role == *role);
            }
            Check::OfferAgents { framework, count } => {
                let agents: BTreeSet<&str> =
                    since.to(framework).map(|offer| offer.agent.as_str()).collect();
                are_right &= agents.len() == *count;
                see(&mut left, |offer| offer.framework == *framework);
            }
            _ => {}
        }
    }
    Ok(!are_judged || (are_right && left.iter().all(|(_, is_seen)| *is_seen)))
}

fn see(left: &mut [(&Offered, bool)], is_meant: impl Fn(&Offered) -> bool) {
    for (offer, is_seen) in left {
        *is_seen |= is_meant(offer);
    }
}

fn is_same(a: &Offered, b: &Offered) -> bool {
    let key = |offer: &Offered| (offer.framework.clone(), offer.role.clone(), offer.agent.clone());
    key(a) == key(b) && unnamed(&a.bundle) == unnamed(&b.bundle)
}

fn are_inverses_right(checks: &[&Check], since: &Since) -> bool {
    let are_judged = checks.iter().any(|check| matches!(check, Check::Nothing | Check::Inverse(_)));
    let mut expected: Vec<Inverse> = checks
        .iter()
        .filter_map(|check| match check {
            Check::Inverse(inverse) => Some(inverse.clone()),
            _ => None,
        })
        .collect();
    expected.sort();
    !are_judged || expected == since.inverses
}

/// A share with two decimal places or more may be rounded to them; all others are exact.
fn is_share(expected: Option<Decimal>, actual: Option<Share>) -> bool {
    let (Some(Decimal { units, places }), Some((part, whole))) =
        (expected, actual.map(Share::fraction))
    else {
        return expected.is_none() && actual.is_none();
    };
    let scaled = part.checked_mul(10_u128.pow(places));
    let (Some(part), Some(wanted)) = (scaled, units.checked_mul(whole)) else { return false };
    let twice_off = part.abs_diff(wanted).saturating_mul(2);
    twice_off == 0 || (places >= 2 && twice_off <= whole)
}

fn report(checks: &[&Check], since: &Since, shares: &[(&Role, Option<Share>)]) -> String {
    let mut text = String::from("not as expected\n  expected:");
    for check in checks {
        let _ = match check {
            Check::Nothing => write!(text, "\n    none"),
            Check::Offer(offer) => write!(text, "\n    {}", shown(offer)),
            Check::OfferTotal { framework, role, sum } => {
                write!(text, "\n    offer-total {framework} {role} {sum}")
            }
            Check::OfferAgents { framework, count } => {
                write!(text, "\n    offer-agents {framework} {count}")
            }
            Check::Inverse(Inverse { framework, agent }) => {
                write!(text, "\n    inverse {framework} {agent}")
            }
            Check::Share { role, expected: None } => write!(text, "\n    share {role} absent"),
            Check::Share { role, expected: Some(share) } => {
                write!(text, "\n    share {role} {}", decimal(*share))
            }
        };
    }
    text.push_str("\n  actual:");
    if since.offers.is_empty() {
        text.push_str("\n    none");
    }
    for offer in &since.offers {
        let _ = write!(text, "\n    {}", shown(offer));
    }
    for Inverse { framework, agent } in &since.inverses {
        let _ = write!(text, "\n    inverse {framework} {agent}");
    }
    for (role, share) in shares {
        let _ = match share {
            None => write!(text, "\n    share {role} absent"),
            Some(share) => write!(text, "\n    share {role} {} thousandths", share.milli()),
        };
    }
    text
}

fn shown(offer: &Offered) -> String {
    let Offered { framework, role, agent, bundle } = offer;
    format!("offer {framework} {role} {agent} {}", empty_as_dash(bundle))
}

fn empty_as_dash(bundle: &Bundle) -> String {
    if bundle.is_empty() { "(nothing)".to_owned() } else { bundle.to_string() }
}

fn decimal(Decimal { units, places }: Decimal) -> String {
    let scale = 10_u128.pow(places);
    let (whole, part) = (units / scale, units % scale);
    let width = usize::try_from(places).unwrap_or(0);
    if places == 0 { whole.to_string() } else { format!("{whole}.{part:0width$}") }
}
