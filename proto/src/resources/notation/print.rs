//! Bundles as text, one entry for each name of each kind.
//!
//! Never rounds. Its one surprise: a disk that cannot be split is printed without its name where reading gives it the same.

use super::super::grammar::Mib;
use super::super::{Bundle, Custom, Milli, PoolKind, Resources, Scalars};
use super::{Disks, PORTS};
use crate::Role;
use std::fmt;

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut disks = Disks::default();
        let mut entries = Vec::new();
        for (kind, resources) in self.iter() {
            let marks = marks(kind, resources, &mut disks);
            let volume = kind.disk.volume.as_ref();
            let shared_bytes = volume.and_then(|volume| volume.shared_bytes);
            for (name, value) in values(resources, shared_bytes) {
                entries.push(format!("{name}{marks}:{value}"));
            }
        }
        f.write_str(&entries.join(";"))
    }
}

/// `(roles){flags}`, or less.
fn marks(kind: &PoolKind, resources: &Resources, disks: &mut Disks) -> String {
    let mut text = String::new();
    if kind.is_reserved() {
        let roles: Vec<&str> = kind.reserved_for.iter().map(Role::as_str).collect();
        text = format!("({})", roles.join(","));
    }
    let mut flags = Vec::new();
    if kind.revocable {
        flags.push("rev".to_owned());
    }
    let volume = kind.disk.volume.as_ref();
    if let Some(id) = &kind.disk.whole {
        let shared_bytes = volume.and_then(|volume| volume.shared_bytes);
        let is_unnamed = disks.name(shared_bytes.unwrap_or(resources.disk_bytes)) == *id;
        disks.seen.insert(id.clone());
        flags.push(if is_unnamed { "mount".to_owned() } else { format!("mount={id}") });
    }
    if let Some(volume) = volume {
        flags.push(match volume.shared_bytes {
            Some(bytes) => format!("shared:{}:size={}", volume.id, Mib(bytes)),
            None => format!("vol:{}", volume.id),
        });
    }
    if flags.is_empty() { text } else { format!("{text}{{{}}}", flags.join(",")) }
}

fn values(resources: &Resources, shared_bytes: Option<u64>) -> Vec<(&str, String)> {
    let mut values = Vec::new();
    if resources.cpu_milli > 0 {
        values.push((Scalars::CPUS, Milli(resources.cpu_milli).to_string()));
    }
    if resources.memory_bytes > 0 {
        values.push((Scalars::MEM, Mib(resources.memory_bytes).to_string()));
    }
    if resources.disk_bytes > 0 {
        values.push((Scalars::DISK, disk_value(resources.disk_bytes, shared_bytes)));
    }
    if !resources.ports.is_empty() {
        let ranges = resources.ports.ranges().iter().map(|range| {
            if range.first == range.last {
                range.first.to_string()
            } else {
                format!("{}-{}", range.first, range.last)
            }
        });
        values.push((PORTS, format!("[{}]", ranges.collect::<Vec<_>>().join(","))));
    }
    for (name, amount) in &resources.custom {
        let value = match amount {
            Custom::Milli(milli) => Milli(*milli).to_string(),
            Custom::Items(items) => {
                let items: Vec<&str> = items.iter().map(String::as_str).collect();
                format!("{{{}}}", items.join(","))
            }
        };
        values.push((name.as_str(), value));
    }
    values
}

/// MiB, or copies. Part of a copy cannot be written, and is shown in bytes rather than left out.
fn disk_value(bytes: u64, shared_bytes: Option<u64>) -> String {
    match shared_bytes {
        None => Mib(bytes).to_string(),
        Some(size) => match (bytes.checked_div(size), bytes.checked_rem(size)) {
            (Some(copies), Some(0)) => copies.to_string(),
            _ => format!("{bytes}B"),
        },
    }
}
