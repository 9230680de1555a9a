//! Compiled modules: once per digest, kind and executable.
//!
//! The loop owns the table, so a module that is known is answered from memory, and decides what is fetched and compiled
//! next: small modules have a compiler of their own, and owners take turns. Whoever asks for a module that is on its way
//! already waits in their own queue as well. Its surprise: a name holds a tag of the executable, so that a new version
//! compiles anew.

use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tepui_proto::control::{Launch, ModuleKind};
use tepui_proto::{Digest, FrameworkId, Incarnation, limits};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::compiler::Maker;
use crate::error::AgentError;
use crate::fetch::Link;
use crate::folders::Folders;
use crate::lanes::{Lane, Owner};
use crate::room;
use crate::rooms::Event;

/// Compilers of small modules, and of others, at once: each may take gibibytes and several cores.
const COMPILERS: usize = 1;
/// Modules that are fetched at once.
const FETCHES: usize = 4;
/// Fetched modules of one owner that wait for a compiler: they lie on the disk.
const FETCHED: usize = 4;
/// Likewise of those that the master wants to know of.
const FETCHED_CHECKS: usize = 32;
/// Compiled code that is kept.
const CACHE_BYTES: u64 = 8 << 30;
/// Verdicts on bad modules that are remembered.
const BAD: usize = 256;

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
    /// This agent failed, and nothing is known of the module.
    Failed(String),
}

/// What comes of one step on the way to a module.
#[derive(Debug)]
pub(crate) enum Step {
    /// So many bytes were fetched.
    Fetched(Result<u64, Outcome>),
    /// The compiler of small modules has ended; with nothing if that took too long for a small one.
    Short(Option<Outcome>),
    /// The compiler of others has.
    Long(Outcome),
}

/// Who waits for a module.
#[derive(Debug)]
pub(crate) enum Waiter {
    Task(Box<Launch>),
    Scheduler { framework: FrameworkId, incarnation: Incarnation },
    Check(Key),
}

impl Waiter {
    fn owner(&self) -> Owner {
        match self {
            Self::Task(launch) => Some(launch.key.framework),
            Self::Scheduler { framework, .. } => Some(*framework),
            Self::Check(_) => None,
        }
    }
}

