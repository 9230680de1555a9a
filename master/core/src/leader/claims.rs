//! What an agent says of itself, checked before any of it is believed: amounts, pools, roles, names.
//!
//! Never compares it with what is known already. Its one surprise: all pools together are bounded as the resources alone
//! are, so that no sum over agents, and no sum over an agent's pools, leaves its range.

use tepui_proto::control::Hello;
use tepui_proto::events::AttributeValue;
use tepui_proto::resources::Custom;
use tepui_proto::{Bundle, PoolKind, Resources, limits, names};

/// The most bytes of memory or disk that an agent may claim (1 PiB), and the most thousandths of anything else (a million
/// cores): products of shares over [`limits::AGENTS`] agents then stay within 128 bits.
const CLAIM_BYTES: u64 = 1 << 50;
const CLAIM_MILLI: u64 = 1 << 30;

/// Says what is wrong with an agent's first word.
pub(super) fn check_claims(hello: &Hello) -> Result<(), String> {
    if hello.pools.len() > limits::POOLS {
        return Err(format!("{} pools; at most {}", hello.pools.len(), limits::POOLS));
    }
    if hello.max_tasks == 0 {
        return Err("an agent that can run no task at all".to_owned());
    }
    check_host(hello)?;
    check_names(&hello.resources)?;
    for (kind, amount) in &hello.pools {
        check_kind(kind, amount)?;
        check_names(amount)?;
    }
    check_attributes(&hello.attributes)?;
    let pools = Bundle::try_from(hello.pools.clone()).ok();
    let sum = pools.and_then(|pools| pools.flat()?.checked_add(&hello.resources));
    let Some(sum) = sum else {
        return Err("two pools do not add up, or hold the same port or item".to_owned());
    };
    check_amounts(&sum)
}

/// What stands in every offer beside the attributes.
fn check_host(hello: &Hello) -> Result<(), String> {
    let domain = hello.domain.iter().flat_map(|d| [("a region", &d.region), ("a zone", &d.zone)]);
    let own = [("a hostname", &hello.hostname), ("a version", &hello.version)];
    for (what, text) in own.into_iter().chain(domain) {
        if text.len() > limits::HOST_BYTES || text.contains(char::is_control) {
            return Err(format!(
                "{what} has at most {} bytes, and no control characters",
                limits::HOST_BYTES
            ));
        }
    }
    Ok(())
}

fn check_amounts(resources: &Resources) -> Result<(), String> {
    let Resources { cpu_milli, memory_bytes, disk_bytes, ports: _, custom } = resources;
    let is_milli = |amount: &Custom| matches!(amount, Custom::Milli(milli) if *milli > CLAIM_MILLI);
    if *memory_bytes > CLAIM_BYTES
        || *disk_bytes > CLAIM_BYTES
        || *cpu_milli > CLAIM_MILLI
        || custom.values().any(is_milli)
    {
        return Err(format!(
            "an agent cannot have so much: at most {CLAIM_BYTES} bytes, and {CLAIM_MILLI} thousandths of anything else"
        ));
    }
    Ok(())
}

fn check_names(resources: &Resources) -> Result<(), String> {
    if resources.custom.len() > limits::NOTATION_ENTRIES {
        return Err(format!("more than {} named resources", limits::NOTATION_ENTRIES));
    }
    for (name, amount) in &resources.custom {
        check_name("a resource's name", name)?;
        let Custom::Items(items) = amount else { continue };
        if items.len() > limits::NOTATION_ENTRIES
            || items.iter().any(|item| item.len() > limits::ITEM_BYTES)
        {
            return Err(format!(
                "`{name}` has at most {} items of {} bytes",
                limits::NOTATION_ENTRIES,
                limits::ITEM_BYTES
            ));
        }
    }
    Ok(())
}

/// Checks what an operator has named.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > limits::RESOURCE_NAME_BYTES {
        return Err(format!("{what} has 1 to {} bytes", limits::RESOURCE_NAME_BYTES));
    }
    if name.contains(char::is_control) {
        return Err(format!("{what} has no control characters"));
    }
    Ok(())
}

