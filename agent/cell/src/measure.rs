//! How much a guest's folder holds, however deep and however wide it is.
//!
//! Goes down by opening a folder from the one above it and up by `..`, so one folder is open at a time, no path is put
//! together, and nothing recurses. Whoever measures sees to it that nobody moves folders meanwhile; if somebody does, the
//! walk ends where it no longer knows its way, and never counts what is outside. Links are counted, not followed.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use tepui_proto::limits;

/// How a folder is opened: itself, never what a link points to.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a number of bytes in a number of files, links and folders count as.
pub(crate) fn weight(bytes: u64, entries: u64) -> u64 {
    if entries > limits::SANDBOX_ENTRIES {
        return u64::MAX;
    }
    let counted = entries.saturating_sub(limits::FREE_ENTRIES);
    bytes.saturating_add(counted.saturating_mul(limits::FILE_ENTRY_BYTES))
}

/// A folder on the way down: which it is, and which of its folders are not looked at yet.
struct Level {
    inode: u64,
    waiting: Vec<CString>,
}

/// The weight of all that is below a folder. Stops once that is above `enough`, since more makes no difference then.
///
/// # Errors
/// If the folder itself cannot be read.
pub(crate) fn measure(folder: &str, enough: u64) -> io::Result<u64> {
    let mut here = openat(CWD, folder, FOLDER, Mode::empty())?;
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    let mut above: Vec<Level> = Vec::new();
    let mut level = look(&here, &mut bytes, &mut entries)?;
    loop {
        let sum = weight(bytes, entries);
        if sum > enough {
            return Ok(sum);
        }
        if let Some(name) = level.waiting.pop() {
            // Gone, or no folder any more.
            let Ok(next) = openat(&here, &name, FOLDER, Mode::empty()) else { continue };
            here = next;
            let next = look(&here, &mut bytes, &mut entries)?;
            above.push(std::mem::replace(&mut level, next));
            continue;
        }
        let Some(upper) = above.pop() else { return Ok(sum) };
        here = openat(&here, "..", FOLDER, Mode::empty())?;
        if fstat(&here)?.st_ino != upper.inode {
            return Ok(sum);
        }
        level = upper;
    }
}

/// Counts what is directly in a folder.
fn look(folder: &OwnedFd, bytes: &mut u64, entries: &mut u64) -> io::Result<Level> {
    let mut waiting = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(data) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        *entries += 1;
        if FileType::from_raw_mode(data.st_mode) == FileType::Directory {
            waiting.push(name.to_owned());
        } else {
            *bytes = bytes.saturating_add(u64::try_from(data.st_size).unwrap_or(0));
        }
    }
    Ok(Level { inode: fstat(folder)?.st_ino, waiting })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn what_is_deep_and_what_is_empty_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().to_str().unwrap();
        assert_eq!(measure(path, u64::MAX).unwrap(), 0);
        let mut folder = openat(CWD, path, FOLDER, Mode::empty()).unwrap();
        for _ in 0..5_000 {
            mkdirat(&folder, "d", Mode::RWXU).unwrap();
            mkdirat(&folder, "e", Mode::RWXU).unwrap();
            folder = openat(&folder, "d", FOLDER, Mode::empty()).unwrap();
        }
        let deepest = openat(&folder, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        rustix::fs::ftruncate(&deepest, 123).unwrap();
        assert_eq!(measure(path, u64::MAX).unwrap(), weight(123, 10_001));
        assert!(measure(path, 1 << 20).unwrap() < (1 << 20) + 3 * limits::FILE_ENTRY_BYTES);
        // What `tempfile` does not manage.
        let status = std::process::Command::new("rm").arg("-rf").arg(path).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn links_lead_nowhere() {
        let scratch = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/usr", scratch.path().join("link")).unwrap();
        std::fs::write(scratch.path().join("f"), [0; 1_000]).unwrap();
        assert_eq!(measure(scratch.path().to_str().unwrap(), u64::MAX).unwrap(), 1_000 + 4);
    }
}
