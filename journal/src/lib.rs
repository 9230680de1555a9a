//! A log of opaque records with one sync per batch, and snapshots as files beside it.
//!
//! Owns its folder: a lock, `log/` (raft-engine), `snapshots/`. Never looks into a record, never continues after a
//! failed write. Its one surprise: all calls are synchronous and run on the caller's thread (a batch is one write and
//! one `fdatasync`, tens of microseconds to some milliseconds); give a journal a thread of its own, or use
//! `spawn_blocking`. A snapshot may be written on another ([`SnapshotWriter`]).

mod disk;
#[cfg(test)]
mod faults;
mod log;
mod room;
mod snapshots;

use crate::log::Log;
use crate::snapshots::Snapshots;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One record, at most; larger things are kept as blobs.
pub const RECORD_BYTES: usize = 64 << 20;
/// One batch, all its records together, at most.
pub const BATCH_BYTES: usize = 256 << 20;

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process, or another journal in this one, has it open.
    #[error("`{}` is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A file or folder cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log failed.
    #[error("the log of `{}` failed", path.display())]
    Log {
        /// The journal's folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: LogError,
    },
    /// What is on disk is not what was written. Nothing was changed; nothing can be recovered from it safely.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The journal's folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A record or a batch that is larger than [`RECORD_BYTES`] or [`BATCH_BYTES`]. The journal is as before.
    #[error("{bytes} bytes are too many for one write; {max} are allowed")]
    TooLarge {
        /// How many.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// A snapshot of what is not written yet, or of less than the last. The journal is as before.
    #[error("a snapshot at {index}, but the last is at {snapshot}, and the last record is {last}")]
    Index {
        /// What was asked for.
        index: u64,
        /// The newest snapshot; 0 if there is none.
        snapshot: u64,
        /// The last record; 0 if there is none.
        last: u64,
    },
    /// There is no room for a snapshot. The journal is as before, and goes on.
    #[error("there is no room for a snapshot, of which {bytes} bytes were written, in `{}`", path.display())]
    Full {
        /// Where it should stand.
        path: PathBuf,
        /// How many were written before that.
        bytes: u64,
    },
    /// An earlier write failed. The journal must be opened again, which shows what is on disk.
    #[error("an earlier write of the journal failed")]
    Poisoned,
}

impl JournalError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse(_) => "journal-in-use",
            Self::Damaged { .. } => "journal-damaged",
            Self::Log { source, .. } if source.is_damage() => "journal-damaged",
            Self::File { .. } | Self::Log { .. } => "journal-io",
            Self::TooLarge { .. } => "journal-too-large",
            Self::Index { .. } => "journal-index",
            Self::Full { .. } => "journal-full",
            Self::Poisoned => "journal-poisoned",
        }
    }

    fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

pub use crate::log::LogError;
pub use crate::room::Room;
pub use crate::snapshots::{SnapshotWriter, WrittenSnapshot};

/// What was on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest whole snapshot: the index of the last record that it covers, and its bytes.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// All records after the snapshot, by rising index without a gap.
    pub records: Vec<(u64, Vec<u8>)>,
    /// The index of the next record; 1 for an empty journal.
    pub next_index: u64,
}

/// An open journal; the only one of its folder.
///
/// Damage (not a crash, but bits that change on the disk) within the newest file of the log looks like a batch that was
/// cut, and loses the batches from there on; nothing is ever read that was not written, and there is never a gap.
///
/// Records have indexes from 1 on. A batch that was cut by a crash is not there after the next open; a batch for which
/// [`Journal::append`] returned is.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    log: Log,
    snapshots: Snapshots,
    next_index: u64,
    size_since_snapshot: u64,
    is_poisoned: bool,
    room: Arc<Room>,
    /// Held for as long as the journal lives; dropped last.
    _lock: File,
}

impl Journal {
    /// Opens the journal of a folder, which it makes if need be (the parent must be there), and reads it all.
    ///
    /// A batch at the end that is not whole is cut off. A damaged newest snapshot is skipped for the one before it.
    ///
    /// # Errors
    /// [`JournalError::InUse`]; [`JournalError::Damaged`] if what is left cannot be told from what was written.
    pub fn open(folder: &Path) -> Result<(Self, Recovered), JournalError> {
        Self::open_with(folder, 0)
    }

