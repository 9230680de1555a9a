//! Compiled modules: once per digest, kind and executable, by a child with a deadline.
//!
//! The loop owns the table, so a module that is known is answered from memory. Compiled code comes from this machine's
//! own compiler alone. Its surprise: a name holds a tag of the executable, so that a new version compiles anew.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tepui_proto::control::{Launch, ModuleKind};
use tepui_proto::{Digest, FrameworkId, Incarnation, limits};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::AgentError;
use crate::fetch::{FetchError, Link};
use crate::rooms::Event;

/// Compilers at once: each may take gibibytes and several cores.
const COMPILERS: usize = 2;
/// Compiled code that is kept; what was not used for longest goes first.
const CACHE_BYTES: u64 = 8 << 30;
/// Verdicts on bad modules that are remembered.
const BAD: usize = 256;
/// A compiler's verdict on its standard output.
const VERDICT_BYTES: u64 = 64 * 1024;

/// A module as something.
pub(crate) type Key = (Digest, ModuleKind);

/// What came of a module.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It is here.
    Ready { path: Arc<str>, size: u64, compile_ms: u64 },
    /// It never will be: a stable code, and words for people.
    Bad { code: String, message: String },
    /// The master does not have it.
    Missing(String),
    /// This agent failed.
    Failed(String),
}

/// Who waits for a module.
#[derive(Debug)]
pub(crate) enum Waiter {
    Task(Box<Launch>),
    Scheduler { framework: FrameworkId, incarnation: Incarnation },
    Check(Key),
}

#[derive(Debug)]
struct Kept {
    path: Arc<str>,
    size: u64,
    used: u64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Modules {
    maker: Maker,
    kept: BTreeMap<Key, Kept>,
    bad: BTreeMap<Key, (String, String)>,
    waiting: BTreeMap<Key, Vec<Waiter>>,
    uses: u64,
}

/// What a task needs to make one module. Clones are cheap.
#[derive(Clone, Debug)]
struct Maker {
    folder: Arc<str>,
    executable: Arc<Path>,
    /// Of the executable.
    tag: Arc<str>,
    link: Link,
    permits: Arc<Semaphore>,
    inbox: mpsc::Sender<Event>,
}

impl Modules {
    /// The table of what the folder holds; what is not whole, or another executable's, is removed.
    pub(crate) fn open(
        folder: &Path,
        executable: &Path,
        link: Link,
        inbox: mpsc::Sender<Event>,
    ) -> Result<Self, AgentError> {
        let tag = tag_of(executable).map_err(AgentError::at(executable))?;
        let mut kept = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(AgentError::at(folder))? {
            let path = entry.map_err(AgentError::at(folder))?.path();
            match (
                path.file_name()
                    .and_then(|name| name.to_str())
                    .and_then(|name| parse_name(name, &tag)),
                path.to_str(),
            ) {
                (Some(key), Some(text)) => {
                    let size = path.metadata().map_err(AgentError::at(&path))?.len();
                    kept.insert(key, Kept { path: text.into(), size, used: 0 });
                }
                _ => std::fs::remove_file(&path).map_err(AgentError::at(&path))?,
            }
        }
        let maker = Maker {
            folder: folder.to_string_lossy().into(),
            executable: executable.into(),
            tag: tag.into(),
            link,
            permits: Arc::new(Semaphore::new(COMPILERS)),
            inbox,
        };
        Ok(Self { maker, kept, bad: BTreeMap::new(), waiting: BTreeMap::new(), uses: 0 })
    }