/// An agent's operator reserves, lends, and keeps disks whole; volumes are made through the master.
fn check_kind(kind: &PoolKind, amount: &Resources) -> Result<(), String> {
    if kind.reserved_for.len() > limits::REFINEMENTS {
        return Err(format!("a pool of more than {} roles", limits::REFINEMENTS));
    }
    let mut above: Option<&str> = None;
    for role in &kind.reserved_for {
        let role = role.as_str();
        names::check_role(role).map_err(|error| format!("a pool's role: {error}"))?;
        let is_below = above
            .is_none_or(|above| role.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')));
        if role == "*" || !is_below {
            return Err(format!("a pool cannot be reserved for `{role}` there"));
        }
        above = Some(role);
    }
    if kind.disk.volume.is_some() {
        return Err("volumes are made through the master".to_owned());
    }
    let Some(disk) = &kind.disk.whole else { return Ok(()) };
    check_name("a disk's name", disk)?;
    let is_disk = Resources { disk_bytes: 0, ..amount.clone() }.is_empty();
    if is_disk { Ok(()) } else { Err(format!("the disk `{disk}` is more than a disk")) }
}

fn check_attributes(attributes: &[(String, AttributeValue)]) -> Result<(), String> {
    if attributes.len() > limits::NOTATION_ENTRIES {
        return Err(format!("more than {} attributes", limits::NOTATION_ENTRIES));
    }
    for (name, value) in attributes {
        check_name("an attribute's name", name)?;
        let is_long = match value {
            AttributeValue::Text(text) => text.len() > limits::ITEM_BYTES,
            AttributeValue::Milli(_) => false,
            AttributeValue::Ranges(ranges) => ranges.len() > limits::NOTATION_ENTRIES,
        };
        if is_long {
            return Err(format!(
                "the attribute `{name}` has at most {} bytes or {} ranges",
                limits::ITEM_BYTES,
                limits::NOTATION_ENTRIES
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_proto::{LaunchNumber, Life, Role, Term};

    fn hello(text: &str) -> Hello {
        let mut bundle: Bundle = text.parse().unwrap();
        Hello {
            life: Life(1),
            term: Term(0),
            hostname: "a".to_owned(),
            version: "0".to_owned(),
            resources: bundle.take_plain(),
            pools: bundle.into(),
            attributes: Vec::new(),
            domain: None,
            max_tasks: limits::CELL_INSTANCES,
            has_room: true,
            launch_mark: LaunchNumber(0),
            tasks: Vec::new(),
            has_more_tasks: false,
            reports: Vec::new(),
        }
    }

    #[test]
    fn what_an_operator_may_declare_is_believed() {
        let declared =
            "cpus:2;mem:64;cpus(web):1;mem(a,a/b):8;cpus{rev}:4;disk{mount}:50;ports:[1-2]";
        assert_eq!(check_claims(&hello(declared)), Ok(()));
    }

    #[test]
    fn pools_are_bounded_as_resources_are() {
        for (text, word) in [
            ("cpus:1000000;cpus(web):1000000", "so much"),
            ("mem(a):2000000000", "so much"),
            ("ports:[1-2];ports(web):[2-3]", "same port"),
            ("disk(web){vol:v}:5", "volumes"),
        ] {
            let refused = check_claims(&hello(text)).unwrap_err();
            assert!(refused.contains(word), "{text}: {refused}");
        }
        let mut many = hello("");
        let kind = |n: usize| PoolKind {
            reserved_for: vec![Role(format!("r{n}"))],
            ..PoolKind::default()
        };
        many.pools = (0..=limits::POOLS).map(|n| (kind(n), Resources::cpu_memory(1, 0))).collect();
        assert!(check_claims(&many).unwrap_err().contains("pools"));
    }

    #[test]
    fn what_no_text_could_say_is_refused_as_well() {
        let pool = |roles: &[&str]| {
            let reserved_for = roles.iter().map(|role| Role::from(*role)).collect();
            let kind = PoolKind { reserved_for, ..PoolKind::default() };
            Hello { pools: vec![(kind, Resources::cpu_memory(1, 0))], ..hello("") }
        };
        for roles in [&["*"][..], &["a//b"], &["a", "b"], &["a", "ab"], &["a/b", "a"], &[""]] {
            assert!(check_claims(&pool(roles)).is_err(), "{roles:?}");
        }
        let mut named = hello("");
        named.resources.custom.insert("x".repeat(1 << 20), Custom::Milli(1));
        assert!(check_claims(&named).unwrap_err().contains("name"));
        let idle = Hello { max_tasks: 0, ..hello("") };
        assert!(check_claims(&idle).unwrap_err().contains("no task"));
        let mut described = hello("");
        described.attributes.push(("rack".to_owned(), AttributeValue::Text("x".repeat(257))));
        assert!(check_claims(&described).unwrap_err().contains("rack"));
    }
}
