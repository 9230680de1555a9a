//! What a scenario means before its first virtual millisecond.

use super::{Framework, SimulateError, Submission};
use crate::agents::Fleet;
use crate::chance::number_of;
use crate::report::Waiting;
use crate::scenario::{FrameworkKind, RoleSetting, Scenario, SchedulerKind};
use crate::schedulers::native::{MODULE, Native};
use crate::tally::Tally;
use crate::workload::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use tepui_proto::api::FrameworkSpec;
use tepui_proto::control::ModuleKind;
use tepui_proto::roles::RoleChange;
use tepui_proto::{Digest, Role};

/// The scheduler of all native frameworks, as far as the leader is concerned.
const NATIVE: Digest = Digest([1; 32]);
/// The module of their tasks.
const TASK: Digest = Digest([2; 32]);

/// What the scenario sets for roles, as an operator would say it.
pub(super) fn role_changes(scenario: &Scenario) -> Vec<RoleChange> {
    let change = |setting: &RoleSetting| RoleChange {
        role: setting.role.clone(),
        weight_milli: Some(setting.weight_milli),
        guarantee: setting.guarantee.clone(),
        limit: setting.limit.clone(),
        packing: setting.packing,
    };
    scenario.roles.iter().map(change).collect()
}

/// All roles that anybody names, in order.
pub(super) fn roles(
    scenario: &Scenario,
    submissions: &BTreeMap<PathBuf, Submission>,
) -> Result<Vec<Role>, SimulateError> {
    let mut roles: BTreeSet<Role> =
        scenario.roles.iter().map(|setting| setting.role.clone()).collect();
    for kind in &scenario.frameworks {
        roles.extend(roles_of(kind, submissions)?);
    }
    Ok(roles.into_iter().collect())
}

fn roles_of(
    kind: &FrameworkKind,
    submissions: &BTreeMap<PathBuf, Submission>,
) -> Result<Vec<Role>, SimulateError> {
    match &kind.scheduler {
        SchedulerKind::Component(folder) if kind.roles.is_empty() => {
            let submission =
                submissions.get(folder).ok_or_else(|| SimulateError::Unread(folder.clone()))?;
            Ok(submission.spec.roles.iter().map(|role| Role(role.clone())).collect())
        }
        _ => Ok(kind.roles.clone()),
    }
}

/// Every framework of the scenario, none submitted.
pub(super) fn frameworks(
    scenario: &Scenario,
    submissions: &BTreeMap<PathBuf, Submission>,
) -> Result<Vec<Framework>, SimulateError> {
    let mut frameworks = Vec::new();
    for (group, kind) in scenario.frameworks.iter().enumerate() {
        let roles = roles_of(kind, submissions)?;
        for number in 1..=kind.count {
            let name =
                if kind.count == 1 { kind.name.clone() } else { format!("{}-{number}", kind.name) };
            let seed = scenario.seed ^ number_of(&name);
            let is_native = !matches!(kind.scheduler, SchedulerKind::Component(_));
            let native = is_native.then(|| {
                let source = Source::new(&kind.workload, seed, kind.submitted_at_ms);
                Native::new(kind, roles.clone(), source)
            });
            frameworks.push(Framework { group, name, seed, native, id: None, has_ended: false });
        }
    }
    Ok(frameworks)
}

/// All blobs and modules that frameworks name: digest, what a module is, size.
pub(super) fn modules(
    submissions: &BTreeMap<PathBuf, Submission>,
) -> Vec<(Digest, Option<ModuleKind>, u64)> {
    let mut all =
        vec![(NATIVE, Some(ModuleKind::Scheduler), 1), (TASK, Some(ModuleKind::CommandP1), 1)];
    for submission in submissions.values() {
        let (spec, sizes) = (&submission.spec, &submission.sizes);
        let mut push = |text: &String, kind| {
            if let Ok(digest) = text.parse() {
                all.push((digest, kind, sizes.get(&digest).copied().unwrap_or_default()));
            }
        };
        push(&spec.scheduler, Some(ModuleKind::Scheduler));
        spec.modules.values().for_each(|text| push(text, Some(ModuleKind::CommandP1)));
        spec.blobs.values().for_each(|text| push(text, None));
    }
    all
}

/// What a framework is submitted as, and what its modules are.
pub(super) fn spec(
    kind: &FrameworkKind,
    framework: &Framework,
    submissions: &BTreeMap<PathBuf, Submission>,
) -> (FrameworkSpec, Vec<(Digest, ModuleKind)>) {
    let named = |roles: &[Role]| roles.iter().map(ToString::to_string).collect::<Vec<_>>();
    let component = match &kind.scheduler {
        SchedulerKind::Component(folder) => submissions.get(folder),
        _ => None,
    };
    let Some(submission) = component else {
        let spec = FrameworkSpec {
            name: framework.name.clone(),
            roles: named(&kind.roles),
            scheduler: NATIVE.to_string(),
            modules: BTreeMap::from([(MODULE.to_owned(), TASK.to_string())]),
            ..FrameworkSpec::default()
        };
        return (spec, vec![(NATIVE, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)]);
    };
    let mut spec = FrameworkSpec { name: framework.name.clone(), ..submission.spec.clone() };
    if !kind.roles.is_empty() {
        spec.roles = named(&kind.roles);
    }
    let scheduler = spec.scheduler.parse().map(|digest| (digest, ModuleKind::Scheduler));
    let modules = spec
        .modules
        .values()
        .map(|text| text.parse().map(|digest| (digest, ModuleKind::CommandP1)));
    let kinds = std::iter::once(scheduler).chain(modules).filter_map(Result::ok).collect();
    (spec, kinds)
}

/// When an agent joins: those of one kind evenly over the time that the scenario gives them.
pub(super) fn joins_at(scenario: &Scenario, fleet: &Fleet, at: usize) -> u64 {
    let Some(machine) = fleet.machine(at) else { return 0 };
    let before: u64 = scenario.agents.iter().take(machine.kind).map(|kind| kind.count).sum();
    let Some(kind) = scenario.agents.get(machine.kind) else { return 0 };
    let place = u128::from((at as u64).saturating_sub(before));
    let spread = place * u128::from(kind.joins_over_ms) / u128::from(kind.count.max(1));
    kind.joins_at_ms.saturating_add(u64::try_from(spread).unwrap_or(u64::MAX))
}

/// What still waits at the end, by kind of framework.
pub(super) fn waiting(
    scenario: &Scenario,
    frameworks: &[Framework],
    tally: &Tally,
    now: u64,
) -> Vec<Waiting> {
    let mut all = vec![Waiting::default(); scenario.frameworks.len()];
    for framework in frameworks {
        let Some(waiting) = all.get_mut(framework.group) else { continue };
        if let Some(native) = &framework.native {
            waiting.arrived = Some(waiting.arrived.unwrap_or_default() + native.arrived());
            waiting.tasks += native.waiting() as u64;
            let longest = native.waits_since().map(|since| now.saturating_sub(since));
            waiting.longest_ms = waiting.longest_ms.max(longest);
        } else if let Some(id) = framework.id.filter(|_| !framework.has_ended) {
            waiting.tasks += tally.wanted_units(id);
        }
    }
    all
}
