//! What a task takes of its agent's disk, while it runs.
//!
//! Each write and each new file is paid for before it is done, as if it only added something. When what a task may add
//! without a look is used up, its folder is measured, and it is ended or has room again: so a task that writes the same
//! bytes over and over is measured often and never wronged. Its one surprise: a task may be over its disk by an eighth for
//! a moment, but nobody may take the space that is kept for the agent's journal.

use crate::measure::measure;
use rustix::fs::statvfs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tepui_proto::cell::RunCommand;
use tepui_proto::limits;

/// What may be added without a look, at the least.
const LEAST_SLACK: u64 = 64 << 10;
/// Of the disk, the part that may be added without a look.
const SLACK_PART: u64 = 8;
/// Files, folders and links that may be made without a look.
const ENTRIES: u64 = limits::SANDBOX_ENTRIES / 8;
/// What all tasks of a cell may write between two looks at what the file system has.
const STEP: u64 = 4 << 20;

/// Why nothing more is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The task's own disk.
    #[error("its files and logs are more than its disk")]
    Task,
    /// The agent's, but for what is kept for its journal.
    #[error("the agent's disk is full")]
    Agent,
}

/// What the tasks of a cell share: what is left of the file system, and of open files. What is kept for the agent's own
/// is never given out.
#[derive(Debug)]
pub struct Shared {
    /// May be given out before the next look at the file system.
    left: AtomicI64,
    /// What each may hold open.
    pub(crate) open_files: usize,
    /// How many there may be.
    pub(crate) sandboxes: u32,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            left: AtomicI64::new(0),
            open_files: limits::OPEN_FILES,
            sandboxes: limits::CELL_INSTANCES,
        }
    }
}

impl Shared {
    /// For tasks that may hold so many files open, and so many of them.
    pub(crate) fn new(open_files: usize, sandboxes: u32) -> Self {
        Self { open_files, sandboxes, ..Self::default() }
    }

    fn take(&self, near: &Path, bytes: u64) -> bool {
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.left.fetch_sub(wanted, Ordering::AcqRel) >= wanted {
            return true;
        }
        let Some(rest) = room(near).checked_sub(bytes) else {
            self.left.store(0, Ordering::Release);
            return false;
        };
        self.left.store(i64::try_from(rest.min(STEP)).unwrap_or(0), Ordering::Release);
        true
    }
}

/// What tasks may still take of the file system that holds `near`.
pub(crate) fn room(near: &Path) -> u64 {
    // What cannot be looked at says so when it is written to.
    let Ok(system) = statvfs(near) else { return u64::MAX };
    let size = |blocks: u64| blocks.saturating_mul(system.f_frsize);
    let kept = limits::disk_reserve(size(system.f_blocks));
    let is_short_of_files =
        system.f_files > 0 && system.f_favail < limits::DISK_RESERVE_FILES.min(system.f_files / 4);
    if is_short_of_files { 0 } else { size(system.f_bavail).saturating_sub(kept) }
}

/// One task's part of the disk.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: Option<String>,
    limit: u64,
    shared: Arc<Shared>,
    /// A folder of the file system that all of this is on.
    near: PathBuf,
    /// May be added before the next look.
    allowance: AtomicU64,
    /// Made since the last look; however large the disk is, it is looked at before they are too many.
    entries: AtomicU64,
    /// Of its logs, what is beyond that which every task has for nothing.
    logged: AtomicU64,
    /// What its files were when they were measured last.
    seen: AtomicU64,
    /// Files that it has opened. One that has no name any more is found by no walk.
    opened: Mutex<Vec<Weak<File>>>,
}

impl Disk {
    pub(crate) fn new(run: &RunCommand, shared: &Arc<Shared>) -> Self {
        let near = Path::new(&run.stdout).parent().unwrap_or_else(|| Path::new("/")).to_owned();
        Self {
            folder: run.sandbox.clone(),
            limit: run.disk_bytes,
            shared: Arc::clone(shared),
            near,
            allowance: AtomicU64::new(if run.disk_bytes == 0 { 0 } else { slack(run.disk_bytes) }),
            entries: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            opened: Mutex::new(Vec::new()),
        }
    }

