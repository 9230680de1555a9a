//! Bundles from text, entry by entry.
//!
//! Never panics and never rounds, whatever the text. Its one surprise: an amount of nothing is checked and then left out.

use super::super::grammar::{self, EntryProblem, NotationError};
use super::super::{
    Bundle, Custom, DiskKind, PoolKind, PortRange, PortSet, Resources, Scalars, VolumeKind,
};
use super::{Disks, PORTS, UNNAMED};
use crate::names::{NameError, check_name, check_role};
use crate::{Role, limits};
use std::collections::BTreeSet;
use std::str::FromStr;

/// An entry, taken apart.
pub(in crate::resources) struct Parts<'a> {
    pub(in crate::resources) name: &'a str,
    pub(in crate::resources) roles: Option<&'a str>,
    pub(in crate::resources) flags: Option<&'a str>,
    pub(in crate::resources) value: &'a str,
}

impl<'a> Parts<'a> {
    pub(in crate::resources) fn of(entry: &'a str) -> Result<Self, EntryProblem> {
        let end = entry.find(['(', '{', ':']).ok_or(EntryProblem::Form)?;
        let (name, rest) = entry.split_at_checked(end).ok_or(EntryProblem::Form)?;
        let (roles, rest) = within(rest, '(', ')')?;
        let (flags, rest) = within(rest, '{', '}')?;
        let value = rest.strip_prefix(':').ok_or(EntryProblem::Form)?;
        grammar::check_resource_name(name)?;
        Ok(Self { name, roles, flags, value })
    }
}

type Within<'a> = (Option<&'a str>, &'a str);

fn within(text: &str, open: char, close: char) -> Result<Within<'_>, EntryProblem> {
    let Some(rest) = text.strip_prefix(open) else {
        return Ok((None, text));
    };
    rest.split_once(close).map(|(inner, rest)| (Some(inner), rest)).ok_or(EntryProblem::Form)
}

fn roles(text: Option<&str>) -> Result<Vec<Role>, EntryProblem> {
    let Some(text) = text.filter(|text| *text != "*") else {
        return Ok(Vec::new());
    };
    let count = text.split(',').count();
    if count > limits::REFINEMENTS {
        return Err(EntryProblem::ManyRoles(count));
    }
    let mut roles: Vec<Role> = Vec::with_capacity(count);
    for role in text.split(',') {
        check_role(role).map_err(EntryProblem::Role)?;
        if role == "*" {
            return Err(EntryProblem::Role(NameError::Character('*')));
        }
        if roles.last().is_some_and(|outer| !is_below(role, outer.as_str())) {
            return Err(EntryProblem::NotBelow);
        }
        roles.push(role.into());
    }
    Ok(roles)
}

fn is_below(role: &str, outer: &str) -> bool {
    role.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// The name of a disk that cannot be split.
enum Whole<'a> {
    Given(&'a str),
    Unnamed,
}

#[derive(Default)]
struct Flags<'a> {
    revocable: bool,
    whole: Option<Whole<'a>>,
    volume: Option<VolumeKind>,
}

impl<'a> Flags<'a> {
    fn of(text: Option<&'a str>) -> Result<Self, EntryProblem> {
        let mut flags = Self::default();
        for flag in text.into_iter().flat_map(|text| text.split(',')) {
            let taken = if flag == "rev" {
                std::mem::replace(&mut flags.revocable, true)
            } else if flag == "mount" {
                flags.whole.replace(Whole::Unnamed).is_some()
            } else if let Some(id) = flag.strip_prefix("mount=") {
                check_disk_name(id)?;
                flags.whole.replace(Whole::Given(id)).is_some()
            } else {
                flags.volume.replace(volume(flag)?).is_some()
            };
            if taken {
                return Err(EntryProblem::FlagTwice);
            }
        }
        Ok(flags)
    }

    fn is_about_disks(&self) -> bool {
        self.whole.is_some() || self.volume.is_some()
    }
}

fn check_disk_name(id: &str) -> Result<(), EntryProblem> {
    check_name(id.strip_prefix(UNNAMED).unwrap_or(id)).map_err(EntryProblem::Id)
}

fn volume(flag: &str) -> Result<VolumeKind, EntryProblem> {
    let (id, shared_bytes) = if let Some(id) = flag.strip_prefix("vol:") {
        (id, None)
    } else {
        let shared = flag.strip_prefix("shared:").and_then(|rest| rest.split_once(":size="));
        let (id, size) = shared.ok_or(EntryProblem::Flag)?;
        (id, Some(grammar::mib(size)?))
    };
    if shared_bytes == Some(0) {
        return Err(EntryProblem::Copies);
    }
    check_name(id).map_err(EntryProblem::Id)?;
    Ok(VolumeKind { id: id.to_owned(), shared_bytes })
}

