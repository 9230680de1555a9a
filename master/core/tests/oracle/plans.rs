//! What random clusters are made of, as small numbers: so that shares are often equal, and a failure shrinks to few words.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use tepui_master_core::allocator::{Accepts, Ask, Settings, Site};
use tepui_master_core::policy::RolePolicy;
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::events::{AttributeValue, FaultDomain};
use tepui_proto::resources::{Custom, PortRange, VolumeKind};
use tepui_proto::roles::Packing;
use tepui_proto::{Bundle, DiskKind, DurationMs, PoolKind, Resources, Role, Scalars};

use super::amounts::GPUS;

/// All roles.
pub(crate) const ROLES: [&str; 7] = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "g"];
const MIB: u64 = 1 << 20;

/// A role by its number.
pub(crate) fn role(at: u8) -> Role {
    Role::from(*ROLES.iter().cycle().nth(at.into()).unwrap_or(&"a"))
}

/// Something special that an agent has.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    what: u8,
    role: u8,
    size: u8,
}

/// What an agent has.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    cpus: u8,
    mem: u8,
    disk: u8,
    gpus: u8,
    ports: u8,
    has_items: bool,
    extras: Vec<Extra>,
    pub(crate) holds_back: bool,
}

pub(crate) fn stock() -> impl Strategy<Value = Stock> {
    let extra = (0_u8..12, 0_u8..7, 1_u8..4);
    let extra = extra.prop_map(|(what, role, size)| Extra { what, role, size });
    let gpus = prop_oneof![19 => Just(0_u8), 1 => 1_u8..3];
    let ports = prop_oneof![Just(0_u8), 1_u8..5];
    let plain = (1_u8..13, 1_u8..13, 0_u8..5, gpus, ports, prop::bool::weighted(0.1));
    (plain, vec(extra, 0..3), prop::bool::weighted(0.1)).prop_map(|(plain, extras, holds_back)| {
        let (cpus, mem, disk, gpus, ports, has_items) = plain;
        Stock { cpus, mem, disk, gpus, ports, has_items, extras, holds_back }
    })
}

fn ports(first: u16, count: u8) -> tepui_proto::PortSet {
    let last = first + u16::from(count);
    if count == 0 { Vec::new().into() } else { vec![PortRange { first, last: last - 1 }].into() }
}

/// Items of a set.
fn items(names: &[&str]) -> Custom {
    Custom::Items(names.iter().map(|&name| name.to_owned()).collect())
}

impl Stock {
    pub(crate) fn bundle(&self) -> Bundle {
        let mut plain = Resources {
            cpu_milli: u64::from(self.cpus) * 500,
            memory_bytes: u64::from(self.mem) * 64 * MIB,
            disk_bytes: u64::from(self.disk) * 5 * MIB,
            ports: ports(100, self.ports),
            ..Resources::default()
        };
        if self.gpus > 0 {
            plain.custom.insert(GPUS.to_owned(), Custom::Milli(u64::from(self.gpus) * 1000));
        }
        if self.has_items {
            plain.custom.insert("bugs".to_owned(), items(&["x", "y"]));
        }
        let mut bundle = Bundle::from(plain);
        for (at, extra) in (0_u16..).zip(&self.extras) {
            let (kind, resources) = extra.pool(at);
            // The same port twice would be no agent.
            let _added = bundle.add_pool(kind, resources);
        }
        bundle
    }
}

/// All roles of a path.
fn refined(role: &Role) -> Vec<Role> {
    super::books::path(role)
}

impl Extra {
    fn pool(&self, at: u16) -> (PoolKind, Resources) {
        let own = vec![role(self.role)];
        let size = u64::from(self.size);
        let some = Resources::cpu_memory(size * 500, size * 64 * MIB);
        let disk = Resources { disk_bytes: size * 5 * MIB, ..Resources::default() };
        let reserved = |reserved_for| PoolKind { reserved_for, ..PoolKind::default() };
        let volume = |reserved_for, shared_bytes| {
            let volume = Some(VolumeKind { id: format!("v{at}"), shared_bytes });
            PoolKind { reserved_for, revocable: false, disk: DiskKind { whole: None, volume } }
        };
        let whole = |reserved_for| {
            let disk = DiskKind { whole: Some(format!("d{at}")), volume: None };
            PoolKind { reserved_for, revocable: false, disk }
        };
        match self.what {
            0..=2 => (reserved(own), some),
            3 => (reserved(refined(&role(self.role))), some),
            4..=5 => (PoolKind { revocable: true, ..PoolKind::default() }, some),
            6 => (volume(own, None), disk),
            7 => (volume(own, Some(size * 5 * MIB)), disk),
            8 => (whole(Vec::new()), disk),
            9 => (whole(own), disk),
            10 => (reserved(own), Resources { ports: ports(200 + 10 * at, self.size), ..disk }),
            _ => (volume(refined(&role(self.role)), None), disk),
        }
    }
}

