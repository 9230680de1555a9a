//! The log itself: raft-engine, with one region and entries that are bytes and an index.
//!
//! Owns the meeting with raft-engine, and turns its panics (a failed sync, an entry that is not what the index says)
//! into errors. The engine keeps an index entry per record in memory, not the record.

use crate::disk::{Disk, write_again};
use protobuf::well_known_types::BytesValue;
use raft_engine::internals::FilePipeLog;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};
use std::any::Any;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The only region.
const REGION: u64 = 1;
/// A file of the log; small, because whole files are what goes away after a snapshot.
const FILE: ReadableSize = ReadableSize::mb(16);
/// Files are not looked at for removal before the log has this size.
const PURGE: ReadableSize = ReadableSize::mb(32);
/// Entries that are read at once at open, so that they are not held twice.
const READ_ENTRIES: u64 = 256;
/// The index that each entry carries behind its record.
const INDEX_BYTES: usize = 8;

/// How raft-engine's files begin ...
const START: &[u8] = b"RAFT-LOG-FILE-HEADER";
/// ... and more than such a beginning takes.
const START_BYTES: u64 = 512;

/// Why the log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It says so.
    #[error(transparent)]
    Engine(#[from] raft_engine::Error),
    /// It gave up: a failed sync, or files that contradict each other.
    #[error("the log gave up: {0}")]
    GaveUp(String),
    /// An entry that is not what it should be.
    #[error("record {0} is missing or damaged")]
    Record(u64),
    /// The start of a file was synced before anything was put behind it, and is not there.
    #[error("the start of `{}` is damaged", .0.display())]
    Start(PathBuf),
    /// A file cannot be read or synced.
    #[error("the files of the log cannot be used")]
    Files(#[from] io::Error),
    /// raft-engine takes its folder as text.
    #[error("the path of the log is not UTF-8")]
    Path,
}

impl LogError {
    /// Whether what is on disk is not what was written.
    pub(crate) fn is_damage(&self) -> bool {
        use raft_engine::Error as E;
        matches!(
            self,
            Self::Engine(E::Corruption(_) | E::Codec(_) | E::Protobuf(_))
                | Self::Record(_)
                | Self::Start(_)
        )
    }
}

struct Entry;

impl MessageExt for Entry {
    type Entry = BytesValue;

    /// Behind the record, so that it can be cut off without moving the record.
    fn index(entry: &BytesValue) -> u64 {
        entry.value.last_chunk::<INDEX_BYTES>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

type Files = Engine<Disk, FilePipeLog<Disk>>;

pub(crate) struct Log {
    /// None only while it is dropped.
    engine: Option<Files>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("span", &self.span()).finish()
    }
}

impl Log {
    /// Opens it, and cuts off a batch at its end that is not whole.
    pub(crate) fn open(folder: &Path) -> Result<Self, LogError> {
        let config = Config {
            dir: folder.to_str().ok_or(LogError::Path)?.to_owned(),
            // Only the end of the newest file may be cut; damage anywhere else is an error.
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 2,
            target_file_size: FILE,
            purge_threshold: PURGE,
            // Off: it would put old bytes behind the end of a new file, for a speed that is not needed here.
            enable_log_recycle: false,
            // Off: blobs do not go through the log, and the rest is small.
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        // raft-engine would take a damaged start for a file that was never used, and empty it.
        for path in files(folder)? {
            let mut start = Vec::new();
            let file = File::open(&path)?;
            let is_used = file.metadata()?.len() > START_BYTES;
            file.take(START.len() as u64).read_to_end(&mut start)?;
            if is_used && start != START {
                return Err(LogError::Start(path));
            }
        }
        // What was read is not yet known to be on disk: a sync may have failed before.
        for path in newest(files(folder)?) {
            write_again(&path)?;
        }
        let engine = guarded(|| Engine::open_with_file_system(config, Arc::new(Disk)))?;
        // It syncs the starts of its files, but for the first one.
        for path in files(folder)? {
            File::open(path)?.sync_all()?;
        }
        Ok(Self { engine: Some(engine) })
    }

    /// The first and last index; none if it is empty.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let engine = self.engine.as_ref()?;
        Some((engine.first_index(REGION)?, engine.last_index(REGION)?))
    }

    /// Reads the records from `first` to `last`, each checked.
    pub(crate) fn read(&self, first: u64, last: u64) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
        let mut records = Vec::new();
        let mut next = first;
        while next <= last {
            let end = last.min(next + READ_ENTRIES - 1) + 1;
            let entries = guarded(|| {
                let mut entries = Vec::new();
                self.engine()?.fetch_entries_to::<Entry>(REGION, next, end, None, &mut entries)?;
                Ok(entries)
            })?;
            for mut entry in entries {
                let length = entry.value.len().checked_sub(INDEX_BYTES);
                let length = length
                    .filter(|_| Entry::index(&entry) == next)
                    .ok_or(LogError::Record(next))?;
                entry.value.truncate(length);
                records.push((next, entry.value));
                next += 1;
            }
            if next != end {
                return Err(LogError::Record(next));
            }
        }
        Ok(records)
    }

    /// Appends a batch and syncs it.
    pub(crate) fn append(&mut self, first: u64, records: &[Vec<u8>]) -> Result<(), LogError> {
        let entries: Vec<BytesValue> =
            (first..).zip(records).map(|(index, record)| entry(index, record)).collect();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Entry>(REGION, &entries)?;
        drop(entries);
        guarded(|| self.engine()?.write(&mut batch, true))?;
        Ok(())
    }

    /// Forgets the records up to `index`, and removes files that hold nothing else.
    pub(crate) fn compact(&mut self, index: u64) -> Result<(), LogError> {
        // Not synced: if it is lost, more records are there than needed.
        self.command(Command::Compact { index: index + 1 }, false)?;
        guarded(|| self.engine()?.purge_expired_files())?;
        Ok(())
    }

    /// Forgets all records.
    pub(crate) fn clear(&mut self) -> Result<(), LogError> {
        self.command(Command::Clean, true)
    }

    fn command(&mut self, command: Command, sync: bool) -> Result<(), LogError> {
        let mut batch = LogBatch::with_capacity(1);
        batch.add_command(REGION, command);
        guarded(|| self.engine()?.write(&mut batch, sync))?;
        Ok(())
    }

    fn engine(&self) -> Result<&Files, raft_engine::Error> {
        self.engine.as_ref().ok_or(raft_engine::Error::EntryNotFound)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let engine = self.engine.take();
        if let Err(error) = guarded(|| {
            drop(engine);
            Ok(())
        }) {
            tracing::error!("the log did not close well: {error}");
        }
    }
}

/// raft-engine's files: what was appended, and what it moved.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "raftlog" || extension == "rewrite")
        {
            files.push(path);
        }
    }
    Ok(files)
}