/// The amount of an entry, which may be nothing.
fn amount(parts: &Parts<'_>, shared_bytes: Option<u64>) -> Result<Resources, EntryProblem> {
    let mut resources = Resources::default();
    match parts.name {
        Scalars::CPUS => resources.cpu_milli = grammar::milli(parts.value)?,
        Scalars::MEM => resources.memory_bytes = grammar::mib(parts.value)?,
        Scalars::DISK => {
            resources.disk_bytes = match shared_bytes {
                Some(size) => {
                    grammar::whole(parts.value)?.checked_mul(size).ok_or(EntryProblem::Large)?
                }
                None => grammar::mib(parts.value)?,
            }
        }
        PORTS => resources.ports = ports(parts.value)?,
        name => {
            let custom = if parts.value.starts_with('{') {
                Custom::Items(items(parts.value)?)
            } else {
                Custom::Milli(grammar::milli(parts.value)?)
            };
            let is_none = match &custom {
                Custom::Milli(milli) => *milli == 0,
                Custom::Items(items) => items.is_empty(),
            };
            if !is_none {
                resources.custom.insert(name.to_owned(), custom);
            }
        }
    }
    Ok(resources)
}

fn ports(text: &str) -> Result<PortSet, EntryProblem> {
    let mut ranges = Vec::new();
    for (first, last) in grammar::ranges(text)? {
        let port = |number: u64| u16::try_from(number).ok().ok_or(EntryProblem::Ranges);
        ranges.push(PortRange { first: port(first)?, last: port(last)? });
    }
    ranges.sort_unstable();
    let twice = ranges.iter().zip(ranges.iter().skip(1)).any(|(low, high)| high.first <= low.last);
    if twice {
        return Err(EntryProblem::Twice);
    }
    Ok(PortSet::from(ranges))
}

fn items(text: &str) -> Result<BTreeSet<String>, EntryProblem> {
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.ok_or(EntryProblem::Items)?;
    let mut items = BTreeSet::new();
    if inner.is_empty() {
        return Ok(items);
    }
    for item in inner.split(',') {
        if !grammar::is_item(item) {
            return Err(EntryProblem::Items);
        }
        if !items.insert(item.to_owned()) {
            return Err(EntryProblem::Twice);
        }
    }
    Ok(items)
}

impl FromStr for Bundle {
    type Err = NotationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bundle = Self::default();
        let mut disks = Disks::default();
        grammar::each_entry(text, |entry| add_entry(&mut bundle, &mut disks, entry))?;
        Ok(bundle)
    }
}

fn add_entry(bundle: &mut Bundle, disks: &mut Disks, entry: &str) -> Result<(), EntryProblem> {
    let parts = Parts::of(entry)?;
    let reserved_for = roles(parts.roles)?;
    let flags = Flags::of(parts.flags)?;
    if flags.is_about_disks() && parts.name != Scalars::DISK {
        return Err(EntryProblem::NotDisk);
    }
    let shared_bytes = flags.volume.as_ref().and_then(|volume| volume.shared_bytes);
    let resources = amount(&parts, shared_bytes)?;
    if resources.is_empty() {
        return Ok(());
    }
    let whole = flags.whole.map(|given| {
        let size = shared_bytes.unwrap_or(resources.disk_bytes);
        let id = match given {
            Whole::Given(id) => id.to_owned(),
            Whole::Unnamed => disks.name(size),
        };
        disks.seen.insert(id.clone());
        id
    });
    let disk = DiskKind { whole, volume: flags.volume };
    let kind = PoolKind { reserved_for, revocable: flags.revocable, disk };
    let problem = why_not(bundle.get(&kind), &resources);
    bundle.add_pool(kind, resources).ok_or(problem)
}

/// Why these cannot be added, if they cannot.
fn why_not(have: &Resources, more: &Resources) -> EntryProblem {
    if have.ports.overlaps(&more.ports) {
        return EntryProblem::Twice;
    }
    for (name, more) in &more.custom {
        match (have.custom.get(name), more) {
            (Some(Custom::Items(_)), Custom::Items(_)) => return EntryProblem::Twice,
            (Some(Custom::Items(_)), _) | (Some(_), Custom::Items(_)) => {
                return EntryProblem::Mixed;
            }
            _ => {}
        }
    }
    EntryProblem::Large
}
