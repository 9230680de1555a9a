//! What an agent's disk has room for. What is kept for its journal is given to nothing else.

use rustix::fs::{StatVfs, statvfs};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tepui_proto::limits;

/// How often a disk is looked at by an agent that has nothing to do.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How long a disk has had room before its agent is offered again: one that is about to be full is full again soon.
const STEADY: Duration = Duration::from_secs(2);
/// How long an answer counts. A disk fills as fast as it can be written to, and the reserve is many times that.
const FRESH: Duration = Duration::from_millis(20);
/// Of a disk, the part that one cache may have.
const CACHE_PART: u64 = 8;

/// Looks at a disk again and again.
#[derive(Debug)]
pub(crate) struct Room {
    near: PathBuf,
    seen: Option<(Instant, bool)>,
    change: Change,
}

/// What the master is told of a disk: that it is full, at once; that it is not any more, when that lasts.
#[derive(Debug, Default)]
struct Change {
    /// Whether it was told that it is full.
    is_full: bool,
    /// Since when it is not, after that.
    since: Option<Instant>,
}

impl Change {
    fn on_look(&mut self, now: Instant, has_room: bool) -> Option<bool> {
        if !self.is_full {
            self.is_full = !has_room;
            return self.is_full.then_some(false);
        }
        if !has_room {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < STEADY {
            return None;
        }
        *self = Self::default();
        Some(true)
    }
}

impl Room {
    pub(crate) fn new(near: &Path) -> Self {
        Self { near: near.to_owned(), seen: None, change: Change::default() }
    }

    /// Looks at the disk. Whether there is room, if the master has to be told.
    pub(crate) fn change(&mut self) -> Option<bool> {
        let has_room = self.is_there();
        self.change.on_look(Instant::now(), has_room)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_at_once_and_that_it_has_room_when_that_lasts() {
        let (mut change, begin) = (Change::default(), Instant::now());
        let mut at = |ms, has_room| change.on_look(begin + Duration::from_millis(ms), has_room);
        assert_eq!(at(0, true), None);
        assert_eq!(at(1, false), Some(false));
        assert_eq!(at(2, false), None);
        assert_eq!(at(3, true), None);
        assert_eq!(at(2_002, true), None);
        assert_eq!(at(2_003, false), None, "it is full again");
        assert_eq!(at(2_004, true), None);
        assert_eq!(at(4_003, true), None);
        assert_eq!(at(4_004, true), Some(true));
        assert_eq!(at(4_005, true), None);
        assert_eq!(at(4_006, false), Some(false));
    }

    #[test]
    fn a_disk_is_looked_at_again_and_again() {
        let mut room = Room::new(&std::env::temp_dir());
        let is_full = !room.is_there();
        assert_eq!(room.change(), is_full.then_some(false));
        assert_eq!(room.change(), None);
    }
}
