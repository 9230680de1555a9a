//! Snapshots: a file each, named by index, whole or not there, checked when it is read; the newest two are kept.
//!
//! A file is 40 bytes of head (magic, index, length, XXH3-128 of index, body, and length) and the body. It is written
//! by whoever makes the state into bytes, on any thread ([`SnapshotWriter`]); only its name is given by the journal.

use crate::room::Room;
use crate::{JournalError, make_folder, sync_folder};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"TEPUISN2";
const HEAD_BYTES: usize = 40;
/// How many are kept: the newest, and one in case it is damaged.
const KEPT: usize = 2;
/// After so many bytes of a snapshot it is seen to that there is room for as many more.
const STEP: u64 = 4 << 20;

/// A snapshot that is being written: beside those that are there, without the name of one. What is dropped before
/// [`Self::finish`] was never there.
#[derive(Debug)]
pub struct SnapshotWriter {
    index: u64,
    path: PathBuf,
    file: BufWriter<File>,
    sum: Hasher,
    bytes: u64,
    room: Arc<Room>,
    /// Bytes of log that it makes unneeded.
    covers: u64,
}

/// A snapshot that is on disk whole, and has no name yet.
#[derive(Debug)]
pub struct WrittenSnapshot {
    pub(crate) index: u64,
    pub(crate) covers: u64,
    path: PathBuf,
    bytes: u64,
}

impl WrittenSnapshot {
    /// How many bytes the state has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl SnapshotWriter {
    fn create(
        path: PathBuf,
        index: u64,
        covers: u64,
        room: Arc<Room>,
    ) -> Result<Self, JournalError> {
        // A small one makes more room than it takes, as it cuts the log; but not where it would take the last.
        make_room(&room, STEP, STEP).map_err(|error| failed(&path, 0, error))?;
        let open =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let started = open.and_then(|file| {
            let mut file = BufWriter::with_capacity(256 << 10, file);
            file.write_all(&[0; HEAD_BYTES])?;
            Ok(file)
        });
        let file = started.map_err(|error| failed(&path, 0, error))?;
        Ok(Self { index, path, file, sum: Hasher::new(index), bytes: 0, room, covers })
    }

