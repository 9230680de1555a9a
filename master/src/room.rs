//! Who may still fill the master's disk: blobs first no more, then new work, the journal always.
//!
//! Owns the order in which a disk that fills up is felt. Never measures by itself: the journal's room does, which keeps
//! a reserve that nothing else can take.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tepui_journal::Room as JournalRoom;
use tepui_proto::limits;

/// Of a disk, the part that is kept unless the settings say otherwise ...
const RESERVE_PART: u64 = 20;
/// ... but no more than this part, however small it is.
const RESERVE_PART_MOST: u64 = 4;

/// There is too little room on the master's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the master's disk has {spare} bytes to spare, and {kept} are kept for its journal")]
pub struct DiskFull {
    /// What others than the journal could take.
    pub spare: u64,
    /// What has to be left.
    pub kept: u64,
}

impl DiskFull {
    /// The stable code.
    pub fn code(self) -> &'static str {
        let Self { .. } = self;
        "disk-full"
    }
}

/// What is kept of a disk. Clones are of the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    journal: Arc<JournalRoom>,
    /// Beside the ballast.
    reserve: u64,
    /// Bytes that were granted and are not written yet.
    granted: Arc<AtomicU64>,
    /// Whether new work was refused when it was last asked for.
    is_full: Arc<AtomicBool>,
}

/// What a reserve is made of: a ballast that is there at all times, and bytes that are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserve {
    pub(crate) ballast: u64,
    rest: u64,
}

/// All bytes of the disk of a folder.
pub(crate) fn total(folder: &Path) -> io::Result<u64> {
    JournalRoom::total(folder)
}

impl Reserve {
    /// As the settings say, or as fits the disk of this folder.
    ///
    /// # Errors
    /// If the disk does not say how large it is.
    pub(crate) fn of(folder: &Path, asked: Option<u64>) -> io::Result<Self> {
        let usual = || {
            let total = total(folder)?;
            let part = total / RESERVE_PART;
            let bounded = part.clamp(limits::DISK_RESERVE_MIN, limits::DISK_RESERVE_MAX);
            Ok::<u64, io::Error>(bounded.min(total / RESERVE_PART_MOST))
        };
        let reserve = asked.map_or_else(usual, Ok)?;
        let ballast = (reserve / 2).min(limits::BALLAST_BYTES);
        Ok(Self { ballast, rest: reserve - ballast })
    }
}

impl Room {
    pub(crate) fn new(journal: Arc<JournalRoom>, reserve: Reserve) -> Self {
        Self { journal, reserve: reserve.rest, granted: Arc::default(), is_full: Arc::default() }
    }

    /// Without a reserve, for tests of what stands on it.
    #[cfg(test)]
    pub(crate) fn without_reserve(folder: &Path) -> Self {
        let journal = Arc::new(JournalRoom::open(folder, 0).unwrap());
        Self::new(journal, Reserve { ballast: 0, rest: 0 })
    }

    /// Grants so many bytes of a blob; they count until the grant is dropped, which is once they are written.
    ///
    /// # Errors
    /// If they would touch the reserve.
    pub(crate) fn grant(&self, bytes: u64) -> Result<Grant<'_>, DiskFull> {
        let granted = self.granted.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let grant = Grant { granted: &self.granted, bytes };
        self.check(self.reserve.saturating_add(granted))?;
        Ok(grant)
    }

    /// Whether new work may be taken in: half of what is kept from blobs is left to it, and the rest to what it needs
    /// until it ends.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check_work(&self) -> Result<(), DiskFull> {
        let verdict = self.check(self.reserve / 2);
        let is_full = verdict.is_err();
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            if let Err(full) = verdict {
                tracing::warn!("new work is refused: {full}");
            } else {
                tracing::info!("there is room on the disk again; new work is taken in");
            }
        }
        verdict
    }

    /// What to say of a write for which there was no room.
    pub(crate) fn full(&self) -> DiskFull {
        DiskFull { spare: self.journal.spare().unwrap_or(0), kept: self.reserve }
    }

    fn check(&self, kept: u64) -> Result<(), DiskFull> {
        // A disk that does not even say how full it is will not take more.
        let spare = self.journal.spare().inspect_err(|error| {
            tracing::error!("the disk does not say how full it is: {error}");
        });
        let spare = spare.unwrap_or(0);
        if spare < kept { Err(DiskFull { spare, kept }) } else { Ok(()) }
    }
}

/// Bytes that may be written.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    granted: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.granted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