    /// What is known of the module, at once; else the waiter waits, and is in the answer of [`Modules::on_made`].
    pub(crate) fn want(
        &mut self,
        key: Key,
        waiter: Waiter,
        jobs: &mut JoinSet<()>,
    ) -> Option<(Waiter, Outcome)> {
        self.uses += 1;
        if let Some(kept) = self.kept.get_mut(&key) {
            kept.used = self.uses;
            return Some((
                waiter,
                Outcome::Ready { path: Arc::clone(&kept.path), size: kept.size, compile_ms: 0 },
            ));
        }
        if let Some((code, message)) = self.bad.get(&key) {
            return Some((waiter, Outcome::Bad { code: code.clone(), message: message.clone() }));
        }
        let waiting = self.waiting.entry(key).or_default();
        waiting.push(waiter);
        if waiting.len() == 1 {
            let maker = self.maker.clone();
            jobs.spawn(async move {
                let outcome = maker.make(key).await;
                // The loop may have stopped.
                drop(maker.inbox.send(Event::ModuleMade { key, outcome }).await);
            });
        }
        None
    }

    /// Takes in what came of a module. Says who waited for it.
    pub(crate) fn on_made(&mut self, key: Key, outcome: &Outcome) -> Vec<Waiter> {
        self.uses += 1;
        match outcome {
            Outcome::Ready { path, size, .. } => {
                self.kept
                    .insert(key, Kept { path: Arc::clone(path), size: *size, used: self.uses });
                self.make_room();
            }
            Outcome::Bad { code, message } => {
                if self.bad.len() >= BAD {
                    self.bad.clear();
                }
                self.bad.insert(key, (code.clone(), message.clone()));
            }
            Outcome::Missing(_) | Outcome::Failed(_) => {}
        }
        self.waiting.remove(&key).unwrap_or_default()
    }

    fn make_room(&mut self) {
        let mut total: u64 = self.kept.values().map(|kept| kept.size).sum();
        while total > CACHE_BYTES && self.kept.len() > 1 {
            let oldest = self.kept.iter().min_by_key(|(_key, kept)| kept.used).map(|(key, _)| *key);
            let Some(kept) = oldest.and_then(|key| self.kept.remove(&key)) else { return };
            total = total.saturating_sub(kept.size);
            // A cell that has it mapped keeps it.
            if let Err(error) = std::fs::remove_file(&*kept.path) {
                tracing::warn!(path = &*kept.path, %error, "cannot remove a compiled module");
            }
        }
    }
}

fn kind_name(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::Scheduler => "scheduler",
        ModuleKind::CommandP1 => "command-p1",
        ModuleKind::CommandP2 => "command-p2",
    }
}

/// `<digest>.<kind>.<tag>.cwasm`, read back; none if it is anything else.
fn parse_name(name: &str, tag: &str) -> Option<Key> {
    let (digest, rest) = name.split_once('.')?;
    let (kind, rest) = rest.split_once('.')?;
    let kind = [ModuleKind::Scheduler, ModuleKind::CommandP1, ModuleKind::CommandP2]
        .into_iter()
        .find(|known| kind_name(*known) == kind)?;
    (rest.strip_suffix(".cwasm")? == tag).then_some((digest.parse().ok()?, kind))
}

