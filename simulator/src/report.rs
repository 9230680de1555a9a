//! What a simulation found, as `report.json` and as one line.
//!
//! Field names are stable. Times are virtual milliseconds since the beginning; shares are thousandths of what the agents
//! that were there could offer. Nothing in it was measured, so a seed gives the same bytes every time.

mod series;

pub(crate) use series::Series;

use crate::scenario::Scenario;
use crate::tally::{Amounts, Group, Tally};
use serde::Serialize;
use std::fmt::Write as _;

/// The shape of the report; rises when a field changes its meaning.
const FORMAT: u32 = 1;

/// Why a simulation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The scenario's time was over.
    Duration,
    /// Every framework that can end had ended.
    Idle,
    /// An hour passed in which nothing moved, though some framework still waited.
    Quiet,
}

/// All that a simulation found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The shape of this report.
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario shows, in its author's words.
    pub about: String,
    /// What decided every draw.
    pub seed: u64,
    /// How long it went, in virtual milliseconds.
    pub virtual_ms: u64,
    /// Why it ended.
    pub ended: Ended,
    /// The agents.
    pub agents: AgentsReport,
    /// By role, in order.
    pub roles: Vec<RoleReport>,
    /// By kind of framework, as the scenario lists them.
    pub frameworks: Vec<FrameworkReport>,
    /// All frameworks together.
    pub totals: Totals,
    /// What was measured over time.
    pub samples: Samples,
    /// What went wrong, each with how often.
    pub problems: Vec<Problem>,
}

/// Agents and what they can offer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AgentsReport {
    /// All that the scenario has.
    pub count: u64,
    /// Here at the end.
    pub at_end: u64,
    /// How often one failed.
    pub failures: u64,
    /// What those at the end can offer; a share is held back for schedulers.
    pub capacity: AmountsReport,
}

/// Countable amounts.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct AmountsReport {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub disk_bytes: u64,
}

impl From<Amounts> for AmountsReport {
    fn from(amounts: Amounts) -> Self {
        let Amounts { cpu_milli, memory_bytes, disk_bytes } = amounts;
        Self { cpu_milli, memory_bytes, disk_bytes }
    }
}

/// A role.
#[derive(Clone, Debug, Serialize)]
pub struct RoleReport {
    /// Its path.
    pub role: String,
    /// In thousandths.
    pub weight_milli: u64,
    /// Held by its tasks at the end.
    pub used: AmountsReport,
    /// Its dominant share at the end.
    pub share_milli: u64,
    /// Its dominant share, on average.
    pub share_mean_milli: u64,
    /// What its weight gives it among the roles that used or wanted something, on average while it did.
    pub entitlement_mean_milli: u64,
}

/// All frameworks of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct FrameworkReport {
    /// The name in the scenario.
    pub name: String,
    /// Whose.
    pub tenant: String,
    /// `wants`, `coarse`, `sitter`, `decliner`, or `component`.
    pub scheduler: String,
    /// How many there are.
    pub count: u64,
    /// How many have ended.
    pub ended: u64,
    /// When the last one ended, if all have.
    pub ended_ms: Option<u64>,
    /// Their tasks.
    pub tasks: TasksReport,
    /// From a task's arrival to its first run; for a component, from a want to its launch.
    pub waiting_ms: Option<Quantiles>,
    /// Offers that their schedulers were told of.
    pub offers: OffersReport,
    /// Turns of their schedulers.
    pub turns: u64,
    /// Instances that failed by their own doing.
    pub failures: u64,
    /// What components burnt.
    pub fuel: u64,
}

/// Tasks, counted by attempts: one that is lost and launched anew counts as lost and as launched twice.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TasksReport {
    /// That came; none where only the component knows.
    pub arrived: Option<u64>,
    /// Launches.
    pub launched: u64,
    /// At the end.
    pub running: u64,
    /// At the end: came, or are wanted, and are not launched.
    pub waiting: u64,
    /// Since when the oldest waits that never ran.
    pub longest_waiting_ms: Option<u64>,
    /// Ended well.
    pub finished: u64,
    /// Ended otherwise by their own doing.
    pub failed: u64,
    /// Stopped on request.
    pub killed: u64,
    /// Lost with their agent.
    pub lost: u64,
    /// Not launched, since they were not valid or their offer was gone.
    pub refused: u64,
}

/// Offers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OffersReport {
    /// Told to a scheduler.
    pub made: u64,
    /// At least one task was launched on them.
    pub used: u64,
    /// Given back.
    pub declined: u64,
    /// Never answered in time.
    pub expired: u64,
    /// Taken back early: the agent, the scheduler or the framework was gone.
    pub withdrawn: u64,
    /// At the end.
    pub open: u64,
}

/// Quantiles of a number of values; each is a value that occurred (nearest rank).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// How many values there are.
    pub count: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// Nine of ten are at most this.
    pub p90: u64,
    /// Ninety-nine of a hundred are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Quantiles {
    fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let count = values.len();
        let at = |percent: usize| values.get((count * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { count: count as u64, p50: at(50)?, p90: at(90)?, p99: at(99)?, max: *values.last()? })
    }
}

