//! `naive-1kx200`: the same cycle in the way that costs agents times frameworks: before each agent all frameworks are
//! sorted anew by their shares. It uses the same ledger and the same shares, and gives out as much. Its ratio is to
//! `plain-1kx200`.

use crate::repeat;
use crate::stage::Stage;
use std::collections::BTreeSet;
use std::time::Instant;
use tepui_figures::{Failure, Row};
use tepui_master_core::allocator::{Grant, Share};
use tepui_master_core::ledger::{Holder, RoleSums};
use tepui_proto::{AgentId, FrameworkId};

pub(crate) const NAME: &str = "naive-1kx200";
pub(crate) const AGENTS: u32 = 1_000;
pub(crate) const FRAMEWORKS: usize = 200;

pub(crate) fn measure() -> Result<Row, Failure> {
    let mut stage = Stage::new(AGENTS, FRAMEWORKS, false)?;
    let spans = repeat(50, || {
        stage.give_back()?;
        let begun = Instant::now();
        stage.grants = cycle(&mut stage)?;
        Ok(begun.elapsed())
    })?;
    Ok(Row::of(NAME, spans))
}

fn cycle(stage: &mut Stage) -> Result<Vec<Grant>, Failure> {
    let mut grants = Vec::new();
    let agents: Vec<AgentId> = stage.ledger.agents().map(|(agent, _)| agent).collect();
    for agent in agents {
        let mut order: Vec<(Share, usize)> =
            (0..stage.roles.len()).map(|at| (share(stage, at), at)).collect();
        order.sort_unstable();
        let Some((_, first)) = order.first() else { continue };
        let Some(role) = stage.roles.get(*first) else { continue };
        let Some(accounts) = stage.ledger.agent(agent) else { continue };
        let bundle = accounts.offerable.free().clone();
        let framework = FrameworkId(*first as u64 + 1);
        stage.ledger.offer(agent, Holder { role, framework }, &bundle)?;
        grants.push(Grant { framework, role: role.clone(), agent, want: None, bundle });
    }
    Ok(grants)
}

fn share(stage: &Stage, at: usize) -> Share {
    let role = stage.roles.get(at).and_then(|role| stage.ledger.role(role.as_str()));
    let held = role.map(RoleSums::held);
    held.map_or(Share::NONE, |held| {
        Share::dominant(held, stage.ledger.total(), 1000, &BTreeSet::new())
    })
}
