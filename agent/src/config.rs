//! What an agent is told before it begins. Never fills in what only an operator can know.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tepui_proto::events::{AttributeValue, FaultDomain};
use tepui_proto::resources::Custom;
use tepui_proto::{Bundle, PoolKind, PortRange, PortSet, Resources, limits};

use crate::error::AgentError;

/// The settings of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Its name, as in its certificate; letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Its folder: journal, compiled modules, sandboxes, logs. Made if need be; for this agent alone.
    pub dir: PathBuf,
    /// Masters as `HOST:PORT`, tried in turn.
    pub masters: Vec<String>,
    /// The file with certificate, key and authority; `identity.pem` in `dir` if it is not said.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// What it offers.
    pub resources: ResourcesConfig,
    /// What it has beside what anyone may use: reserved for roles, revocable, disks that cannot be split.
    #[serde(default)]
    pub reserved: Bundle,
    /// What schedulers may ask for by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeConfig>,
    /// Where it stands.
    #[serde(default)]
    pub domain: Option<DomainConfig>,
    /// Told to schedulers; the agent's name if it is not said.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The executable `tepui`, started as `EXECUTABLE cell` and `EXECUTABLE compile`.
    pub executable: PathBuf,
}

/// What an agent offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcesConfig {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk for sandboxes.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Ranges of ports, first and last.
    #[serde(default)]
    pub ports: Vec<(u16, u16)>,
    /// What else it has, under names that the operator gave.
    #[serde(default)]
    pub custom: BTreeMap<String, Custom>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeConfig {
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
    /// Inclusive ranges.
    Ranges(Vec<(u64, u64)>),
}

/// Where an agent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Fails rarely.
    pub region: String,
    /// Fails sometimes.
    pub zone: String,
}

impl AgentConfig {
    /// Checks what can be checked without touching anything.
    pub(crate) fn check(&self) -> Result<(), AgentError> {
        let wrong =
            |setting, what: &str| Err(AgentError::Config { setting, what: what.to_owned() });
        if let Err(error) = tepui_proto::names::check_name(&self.name) {
            return wrong("name", &error.to_string());
        }
        if self.masters.is_empty() {
            return wrong("master", "there is none");
        }
        if let Some(master) = self.masters.iter().find(|master| !is_address(master)) {
            return wrong("master", &format!("`{}` is not HOST:PORT", master.escape_debug()));
        }
        if self.resources.ports.iter().any(|(first, last)| first > last) {
            return wrong("ports", "a range ends before it begins");
        }
        if self.resources.cpu_milli == 0 {
            return wrong("cpus", "nothing runs on none; at least 0.001");
        }
        if self.resources.memory_bytes < limits::TASK_MEMORY_BYTES_MIN {
            let (have, least) = (self.resources.memory_bytes, limits::TASK_MEMORY_BYTES_MIN);
            let words =
                format!("{have} bytes are too few for any task; at least {least}, such as `1MiB`");
            return wrong("memory", &words);
        }
        if let Err(what) = self.check_reserved() {
            return wrong("reserved", &what);
        }
        Ok(())
    }

    fn check_reserved(&self) -> Result<(), String> {
        let count = self.reserved.pools().count();
        if count > limits::POOLS {
            return Err(format!("{count} pools; at most {}", limits::POOLS));
        }
        if !self.reserved.plain().is_empty() {
            let plain = Bundle::from(self.reserved.plain().clone());
            return Err(format!(
                "`{plain}` is anybody's; say for which role, such as `cpus(web):1`, or that it is \
                 revocable: `cpus{{rev}}:1`"
            ));
        }
        if let Some((kind, amount)) =
            self.reserved.pools().find(|(kind, _)| kind.disk.volume.is_some())
        {
            let volume = Bundle::of(kind.clone(), amount.clone());
            return Err(format!("`{volume}` is a volume, and those are made through the master"));
        }
        let ports = self.reserved.flat().and_then(|all| all.checked_add(&self.resources()));
        if ports.is_none() {
            return Err("a port or an item is there twice".to_owned());
        }
        Ok(())
    }