/// Changes whenever the executable does, and with it perhaps the engine or its settings.
fn tag_of(executable: &Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(executable)?;
    let text = format!(
        "{} {} {} {}",
        env!("CARGO_PKG_VERSION"),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    let mut tag = hex::encode(Sha256::digest(text));
    tag.truncate(16);
    Ok(tag)
}

impl Maker {
    async fn make(&self, (digest, kind): Key) -> Outcome {
        // Never closed, so never an error; and if it were, one compiler more does no harm.
        let _permit = self.permits.acquire().await;
        let stem = format!("{}/{digest}.{}.{}", self.folder, kind_name(kind), self.tag);
        let (wasm, part, path) =
            (format!("{stem}.wasm"), format!("{stem}.part"), format!("{stem}.cwasm"));
        let outcome = self.make_at(digest, kind, [&wasm, &part, &path]).await;
        for leftover in [&wasm, &part] {
            // Not there after a success.
            drop(tokio::fs::remove_file(leftover).await);
        }
        outcome
    }

    async fn make_at(
        &self,
        digest: Digest,
        kind: ModuleKind,
        [wasm, part, path]: [&str; 3],
    ) -> Outcome {
        let mut link = self.link.clone();
        match link.fetch(digest, Path::new(wasm), limits::MODULE_BYTES).await {
            Ok(_size) => {}
            Err(FetchError::Missing(why)) => return Outcome::Missing(why),
            Err(FetchError::TooLarge(max)) => {
                let message = format!("the module is larger than {max} bytes");
                return Outcome::Bad { code: "module-too-large".to_owned(), message };
            }
            Err(error) => return Outcome::Failed(error.to_string()),
        }
        let begin = Instant::now();
        if let Some(outcome) = self.compile(kind, wasm, part).await {
            return outcome;
        }
        let compile_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        match keep(part, path).await {
            Ok(size) => Outcome::Ready { path: path.into(), size, compile_ms },
            Err(error) => Outcome::Failed(format!("cannot keep the compiled module: {error}")),
        }
    }

    /// Nothing if it went well.
    async fn compile(&self, kind: ModuleKind, wasm: &str, out: &str) -> Option<Outcome> {
        let mut command = Command::new(&*self.executable);
        command.args(["compile", "--kind", kind_name(kind), "--in", wasm, "--out", out]);
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                return Some(Outcome::Failed(format!("cannot start the compiler: {error}")));
            }
        };
        let stdout = child.stdout.take();
        let work = async {
            let mut verdict = Vec::new();
            if let Some(stdout) = stdout {
                // A verdict that cannot be read is no verdict.
                drop(stdout.take(VERDICT_BYTES).read_to_end(&mut verdict).await);
            }
            (child.wait().await, verdict)
        };
        // Dropping the child kills it.
        match tokio::time::timeout(Duration::from_millis(limits::COMPILE_WALL_MS), work).await {
            Err(_late) => Some(uncompilable(format!(
                "it does not compile within {} s",
                limits::COMPILE_WALL_MS / 1_000
            ))),
            Ok((Err(error), _)) => Some(Outcome::Failed(format!("the compiler was lost: {error}"))),
            Ok((Ok(status), _)) if status.success() => None,
            Ok((Ok(status), verdict)) => Some(read_verdict(&verdict, status)),
        }
    }
}

fn uncompilable(message: String) -> Outcome {
    Outcome::Bad { code: "module-uncompilable".to_owned(), message }
}

fn read_verdict(verdict: &[u8], status: std::process::ExitStatus) -> Outcome {
    #[derive(serde::Deserialize)]
    struct Verdict {
        code: String,
        message: String,
    }
    match serde_json::from_slice(verdict) {
        Ok(Verdict { code, message }) if code.starts_with("module-") => {
            Outcome::Bad { code, message }
        }
        Ok(Verdict { message, .. }) => Outcome::Failed(message),
        // Out of memory, out of CPU time, or crashed: the module is too much for the compiler.
        Err(_no_verdict) => uncompilable(format!("the compiler ended with {status}")),
    }
}

/// Syncs and renames, so that the cache holds whole modules only, even after a crash of the machine.
async fn keep(part: &str, path: &str) -> std::io::Result<u64> {
    let file = tokio::fs::File::open(part).await?;
    file.sync_all().await?;
    let size = file.metadata().await?.len();
    tokio::fs::rename(part, path).await?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modules_of_this_executable_are_taken_from_the_folder() {
        let digest = Digest([0xa7; 32]);
        assert_eq!(
            parse_name(&format!("{digest}.command-p1.t.cwasm"), "t"),
            Some((digest, ModuleKind::CommandP1))
        );
        for bad in [
            "x.command-p1.t.cwasm",
            &format!("{digest}.command-p1.u.cwasm"),
            &format!("{digest}.command-p1.t.part"),
        ] {
            assert_eq!(parse_name(bad, "t"), None, "{bad}");
        }
    }
}