    /// As [`Self::open`], with so many bytes of the disk kept for this journal alone: a full disk then stops neither
    /// its writes nor the next open. See [`Room`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(folder: &Path, ballast_bytes: u64) -> Result<(Self, Recovered), JournalError> {
        make_folder(folder)?;
        let lock = lock(folder)?;
        let room = Room::open(folder, ballast_bytes);
        let room = Arc::new(room.map_err(|error| JournalError::file(folder, error))?);
        let (snapshots, newest) = Snapshots::open(&folder.join("snapshots"))?;
        let covered = newest.as_ref().map_or(0, |(index, _)| *index);
        let log_folder = folder.join("log");
        make_folder(&log_folder)?;
        let failed = |source| JournalError::Log { path: folder.to_owned(), source };
        let mut log = Log::open(&log_folder).map_err(failed)?;
        sync_folder(&log_folder)?;
        let (first, last) = log.span().unwrap_or((covered + 1, covered));
        let damaged = |what| Err(JournalError::Damaged { path: folder.to_owned(), what });
        if first > covered + 1 {
            return damaged(format!("records {} to {} are missing", covered + 1, first - 1));
        }
        // A snapshot is taken of records that were synced, so even a damaged one says how far the log went.
        let known = snapshots.highest_damaged();
        if last.max(covered) < known {
            return damaged(format!(
                "snapshot {known} is damaged, and records after {last} are missing"
            ));
        }
        let records =
            if last > covered { log.read(covered + 1, last).map_err(failed)? } else { Vec::new() };
        if last < covered {
            // The log has lost its end, but the snapshot has it; a log must not have a hole.
            log.clear().map_err(failed)?;
        }
        let next_index = last.max(covered) + 1;
        let size_since_snapshot = records.iter().map(|(_, record)| size_of_record(record)).sum();
        let journal = Self {
            folder: folder.to_owned(),
            log,
            snapshots,
            next_index,
            size_since_snapshot,
            is_poisoned: false,
            room,
            _lock: lock,
        };
        Ok((journal, Recovered { snapshot: newest, records, next_index }))
    }

    /// Appends a batch: when it returns, all of it is on disk; after a crash before that, all of it or none is.
    /// Says the index of its last record (of the last one before, if the batch is empty).
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] changes nothing. After any other error each later call fails: whether the batch is
    /// on disk can only be told by opening the journal again.
    pub fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, JournalError> {
        self.check()?;
        let mut bytes = 0_usize;
        for record in records {
            check_size(record.len(), RECORD_BYTES)?;
            bytes = bytes.saturating_add(record.len());
        }
        check_size(bytes, BATCH_BYTES)?;
        if !records.is_empty() {
            self.room.prepare(bytes as u64);
            let written = self.log.append(self.next_index, records);
            self.or_poison(written)?;
            self.room.refill();
            self.next_index += records.len() as u64;
            self.size_since_snapshot +=
                records.iter().map(|record| size_of_record(record)).sum::<u64>();
        }
        Ok(self.next_index - 1)
    }

    /// Keeps `bytes` as the state after record `index`, synced; then drops older snapshots but one, and the records
    /// that the older one covers. A snapshot at the index of the newest is already there, and nothing is done.
    ///
    /// # Errors
    /// [`JournalError::Index`] and [`JournalError::Full`] change nothing. After any other error each later call fails.
    pub fn snapshot(&mut self, index: u64, bytes: &[u8]) -> Result<(), JournalError> {
        self.check()?;
        if index == self.snapshots.newest() && index > 0 {
            return Ok(());
        }
        let written =
            self.begin_snapshot(index).and_then(|mut writer| match writer.write_all(bytes) {
                Ok(()) => writer.finish(),
                Err(error) => Err(writer.abandon(error)),
            });
        let written = written.inspect_err(|error| {
            self.is_poisoned |= matches!(error, JournalError::File { .. });
        })?;
        self.install_snapshot(&written)
    }

    /// Begins a snapshot of the state after record `index`, to be written on any thread while this journal goes on; one
    /// at a time. It is one once it is installed.
    ///
    /// # Errors
    /// [`JournalError::Index`] if it would not be newer than the newest; [`JournalError::Full`].
    pub fn begin_snapshot(&self, index: u64) -> Result<SnapshotWriter, JournalError> {
        self.check()?;
        let (snapshot, last) = (self.snapshots.newest(), self.next_index - 1);
        if index <= snapshot || index > last {
            return Err(JournalError::Index { index, snapshot, last });
        }
        // Records up to it were not measured one by one; an estimate is enough to know when to take the next one.
        let each = self.size_since_snapshot / (last - snapshot).max(1);
        let covers = self.size_since_snapshot - each * (last - index);
        self.snapshots.begin(index, covers, &self.room)
    }

    /// Makes what was written the newest snapshot; drops older ones but one, and the records that the older one covers.
    ///
    /// # Errors
    /// After any error each later call fails.
    pub fn install_snapshot(&mut self, written: &WrittenSnapshot) -> Result<(), JournalError> {
        self.check()?;
        let kept = self.snapshots.install(written);
        let keep_after = kept.inspect_err(|_failed| self.is_poisoned = true)?;
        if keep_after > 0 {
            let compacted = self.log.compact(keep_after);
            self.or_poison(compacted)?;
        }
        self.room.refill();
        self.size_since_snapshot = self.size_since_snapshot.saturating_sub(written.covers);
        Ok(())
    }

    /// Bytes of the records after the newest snapshot (about, if it was taken at an index before the last).
    pub fn size_since_snapshot(&self) -> u64 {
        self.size_since_snapshot
    }

    /// The room that it has, to be asked by others that fill the same disk.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The index that the next record will have.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// The index of the newest snapshot; 0 if there is none.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshots.newest()
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.is_poisoned { Err(JournalError::Poisoned) } else { Ok(()) }
    }

    fn or_poison<T>(&mut self, outcome: Result<T, LogError>) -> Result<T, JournalError> {
        outcome.map_err(|source| {
            self.is_poisoned = true;
            JournalError::Log { path: self.folder.clone(), source }
        })
    }
}

