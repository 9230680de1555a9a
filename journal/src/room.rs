//! The room that a journal has on its disk, and what it keeps of it for itself.
//!
//! A disk is shared: with blobs, with logs of tasks, with whatever else the machine does. A journal that finds no room
//! ends its process, so it keeps a reserve: a file of its own that holds nothing (the ballast), and that it gives up
//! when its own writes would not fit otherwise. The others are asked to stop well before ([`Room::spare`]). Its one
//! surprise: while the ballast is given up, what is missing of it counts as used, so that nobody else takes it.

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The name of the ballast in the journal's folder.
const BALLAST: &str = "ballast";
/// Beside what is to be written: the rest of a file of the log, and what a file system wants for itself.
const MARGIN: u64 = 32 << 20;
/// Of a small disk, what a snapshot leaves to the log.
const LOG_PART: u64 = 16;
/// Files that have to be possible beside what others make: of the log, snapshots, and the ballast.
const FILES: u64 = 1_024;

/// What there is on a journal's disk. Shared by the journal and by all who would fill its disk.
#[derive(Debug)]
pub struct Room {
    ballast: PathBuf,
    /// How large the ballast should be.
    wanted: u64,
    /// How large it is; changed under the lock only.
    held: AtomicU64,
    changing: Mutex<()>,
}

impl Room {
    /// Of a journal's folder, which has to be there; `ballast_bytes` are kept for the journal alone, as far as the
    /// disk has them now.
    ///
    /// # Errors
    /// If the ballast cannot be looked at or given up.
    pub fn open(folder: &Path, ballast_bytes: u64) -> io::Result<Self> {
        let ballast = folder.join(BALLAST);
        let held = match fs::metadata(&ballast) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let room = Self {
            ballast,
            wanted: ballast_bytes,
            held: AtomicU64::new(held),
            changing: Mutex::default(),
        };
        if held > room.wanted || room.free()? < MARGIN {
            room.release()?;
        }
        room.refill();
        Ok(room)
    }

    /// Bytes that others than the journal may take before its reserve is touched; 0 if too few more files can be made.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn spare(&self) -> io::Result<u64> {
        let disk = self.disk()?;
        // File systems without a number of files of their own say 0 of 0.
        if disk.f_files > 0 && disk.f_favail < FILES {
            return Ok(0);
        }
        let missing = self.wanted.saturating_sub(self.held.load(Ordering::Relaxed));
        Ok(free(&disk).saturating_sub(missing))
    }

    /// All bytes of the disk.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn total(folder: &Path) -> io::Result<u64> {
        Ok(total(&statvfs(folder)?))
    }

    /// Before the journal writes so many bytes: gives the ballast up if they would not fit without.
    pub(crate) fn prepare(&self, bytes: u64) {
        let _lock = self.lock();
        let needed = bytes.saturating_add(MARGIN);
        if self.held.load(Ordering::Relaxed) > 0 && self.free().is_ok_and(|free| free < needed) {
            match self.release() {
                Ok(()) => tracing::warn!(
                    bytes = self.wanted,
                    "the disk is full; the journal gives up its ballast, and nothing new is taken in"
                ),
                Err(error) => tracing::error!("the ballast cannot be given up: {error}"),
            }
        }
    }

    /// Whether so many bytes are free. A disk that does not say so says it when it is written to.
    pub(crate) fn has_free(&self, bytes: u64) -> bool {
        self.free().map_or(true, |free| free >= bytes)
    }

    /// What a snapshot leaves to the log's next writes: more than one of the loop's batches takes.
    pub(crate) fn for_log(&self) -> u64 {
        self.disk().map_or(0, |disk| (3 * MARGIN).min(total(&disk) / LOG_PART))
    }

    /// Takes the ballast back, as soon as there is room for it and the journal's next writes.
    pub(crate) fn refill(&self) {
        let _lock = self.lock();
        let held = self.held.load(Ordering::Relaxed);
        let missing = self.wanted.saturating_sub(held);
        let has_room = || self.free().is_ok_and(|free| free >= missing.saturating_add(2 * MARGIN));
        if missing == 0 || !has_room() {
            return;
        }
        match self.make() {
            Ok(()) => self.held.store(self.wanted, Ordering::Relaxed),
            // Others may have been faster; what is missing counts as used, and is tried again.
            Err(error) => {
                tracing::warn!("the journal's ballast cannot be had: {error}");
                self.release().ok();
            }
        }
    }

    /// The journal writes its log and a snapshot at once, and both want room.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.ballast)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, self.wanted)?)
    }

    fn release(&self) -> io::Result<()> {
        match File::options().write(true).open(&self.ballast) {
            Ok(file) => file.set_len(0)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.held.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(free(&self.disk()?))
    }

    fn disk(&self) -> io::Result<StatVfs> {
        Ok(statvfs(self.ballast.parent().unwrap_or_else(|| Path::new(".")))?)
    }
}

fn total(disk: &StatVfs) -> u64 {
    disk.f_blocks.saturating_mul(disk.f_frsize)
}

fn free(disk: &StatVfs) -> u64 {
    disk.f_bavail.saturating_mul(disk.f_frsize)
}