/// What an agent is like.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    rack: u8,
    region: u8,
    is_open: bool,
    takes_many_roles: bool,
}

pub(crate) fn place() -> impl Strategy<Value = Place> {
    let likely = || prop::bool::weighted(0.9);
    (0_u8..5, 0_u8..4, likely(), likely()).prop_map(|(rack, region, is_open, takes_many_roles)| {
        Place { rack, region, is_open, takes_many_roles }
    })
}

impl Default for Place {
    fn default() -> Self {
        Self { rack: 0, region: 0, is_open: true, takes_many_roles: true }
    }
}

impl Place {
    pub(crate) fn site(&self, name: u8) -> Site {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let rack = match self.rack {
            0 => None,
            1..=3 => Some(text(&format!("r{}", self.rack))),
            _ => Some(AttributeValue::Milli(7_000)),
        };
        let region = (self.region > 0).then(|| FaultDomain {
            region: if self.region == 3 { "far" } else { "near" }.to_owned(),
            zone: format!("z{}", self.region),
        });
        Site {
            hostname: format!("host-{name}"),
            attributes: rack.into_iter().map(|rack| ("rack".to_owned(), rack)).collect(),
            domain: region,
            is_open: self.is_open,
            takes_many_roles: self.takes_many_roles,
        }
    }
}

fn constraint() -> impl Strategy<Value = Constraint> {
    use Comparison::{Absent, Differs, Equals, Exists, Matches, MatchesNot};
    let all = [
        ("rack", Exists, ""),
        ("rack", Absent, ""),
        ("rack", Equals, "r1"),
        ("rack", Differs, "r1"),
        ("rack", Matches, "^r[12]$"),
        ("rack", MatchesNot, "2"),
        ("@hostname", Equals, "host-1"),
        ("@hostname", MatchesNot, "2"),
        ("@region", Equals, "near"),
        ("@zone", Differs, "z1"),
    ];
    prop::sample::select(all.to_vec()).prop_map(|(attribute, comparison, operand)| Constraint {
        attribute: attribute.to_owned(),
        comparison,
        operand: operand.to_owned(),
    })
}

/// Any of the sizes that a unit can have, never nothing.
fn each() -> impl Strategy<Value = Resources> {
    let gpus = prop_oneof![19 => Just(0_u64), 1 => Just(1)];
    let has_items = prop::bool::weighted(0.05);
    let all = (1_u64..4, 0_u64..3, 0_u64..2, gpus, has_items);
    all.prop_map(|(cpus, mem, disk, gpus, has_items)| {
        let mut each = Resources::cpu_memory(cpus * 500, mem * 64 * MIB);
        each.disk_bytes = disk * 5 * MIB;
        if gpus > 0 {
            each.custom.insert(GPUS.to_owned(), Custom::Milli(gpus * 1000));
        }
        if has_items {
            each.custom.insert("bugs".to_owned(), items(&["x"]));
        }
        each
    })
}

/// A want, its number to be set, and in which of the framework's roles.
pub(crate) type WantPlan = (u8, Want);

/// What a framework may say that it wants.
pub(crate) fn wants() -> impl Strategy<Value = Option<Vec<WantPlan>>> {
    option::weighted(0.6, vec(want(), 0..4))
}

fn want() -> impl Strategy<Value = WantPlan> {
    let ports = prop_oneof![3 => Just(0_u32), 1 => 1_u32..3];
    let constraints = prop_oneof![2 => Just(Vec::new()), 1 => vec(constraint(), 1..3)];
    let all = (0_u8..2, 0_u32..5, each(), ports, prop::bool::weighted(0.1), constraints);
    all.prop_map(|(at, count, each, port_count, revocable, constraints)| {
        (at, Want { id: 0, role: Role::default(), count, each, port_count, revocable, constraints })
    })
}

/// What a framework asks for.
#[derive(Clone, Debug)]
pub(crate) struct AskPlan {
    roles: BTreeSet<u8>,
    is_suppressed: bool,
    accepts: Accepts,
    smallest: Option<u8>,
    wants: Option<Vec<WantPlan>>,
    is_active: bool,
}

