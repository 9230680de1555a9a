//! Snapshots: a file each, named by index, whole or not there, checked when it is read; the newest two are kept.
//!
//! A file is 40 bytes of head (magic, index, length, XXH3-128 of index, length, and body) and the body.

use crate::{JournalError, make_folder, sync_folder};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"TEPUISN1";
const HEAD_BYTES: usize = 40;
/// How many are kept: the newest, and one in case it is damaged.
const KEPT: usize = 2;

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

    /// Writes one, removes what is older than the one before it, and says up to which index no record is needed any
    /// more: that of the older of two, 0 if there is but one.
    pub(crate) fn write(&mut self, index: u64, bytes: &[u8]) -> Result<u64, JournalError> {
        let path = path_of(&self.folder, index);
        let beside = path.with_extension("new");
        if let Err(error) = write_beside(&beside, index, bytes) {
            if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return Err(JournalError::file(&beside, error));
            }
            // Nobody has seen it, and what it stands for is in the log. Without room for a name it never was.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::file(&beside, error));
                }
                _ => {}
            }
            return Err(JournalError::Full { path: beside, bytes: bytes.len() });
        }
        fs::rename(&beside, &path).map_err(|error| JournalError::file(&path, error))?;
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

fn write_beside(path: &Path, index: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(&head(index, bytes))?;
    file.write_all(bytes)?;
    file.sync_all()
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
    Ok(Some(bytes).filter(|bytes| found == head(index, bytes)))
}

fn head(index: u64, bytes: &[u8]) -> [u8; HEAD_BYTES] {
    let (index, length) = (index.to_le_bytes(), (bytes.len() as u64).to_le_bytes());
    let mut hasher = Xxh3::new();
    hasher.update(&index);
    hasher.update(&length);
    hasher.update(bytes);
    let sum = hasher.digest128().to_le_bytes();
    let mut head = [0; HEAD_BYTES];
    let parts = MAGIC.iter().chain(&index).chain(&length).chain(&sum);
    head.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
    head
}
