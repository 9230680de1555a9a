//! Clusters in which only shares decide: all units are of one size, agents differ in size alone, and nothing is guaranteed.

use crate::amounts::NAMES;
use crate::cluster::{Cluster, agent, framework};
use crate::plans;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use tepui_master_core::allocator::{Accepts, Ask, Settings, Site};
use tepui_master_core::policy::RolePolicy;
use tepui_proto::calls::Want;
use tepui_proto::roles::Packing;
use tepui_proto::{Bundle, Resources, Scalars};

/// The plan of one.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    seed: u64,
    /// CPU and memory of a unit.
    unit: (u8, u8),
    /// CPU and memory of each agent.
    agents: Vec<(u8, u8)>,
    /// Roles of each framework, and how many units it wants in each.
    asks: Vec<(std::collections::BTreeSet<u8>, u32)>,
    /// Weights in halves, limits in units, and packing, by role.
    roles: Vec<(u8, u64, Option<u8>, Option<Packing>)>,
    /// Agents come one after another, or all at once.
    is_gradual: bool,
}

/// A cluster that nothing was given out of yet, or agent by agent.
pub(crate) struct Even {
    pub(crate) cluster: Cluster,
    pub(crate) unit: Resources,
}

pub(crate) fn even() -> impl Strategy<Value = Plan> {
    let packing = prop::sample::select(vec![Packing::Spread, Packing::Pack, Packing::Random]);
    let limit = option::weighted(0.2, 0_u8..8);
    let role = (0_u8..7, 1_u64..7, limit, option::weighted(0.4, packing));
    let ask = (btree_set(0_u8..7, 1..3), 1_u32..12);
    let all = (
        any::<u64>(),
        (1_u8..4, 1_u8..4),
        vec((0_u8..20, 0_u8..20), 1..5),
        vec(ask, 1..6),
        vec(role, 0..5),
        any::<bool>(),
    );
    all.prop_map(|(seed, unit, agents, asks, roles, is_gradual)| Plan {
        seed,
        unit,
        agents,
        asks,
        roles,
        is_gradual,
    })
}

/// So many halves of a core and 64 MiB.
fn size((cpus, mem): (u8, u8)) -> Resources {
    Resources::cpu_memory(u64::from(cpus) * 500, u64::from(mem) * (64 << 20))
}

impl Plan {
    /// All ask before the first agent is there.
    pub(crate) fn start(&self) -> Even {
        let settings = Settings { seed: self.seed, smallest: Vec::new(), ..Settings::default() };
        let mut cluster = Cluster::new(settings);
        let unit = size(self.unit);
        for (at, halves, limit, packing) in &self.roles {
            let mut policy =
                RolePolicy { weight_milli: halves * 500, packing: *packing, ..Default::default() };
            for name in NAMES.iter().take(1) {
                if let Some(units) = limit {
                    policy
                        .limit
                        .set(name, u64::from(*units) * Scalars::of(&unit).get(name).unwrap_or(0));
                }
            }
            cluster.set_role(plans::role(*at), &policy);
        }
        for (name, (roles, count)) in (0_u8..).zip(&self.asks) {
            let roles: Vec<_> = roles.iter().map(|at| plans::role(*at)).collect();
            let wants = (1_u32..).zip(&roles).map(|(id, role)| Want {
                id,
                role: role.clone(),
                count: *count,
                each: unit.clone(),
                port_count: 0,
                revocable: false,
                constraints: Vec::new(),
            });
            let ask = Ask {
                wants: Some(wants.collect()),
                roles,
                suppressed: std::collections::BTreeSet::default(),
                accepts: Accepts::NATIVE,
                smallest: std::collections::BTreeMap::default(),
                is_active: true,
            };
            cluster.set_ask(framework(name), Some(ask));
        }
        for (name, stock) in (0_u8..).zip(&self.agents) {
            cluster.set_agent(name, &Bundle::from(size(*stock)), false, Site::default());
            if self.is_gradual {
                cluster.allocate(&crate::cluster::Glance::Agents([agent(name)].into()));
            }
        }
        Even { cluster, unit }
    }
}
