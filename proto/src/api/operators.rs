//! The shapes of `/v1` for operators: roles and their settings, agents' modes, and why somebody is offered nothing.
//!
//! Amounts that an operator writes and reads are text in the notation of resources (`cpus:2;mem:1024`), so that an
//! absent name is not zero; all others are integers as everywhere in `/v1`.

use crate::Resources;
use crate::roles::Packing;
use serde::{Deserialize, Serialize};

/// A role, `GET /v1/roles` and `/v1/roles/ROLE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleView {
    /// The path.
    pub role: String,
    /// In thousandths.
    pub weight_milli: u64,
    /// Its dominant share of the cluster, in thousandths, offers included, not divided by weight.
    pub share_milli: u64,
    /// Frameworks in this very role.
    pub frameworks: u64,
    /// Held for its subtree, whoever else waits: `cpus:2;mem:1024`. Empty: nothing.
    pub guarantee: String,
    /// Its subtree never holds more; an absent name is without limit. Empty: none.
    pub limit: String,
    /// What counts against both: reservations, used or not, and what else is offered to or used by its subtree.
    pub consumed: String,
    /// Reserved for its subtree on all agents, used or not.
    pub reserved: String,
    /// The order of agents, its own or the next ancestor's.
    pub packing: Packing,
    /// Held by its subtree, of every kind: offered to it or used by it.
    pub allocated: Resources,
}

/// Changes to roles' settings, all or nothing: `PATCH /v1/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolesPatch {
    /// Each role at most once.
    pub changes: Vec<RolePatch>,
    /// Takes limits below what is used, and guarantees beyond what the cluster has.
    #[serde(default)]
    pub force: bool,
}

/// A change to one role's settings; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePatch {
    /// Which.
    pub role: String,
    /// In thousandths, 1 to 1,000,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_milli: Option<u64>,
    /// `cpus:2;mem:1024`; the empty text is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<String>,
    /// `cpus:2;mem:1024`; the empty text is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The order of agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
}

/// What an operator can ask an agent to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeName {
    /// It is offered.
    Active,
    /// It is not; its tasks run on.
    Inactive,
    /// It is not, and its tasks are stopped; `drained` once all have ended.
    Draining,
    /// It never comes back.
    Gone,
}

/// Another mode of an agent: `PUT /v1/agents/NAME/mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentModeSpec {
    /// From now on.
    pub mode: ModeName,
    /// When draining: the longest that a task may take to stop; each has its own grace at most, and that unless this is
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// When draining: whether it is gone once it is drained.
    #[serde(default)]
    pub then_gone: bool,
}

/// When an agent is to go down: `PUT /v1/agents/NAME/maintenance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSpec {
    /// Milliseconds since the Unix epoch.
    pub start: u64,
    /// For how long; none is until further notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_ms: Option<u64>,
}

/// What becomes of what is free of an agent: `POST /v1/agents/NAME/operations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentOperationSpec {
    /// It is reserved for a role.
    Reserve(ReservationSpec),
    /// It is not any more.
    Unreserve(ReservationSpec),
    /// Disk that is reserved becomes a volume.
    CreateVolume(VolumeSpec),
    /// A volume becomes reserved disk; what was written is lost.
    DestroyVolume(String),
}

/// What is reserved, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationSpec {
    /// For whom.
    pub role: String,
    /// `cpus:2;mem:1024`.
    pub resources: String,
}

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Unique on its agent.
    pub id: String,
    /// For whom the disk is reserved.
    pub role: String,
    /// That of one copy, if it is shared.
    pub size_bytes: u64,
    /// Whether many tasks may hold it at once.
    #[serde(default)]
    pub shared: bool,
}

/// Why a framework is offered what it is: `GET /v1/explain/framework/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkExplanation {
    /// The framework's name.
    pub framework: String,
    /// Agents that the cluster knows.
    pub agents: u64,
    /// In each of its roles.
    pub roles: Vec<AskView>,
}

/// Why those in a role are offered what they are: `GET /v1/explain/role?role=ROLE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleExplanation {
    /// The role and what is set for it.
    pub role: RoleView,
    /// Agents that the cluster knows.
    pub agents: u64,
    /// Frameworks in it and in roles below it.
    pub frameworks: Vec<AskView>,
    /// Frameworks for which there was no room here.
    pub left_out: u64,
}

/// One framework in one role, as the allocator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskView {
    /// The framework's name.
    pub framework: String,
    /// The role.
    pub role: String,
    /// `asking`, or why nothing is offered whatever is free: `suppressed`, `inactive`, `held`, `wants-nothing`,
    /// `on-offer`.
    pub state: String,
    /// What that means, for people.
    pub message: String,
    /// Until then it is served after all others, since it declined offers or let them run out; milliseconds since the
    /// Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_until: Option<u64>,
    /// What came of the looks at agents; none unless it is asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<TallyView>,
    /// What it wants in this role, if it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wants: Option<Vec<WantView>>,
}

/// One want of a framework.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantView {
    /// The scheduler's number for it.
    pub want: u32,
    /// So many more.
    pub count: u32,
    /// Of them, on offer.
    pub on_offer: u64,
    /// Of this size, `cpus:1;mem:64`, ports of any number left out.
    pub each: String,
    /// What came of the looks at agents; none if nothing is left to be offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<TallyView>,
}

/// What came of the allocator's looks at agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyView {
    /// When all agents were last looked at, milliseconds since the Unix epoch; 0 if they were not yet. Looks at single
    /// agents since then are added.
    pub since: u64,
    /// Looks at an agent for this one.
    pub considered: u64,
    /// Looks that ended in an offer.
    pub offered: u64,
    /// Why agents were left out, most first; none of them zero.
    pub reasons: Vec<ReasonView>,
}

/// One reason for which agents were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// Stable; has a paragraph in `docs/OPERATING.md`.
    pub code: String,
    /// How many agents.
    pub agents: u64,
    /// What it means, for people.
    pub message: String,
}
