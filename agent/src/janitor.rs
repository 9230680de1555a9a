//! Removes sandboxes, logs and what earlier processes left, behind the loop's back.
//!
//! What a guest filled may take long to remove, so nothing waits for it: neither the loop nor the start of an agent. Its
//! one surprise: what cannot wait in the queue is renamed into the folder of trash, which costs no more than the queue.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::folders::Folders;
use crate::removal;
use tepui_proto::LaunchNumber;
use tepui_proto::control::LogStream;

/// Removals that may wait in memory.
const WAITING: usize = 16_384;
/// Removals between two looks at the trash.
const BATCH: usize = 1_024;
/// What cannot be removed is tried again with each batch, and told once in so long.
const TELL: Duration = Duration::from_mins(1);

/// What is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Removal {
    Sandbox(LaunchNumber),
    Logs(LaunchNumber),
}

impl Removal {
    fn paths(self, folders: &Folders) -> Vec<PathBuf> {
        match self {
            Self::Sandbox(launch) => vec![folders.sandbox(launch).into()],
            Self::Logs(launch) => [LogStream::Stdout, LogStream::Stderr]
                .map(|stream| folders.log(launch, stream).into())
                .to_vec(),
        }
    }
}

/// A handle to the task that removes. Once it is dropped, a removal that goes on stops soon.
#[derive(Debug)]
pub(crate) struct Janitor {
    folders: Folders,
    removals: mpsc::Sender<Removal>,
    stop: Arc<AtomicBool>,
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Janitor {
    /// Its handle, and the task itself.
    pub(crate) fn new(folders: Folders) -> (Self, impl Future<Output = ()>) {
        let (removals, waiting) = mpsc::channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let task = work(folders.clone(), waiting, Arc::clone(&stop));
        (Self { folders, removals, stop }, task)
    }

    pub(crate) fn remove(&self, removal: Removal) {
        if self.removals.try_send(removal).is_err() {
            removal.paths(&self.folders).iter().for_each(|path| self.folders.put_aside(path));
        }
    }
}

async fn work(folders: Folders, mut waiting: mpsc::Receiver<Removal>, stop: Arc<AtomicBool>) {
    let mut batch = Vec::new();
    let mut failures = Failures::default();
    loop {
        let (folders, stop) = (folders.clone(), Arc::clone(&stop));
        let removed = tokio::task::spawn_blocking(move || {
            for path in batch.iter().flat_map(|removal: &Removal| removal.paths(&folders)) {
                failures.note(&path, removal::remove(&path, &stop));
            }
            failures.note(&folders.trash(), removal::empty(&folders.trash(), &stop));
            failures
        });
        failures = removed.await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot remove files");
            Failures::default()
        });
        batch = Vec::new();
        if waiting.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
    }
}

/// Tells of what cannot be removed, but not of all of it.
#[derive(Debug, Default)]
struct Failures {
    /// When one was told of last.
    told: Option<Instant>,
    /// Those since then.
    untold: u64,
}

impl Failures {
    fn note(&mut self, path: &Path, removed: io::Result<()>) {
        let Err(error) = removed else { return };
        if let Some(untold) = self.count(Instant::now()) {
            tracing::warn!(path = %path.display(), %error, untold, "cannot remove");
        }
    }

    /// One more. If it is to be told, how many were not since the last one that was.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_in_a_while() {
        let (mut failures, begin) = (Failures::default(), Instant::now());
        assert_eq!(failures.count(begin), Some(0));
        for second in 0..60 {
            assert_eq!(failures.count(begin + Duration::from_secs(second)), None);
        }
        assert_eq!(failures.count(begin + TELL), Some(60));
        assert_eq!(failures.count(begin + TELL), None);
    }

    #[tokio::test]
    async fn an_agent_starts_over_whatever_guests_left_and_it_goes_in_the_background() {
        let dir =
            std::env::temp_dir().join(format!("tepui-janitor-{:016x}", rand::random::<u64>()));
        let folders = Folders::open(&dir).unwrap();
        let sandbox = PathBuf::from(folders.sandbox(LaunchNumber(7)));
        // As deep as a path can name; deeper ones are `removal`'s.
        std::fs::create_dir_all(sandbox.join("d/".repeat(1_500))).unwrap();
        // Opened anew without anybody having removed anything.
        let folders = Folders::open(&dir).unwrap();
        assert!(!sandbox.exists());
        assert!(std::fs::read_dir(folders.trash()).unwrap().next().is_some());
        std::fs::create_dir_all(sandbox.join("x/y")).unwrap();
        let (removals, waiting) = mpsc::channel(1);
        removals.try_send(Removal::Sandbox(LaunchNumber(7))).unwrap();
        // What does not fit into the queue is put aside.
        let janitor =
            Janitor { folders: folders.clone(), removals: removals.clone(), stop: Arc::default() };
        std::fs::write(folders.log(LaunchNumber(7), LogStream::Stderr), "log").unwrap();
        janitor.remove(Removal::Logs(LaunchNumber(7)));
        assert_eq!(std::fs::read_dir(folders.logs()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(folders.trash()).unwrap().count(), 2 + 1);
        drop((janitor, removals));
        work(folders.clone(), waiting, Arc::default()).await;
        assert!(!sandbox.exists());
        assert!(std::fs::read_dir(folders.trash()).unwrap().next().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
