//! Which cluster a verb speaks to: a context file, given or found.
//!
//! Never guesses between two clusters. Its one surprise: a context of `tepui dev` names its process and when that
//! process began, so what a killed one left behind is not taken for a cluster.

use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How a cluster is reached. It holds the token, so its file is its owner's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// For people, when there are several.
    pub(crate) name: String,
    /// `https://HOST:PORT` of the master.
    pub(crate) url: String,
    /// The certificate of the cluster's authority; the only one that is trusted.
    pub(crate) ca: PathBuf,
    /// Sent with every request.
    pub(crate) token: String,
    /// The state folder, if the cluster is on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// The `tepui dev` that keeps the cluster; none is somebody else's, taken to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    /// When that process began, in clock ticks since boot: process ids come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<u64>,
}

impl Context {
    /// Reads a context file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a context.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let text = fs::read_to_string(path).map_err(|error| {
            CliError::usage(format!("cannot read the context `{}`", path.display())).because(&error)
        })?;
        toml::from_str(&text).map_err(|error| {
            CliError::usage(format!("`{}` is not a context", path.display()))
                .cause(error.message())
                .hint("a context has `name`, `url`, `ca` and `token`; `tepui dev` writes one")
        })
    }

    /// Writes a context file, for its owner alone, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), CliError> {
        let text = toml::to_string(self)
            .map_err(|error| CliError::failed("cannot write a context").because(&error))?;
        write_private(path, text.as_bytes())
    }

    /// Whether the process that keeps the cluster still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.pid.is_none_or(|pid| {
            process_start(pid).is_some_and(|start| self.started.is_none_or(|begun| begun == start))
        })
    }
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&draft, path))
        .map_err(|error| CliError::file("write", path, &error))
}

/// When a process began, in clock ticks since boot; none if it does not run (`proc_pid_stat(5)`, field 22).
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The folder in which shells find clusters: `$XDG_STATE_HOME/tepui/contexts`.
///
/// # Errors
/// When neither that nor a home is known.
pub(crate) fn contexts_dir() -> Result<PathBuf, CliError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| {
        CliError::usage("there is no state folder")
            .hint("set HOME or XDG_STATE_HOME, or name the cluster with `--context FILE`")
    })?;
    Ok(state.join("tepui/contexts"))
}

/// The cluster to speak to: the one that was named, or the only one that runs.
///
/// # Errors
/// Exit code 3 when there is none, 2 when there are several, or the named one cannot be read.
pub(crate) fn find(named: Option<&Path>) -> Result<Context, CliError> {
    if let Some(path) = named {
        return Context::read(path);
    }
    let mut alive = alive_in(&contexts_dir()?);
    match (alive.pop(), alive.is_empty()) {
        (Some((_, context)), true) => Ok(context),
        (None, _) => Err(CliError::unreachable("no cluster runs here")
            .hint("start one with `tepui dev`, or name one with `--context FILE`")),
        (Some(last), false) => {
            alive.push(last);
            let error = CliError::usage("several clusters run here, and none was named");
            let error = alive.iter().fold(error, |error, (path, context)| {
                error.cause(format_args!("`{}` ({})", context.name, path.display()))
            });
            Err(error.hint("name one with `--context FILE` or TEPUI_CONTEXT"))
        }
    }
}

/// Contexts whose cluster runs, by the name of their file. What cannot be read is not one of them.
pub(crate) fn alive_in(dir: &Path) -> Vec<(PathBuf, Context)> {
    let mut found: Vec<(PathBuf, Context)> = context_files(dir)
        .filter_map(|path| {
            Context::read(&path).ok().filter(Context::is_alive).map(|context| (path, context))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Removes contexts whose process has gone without doing so itself.
pub(crate) fn sweep(dir: &Path) {
    for path in context_files(dir) {
        if Context::read(&path).is_ok_and(|context| !context.is_alive()) {
            // Another shell may have swept it already.
            let _removed = fs::remove_file(&path);
        }
    }
}

fn context_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn context(name: &str, pid: Option<u32>, started: Option<u64>) -> Context {
        let (url, ca) = ("https://127.0.0.1:1".to_owned(), PathBuf::from("/x/ca.pem"));
        Context { name: name.to_owned(), url, ca, token: "t".to_owned(), dir: None, pid, started }
    }

    #[test]
    fn a_context_reads_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        let own = context("a", Some(std::process::id()), process_start(std::process::id()));
        own.write(&path).unwrap();
        assert_eq!(Context::read(&path).unwrap(), own);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(own.is_alive());
    }

    #[test]
    fn a_context_whose_process_has_gone_is_not_a_cluster_and_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id();
        context("live", Some(own), process_start(own))
            .write(&dir.path().join("live.toml"))
            .unwrap();
        context("reused", Some(own), Some(1)).write(&dir.path().join("reused.toml")).unwrap();
        context("dead", Some(u32::MAX), None).write(&dir.path().join("dead.toml")).unwrap();
        let names: Vec<String> =
            alive_in(dir.path()).into_iter().map(|(_, context)| context.name).collect();
        assert_eq!(names, ["live"]);
        sweep(dir.path());
        assert_eq!(context_files(dir.path()).count(), 1);
    }
}
