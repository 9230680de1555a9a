//! Where things are in a cluster's state folder, and the identities that it makes.
//!
//! Never overwrites what is there. Its one surprise: identities are made anew for names that have none, so a state
//! folder can grow agents.

use crate::error::CliError;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tepui_master::setup::{Cluster, SetupError, init_cluster};
use tepui_transport::{Authority, IdentityError, PeerRole};

/// Where things are in a cluster's state folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The state folder, absolute.
    pub(crate) root: PathBuf,
}

impl Layout {
    /// Makes the folder, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(root: &Path) -> Result<Self, CliError> {
        make_dir(root)?;
        let root = fs::canonicalize(root).map_err(|error| CliError::file("open", root, &error))?;
        Ok(Self { root })
    }

    /// The authority's folder.
    pub(crate) fn authority(&self) -> PathBuf {
        self.root.join("authority")
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.authority().join("ca.pem")
    }

    /// How the cluster is reached.
    pub(crate) fn context(&self) -> PathBuf {
        self.root.join("context.toml")
    }

    /// The folder of a process.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The identity of a process.
    pub(crate) fn identity(&self, name: &str) -> PathBuf {
        self.part(name).join("identity.pem")
    }
}

/// Makes a folder for its owner alone.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_dir(path: &Path) -> Result<(), CliError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| CliError::file("make", path, &error))
}

/// Makes what a state folder lacks: the authority, the master's identity, the token.
///
/// # Errors
/// When something cannot be made or read.
pub(crate) fn init(layout: &Layout) -> Result<Cluster, CliError> {
    let failed = |error: SetupError| {
        CliError::failed(format!("cannot set up `{}`", layout.root.display())).because(&error)
    };
    init_cluster(&layout.root).map_err(failed)
}

/// The authority of a state folder.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn authority(layout: &Layout) -> Result<Authority, CliError> {
    let folder = layout.authority();
    let wrong = |error: IdentityError| {
        CliError::failed(format!("cannot use the authority in `{}`", folder.display()))
            .because(&error)
    };
    Authority::load(&folder).map_err(wrong)
}

/// The identity of a process, made if there is none; `hosts` are names and addresses beside loopback.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn identity(
    authority: &Authority,
    role: PeerRole,
    name: &str,
    hosts: &[String],
    path: &Path,
) -> Result<(), CliError> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_dir(folder)?;
    }
    let made = authority.issue(role, name, hosts).and_then(|identity| identity.save(path));
    made.map_err(|error| {
        CliError::failed(format!("cannot make the identity `{}`", path.display())).because(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_keeps_what_it_was_set_up_with() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&dir.path().join("state")).unwrap();
        let Cluster { authority: made, token: secret, .. } = init(&layout).unwrap();
        identity(&made, PeerRole::Agent, "agent-1", &[], &layout.identity("agent-1")).unwrap();
        let first = fs::read(layout.identity("agent-1")).unwrap();
        identity(&made, PeerRole::Agent, "agent-1", &[], &layout.identity("agent-1")).unwrap();
        assert_eq!(fs::read(layout.identity("agent-1")).unwrap(), first);
        assert_eq!(authority(&layout).unwrap().ca_pem(), made.ca_pem());
        assert_eq!(init(&layout).unwrap().token, secret);
    }
}