    pub(crate) fn pools(&self) -> Vec<(PoolKind, Resources)> {
        self.reserved.clone().into()
    }

    pub(crate) fn resources(&self) -> Resources {
        let ports: Vec<PortRange> =
            self.resources.ports.iter().map(|&(first, last)| PortRange { first, last }).collect();
        Resources {
            disk_bytes: self.resources.disk_bytes,
            ports: PortSet::from(ports),
            custom: self.resources.custom.clone(),
            ..Resources::cpu_memory(self.resources.cpu_milli, self.resources.memory_bytes)
        }
    }

    pub(crate) fn attributes(&self) -> Vec<(String, AttributeValue)> {
        let value = |value: &AttributeConfig| match value {
            AttributeConfig::Number(whole) => AttributeValue::Milli(whole.saturating_mul(1_000)),
            AttributeConfig::Text(text) => AttributeValue::Text(text.clone()),
            AttributeConfig::Ranges(ranges) => AttributeValue::Ranges(ranges.clone()),
        };
        self.attributes.iter().map(|(name, config)| (name.clone(), value(config))).collect()
    }

    pub(crate) fn domain(&self) -> Option<FaultDomain> {
        self.domain
            .as_ref()
            .map(|domain| FaultDomain { region: domain.region.clone(), zone: domain.zone.clone() })
    }
}

/// `HOST:PORT`; whether there is such a host shows when it is dialled.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = is_number && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = is_v6.map_or_else(
        || {
            !host.is_empty()
                && !host.contains([':', '/', '[', ']'])
                && !host.contains(char::is_whitespace)
        },
        |address| address.parse::<std::net::Ipv6Addr>().is_ok(),
    );
    is_host && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(reserved: &str) -> AgentConfig {
        AgentConfig {
            name: "a".to_owned(),
            dir: PathBuf::new(),
            masters: vec!["localhost:1".to_owned()],
            identity: None,
            resources: ResourcesConfig {
                cpu_milli: 1,
                memory_bytes: 1 << 20,
                ports: vec![(80, 90)],
                ..ResourcesConfig::default()
            },
            reserved: reserved.parse().unwrap(),
            attributes: BTreeMap::new(),
            domain: None,
            hostname: None,
            executable: PathBuf::new(),
        }
    }

    #[test]
    fn what_is_reserved_is_somebodys_or_revocable_or_a_whole_disk() {
        for good in
            ["", "cpus(web):2;mem(web):1024;cpus{rev}:2", "disk{mount=sdb}:50", "ports(a):[91]"]
        {
            config(good).check().unwrap();
        }
        assert_eq!(config("cpus(web):2;cpus{rev}:1").pools().len(), 2);
        for (bad, word) in [
            ("cpus:1", "anybody's"),
            ("disk(web){vol:v}:5", "is a volume"),
            ("ports(web):[90-91]", "twice"),
        ] {
            let words = config(bad).check().unwrap_err().to_string();
            assert!(words.contains(word), "{bad}: {words}");
        }
    }

    #[test]
    fn a_master_is_a_host_and_a_port() {
        for good in ["localhost:1", "10.0.0.5:7421", "[::1]:7421"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "10.0.0.5",
            ":7421",
            "host:",
            "host:0",
            "host:99999",
            "host:+1",
            "::1:7421",
            "a b:1",
            "https://host",
            "https://host:7421",
        ] {
            let masters = vec![bad.to_owned()];
            let words = AgentConfig { masters, ..config("") }.check().unwrap_err().to_string();
            assert!(words.contains(bad) && words.contains("HOST:PORT"), "{words}");
        }
    }

    #[test]
    fn an_agent_offers_something() {
        let with = |cpu_milli, memory_bytes| {
            let resources = ResourcesConfig { cpu_milli, memory_bytes, ..config("").resources };
            AgentConfig { resources, ..config("") }.check().map_err(|error| error.to_string())
        };
        assert!(with(1, 1 << 20).is_ok());
        assert!(with(0, 1 << 20).unwrap_err().contains("`cpus`"));
        assert!(with(1, 60).unwrap_err().contains("60 bytes are too few"));
    }
}