/// What a record adds to the log: itself, and about 16 bytes around it.
fn size_of_record(record: &[u8]) -> u64 {
    record.len() as u64 + 16
}

fn check_size(bytes: usize, max: usize) -> Result<(), JournalError> {
    if bytes > max { Err(JournalError::TooLarge { bytes, max }) } else { Ok(()) }
}

/// Makes a folder, and syncs its parent so that it is still there after a crash.
fn make_folder(folder: &Path) -> Result<(), JournalError> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            _ => sync_folder(Path::new(".")),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(JournalError::file(folder, error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|error| JournalError::file(folder, error))
}

/// The lock is of the kernel: it goes with the process, and is never left behind.
fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| JournalError::file(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(JournalError::file(&path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_every_call_fails_until_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.append(&[vec![1]]).unwrap();
        let failed: Result<(), _> = journal.or_poison(Err(LogError::GaveUp("sync".to_owned())));
        assert_eq!(failed.unwrap_err().code(), "journal-io");
        assert!(matches!(journal.append(&[vec![2]]), Err(JournalError::Poisoned)));
        assert!(matches!(journal.snapshot(1, b""), Err(JournalError::Poisoned)));
        drop(journal);
        assert_eq!(Journal::open(folder.path()).unwrap().1.next_index, 2);
    }

    #[test]
    fn a_snapshot_that_cannot_be_written_poisons_too() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.append(&[vec![1]]).unwrap();
        fs::remove_dir_all(folder.path().join("snapshots")).unwrap();
        assert!(matches!(journal.snapshot(1, b"x"), Err(JournalError::File { .. })));
        assert!(matches!(journal.append(&[vec![2]]), Err(JournalError::Poisoned)));
    }

    /// What cannot be told from the page cache: whether a batch is on disk whose sync failed.
    #[test]
    fn what_a_failed_sync_left_is_written_again_before_it_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        faults::watch(folder.path());
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.append(&[vec![1; 5_000]]).unwrap();
        faults::fail_next_sync(folder.path());
        assert_eq!(journal.append(&[vec![2; 5_000]]).unwrap_err().code(), "journal-io");
        drop(journal);
        let (mut journal, recovered) = Journal::open(folder.path()).unwrap();
        let believed = recovered.records;
        assert_eq!(believed.first().map(|(_, record)| record.as_slice()), Some(&[1; 5_000][..]));
        journal.append(&[vec![3; 5_000]]).unwrap();
        drop(journal);
        faults::cut_power(folder.path());
        let (_, recovered) = Journal::open(folder.path()).unwrap();
        let last = believed.len() as u64 + 1;
        let expected: Vec<_> = believed.into_iter().chain([(last, vec![3; 5_000])]).collect();
        assert_eq!(recovered.records, expected);
    }

    #[test]
    fn children_do_not_inherit_the_log_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("journal");
        let (mut journal, _) = Journal::open_with(&folder, 1 << 20).unwrap();
        journal.append(&[vec![1]]).unwrap();
        journal.snapshot(1, b"state").unwrap();
        let mut seen = 0;
        for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            if !target.starts_with(&folder) {
                continue;
            }
            let number = entry.file_name().into_string().unwrap();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
            assert_ne!(flags & 0o2_000_000, 0, "{} is left open", target.display());
            seen += 1;
        }
        // The lock, and a file of the log.
        assert!(seen >= 2, "{seen}");
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(bits(&folder), 0o700, "{}", folder.display());
            for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != "LOCK" {
                    assert_eq!(bits(&entry.path()), 0o600, "{}", entry.path().display());
                }
            }
        }
    }

    #[test]
    fn a_journal_can_be_given_to_a_thread() {
        fn send<T: Send>() {}
        send::<Journal>();
    }
}