/// A module that is on its way.
#[derive(Debug)]
struct Wanted {
    /// Whoever asked first, the master aside: it is kept as theirs.
    owner: Owner,
    /// All who wait: it comes up in the turn of each.
    owners: BTreeSet<Owner>,
    waiters: Vec<Waiter>,
    /// In whose turn it was fetched: it lies on the disk as theirs.
    fetched_for: Owner,
    is_fetched: bool,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Modules {
    maker: Maker,
    inbox: mpsc::Sender<Event>,
    kept: Cache,
    bad: BTreeMap<Key, (String, String)>,
    wanted: BTreeMap<Key, Wanted>,
    fetches: Lane<Key>,
    short: Lane<Key>,
    long: Lane<Key>,
}

impl Modules {
    /// The table of what the folder holds; what is not whole, or another executable's, is put aside.
    pub(crate) fn open(
        folders: &Folders,
        executable: &Path,
        link: Link,
        inbox: mpsc::Sender<Event>,
    ) -> Result<Self, AgentError> {
        let folder = &folders.modules();
        let tag = tag_of(executable).map_err(AgentError::at(executable))?;
        let mut kept = Cache::new(room::for_cache(folder, CACHE_BYTES), Instant::now());
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
                    kept.add_found(key, text.into(), size);
                }
                _ => folders.put_aside(&path),
            }
        }
        let maker = Maker {
            folder: folder.to_string_lossy().into(),
            executable: executable.into(),
            tag: tag.into(),
            link,
        };
        Ok(Self {
            maker,
            inbox,
            kept,
            bad: BTreeMap::new(),
            wanted: BTreeMap::new(),
            fetches: Lane::new(FETCHES),
            short: Lane::new(COMPILERS),
            long: Lane::new(COMPILERS),
        })
    }

    /// What is known of the module, at once; else the waiter waits, and is in an answer of [`Modules::on_step`].
    pub(crate) fn want(
        &mut self,
        key: Key,
        waiter: Waiter,
        jobs: &mut JoinSet<()>,
    ) -> Option<(Waiter, Outcome)> {
        let owner = waiter.owner();
        if let Some((path, size)) = self.kept.find((key, owner), Instant::now()) {
            return Some((waiter, Outcome::Ready { path, size, compile_ms: 0 }));
        }
        if let Some((code, message)) = self.bad.get(&key) {
            return Some((waiter, Outcome::Bad { code: code.clone(), message: message.clone() }));
        }
        if let Some(wanted) = self.wanted.get_mut(&key) {
            wanted.waiters.push(waiter);
            wanted.owner = wanted.owner.or(owner);
            if wanted.owners.insert(owner) {
                for lane in [&mut self.fetches, &mut self.short, &mut self.long] {
                    lane.join(owner, key);
                }
                self.begin_next(jobs);
            }
            return None;
        }
        let owners = BTreeSet::from([owner]);
        let (waiters, fetched_for) = (vec![waiter], owner);
        let wanted = Wanted { owner, owners, waiters, fetched_for, is_fetched: false };
        self.wanted.insert(key, wanted);
        self.fetches.push(owner, 0, key);
        self.begin_next(jobs);
        None
    }

    /// Takes in what came of a step. Says who waited for the module, if that was the last one.
    pub(crate) fn on_step(
        &mut self,
        key: Key,
        step: Step,
        jobs: &mut JoinSet<()>,
    ) -> Option<(Vec<Waiter>, Outcome)> {
        let ended = match step {
            Step::Fetched(result) => {
                self.fetches.done();
                match result {
                    Ok(size) => {
                        if let Some(wanted) = self.wanted.get_mut(&key) {
                            wanted.is_fetched = true;
                        }
                        self.await_compiler(key, size, size <= limits::COMPILE_SHORT_BYTES);
                        None
                    }
                    Err(outcome) => Some(outcome),
                }
            }
            Step::Short(None) => {
                self.short.done();
                // Small and slow: behind all others of its owners.
                self.await_compiler(key, u64::MAX, false);
                None
            }
            Step::Short(outcome) => {
                self.short.done();
                outcome
            }
            Step::Long(outcome) => {
                self.long.done();
                Some(outcome)
            }
        };
        let ended = ended.map(|outcome| (self.on_made(key, &outcome), outcome));
        self.begin_next(jobs);
        ended
    }

    /// Queues a module for a compiler, in the turn of each who waits for it.
    fn await_compiler(&mut self, key: Key, size: u64, is_small: bool) {
        let Some(wanted) = self.wanted.get(&key) else { return };
        let lane = if is_small { &mut self.short } else { &mut self.long };
        for owner in &wanted.owners {
            lane.push(*owner, size, key);
        }
    }

    /// Begins whatever there is a place for.
    fn begin_next(&mut self, jobs: &mut JoinSet<()>) {
        let mut fetched: BTreeMap<Owner, usize> = BTreeMap::new();
        for wanted in self.wanted.values().filter(|wanted| wanted.is_fetched) {
            *fetched.entry(wanted.fetched_for).or_default() += 1;
        }
        let may_fetch = |owner: Owner| {
            let most = if owner.is_some() { FETCHED } else { FETCHED_CHECKS };
            fetched.get(&owner).is_none_or(|count| *count < most)
        };
        while let Some((owner, key)) = self.fetches.next(may_fetch) {
            if let Some(wanted) = self.wanted.get_mut(&key) {
                wanted.fetched_for = owner;
            }
            let maker = self.maker.clone();
            self.begin(key, jobs, async move { Step::Fetched(maker.fetch(key).await) });
        }
        let short = Duration::from_millis(limits::COMPILE_SHORT_MS);
        while let Some((_owner, key)) = self.short.next(|_| true) {
            let maker = self.maker.clone();
            self.begin(key, jobs, async move { Step::Short(maker.compile(key, short).await) });
        }
        let long = Duration::from_millis(limits::COMPILE_WALL_MS);
        while let Some((_owner, key)) = self.long.next(|_| true) {
            let maker = self.maker.clone();
            self.begin(key, jobs, async move {
                Step::Long(match maker.compile(key, long).await {
                    Some(outcome) => outcome,
                    None => maker.give_up(key, long).await,
                })
            });
        }
    }

    fn begin(
        &self,
        key: Key,
        jobs: &mut JoinSet<()>,
        step: impl Future<Output = Step> + Send + 'static,
    ) {
        let inbox = self.inbox.clone();
        jobs.spawn(async move {
            let step = step.await;
            // The loop may have stopped.
            drop(inbox.send(Event::ModuleStep { key, step }).await);
        });
    }

    /// Takes in what came of a module. Says who waited for it.
    fn on_made(&mut self, key: Key, outcome: &Outcome) -> Vec<Waiter> {
        let wanted = self.wanted.remove(&key);
        match outcome {
            Outcome::Ready { path, size, .. } => {
                let owner = wanted.as_ref().and_then(|wanted| wanted.owner);
                let now = Instant::now();
                for path in self.kept.add((key, owner), Arc::clone(path), *size, now) {
                    // A cell that has it mapped keeps it.
                    if let Err(error) = std::fs::remove_file(&*path) {
                        tracing::warn!(path = &*path, %error, "cannot remove a compiled module");
                    }
                }
            }
            Outcome::Bad { code, message } => {
                if self.bad.len() >= BAD {
                    self.bad.clear();
                }
                self.bad.insert(key, (code.clone(), message.clone()));
            }
            Outcome::Missing(_) | Outcome::Failed(_) => {}
        }
        wanted.map(|wanted| wanted.waiters).unwrap_or_default()
    }
}