/// The newest file of each kind: the older ones were synced before there was another.
fn newest(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    // Their names are numbers of one width.
    files.sort_unstable_by(|one, other| (one.extension(), one).cmp(&(other.extension(), other)));
    files.reverse();
    files.dedup_by(|older, newer| older.extension() == newer.extension());
    files
}

fn entry(index: u64, record: &[u8]) -> BytesValue {
    let mut entry = BytesValue::new();
    entry.value.reserve_exact(record.len() + INDEX_BYTES);
    entry.value.extend_from_slice(record);
    entry.value.extend_from_slice(&index.to_le_bytes());
    entry
}

/// raft-engine panics when a sync fails. The caller never uses the engine again after an error, so that nothing that
/// the panic left behind is seen.
fn guarded<T>(call: impl FnOnce() -> Result<T, raft_engine::Error>) -> Result<T, LogError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(outcome) => Ok(outcome?),
        Err(panic) => Err(LogError::GaveUp(text(panic.as_ref()))),
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason was given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_an_error() {
        let failed = guarded::<()>(|| panic!("pipe::sync()"));
        assert!(matches!(failed, Err(LogError::GaveUp(text)) if text == "pipe::sync()"));
    }

    #[test]
    fn an_entry_carries_its_index_behind_its_record() {
        assert_eq!(Entry::index(&entry(7, b"record")), 7);
        assert_eq!(Entry::index(&BytesValue::new()), 0);
    }
}