/// Sums over all frameworks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Their tasks.
    pub tasks: TasksReport,
    /// Their offers.
    pub offers: OffersReport,
    /// Their turns.
    pub turns: u64,
}

/// What was measured over time; all lists of one length.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Samples {
    /// Between two samples; doubled whenever there would be too many.
    pub interval_ms: u64,
    /// When.
    pub at_ms: Vec<u64>,
    /// Agents that were there.
    pub agents: Vec<u64>,
    /// What they could offer, thousandths of a core.
    pub capacity_cpu_milli: Vec<u64>,
    /// What they could offer, bytes.
    pub capacity_memory_bytes: Vec<u64>,
    /// By role, in order.
    pub roles: Vec<RoleSamples>,
}

/// A role over time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoleSamples {
    /// Its path.
    pub role: String,
    /// Held by its tasks.
    pub used_cpu_milli: Vec<u64>,
    /// Held by its tasks.
    pub used_memory_bytes: Vec<u64>,
    /// Held by offers that are out.
    pub offered_cpu_milli: Vec<u64>,
    /// Held by offers that are out.
    pub offered_memory_bytes: Vec<u64>,
    /// The dominant share of what its tasks held.
    pub share_milli: Vec<u64>,
    /// What its weight gave it, while it used or wanted something; 0 otherwise.
    pub entitlement_milli: Vec<u64>,
}

/// Something that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// In words.
    pub line: String,
    /// How often.
    pub times: u64,
}

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
    let role = |((role, now), samples): ((&tepui_proto::Role, &crate::tally::RoleNow), &RoleSamples)| RoleReport {
        role: role.to_string(),
        weight_milli: series::weight_of(scenario, role.as_str()),
        used: now.used.into(),
        share_milli: now.used.dominant_milli(tally.capacity),
        share_mean_milli: mean(&samples.share_milli),
        entitlement_mean_milli: mean_of_positive(&samples.entitlement_milli),
    };
    let roles = roles.map(role).collect();
    let open: Vec<u64> = (0..tally.groups.len()).map(|group| tally.open_offers(group)).collect();
    let groups = tally.groups.into_iter().zip(end.waiting).zip(open).zip(&scenario.frameworks);
    let framework = |(((group, waiting), open), kind): (((Group, Waiting), u64), &crate::scenario::FrameworkKind)| {
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

/// Roles that the line names one by one.
const ROLES_TOLD: usize = 4;

impl Report {
    /// One line that a person can read.
    pub fn line(&self) -> String {
        let tasks = &self.totals.tasks;
        let (shown, word) =
            if tasks.running > 0 { (tasks.running, "") } else { (tasks.finished, " finished") };
        let mut line = format!(
            "simulated {}: {}{word} on {}, {}",
            self.scenario,
            plural(shown, "task"),
            plural(self.agents.count, "agent"),
            self.shares(),
        );
        let finished = if tasks.running > 0 { tasks.finished } else { 0 };
        let rest = [
            ("waiting", tasks.waiting),
            ("finished", finished),
            ("failed", tasks.failed),
            ("killed", tasks.killed),
            ("lost", tasks.lost),
        ];
        for (word, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
            // A string takes what is written.
            let _written = write!(line, ", {count} {word}");
        }
        let Self { virtual_ms, seed, .. } = self;
        let _written = write!(line, ", in {} virtual s (seed {seed})", tenths(*virtual_ms / 100));
        line
    }

    /// `2 roles at 66.7 % and 66.7 %`: at the end if something runs then, or else on average.
    fn shares(&self) -> String {
        let at_end = self.totals.tasks.running > 0;
        let share = |role: &RoleReport| if at_end { role.share_milli } else { role.share_mean_milli };
        let mut shares: Vec<u64> = self.roles.iter().map(share).collect();
        let count = plural(shares.len() as u64, "role");
        let when = if at_end { "" } else { " on average" };
        let percent = |milli: &u64| format!("{} %", tenths(*milli));
        if shares.len() > ROLES_TOLD {
            let (least, most) = (shares.iter().min(), shares.iter().max());
            let (least, most) = (least.map_or_else(String::new, percent), most.map_or_else(String::new, percent));
            return format!("{count} at {least} to {most}{when}");
        }
        let last = shares.pop();
        let first = shares.iter().map(percent).collect::<Vec<_>>().join(", ");
        match last {
            Some(last) if first.is_empty() => format!("{count} at {}{when}", percent(&last)),
            Some(last) => format!("{count} at {first} and {}{when}", percent(&last)),
            None => count,
        }
    }

    /// The report as it stands in `report.json`.
    ///
    /// # Errors
    /// If the serialiser fails.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// `1 task`, `2 tasks`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Tenths with one place.
pub(crate) fn tenths(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
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
