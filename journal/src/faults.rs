//! A disk for tests that does what real ones do when a sync fails: it calls the bytes clean that it never wrote.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What would be there after a power cut, of one folder.
#[derive(Debug, Default)]
struct Platter {
    syncs_to_fail: u32,
    /// Ranges that the next sync has to bring out.
    dirty: BTreeMap<PathBuf, Vec<(u64, u64)>>,
    durable: BTreeMap<PathBuf, Vec<u8>>,
}

static PLATTERS: Mutex<BTreeMap<PathBuf, Platter>> = Mutex::new(BTreeMap::new());

fn with<T>(path: &Path, act: impl FnOnce(&mut Platter) -> T) -> Option<T> {
    let mut platters = PLATTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = platters.iter_mut().filter(|(folder, _)| path.starts_with(folder));
    found.next().map(|(_, platter)| act(platter))
}

/// From now on the files below this folder are watched.
pub(crate) fn watch(folder: &Path) {
    let mut platters = PLATTERS.lock().unwrap_or_else(PoisonError::into_inner);
    platters.insert(folder.to_owned(), Platter::default());
}

/// The next sync below this folder fails.
pub(crate) fn fail_next_sync(folder: &Path) {
    with(folder, |platter| platter.syncs_to_fail = 1).unwrap();
}

/// What no sync has brought out is gone.
pub(crate) fn cut_power(folder: &Path) {
    with(folder, |platter| {
        platter.dirty.clear();
        for (path, bytes) in &platter.durable {
            if path.exists() {
                fs::write(path, bytes).unwrap();
            }
        }
    })
    .unwrap();
}

pub(crate) fn on_write(path: &Path, offset: u64, length: usize) {
    with(path, |platter| {
        let ranges = platter.dirty.entry(path.to_owned()).or_default();
        ranges.push((offset, offset + length as u64));
    });
}

pub(crate) fn on_sync(path: &Path) -> io::Result<()> {
    let synced = with(path, |platter| {
        let dirty = platter.dirty.remove(path).unwrap_or_default();
        if platter.syncs_to_fail > 0 {
            platter.syncs_to_fail -= 1;
            return Err(io::Error::other("the disk failed"));
        }
        let file = File::open(path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap();
        let image = platter.durable.entry(path.to_owned()).or_default();
        image.resize(length, 0);
        for (start, end) in dirty {
            let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap().min(length);
            if let Some(part) = image.get_mut(range) {
                file.read_exact_at(part, start)?;
            }
        }
        Ok(())
    });
    synced.unwrap_or(Ok(()))
}
