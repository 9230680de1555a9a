//! What a cluster needs before its first start: an authority, identities, a token, folders.
//!
//! Never overwrites what is there. Its one surprise: identities are made anew for names that have none, so a state
//! folder can grow agents.

use crate::context::write_private;
use crate::error::CliError;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tepui_transport::{Authority, PeerRole};

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

    /// The token of the tenant `default`.
    pub(crate) fn token(&self) -> PathBuf {
        self.root.join("token")
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

/// The authority of a state folder, made if there is none.
///
/// # Errors
/// When it cannot be read or made.
pub(crate) fn authority(layout: &Layout) -> Result<Authority, CliError> {
    let folder = layout.authority();
    let failed = |error: tepui_transport::IdentityError| {
        CliError::failed(format!("cannot set up the authority in `{}`", folder.display())).because(&error)
    };
    if layout.ca().exists() {
        return Authority::load(&folder).map_err(failed);
    }
    let authority = Authority::create().map_err(failed)?;
    make_dir(&folder)?;
    authority.save(&folder).map_err(failed)?;
    Ok(authority)
}

/// The identity of a process, made if there is none; `hosts` are names and addresses beside loopback.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn identity(authority: &Authority, role: PeerRole, name: &str, hosts: &[String], path: &Path) -> Result<(), CliError> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_dir(folder)?;
    }
    let made = authority.issue(role, name, hosts).and_then(|identity| identity.save(path));
    made.map_err(|error| CliError::failed(format!("cannot make the identity `{}`", path.display())).because(&error))
}

/// The token of a state folder, made if there is none: 256 bits of chance.
///
/// # Errors
/// When it cannot be read or made.
pub(crate) fn token(layout: &Layout) -> Result<String, CliError> {
    let path = layout.token();
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(|error| CliError::file("read", &path, &error))?;
        return Ok(text.trim().to_owned());
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    write_private(&path, format!("{token}\n").as_bytes())?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_keeps_what_it_was_set_up_with() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&dir.path().join("state")).unwrap();
        let (made, secret) = (authority(&layout).unwrap(), token(&layout).unwrap());
        identity(&made, PeerRole::Agent, "agent-1", &[], &layout.identity("agent-1")).unwrap();
        let first = fs::read(layout.identity("agent-1")).unwrap();
        identity(&made, PeerRole::Agent, "agent-1", &[], &layout.identity("agent-1")).unwrap();
        assert_eq!(fs::read(layout.identity("agent-1")).unwrap(), first);
        assert_eq!(authority(&layout).unwrap().ca_pem(), made.ca_pem());
        assert_eq!((token(&layout).unwrap(), secret.len()), (secret, 64));
    }
}
