//! The fields of `report.json`. Their names are stable.

use crate::tally::Amounts;
use serde::Serialize;

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
    /// Stopped on request, or for a drain.
    pub killed: u64,
    /// Stopped to serve a guarantee.
    pub preempted: u64,
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
    /// Taken back early: the agent, the scheduler or the framework was gone, or somebody waited who could use it.
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
    /// Of these values; none of none.
    pub(super) fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let count = values.len();
        let at =
            |percent: usize| values.get((count * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            count: count as u64,
            p50: at(50)?,
            p90: at(90)?,
            p99: at(99)?,
            max: *values.last()?,
        })
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
