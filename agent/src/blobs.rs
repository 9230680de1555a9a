//! Blobs that tasks take as inputs, kept for the next task that takes them.
//!
//! One task owns the table: a blob that many tasks want at once is fetched once. Holds at most [`CACHE_BYTES`], or its part
//! of a small disk, and the newest blob; whoever asked holds the file open, so that removing it disturbs nobody.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_proto::{Digest, limits};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::fetch::{FetchError, Link};
use crate::room;

/// Kept between tasks.
const CACHE_BYTES: u64 = 1 << 30;
/// Blobs that are kept, however small: each is an open file.
const CACHE_BLOBS: usize = 256;
/// Fetched at once.
const FETCHES: usize = 8;
/// Requests that may wait for the table.
const WAITING: usize = 256;

/// A blob that is here.
#[derive(Clone, Debug)]
pub(crate) struct LocalBlob {
    pub(crate) file: Arc<File>,
    pub(crate) size_bytes: u64,
}

type Answer = Result<LocalBlob, Arc<FetchError>>;
type Request = (Digest, oneshot::Sender<Answer>);

/// A handle to the table. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Blobs(mpsc::Sender<Request>);

impl Blobs {
    /// A handle, and the task that owns the table. What an earlier process left in the folder is removed.
    pub(crate) fn new(folder: PathBuf, link: Link) -> (Self, impl Future<Output = ()>) {
        let (requests, waiting) = mpsc::channel(WAITING);
        let most = room::for_cache(&folder, CACHE_BYTES);
        let (kept, wanted) = (BTreeMap::new(), BTreeMap::new());
        (Self(requests), work(Table { folder, link, kept, wanted, uses: 0, most }, waiting))
    }

    /// The blob, fetched if it is not here. None if the agent stops.
    pub(crate) async fn want(&self, digest: Digest) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.send((digest, reply)).await.ok()?;
        answer.await.ok()
    }
}

#[derive(Debug)]
struct Table {
    folder: PathBuf,
    link: Link,
    /// With the count of its last use.
    kept: BTreeMap<Digest, (LocalBlob, u64)>,
    /// Being fetched, and who waits.
    wanted: BTreeMap<Digest, Vec<oneshot::Sender<Answer>>>,
    uses: u64,
    /// What may be kept.
    most: u64,
}

async fn work(mut table: Table, mut requests: mpsc::Receiver<Request>) {
    table.sweep();
    let permits = Arc::new(tokio::sync::Semaphore::new(FETCHES));
    let mut fetches: JoinSet<(Digest, Result<LocalBlob, FetchError>)> = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some((digest, reply)) = request else { return };
                if table.is_to_be_fetched(digest, reply) {
                    let (permits, link, path) = (Arc::clone(&permits), table.link.clone(), table.path(digest));
                    fetches.spawn(async move {
                        let permit = permits.acquire().await;
                        let fetched = fetch(link, digest, &path).await;
                        drop(permit);
                        (digest, fetched)
                    });
                }
            }
            Some(Ok((digest, fetched))) = fetches.join_next() => table.on_fetched(digest, fetched),
        }
    }
}

impl Table {
    fn sweep(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove");
            }
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    /// Answers if it is here; else notes who waits, and says whether nobody has before.
    fn is_to_be_fetched(&mut self, digest: Digest, reply: oneshot::Sender<Answer>) -> bool {
        self.uses += 1;
        if let Some((blob, used)) = self.kept.get_mut(&digest) {
            *used = self.uses;
            // Whoever asked may have gone.
            drop(reply.send(Ok(blob.clone())));
            return false;
        }
        let waiting = self.wanted.entry(digest).or_default();
        waiting.push(reply);
        waiting.len() == 1
    }

    fn on_fetched(&mut self, digest: Digest, fetched: Result<LocalBlob, FetchError>) {
        let fetched = fetched.map_err(Arc::new);
        for reply in self.wanted.remove(&digest).unwrap_or_default() {
            // Whoever asked may have gone.
            drop(reply.send(fetched.clone()));
        }
        if let Ok(blob) = fetched {
            self.uses += 1;
            self.kept.insert(digest, (blob, self.uses));
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        let mut total: u64 = self.kept.values().map(|(blob, _used)| blob.size_bytes).sum();
        while (total > self.most || self.kept.len() > CACHE_BLOBS) && self.kept.len() > 1 {
            let oldest = self
                .kept
                .iter()
                .min_by_key(|(_digest, (_blob, used))| *used)
                .map(|(digest, _)| *digest);
            let Some((digest, (blob, _used))) =
                oldest.and_then(|digest| self.kept.remove_entry(&digest))
            else {
                return;
            };
            total = total.saturating_sub(blob.size_bytes);
            if let Err(error) = std::fs::remove_file(self.path(digest)) {
                tracing::warn!(%digest, %error, "cannot remove a blob");
            }
        }
    }
}

async fn fetch(mut link: Link, digest: Digest, path: &Path) -> Result<LocalBlob, FetchError> {
    let fetched = link.fetch(digest, path, limits::BLOB_BYTES).await;
    if fetched.is_err() {
        // There may be a part of it, or nothing.
        drop(std::fs::remove_file(path));
    }
    let size_bytes = fetched?;
    let file = File::open(path)?;
    Ok(LocalBlob { file: Arc::new(file), size_bytes })
}