    /// Pays for so many bytes and new files, before they are written and made.
    pub(crate) async fn take(&self, bytes: u64, entries: u64) -> Result<(), Full> {
        let cost = bytes.saturating_add(entries.saturating_mul(limits::FILE_ENTRY_BYTES));
        if !self.shared.take(&self.near, cost) {
            return Err(Full::Agent);
        }
        let made = self.entries.fetch_add(entries, Ordering::AcqRel).saturating_add(entries);
        if made <= ENTRIES && self.take_allowance(cost) {
            return Ok(());
        }
        self.look().await?;
        if self.take_allowance(cost) { Ok(()) } else { Err(Full::Task) }
    }

    /// Pays for so many bytes of a log that has `kept` already. A log never ends its task.
    pub(crate) fn take_for_log(&self, kept: u64, bytes: u64) -> Result<(), Full> {
        let free = limits::TASK_LOG_BYTES.saturating_sub(kept);
        let beyond = bytes.saturating_sub(free);
        if beyond > 0 {
            let most = self.limit.saturating_sub(self.seen.load(Ordering::Acquire));
            let add = |logged: u64| logged.checked_add(beyond).filter(|sum| *sum <= most);
            let added = self.logged.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
            added.map_err(|_over| Full::Task)?;
        }
        if self.shared.take(&self.near, bytes) { Ok(()) } else { Err(Full::Agent) }
    }

    /// Sees to it that a log is not cut for files that are gone.
    pub(crate) async fn make_room_for_log(&self, kept: u64, bytes: u64) {
        let seen = self.seen.load(Ordering::Acquire);
        let logged = self.logged.load(Ordering::Acquire).saturating_add(bytes);
        let is_short = kept.saturating_add(bytes) > limits::TASK_LOG_BYTES
            && seen.saturating_add(logged) > self.limit;
        if is_short && seen > 0 {
            // If it is over, its next write to its folder ends it.
            let _is_over = self.look().await;
        }
    }

    /// Remembers a file, so that its bytes count even when it has no name any more.
    pub(crate) fn note_opened(&self, file: &Arc<File>) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.push(Arc::downgrade(file));
    }

    /// The files that are open are these.
    pub(crate) fn set_opened(&self, files: Vec<Weak<File>>) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// How many of those that were noted are still open.
    pub(crate) fn opened(&self) -> usize {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|file| file.strong_count() > 0);
        opened.len()
    }

    /// Whether there is a folder to write to at all.
    pub(crate) fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// What each task of its cell may hold open.
    pub(crate) fn open_files(&self) -> usize {
        self.shared.open_files
    }

    /// What its folder holds, and files without a name.
    pub(crate) async fn files(&self) -> u64 {
        let Some(folder) = self.folder.clone() else { return 0 };
        let enough = self.limit;
        let unnamed = self.unnamed();
        // A folder that is not there holds nothing.
        let walk = move || measure(&folder, enough).unwrap_or(0);
        let named = tokio::task::spawn_blocking(walk).await.unwrap_or(0);
        named.saturating_add(unnamed)
    }

    /// What its disk is.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Measures, and gives room again.
    pub(crate) async fn look(&self) -> Result<(), Full> {
        self.entries.store(0, Ordering::Release);
        let files = self.files().await;
        self.seen.store(files, Ordering::Release);
        let held = files.saturating_add(self.logged.load(Ordering::Acquire));
        let slack = slack(self.limit);
        // Logs alone are cut where the disk ends, and end nothing.
        if files > self.limit || held > self.limit.saturating_add(slack) {
            return Err(Full::Task);
        }
        self.allowance.store(self.limit.saturating_sub(held).max(slack), Ordering::Release);
        Ok(())
    }

    fn unnamed(&self) -> u64 {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let files = opened.iter().filter_map(Weak::upgrade);
        let sizes = files.filter_map(|file| rustix::fs::fstat(&*file).ok());
        let unnamed = sizes.filter(|data| data.st_nlink == 0);
        unnamed.map(|data| u64::try_from(data.st_size).unwrap_or(0)).fold(0, u64::saturating_add)
    }

    fn take_allowance(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        self.allowance.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }
}

fn slack(limit: u64) -> u64 {
    (limit / SLACK_PART).max(LEAST_SLACK)
}
