//! Who an agent is.

use tepui_proto::events::{AttributeValue, FaultDomain};
use tepui_proto::{Life, PoolKind, Resources};

/// What an agent says of itself; the same for as long as its process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name, as in its certificate.
    pub name: String,
    /// Its storage.
    pub life: Life,
    /// Its host.
    pub hostname: String,
    /// Tepui's version.
    pub version: String,
    /// What it offers to anyone.
    pub resources: Resources,
    /// What it has beside: reserved by its operator, revocable, disks that cannot be split.
    pub pools: Vec<(PoolKind, Resources)>,
    /// What it is like.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
    /// How many tasks its cell can run at once.
    pub max_tasks: u32,
}
