//! A log of opaque records with one sync per batch, and snapshots as files beside it.
//!
//! Owns its folder: a lock, `log/` (raft-engine), `snapshots/`. Never looks into a record, never continues after a
//! failed write. Its one surprise: all calls are synchronous and run on the caller's thread (a batch is one write and
//! one `fdatasync`, tens of microseconds to some milliseconds); give a journal a thread of its own, or use
//! `spawn_blocking`.

mod log;
mod snapshots;

use crate::log::Log;
use crate::snapshots::Snapshots;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

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
            Self::Poisoned => "journal-poisoned",
        }
    }

    fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

pub use crate::log::LogError;

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
        make_folder(folder)?;
        let lock = lock(folder)?;
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
            let written = self.log.append(self.next_index, records);
            self.or_poison(written)?;
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
    /// [`JournalError::Index`] changes nothing. After any other error each later call fails.
    pub fn snapshot(&mut self, index: u64, bytes: &[u8]) -> Result<(), JournalError> {
        self.check()?;
        let (snapshot, last) = (self.snapshots.newest(), self.next_index - 1);
        if index == snapshot && index > 0 {
            return Ok(());
        }
        if index <= snapshot || index > last {
            return Err(JournalError::Index { index, snapshot, last });
        }
        let kept = self.snapshots.write(index, bytes);
        let keep_after = kept.inspect_err(|_| self.is_poisoned = true)?;
        if keep_after > 0 {
            let compacted = self.log.compact(keep_after);
            self.or_poison(compacted)?;
        }
        if index == last {
            self.size_since_snapshot = 0;
        } else {
            // Records after the snapshot were not measured one by one; an estimate is enough to know when to take
            // the next one.
            let since = last - snapshot;
            self.size_since_snapshot = self.size_since_snapshot / since.max(1) * (last - index);
        }
        Ok(())
    }

    /// Bytes of the records after the newest snapshot (about, if it was taken at an index before the last).
    pub fn size_since_snapshot(&self) -> u64 {
        self.size_since_snapshot
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
    match fs::create_dir(folder) {
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

    #[test]
    fn a_journal_can_be_given_to_a_thread() {
        fn send<T: Send>() {}
        send::<Journal>();
    }
}