    /// Writes what is left, and waits until all of it is on disk.
    ///
    /// # Errors
    /// [`JournalError::Full`], after which nothing is left of it; [`JournalError::File`].
    pub fn finish(self) -> Result<WrittenSnapshot, JournalError> {
        let Self { index, path, file, sum, bytes, covers, .. } = self;
        let complete = || {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&sum.head(index, bytes))?;
            file.sync_all()
        };
        complete().map_err(|error| failed(&path, bytes, error))?;
        Ok(WrittenSnapshot { index, covers, path, bytes })
    }

    /// After a write that failed with this: what to tell, and nothing is left of the snapshot if the disk was full.
    pub fn abandon(self, error: io::Error) -> JournalError {
        let Self { path, file, bytes, .. } = self;
        // What is left in the buffer is not wanted.
        drop(file.into_parts());
        failed(&path, bytes, error)
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = |bytes: u64| bytes / STEP;
        let after = self.bytes + bytes.len() as u64;
        if step(self.bytes) != step(after) {
            make_room(&self.room, STEP + bytes.len() as u64, self.room.for_log())?;
        }
        let count = self.file.write(bytes)?;
        if let Some(written) = bytes.get(..count) {
            self.sum.update(written);
        }
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Sees to it that so many bytes fit, and leave so many to the log: the loop goes on meanwhile, and must not be the one
/// that finds the disk full.
fn make_room(room: &Room, bytes: u64, left: u64) -> io::Result<()> {
    room.prepare(bytes);
    if room.has_free(bytes.saturating_add(left)) {
        Ok(())
    } else {
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// What became of a write: without room nothing is left, nobody has seen it, and what it stands for is in the log.
fn failed(path: &Path, bytes: u64, error: io::Error) -> JournalError {
    if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return JournalError::file(path, error);
    }
    // Without room for a name it never was.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => JournalError::file(path, error),
        _ => JournalError::Full { path: path.to_owned(), bytes },
    }
}

#[derive(Debug)]
pub(crate) struct Snapshots {
    folder: PathBuf,
    /// Indexes of those that may be read, rising.
    whole: Vec<u64>,
    /// Indexes of those that are damaged; they go away with the next snapshot.
    damaged: Vec<u64>,
}

impl Snapshots {
    /// Finds them, removes what is half written, and reads the newest that is whole.
    #[expect(
        clippy::type_complexity,
        reason = "index and bytes of one snapshot, as `Recovered` has them"
    )]
    pub(crate) fn open(folder: &Path) -> Result<(Self, Option<(u64, Vec<u8>)>), JournalError> {
        make_folder(folder)?;
        let mut found = list(folder).map_err(|error| JournalError::file(folder, error))?;
        let mut damaged = Vec::new();
        while let Some(index) = found.last().copied() {
            let path = path_of(folder, index);
            match load(&path, index) {
                Ok(Some(bytes)) => {
                    let whole = found;
                    return Ok((
                        Self { folder: folder.to_owned(), whole, damaged },
                        Some((index, bytes)),
                    ));
                }
                Ok(None) => {
                    tracing::error!(path = %path.display(), "a snapshot is damaged; the one before it is used");
                    damaged.push(index);
                    found.pop();
                }
                // Not damaged, only not readable now: to go back would be wrong.
                Err(error) => return Err(JournalError::file(&path, error)),
            }
        }
        Ok((Self { folder: folder.to_owned(), whole: found, damaged }, None))
    }

    /// The newest; 0 if there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.whole.last().copied().unwrap_or(0)
    }

    /// The highest index of a damaged one; 0 if there is none.
    pub(crate) fn highest_damaged(&self) -> u64 {
        self.damaged.iter().copied().max().unwrap_or(0)
    }

    /// Begins one, which makes so many bytes of log unneeded.
    pub(crate) fn begin(
        &self,
        index: u64,
        covers: u64,
        room: &Arc<Room>,
    ) -> Result<SnapshotWriter, JournalError> {
        let path = path_of(&self.folder, index).with_extension("new");
        SnapshotWriter::create(path, index, covers, Arc::clone(room))
    }

    /// Gives one its name, removes what is older than the one before it, and says up to which index no record is needed
    /// any more: that of the older of two, 0 if there is but one.
    pub(crate) fn install(&mut self, written: &WrittenSnapshot) -> Result<u64, JournalError> {
        let index = written.index;
        let path = path_of(&self.folder, index);
        fs::rename(&written.path, &path).map_err(|error| JournalError::file(&path, error))?;
        sync_folder(&self.folder)?;
        self.damaged.retain(|damaged| *damaged != index);
        self.whole.push(index);
        let old = self.whole.len().saturating_sub(KEPT);
        for gone in self.damaged.drain(..).chain(self.whole.drain(..old)) {
            let path = path_of(&self.folder, gone);
            fs::remove_file(&path).map_err(|error| JournalError::file(&path, error))?;
        }
        Ok(if self.whole.len() == KEPT { self.whole.first().copied().unwrap_or(0) } else { 0 })
    }
}

fn path_of(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("{index:020}.snapshot"))
}

/// All by rising index. Removes temporary files: no one else writes here.
fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("new") => fs::remove_file(&path)?,
            Some("snapshot") => {
                let index = path
                    .file_stem()
                    .and_then(|stem| stem.to_str())
                    .and_then(|stem| stem.parse().ok());
                found.extend(index.filter(|index| path_of(folder, *index) == path));
            }
            _ => {}
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads one; none if it is not exactly what was written under this index.
fn load(path: &Path, index: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut found = [0; HEAD_BYTES];
    let Some(length) = length.checked_sub(HEAD_BYTES as u64) else { return Ok(None) };
    file.read_exact(&mut found)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    let mut sum = Hasher::new(index);
    sum.update(&bytes);
    Ok(Some(bytes).filter(|bytes| found == sum.head(index, bytes.len() as u64)))
}

/// The checksum of a snapshot, as its bytes come.
struct Hasher(Xxh3);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    fn new(index: u64) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&index.to_le_bytes());
        Self(hasher)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The head of a file, once all its bytes have come.
    fn head(&self, index: u64, bytes: u64) -> [u8; HEAD_BYTES] {
        let (index, length) = (index.to_le_bytes(), bytes.to_le_bytes());
        let mut hasher = self.0.clone();
        hasher.update(&length);
        let sum = hasher.digest128().to_le_bytes();
        let mut head = [0; HEAD_BYTES];
        let parts = MAGIC.iter().chain(&index).chain(&length).chain(&sum);
        head.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
        head
    }
}
