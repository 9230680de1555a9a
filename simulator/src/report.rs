//! What a simulation found, as `report.json` and as one line.
//!
//! Field names are stable. Times are virtual milliseconds since the beginning; shares are thousandths of what the agents
//! that were there could offer. Nothing in it was measured, so a seed gives the same bytes every time.

mod line;
mod series;
mod shape;

pub(crate) use line::{plural, tenths};
pub(crate) use series::Series;
pub use shape::{
    AgentsReport, AmountsReport, Ended, FrameworkReport, OffersReport, Problem, Quantiles, Report,
    RoleReport, RoleSamples, Samples, TasksReport, Totals,
};

use crate::scenario::Scenario;
use crate::tally::{Group, Tally};

/// The shape of the report; rises when a field changes its meaning.
const FORMAT: u32 = 1;

/// How a simulation ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) ended: Ended,
    pub(crate) now: u64,
    pub(crate) failures: u64,
    /// By kind of framework.
    pub(crate) waiting: Vec<Waiting>,
}

/// What still waits at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) arrived: Option<u64>,
    pub(crate) tasks: u64,
    pub(crate) longest_ms: Option<u64>,
}

/// Puts the report together.
pub(crate) fn make(scenario: &Scenario, tally: Tally, series: Series, end: End) -> Report {
    let roles = tally.roles.iter().zip(&tally.now).zip(&series.samples.roles);
    let role =
        |((role, now), samples): ((&tepui_proto::Role, &crate::tally::RoleNow), &RoleSamples)| {
            RoleReport {
                role: role.to_string(),
                weight_milli: series::weight_of(scenario, role.as_str()),
                used: now.used.into(),
                share_milli: now.used.dominant_milli(tally.capacity),
                share_mean_milli: mean(&samples.share_milli),
                entitlement_mean_milli: mean_of_positive(&samples.entitlement_milli),
            }
        };
    let roles = roles.map(role).collect();
    let open: Vec<u64> = (0..tally.groups.len()).map(|group| tally.open_offers(group)).collect();
    let groups = tally.groups.into_iter().zip(end.waiting).zip(open).zip(&scenario.frameworks);
    let framework = |(((group, waiting), open), kind): (
        ((Group, Waiting), u64),
        &crate::scenario::FrameworkKind,
    )| {
        FrameworkReport {
            name: kind.name.clone(),
            tenant: kind.tenant.to_string(),
            scheduler: kind.scheduler.word().to_owned(),
            count: kind.count,
            ended: group.ended,
            ended_ms: group.ended_at.filter(|_| group.ended == kind.count),
            tasks: tasks(&group, waiting),
            offers: offers(&group, open),
            turns: group.turns,
            failures: group.failures,
            fuel: group.fuel,
            waiting_ms: Quantiles::of(group.waits),
        }
    };
    let frameworks: Vec<FrameworkReport> = groups.map(framework).collect();
    let problems = tally.problems.into_iter().map(|(line, times)| Problem { line, times });
    Report {
        format: FORMAT,
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        seed: scenario.seed,
        virtual_ms: end.now,
        ended: end.ended,
        agents: AgentsReport {
            count: scenario.agents.iter().map(|kind| kind.count).sum(),
            at_end: tally.agents,
            failures: end.failures,
            capacity: tally.capacity.into(),
        },
        roles,
        totals: totals(&frameworks),
        frameworks,
        samples: series.samples,
        problems: problems.collect(),
    }
}

fn tasks(group: &Group, waiting: Waiting) -> TasksReport {
    TasksReport {
        arrived: waiting.arrived,
        launched: group.launched,
        running: group.running,
        waiting: waiting.tasks,
        longest_waiting_ms: waiting.longest_ms,
        finished: group.finished,
        failed: group.failed,
        killed: group.killed,
        preempted: group.preempted,
        lost: group.lost,
        refused: group.refused,
    }
}

fn offers(group: &Group, open: u64) -> OffersReport {
    OffersReport {
        made: group.offers_made,
        used: group.offers_used,
        declined: group.offers_declined,
        expired: group.offers_expired,
        withdrawn: group.offers_withdrawn,
        open,
    }
}

fn totals(frameworks: &[FrameworkReport]) -> Totals {
    let mut sum = Totals::default();
    for framework in frameworks {
        let (to, from) = (&mut sum.tasks, &framework.tasks);
        to.arrived = from.arrived.map(|more| to.arrived.unwrap_or_default() + more).or(to.arrived);
        to.launched += from.launched;
        to.running += from.running;
        to.waiting += from.waiting;
        to.longest_waiting_ms = to.longest_waiting_ms.max(from.longest_waiting_ms);
        to.finished += from.finished;
        to.failed += from.failed;
        to.killed += from.killed;
        to.preempted += from.preempted;
        to.lost += from.lost;
        to.refused += from.refused;
        let (to, from) = (&mut sum.offers, &framework.offers);
        to.made += from.made;
        to.used += from.used;
        to.declined += from.declined;
        to.expired += from.expired;
        to.withdrawn += from.withdrawn;
        to.open += from.open;
        sum.turns += framework.turns;
    }
    sum
}

fn mean(values: &[u64]) -> u64 {
    let sum: u128 = values.iter().copied().map(u128::from).sum();
    let count = values.len() as u128;
    u64::try_from((sum + count / 2).checked_div(count).unwrap_or_default()).unwrap_or(u64::MAX)
}

fn mean_of_positive(values: &[u64]) -> u64 {
    mean(&values.iter().copied().filter(|value| *value > 0).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let all = Quantiles::of((1..=100).rev().collect()).unwrap();
        assert_eq!((all.p50, all.p90, all.p99, all.max), (50, 90, 99, 100));
        let one = Quantiles::of(vec![7]).unwrap();
        assert_eq!((one.count, one.p50, one.p99, one.max), (1, 7, 7, 7));
        assert_eq!(Quantiles::of(Vec::new()), None);
    }
}
