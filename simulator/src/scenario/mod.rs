//! What is simulated: agents, roles, frameworks with their workloads, checked before anything begins.
//!
//! Owns the form of `SCENARIO.toml`. Never fills a number in that the reader could mistake for his own: what has a
//! default is listed in `docs/SIMULATING.md`. Its one surprise: the paths of traces and submissions are relative to the
//! folder of the scenario, and to the current one for a scenario that is shipped.

mod check;
mod document;
mod events;
mod trace;
mod written;

pub use document::ScenarioError;
pub(crate) use trace::Traced;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_proto::events::{AttributeValue, FaultDomain};
use tepui_proto::resources::Bytes;
use tepui_proto::roles::{AgentMode, Packing};
use tepui_proto::{Bundle, Resources, Role, Scalars, Tenant, limits};

/// A scenario that was checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Names the report.
    pub name: String,
    /// What it shows, for people.
    pub about: String,
    /// Decides every draw.
    pub seed: u64,
    pub(crate) until: Until,
    pub(crate) sample_ms: u64,
    /// How long the master takes for one batch; what comes meanwhile is the next.
    pub(crate) batch_ms: u64,
    pub(crate) agents: Vec<AgentKind>,
    pub(crate) roles: Vec<RoleSetting>,
    pub(crate) frameworks: Vec<FrameworkKind>,
    pub(crate) events: Vec<Event>,
}

/// What an operator does to some agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at_ms: u64,
    /// By name; never none.
    pub(crate) agents: Vec<String>,
    pub(crate) mode: AgentMode,
}

/// When the simulation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// After so many virtual milliseconds.
    Time(u64),
    /// When every framework that can end has ended.
    Idle,
}

/// Equal agents.
#[derive(Clone, Debug)]
pub(crate) struct AgentKind {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) resources: Bundle,
    pub(crate) attributes: Vec<(String, AttributeValue)>,
    pub(crate) domain: Option<FaultDomain>,
    /// When the first joins.
    pub(crate) joins_at_ms: u64,
    /// The others follow within this time, evenly.
    pub(crate) joins_over_ms: u64,
    pub(crate) failures: Option<Failures>,
}

/// How agents fail and come back: both times are exponential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failures {
    pub(crate) mean_between_ms: u64,
    pub(crate) mean_return_ms: u64,
    /// Only the connection is lost, and tasks run on.
    pub(crate) keeps_tasks: bool,
}

/// What an operator set for a role.
#[derive(Clone, Debug)]
pub(crate) struct RoleSetting {
    pub(crate) role: Role,
    pub(crate) weight_milli: u64,
    pub(crate) guarantee: Option<Scalars>,
    pub(crate) limit: Option<Scalars>,
    pub(crate) packing: Option<Packing>,
}

/// Equal frameworks.
#[derive(Clone, Debug)]
pub(crate) struct FrameworkKind {
    pub(crate) name: String,
    pub(crate) tenant: Tenant,
    /// None are those of the component's own manifest.
    pub(crate) roles: Vec<Role>,
    pub(crate) count: u64,
    pub(crate) submitted_at_ms: u64,
    pub(crate) scheduler: SchedulerKind,
    /// How long it refuses what it declines.
    pub(crate) refuse_ms: u64,
    pub(crate) workload: Workload,
    /// Whether its tasks may be stopped to serve a guarantee.
    pub(crate) is_revocable: bool,
    /// Of its tasks, where some have to be stopped.
    pub(crate) priority: i32,
}

/// Who decides for a framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SchedulerKind {
    /// States what it wants, and takes what answers it.
    Wants,
    /// Takes what fits of whole offers and declines the rest.
    Coarse,
    /// Never answers an offer.
    Sitter,
    /// Declines every offer.
    Decliner,
    /// A tenant's component, from a folder that could be submitted.
    Component(PathBuf),
}

impl SchedulerKind {
    /// The word of the scenario.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Wants => "wants",
            Self::Coarse => "coarse",
            Self::Sitter => "sitter",
            Self::Decliner => "decliner",
            Self::Component(_) => "component",
        }
    }
}

/// What a framework has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Nothing of its own; what a component launches runs so long.
    Tasks(Spread),
    /// So many tasks of one size.
    Steady { size: TaskSize, tasks: u64, arrivals: Arrivals, duration: Spread },
    /// As recorded.
    Trace(Arc<Vec<Traced>>),
}

/// What a task needs. Within what a real cluster lets a task ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskSize(pub(crate) Resources);

/// When tasks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    AtOnce,
    EveryMs(u64),
    /// So many in a thousand seconds, on average.
    Poisson(u64),
}

/// How long tasks run, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    Forever,
    Fixed(u64),
    Uniform(u64, u64),
    /// The mean.
    Exponential(u64),
    /// The median, and the deviation of the logarithm in thousandths.
    Lognormal(u64, u64),
}

impl AgentKind {
    /// The names of its agents.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let numbered = |number| match self.count {
            1 => self.name.clone(),
            _ => format!("{}-{number}", self.name),
        };
        (1..=self.count).map(numbered)
    }
}

impl Scenario {
    /// Reads a file and its traces.
    ///
    /// # Errors
    /// With the file, the place in it, and what is allowed.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let document = document::Document::read(path)?;
        check::scenario(&document, path.parent().unwrap_or_else(|| Path::new("")))
    }

    /// Checks a text that stands for a file of that name in a folder.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn parse(path: &Path, text: &str, folder: &Path) -> Result<Self, ScenarioError> {
        check::scenario(&document::Document::of(path, text.to_owned()), folder)
    }

    /// The folders of components that have to be handed to [`crate::simulate`], each once.
    pub fn components(&self) -> Vec<&Path> {
        let folders = self.frameworks.iter().filter_map(|framework| match &framework.scheduler {
            SchedulerKind::Component(folder) => Some(folder.as_path()),
            _ => None,
        });
        folders.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Whether a real cluster would let a task ask for this.
fn check_task(size: &Resources) -> Result<(), String> {
    let (least, most) = (limits::TASK_MEMORY_BYTES_MIN, limits::INSTANCE_MEMORY_BYTES_MAX);
    if size.cpu_milli == 0 {
        return Err("a task needs at least `cpus:0.001`".to_owned());
    }
    if !(least..=most).contains(&size.memory_bytes) {
        let given = Bytes(size.memory_bytes);
        return Err(format!(
            "a task has {} to {} of memory, not {given}",
            Bytes(least),
            Bytes(most)
        ));
    }
    Ok(())
}
