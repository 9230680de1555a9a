//! What an agent's disk has room for. What is kept for its journal is given to nothing else.

use rustix::fs::{StatVfs, statvfs};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tepui_proto::limits;

/// How long an answer counts. A disk fills as fast as it can be written to, and the reserve is many times that.
const FRESH: Duration = Duration::from_millis(20);
/// Of a disk, the part that one cache may have.
const CACHE_PART: u64 = 8;

/// Looks at a disk again and again.
#[derive(Debug)]
pub(crate) struct Room {
    near: PathBuf,
    seen: Option<(Instant, bool)>,
}

impl Room {
    pub(crate) fn new(near: &Path) -> Self {
        Self { near: near.to_owned(), seen: None }
    }

    /// Whether something new may begin.
    pub(crate) fn is_there(&mut self) -> bool {
        let now = Instant::now();
        if let Some((at, answer)) = self.seen
            && now.saturating_duration_since(at) < FRESH
        {
            return answer;
        }
        let answer = check(&self.near).is_ok();
        self.seen = Some((now, answer));
        answer
    }
}

/// Whether more may be written near `near`, beside what is kept for the journal.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if not.
pub(crate) fn check(near: &Path) -> io::Result<()> {
    // What cannot be looked at says so when it is written to.
    let Ok(disk) = statvfs(near) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let is_short_of_files =
        disk.f_files > 0 && disk.f_favail < limits::DISK_RESERVE_FILES.min(disk.f_files / 4);
    if free < limits::disk_reserve(size(&disk)) || is_short_of_files {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// What one cache of an agent may hold: so much, or its part of a small disk.
pub(crate) fn for_cache(near: &Path, most: u64) -> u64 {
    statvfs(near).map_or(most, |disk| most.min(size(&disk) / CACHE_PART))
}

fn size(disk: &StatVfs) -> u64 {
    disk.f_blocks.saturating_mul(disk.f_frsize)
}