pub(crate) fn ask() -> impl Strategy<Value = AskPlan> {
    let likely = || prop::bool::weighted(0.8);
    let accepts = (any::<bool>(), likely(), any::<bool>(), likely(), any::<bool>(), likely());
    let accepts =
        accepts.prop_map(|(revocable, shared, gpus, refined, other_regions, many_roles)| Accepts {
            revocable,
            shared,
            gpus,
            refined,
            other_regions,
            many_roles,
        });
    let roles = prop::collection::btree_set(0_u8..7, 1..3);
    let smallest = option::weighted(0.2, 0_u8..3);
    (roles, prop::bool::weighted(0.1), accepts, smallest, wants(), prop::bool::weighted(0.9))
        .prop_map(|(roles, is_suppressed, accepts, smallest, wants, is_active)| AskPlan {
            roles,
            is_suppressed,
            accepts,
            smallest,
            wants,
            is_active,
        })
}

fn scalars(cpus: Option<u8>, mem: Option<u8>, disk: Option<u8>) -> Scalars {
    let mut scalars = Scalars::default();
    let parts =
        [(Scalars::CPUS, cpus, 500), (Scalars::MEM, mem, 64 * MIB), (Scalars::DISK, disk, 5 * MIB)];
    for (name, amount, unit) in parts {
        if let Some(amount) = amount {
            scalars.set(name, u64::from(amount) * unit);
        }
    }
    scalars
}

/// Wants as a framework with these roles states them.
pub(crate) fn numbered(wants: &[WantPlan], roles: &[Role]) -> Vec<Want> {
    let all = (1_u32..).zip(wants).map(|(id, (at, want))| {
        let role = roles.iter().cycle().nth(usize::from(*at)).cloned().unwrap_or_default();
        Want { id, role, ..want.clone() }
    });
    all.collect()
}

impl AskPlan {
    pub(crate) fn ask(&self) -> Ask {
        let roles: Vec<Role> = self.roles.iter().map(|at| role(*at)).collect();
        let smallest = match self.smallest {
            None => None,
            Some(0) => Some(Vec::new()),
            Some(1) => Some(vec![scalars(Some(2), None, None)]),
            Some(_) => Some(vec![scalars(Some(1), Some(1), None), scalars(None, None, Some(1))]),
        };
        let wants = self.wants.as_deref().map(|wants| numbered(wants, &roles));
        let suppressed = roles.iter().take(usize::from(self.is_suppressed)).cloned().collect();
        let smallest = roles.iter().take(1).cloned().zip(smallest).collect();
        Ask { roles, suppressed, accepts: self.accepts, smallest, wants, is_active: self.is_active }
    }
}

/// What an operator sets for a role: those at the top have more, so that what their children are promised fits in.
pub(crate) fn role_policy(is_top: bool) -> impl Strategy<Value = RolePolicy> {
    let (guaranteed, limits) = if is_top { (1_u8..13, 2_u8..17) } else { (1_u8..5, 0_u8..11) };
    let guarantee = some_of(guaranteed, 1_u8..4, 0.7);
    let limit = some_of(limits, 0_u8..6, 0.5);
    let packing = prop_oneof![Just(Packing::Spread), Just(Packing::Pack), Just(Packing::Random)];
    let packing = option::weighted(0.3, packing);
    let weight = prop::sample::select(vec![1000_u64, 1000, 2000, 3000, 500]);
    let all = (weight, guarantee, limit, packing);
    all.prop_map(|(weight_milli, guarantee, limit, packing)| RolePolicy {
        weight_milli,
        guarantee,
        limit,
        packing,
    })
}

/// CPU, memory and disk, each of which may be absent, or nothing at all.
fn some_of(most: Range<u8>, disk: Range<u8>, likely: f64) -> impl Strategy<Value = Scalars> {
    let amount = || option::weighted(likely, most.clone());
    let all = (amount(), amount(), option::weighted(0.15, disk));
    option::weighted(0.6, all).prop_map(|all| {
        let (cpus, mem, disk) = all.unwrap_or_default();
        scalars(cpus, mem, disk)
    })
}

/// How the allocator works.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let likely = || prop::bool::weighted(0.8);
    (any::<bool>(), likely(), likely(), any::<u64>()).prop_map(
        |(is_timed, counts, is_near, seed)| {
            let excluded = if counts { None } else { Some(Scalars::DISK.to_owned()) };
            Settings {
                interval: is_timed.then_some(DurationMs(1000)),
                excluded: excluded.into_iter().collect(),
                region: is_near.then(|| "near".to_owned()),
                seed,
                ..Settings::default()
            }
        },
    )
}
