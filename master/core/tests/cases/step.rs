//! What a case consists of: typed steps, each with the line it stands on. Knows no engine.

use std::collections::{BTreeMap, BTreeSet};

use tepui_proto::events::AttributeValue;
use tepui_proto::{Bundle, DurationMs, Role, Scalars};

/// Something, and its line in the file. The first line is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) line: usize,
    pub(crate) it: T,
}

/// From one `case` or `sorter` to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Case(Case),
    Sorter(Vec<At<SorterStep>>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<At<Step>>,
    /// All agents that are ever added.
    pub(crate) agents: BTreeSet<String>,
    /// All frameworks that are ever added, or use something.
    pub(crate) frameworks: BTreeSet<String>,
}

/// What `set` changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Between two periodic cycles.
    pub(crate) interval: DurationMs,
    /// Names that are left out of shares.
    pub(crate) excluded: BTreeSet<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { interval: DurationMs(1_000), excluded: BTreeSet::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Event(Event),
    /// So many cycles, and how often each framework must be offered something in them.
    Rounds {
        count: u64,
        expected: BTreeMap<String, u64>,
    },
    Check(Check),
}

/// What happens to the fixture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Agent {
        agent: String,
        total: Bundle,
        used: Vec<Used>,
        takes_many_roles: bool,
    },
    UpdateAgent {
        agent: String,
        total: Bundle,
    },
    AgentAttributes {
        agent: String,
        attributes: Vec<(String, AttributeValue)>,
    },
    Unavailable {
        agent: String,
    },
    RemoveAgent {
        agent: String,
    },
    Whitelist(BTreeSet<String>),
    Framework {
        framework: String,
        client: Client,
    },
    /// No amounts: anything will do.
    Smallest {
        framework: String,
        role: Role,
        amounts: Vec<Scalars>,
    },
    /// No role: all roles of the framework.
    Suppress {
        framework: String,
        role: Option<Role>,
    },
    Revive {
        framework: String,
        role: Option<Role>,
    },
    Deactivate {
        framework: String,
    },
    Activate {
        framework: String,
    },
    RemoveFramework {
        framework: String,
    },
    Recover {
        whose: Whose,
        /// `None`: all of it.
        what: Option<Bundle>,
        /// `None`: no filter.
        filter: Option<DurationMs>,
    },
    RecoverAll,
    Convert {
        whose: Whose,
        from: Bundle,
        to: Bundle,
    },
    ReserveFree {
        agent: String,
        role: Role,
        what: Bundle,
        is_allowed: bool,
    },
    Quota {
        role: Role,
        guarantee: Scalars,
        limit: Scalars,
    },
    Weight {
        role: Role,
        milli: u64,
    },
    Tick(DurationMs),
}

/// What an agent has given out before it is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) framework: String,
    pub(crate) role: Role,
    pub(crate) what: Bundle,
}

/// Whose resources, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    pub(crate) framework: String,
    pub(crate) agent: String,
    pub(crate) role: Role,
}

/// A framework as the allocator is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) roles: Vec<Role>,
    pub(crate) suppressed: BTreeSet<Role>,
    pub(crate) capabilities: BTreeSet<Capability>,
    pub(crate) smallest: BTreeMap<Role, Vec<Scalars>>,
    pub(crate) is_active: bool,
}

/// What a framework says that it can deal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Capability {
    Revocable,
    Shared,
    Gpus,
    Refined,
    OtherRegions,
    ManyRoles,
    /// Of no consequence to offers.
    Other,
}

/// What must hold since the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Nothing,
    Offer(Offered),
    OfferTotal { framework: String, role: Role, sum: Bundle },
    OfferAgents { framework: String, count: usize },
    Inverse(Inverse),
    Share { role: Role, expected: Option<Decimal> },
}

/// Resources of one agent, offered to one framework in one role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offered {
    pub(crate) framework: String,
    pub(crate) role: Role,
    pub(crate) agent: String,
    pub(crate) bundle: Bundle,
}

/// A framework is asked to leave an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inverse {
    pub(crate) framework: String,
    pub(crate) agent: String,
}

/// `units / 10^places`, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) units: u128,
    pub(crate) places: u32,
}

/// A step of a `sorter` block. A client is a role with one framework in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SorterStep {
    Total { agent: String, total: Bundle },
    Add(Vec<Role>),
    Remove(Vec<Role>),
    Activate(Vec<Role>),
    Deactivate(Vec<Role>),
    Weight { role: Role, milli: u64 },
    Alloc { client: Role, agent: String, what: Bundle },
    Free { client: Role, agent: String, what: Bundle },
    Update { client: Role, agent: String, from: Bundle, to: Bundle },
    Order(Vec<Role>),
}
