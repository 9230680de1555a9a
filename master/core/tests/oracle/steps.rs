//! What happens to a random cluster, step by step.

use super::plans::{self, AskPlan, Place, Stock, WantPlan};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::ops::RangeInclusive;
use tepui_master_core::allocator::Settings;
use tepui_master_core::policy::RolePolicy;

/// A step. Numbers choose among what is there, and those that choose nothing do nothing.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An agent comes, or has other resources.
    Agent(u8, Stock),
    /// It is like this now.
    Place(u8, Place),
    Open(u8, bool),
    AgentGone(u8),
    Ask(u8, AskPlan),
    /// What it wants has changed.
    Wants(u8, Option<Vec<WantPlan>>),
    /// It is active now, or not.
    Active(u8, bool),
    FrameworkGone(u8),
    Role(u8, RolePolicy),
    /// What was offered comes back, and is refused for so many milliseconds, if any.
    Decline(u8, Option<u16>),
    /// A task uses all that was offered, or half of the countable part.
    Launch(u8, bool),
    Finish(u8),
    /// Somebody whom the allocator does not know uses half of what is free.
    Stray(u8, u8),
    /// Something free becomes reserved, unreserved, refined, or a volume.
    ConvertFree(u8, u8, Change),
    /// Something offered does.
    ConvertOffered(u8, u8, Change),
    Revive(u8),
    Expire(u8),
    /// It is served last for so many milliseconds.
    Demote(u8, u16),
    Wait(u16),
    /// A look at these agents, as bits.
    Look(u8),
    /// A periodic cycle.
    Cycle,
}

/// What resources become.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Reserved(u8),
    Unreserved,
    Refined(u8),
    Volume(u8),
}

/// A cluster and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) settings: Settings,
    pub(crate) steps: Vec<Step>,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (0_u8..7).prop_map(Change::Reserved),
        1 => Just(Change::Unreserved),
        1 => (0_u8..7).prop_map(Change::Refined),
        1 => (0_u8..3).prop_map(Change::Volume),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (agent, framework, at) = (|| 0_u8..4, || 0_u8..4, || any::<u8>());
    let wait = || prop::sample::select(vec![0_u16, 500, 1000, 2000, 5000]);
    prop_oneof![
        2 => (agent(), plans::stock()).prop_map(|(agent, stock)| Step::Agent(agent, stock)),
        1 => (agent(), plans::place()).prop_map(|(agent, place)| Step::Place(agent, place)),
        1 => (agent(), prop::bool::weighted(0.7)).prop_map(|(agent, is_open)| Step::Open(agent, is_open)),
        1 => agent().prop_map(Step::AgentGone),
        2 => (framework(), plans::ask()).prop_map(|(framework, ask)| Step::Ask(framework, ask)),
        2 => (framework(), plans::wants()).prop_map(|(framework, wants)| Step::Wants(framework, wants)),
        1 => (framework(), any::<bool>()).prop_map(|(framework, is_active)| Step::Active(framework, is_active)),
        1 => framework().prop_map(Step::FrameworkGone),
        2 => role(),
        4 => (at(), option::of(wait())).prop_map(|(at, refused)| Step::Decline(at, refused)),
        3 => (at(), any::<bool>()).prop_map(|(at, is_half)| Step::Launch(at, is_half)),
        2 => at().prop_map(Step::Finish),
        1 => (agent(), at()).prop_map(|(agent, role)| Step::Stray(agent, role)),
        1 => (agent(), at(), change()).prop_map(|(agent, at, to)| Step::ConvertFree(agent, at, to)),
        1 => (at(), at(), change()).prop_map(|(held, at, to)| Step::ConvertOffered(held, at, to)),
        1 => framework().prop_map(Step::Revive),
        1 => framework().prop_map(Step::Expire),
        1 => (framework(), wait()).prop_map(|(framework, ms)| Step::Demote(framework, ms)),
        1 => wait().prop_map(Step::Wait),
        5 => (1_u8..16).prop_map(Step::Look),
        4 => Just(Step::Cycle),
    ]
}

/// Some of them, each with its number.
fn some<T: Clone + std::fmt::Debug>(
    each: impl Strategy<Value = T>,
    of: RangeInclusive<u8>,
    make: fn(u8, T) -> Step,
) -> impl Strategy<Value = Vec<Step>> {
    let number = of.clone().count();
    vec(option::weighted(0.8, each), number).prop_map(move |all| {
        let numbered = of.clone().zip(all);
        numbered.filter_map(|(at, it)| it.map(|it| make(at, it))).collect()
    })
}

/// A cluster that is set up, and then lives for so many steps at most.
pub(crate) fn story(most: usize) -> impl Strategy<Value = Story> {
    let agents = some(plans::stock(), 0..=3, Step::Agent);
    let places = some(plans::place(), 0..=3, Step::Place);
    let asks = some(plans::ask(), 0..=3, Step::Ask);
    // Each role at the top stands before those below it.
    let roles = vec(option::weighted(0.5, role()), 0..7);
    let setup = (agents, places, roles, asks);
    (plans::settings(), setup, vec(step(), 0..most)).prop_map(|(settings, setup, rest)| {
        let (agents, places, roles, asks) = setup;
        let (top, below): (Vec<Step>, Vec<Step>) =
            roles.into_iter().flatten().partition(|step| matches!(step, Step::Role(0 | 4 | 6, _)));
        let setup = agents.into_iter().chain(places).chain(top).chain(below).chain(asks);
        Story { settings, steps: setup.chain([Step::Cycle]).chain(rest).collect() }
    })
}

/// An operator's change to any role.
fn role() -> impl Strategy<Value = Step> {
    (0_u8..7, plans::role_policy(true), plans::role_policy(false)).prop_map(|(at, top, below)| {
        Step::Role(at, if matches!(at, 0 | 4 | 6) { top } else { below })
    })
}