pub(crate) fn kind_name(kind: ModuleKind) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    /// A table whose fetches go on for as long as the test does.
    fn modules(dir: &Path, inbox: mpsc::Sender<Event>) -> Modules {
        let (_master, link) = watch::channel(None);
        let folders = Folders::open(dir).unwrap();
        Modules::open(&folders, &std::env::current_exe().unwrap(), Link(link), inbox).unwrap()
    }

    fn key(number: u8) -> Key {
        (Digest([number; 32]), ModuleKind::Scheduler)
    }

    fn scheduler(framework: u64) -> Waiter {
        Waiter::Scheduler { framework: FrameworkId(framework), incarnation: Incarnation(1) }
    }

    #[tokio::test]
    async fn a_module_that_somebody_else_asked_for_first_comes_up_in_the_turn_of_each() {
        let dir =
            std::env::temp_dir().join(format!("tepui-modules-{:016x}", rand::random::<u64>()));
        let (inbox, _events) = mpsc::channel(64);
        let (mut modules, mut jobs) = (modules(&dir, inbox), JoinSet::new());
        for number in 0..20 {
            assert!(modules.want(key(number), scheduler(1), &mut jobs).is_none());
        }
        assert!(modules.want(key(19), Waiter::Check(key(19)), &mut jobs).is_none());
        assert!(modules.want(key(19), scheduler(2), &mut jobs).is_none());
        assert!(modules.want(key(18), scheduler(3), &mut jobs).is_none());
        let missing = || Step::Fetched(Err(Outcome::Missing("gone".to_owned())));
        // Both are fetched as soon as there is a place, though sixteen came before them.
        for (done, number, framework) in [(0, 19, 2), (1, 18, 3)] {
            let (waiters, _) = modules.on_step(key(done), missing(), &mut jobs).unwrap();
            assert_eq!(waiters.len(), 1);
            let wanted = &modules.wanted[&key(number)];
            assert_eq!(wanted.fetched_for, Some(FrameworkId(framework)));
        }
        assert!(modules.on_step(key(19), Step::Fetched(Ok(7)), &mut jobs).is_none());
        let path = dir.join("made").to_str().unwrap().into();
        let ready = Outcome::Ready { path, size: 9, compile_ms: 1 };
        let ended = modules.on_step(key(19), Step::Short(Some(ready)), &mut jobs);
        let (waiters, _) = ended.unwrap();
        assert_eq!(waiters.len(), 3, "the first to come up serves all");
        assert!(modules.want(key(19), scheduler(2), &mut jobs).is_some());
        jobs.shutdown().await;
        std::fs::remove_dir_all(&dir).unwrap();
    }

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
