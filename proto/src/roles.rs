//! What operators say about roles and agents.

use crate::calls::{NewVolume, Reservation};
use crate::{DurationMs, Role, Scalars};
use serde::{Deserialize, Serialize};

/// In which order a role's frameworks are shown agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// The emptiest first, and a task at a time on each.
    Spread,
    /// The fullest that still fits first: best fit by dominant share.
    Pack,
    /// In an order that differs from cycle to cycle (as in Mesos).
    Random,
}

/// A change to a role's settings; what is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChange {
    /// Which.
    pub role: Role,
    /// Divides the share of the role's subtree; in thousandths.
    pub weight_milli: Option<u64>,
    /// Held for the subtree; empty is none.
    pub guarantee: Option<Scalars>,
    /// The subtree never holds more; an absent name is without limit.
    pub limit: Option<Scalars>,
    /// The order of agents.
    pub packing: Option<Packing>,
}

/// Whether an agent is offered, and what it is on its way to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentMode {
    /// It is offered.
    #[default]
    Active,
    /// It is not; its tasks run on.
    Inactive,
    /// It is not, and its tasks are being stopped.
    Draining {
        /// Between asking a task to stop and stopping it, at most.
        grace: DurationMs,
        /// Whether it is gone once it is drained.
        then_gone: bool,
    },
    /// Its tasks have ended.
    Drained,
    /// It never comes back: who says hello under its name is refused.
    Gone,
}

/// What an operator does with what is free of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentOperation {
    /// Reserves it for a role.
    Reserve(Reservation),
    /// Undoes that.
    Unreserve(Reservation),
    /// Makes a volume of reserved disk.
    CreateVolume(NewVolume),
    /// Makes reserved disk of a volume.
    DestroyVolume(String),
}
