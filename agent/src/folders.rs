//! The agent's folders, and what is put aside at its start. All of it is this user's alone.
//!
//! An agent starts whatever guests have left: what is not needed any more is renamed into the folder of trash, and removed
//! from there in the background.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_proto::LaunchNumber;
use tepui_proto::control::LogStream;

use crate::error::AgentError;

/// A Unix socket's path must be shorter than this.
const SOCKET_PATH_BYTES: usize = 100;
/// What a socket's name adds to its folder.
const SOCKET_NAME_BYTES: usize = 16;

/// Where everything is. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// Absolute, and text: cells are told paths as text.
    root: Arc<str>,
    /// For the sockets of cells.
    pub(crate) sockets: Arc<Path>,
}

impl Folders {
    /// Makes what is not there, and puts aside what no task can need any more.
    pub(crate) fn open(dir: &Path) -> Result<Self, AgentError> {
        make(dir)?;
        // It may be older than this rule: there are journals, logs and environments of tasks in it.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .map_err(AgentError::at(dir))?;
        let absolute = std::fs::canonicalize(dir).map_err(AgentError::at(dir))?;
        let Some(root) = absolute.to_str() else {
            return Err(AgentError::Config {
                setting: "dir",
                what: "its path is not UTF-8".to_owned(),
            });
        };
        let mut sockets = absolute.join("cells");
        if sockets.as_os_str().len() + SOCKET_NAME_BYTES > SOCKET_PATH_BYTES {
            sockets = std::env::temp_dir().join(format!("tepui-{:016x}", rand::random::<u64>()));
        }
        for name in ["modules", "blobs", "logs", "trash"] {
            make(&absolute.join(name))?;
        }
        let folders = Self { root: root.into(), sockets: sockets.into() };
        // No task outlives its agent yet, so no sandbox does, and no socket.
        for path in [&*absolute.join("sandboxes"), &*folders.sockets] {
            folders.put_aside(path);
            make(path)?;
        }
        Ok(folders)
    }

    /// What is on its way out; its names mean nothing.
    pub(crate) fn trash(&self) -> PathBuf {
        Path::new(&*self.root).join("trash")
    }

    /// Takes something out of the way at once, however large it is. The janitor removes it.
    pub(crate) fn put_aside(&self, path: &Path) {
        let target = self.trash().join(format!("{:016x}", rand::random::<u64>()));
        match std::fs::rename(path, target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot put it aside");
            }
            _ => {}
        }
    }

    pub(crate) fn modules(&self) -> PathBuf {
        Path::new(&*self.root).join("modules")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        Path::new(&*self.root).join("blobs")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        Path::new(&*self.root).join("logs")
    }

    pub(crate) fn root(&self) -> &Path {
        Path::new(&*self.root)
    }

    pub(crate) fn sandbox(&self, launch: LaunchNumber) -> String {
        format!("{}/sandboxes/{launch}", self.root)
    }

    pub(crate) fn log(&self, launch: LaunchNumber, stream: LogStream) -> String {
        match stream {
            LogStream::Stdout => format!("{}/logs/{launch}.out", self.root),
            LogStream::Stderr => format!("{}/logs/{launch}.err", self.root),
        }
    }

    /// Puts the logs of tasks that are not known aside. Says how large the others are, both of a task together.
    pub(crate) fn sweep_logs(
        &self,
        is_known: impl Fn(LaunchNumber) -> bool,
    ) -> Result<BTreeMap<LaunchNumber, u64>, AgentError> {
        let folder = self.logs();
        let mut sizes = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(AgentError::at(&folder))? {
            let path = entry.map_err(AgentError::at(&folder))?.path();
            let launch =
                path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            match launch.map(LaunchNumber).filter(|launch| is_known(*launch)) {
                // One that cannot be looked at is removed in its turn.
                Some(launch) => {
                    let size = path.metadata().map_or(0, |data| data.len());
                    *sizes.entry(launch).or_default() += size;
                }
                None => self.put_aside(&path),
            }
        }
        Ok(sizes)
    }
}

impl Folders {
    /// Removes a sockets folder outside of the agent's own.
    pub(crate) fn close(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.sockets) {
            tracing::debug!(%error, "cannot remove the folder of sockets");
        }
    }
}

/// Makes a folder that is this user's alone, with those above it.
fn make(path: &Path) -> Result<(), AgentError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(AgentError::at(path))
}
