//! What the fixture does with resources beside the engine: reserving, picking by name, comparing.

use tepui_proto::{Bundle, PoolKind, PortSet, Resources, Role};

const OVER: &str = "too much of one kind";

/// Resources as they are if an operator reserves them for a role.
pub(crate) fn reserved(what: &Bundle, role: &Role) -> Result<Bundle, String> {
    changed(what, |kind, _| kind.reserved_for.push(role.clone()))
}

/// What of `what` has a name of which `like` has some, of whatever kind.
pub(crate) fn named_in(what: &Bundle, like: &Bundle) -> Result<Bundle, String> {
    let like = like.flat().ok_or(OVER)?;
    changed(what, |_, resources| {
        if like.cpu_milli == 0 {
            resources.cpu_milli = 0;
        }
        if like.memory_bytes == 0 {
            resources.memory_bytes = 0;
        }
        if like.disk_bytes == 0 {
            resources.disk_bytes = 0;
        }
        if like.ports.is_empty() {
            resources.ports = PortSet::default();
        }
        resources.custom.retain(|name, _| like.custom.contains_key(name));
    })
}

/// The same resources, where disks that were given no name have none: the notation names them by their place in the
/// text, so that only their sizes tell them apart.
pub(crate) fn unnamed(bundle: &Bundle) -> Vec<(PoolKind, Resources)> {
    let mut pools: Vec<_> = bundle.iter().map(|(k, r)| (without_name(k), r.clone())).collect();
    pools.sort();
    pools
}

/// All of these together, where disks that were given no name are one.
pub(crate) fn sum<'a>(bundles: impl IntoIterator<Item = &'a Bundle>) -> Result<Bundle, String> {
    let mut sum = Bundle::default();
    for (kind, resources) in bundles.into_iter().flat_map(Bundle::iter) {
        sum.add_pool(without_name(kind), resources.clone()).ok_or(OVER)?;
    }
    Ok(sum)
}

fn without_name(kind: &PoolKind) -> PoolKind {
    let mut kind = kind.clone();
    if let Some(name) = &mut kind.disk.whole
        && name.starts_with('~')
    {
        name.truncate(1);
    }
    kind
}

fn changed(
    what: &Bundle,
    change: impl Fn(&mut PoolKind, &mut Resources),
) -> Result<Bundle, String> {
    let mut all = Bundle::default();
    for (kind, resources) in what.iter() {
        let (mut kind, mut resources) = (kind.clone(), resources.clone());
        change(&mut kind, &mut resources);
        all.add_pool(kind, resources).ok_or(OVER)?;
    }
    Ok(all)
}
