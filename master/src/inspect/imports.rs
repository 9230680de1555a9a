//! What a module may import. A closed list: what is not on it is refused by name.

use super::InspectError;
use tepui_proto::control::ModuleKind;

/// Packages of WASI 0.2 that every component may import. Most of what they do is denied or empty in a scheduler, but
/// the standard libraries of most languages import them whether they are used or not.
const WASI_ALL: &[&str] = &["cli", "clocks", "filesystem", "io", "random"];
/// What commands may import besides. It is denied when it is called: tasks have no network yet.
const WASI_COMMANDS: &[&str] = &["sockets"];
/// Interfaces of `tepui:framework` that commands may import.
const TEPUI_COMMANDS: &[&str] = &["task-context", "types"];

/// A version that is spoken here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version(&'static str);

impl Version {
    /// Of `tepui:framework`.
    pub(super) const TEPUI: Self = Self("0.1");
    /// Of WASI's components.
    pub(super) const WASI: Self = Self("0.2");

    /// A name without a version is not bound to any, and the linker decides.
    fn is_spoken(self, version: Option<&str>) -> bool {
        version.is_none_or(|version| {
            version.strip_prefix(self.0).is_some_and(|rest| rest.starts_with('.'))
        })
    }
}

/// The interface in `ns:package/interface@version`.
pub(super) fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn version(name: &str) -> Option<&str> {
    name.split_once('@').map(|(_, version)| version)
}

/// Whether an export's version is spoken.
pub(super) fn check_version(export: &str, spoken: Version) -> Result<(), InspectError> {
    if spoken.is_spoken(version(export)) {
        return Ok(());
    }
    Err(InspectError::Version { export: export.to_owned(), spoken: spoken.0 })
}

/// Whether a core module may import functions of this module.
pub(super) fn is_core_allowed(module: &str) -> bool {
    module == "wasi_snapshot_preview1"
}

/// Whether a component of this kind may import this name.
pub(super) fn is_allowed(kind: ModuleKind, name: &str) -> bool {
    let is_scheduler = kind == ModuleKind::Scheduler;
    let Some((package, interface)) = interface(name).split_once('/') else { return false };
    match package.split_once(':') {
        Some(("wasi", package)) => {
            let is_known =
                WASI_ALL.contains(&package) || (!is_scheduler && WASI_COMMANDS.contains(&package));
            is_known && Version::WASI.is_spoken(version(name))
        }
        Some(("tepui", "framework")) => {
            (is_scheduler || TEPUI_COMMANDS.contains(&interface))
                && Version::TEPUI.is_spoken(version(name))
        }
        _ => false,
    }
}
