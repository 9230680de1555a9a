//! Removes sandboxes and logs behind the loop's back, many at a time.

use tokio::sync::mpsc;

use crate::folders::Folders;
use tepui_proto::LaunchNumber;
use tepui_proto::control::LogStream;

/// Removals that may wait; beyond it the loop removes by itself, which slows it down to the pace of the disk.
const WAITING: usize = 16_384;

/// What is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Removal {
    Sandbox(LaunchNumber),
    Logs(LaunchNumber),
}

/// A handle to the task that removes.
#[derive(Debug)]
pub(crate) struct Janitor {
    folders: Folders,
    removals: mpsc::Sender<Removal>,
}

impl Janitor {
    /// Its handle, and the task itself.
    pub(crate) fn new(folders: Folders) -> (Self, impl Future<Output = ()>) {
        let (removals, waiting) = mpsc::channel(WAITING);
        let task = work(folders.clone(), waiting);
        (Self { folders, removals }, task)
    }

    pub(crate) fn remove(&self, removal: Removal) {
        if self.removals.try_send(removal).is_err() {
            remove(&self.folders, removal);
        }
    }
}

async fn work(folders: Folders, mut waiting: mpsc::Receiver<Removal>) {
    loop {
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, 1_024).await == 0 {
            return;
        }
        let folders = folders.clone();
        let removed = tokio::task::spawn_blocking(move || {
            for removal in batch {
                remove(&folders, removal);
            }
        });
        if let Err(error) = removed.await {
            tracing::error!(%error, "cannot remove files");
        }
    }
}

fn remove(folders: &Folders, removal: Removal) {
    match removal {
        Removal::Sandbox(launch) => {
            note(&folders.sandbox(launch), std::fs::remove_dir_all(folders.sandbox(launch)));
        }
        Removal::Logs(launch) => {
            for stream in [LogStream::Stdout, LogStream::Stderr] {
                let path = folders.log(launch, stream);
                note(&path, std::fs::remove_file(&path));
            }
        }
    }
}

fn note(path: &str, removed: std::io::Result<()>) {
    match removed {
        // A task that wrote nothing has no log file.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path, %error, "cannot remove");
        }
        _ => {}
    }
}
