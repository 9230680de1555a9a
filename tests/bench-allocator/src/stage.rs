//! A cluster as the allocator sees it: agents with something running on each, and frameworks in a role each.
//!
//! *Plain* frameworks take whatever comes. Of *picky* clusters every other framework wants units of a size on agents of
//! one rack in ten, and has refused every other agent.

use std::collections::{BTreeMap, BTreeSet};
use tepui_figures::Failure;
use tepui_master_core::allocator::{Accepts, Allocator, Ask, Grant, Look, Settings, Site};
use tepui_master_core::ledger::{Holder, Ledger};
use tepui_master_core::policy::Policy;
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::events::AttributeValue;
use tepui_proto::{AgentId, Bundle, FrameworkId, Role, Timestamp};

/// The time of every cycle.
pub(crate) const NOW: Timestamp = Timestamp(1_000_000);
/// When refusals end: not while anything is measured.
const LATER: Timestamp = Timestamp(1_000_000_000);
const RACKS: u32 = 10;
/// The kinds of agents: on one more, two, or three units fit of what picky frameworks want.
const AGENTS: [&str; 3] = [
    "cpus:12;mem:32768;disk:512000;ports:[31000-32000]",
    "cpus:24;mem:65536;disk:1024000;ports:[31000-32000]",
    "cpus:32;mem:131072;disk:2048000;ports:[31000-32000]",
];
/// What runs on each of them.
const TASK: &str = "cpus:1;mem:1024;ports:[31000-31001]";
/// A unit of what picky frameworks want.
const UNIT: &str = "cpus:8;mem:16384";

/// A cluster.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) policy: Policy,
    pub(crate) allocator: Allocator,
    pub(crate) roles: Vec<Role>,
    /// What the last cycle gave out.
    pub(crate) grants: Vec<Grant>,
}

pub(crate) fn bundle(text: &str) -> Result<Bundle, Failure> {
    Ok(text.parse()?)
}

pub(crate) fn agents(count: u32) -> impl Iterator<Item = AgentId> {
    (1..=count).map(AgentId)
}

pub(crate) fn rack(agent: u32) -> String {
    format!("r{}", agent % RACKS)
}

fn framework(at: usize) -> FrameworkId {
    FrameworkId(at as u64 + 1)
}

impl Stage {
    pub(crate) fn new(agents: u32, frameworks: usize, is_picky: bool) -> Result<Self, Failure> {
        let mut stage = Self {
            ledger: Ledger::default(),
            policy: Policy::default(),
            allocator: Allocator::new(Settings::default()),
            roles: (0..frameworks).map(|at| Role(format!("team-{at}"))).collect(),
            grants: Vec::new(),
        };
        stage.add_agents(agents)?;
        for at in 0..frameworks {
            stage.add_framework(at, is_picky && at % 2 == 0)?;
        }
        if is_picky {
            for at in (0..frameworks).step_by(2) {
                stage.refuse(at, agents);
            }
        }
        Ok(stage)
    }

    fn add_agents(&mut self, count: u32) -> Result<(), Failure> {
        let kinds = AGENTS.iter().map(|text| bundle(text)).collect::<Result<Vec<_>, _>>()?;
        let task = bundle(TASK)?;
        for ((agent, kind), role) in
            agents(count).zip(kinds.iter().cycle()).zip((0..self.roles.len()).cycle())
        {
            self.ledger.set_total(agent, kind);
            let site = Site {
                hostname: format!("host-{agent}"),
                attributes: vec![
                    ("rack".to_owned(), AttributeValue::Text(rack(agent.0))),
                    ("disk".to_owned(), AttributeValue::Text("ssd".to_owned())),
                ],
                ..Site::default()
            };
            self.allocator.set_site(agent, site);
            let Some(name) = self.roles.get(role) else { continue };
            let holder = Holder { role: name, framework: framework(role) };
            self.ledger.take(agent, holder, &task, false)?;
        }
        Ok(())
    }

    fn add_framework(&mut self, at: usize, is_picky: bool) -> Result<(), Failure> {
        let role = self.roles.get(at).cloned().unwrap_or_default();
        let constraint = Constraint {
            attribute: "rack".to_owned(),
            comparison: Comparison::Equals,
            operand: rack(u32::try_from(at / 2)?),
        };
        let want = Want {
            id: 1,
            role: role.clone(),
            count: u32::MAX,
            each: bundle(UNIT)?.take_plain(),
            port_count: 2,
            revocable: false,
            constraints: vec![constraint],
        };
        let ask = Ask {
            roles: vec![role],
            suppressed: BTreeSet::new(),
            accepts: Accepts::NATIVE,
            smallest: BTreeMap::new(),
            wants: is_picky.then(|| vec![want]),
            is_active: true,
        };
        self.allocator.set_ask(framework(at), &ask);
        Ok(())
    }

    /// Refuses every other agent, whatever it has.
    fn refuse(&mut self, at: usize, count: u32) {
        let Some(role) = self.roles.get(at) else { return };
        // Ten agents in a row are one of each rack.
        let half = u32::from(at / 2 / RACKS as usize % 2 == 1);
        for agent in agents(count).filter(|agent| agent.0 / RACKS % 2 == half) {
            let all = self.ledger.agent(agent).map(|accounts| accounts.offerable.free().clone());
            let bundle = all.unwrap_or_default();
            self.allocator.refuse(framework(at), role, agent, bundle, LATER);
        }
    }

    /// One full cycle over everything.
    pub(crate) fn cycle(&mut self) {
        self.grants = self.allocator.cycle(&mut self.ledger, &self.policy, NOW);
    }

    /// Declines all that the last cycle gave out, without a filter.
    pub(crate) fn give_back(&mut self) -> Result<(), Failure> {
        for grant in std::mem::take(&mut self.grants) {
            self.give_back_one(&grant)?;
        }
        self.ledger.take_freed();
        Ok(())
    }

    pub(crate) fn give_back_one(&mut self, grant: &Grant) -> Result<(), Failure> {
        let holder = Holder { role: &grant.role, framework: grant.framework };
        self.ledger.take_back(grant.agent, holder, &grant.bundle)?;
        if let Some((want, units)) = grant.want {
            self.allocator.units_returned(grant.framework, &grant.role, want, units);
        }
        Ok(())
    }

    /// Looks at what was freed, as the leader does.
    pub(crate) fn look_at_freed(&mut self) -> Vec<Grant> {
        let freed = self.ledger.take_freed();
        self.allocator.allocate(&mut self.ledger, &self.policy, NOW, Look::Agents(&freed))
    }
}
