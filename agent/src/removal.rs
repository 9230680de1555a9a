//! Removing a folder that a guest has filled, however deep and however wide it is.
//!
//! Goes down by opening a folder from the one above it and up by `..`, so one folder is open at a time, no path is put
//! together, and nothing recurses: a level costs its name. Links are never followed.

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a folder is opened: itself, never what a link points to.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes whatever is at `path`: a file, a link, or a folder with all that is in it. That nothing is there is no error.
///
/// # Errors
/// What could not be removed, or [`io::ErrorKind::Interrupted`] once `stop` is set; another try goes on from there.
pub(crate) fn remove(path: &Path, stop: &AtomicBool) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // What Linux and POSIX say of a folder.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if unlinkat(CWD, path, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    let top = openat(CWD, path, FOLDER, Mode::empty())?;
    empty_folder(top, stop)?;
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Removes all that is in a folder, and leaves the folder. What cannot be removed holds up nothing of the rest.
///
/// # Errors
/// As for [`remove`]: the first that there was.
pub(crate) fn empty(path: &Path, stop: &AtomicBool) -> io::Result<()> {
    remove_each(path, |entry| {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        remove(entry, stop)
    })
}

/// Removes one entry of a folder after the other, until nothing goes any more.
fn remove_each(folder: &Path, mut remove: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    loop {
        let (mut removed, mut first) = (false, Ok(()));
        for entry in std::fs::read_dir(folder)? {
            match remove(&entry?.path()) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => first = first.and(Err(error)),
            }
        }
        // Reading may pass over an entry when others go; it is found when nothing went.
        if !removed {
            return first;
        }
    }
}

/// A folder on the way down: which it is, and which of its folders is being emptied.
struct Level {
    inode: u64,
    child: CString,
}

fn empty_folder(top: OwnedFd, stop: &AtomicBool) -> io::Result<()> {
    let mut here = top;
    let mut above: Vec<Level> = Vec::new();
    loop {
        if let Some(child) = remove_until_full(&here, stop)? {
            let next = openat(&here, &child, FOLDER, Mode::empty())?;
            above.push(Level { inode: fstat(&here)?.st_ino, child });
            here = next;
            continue;
        }
        let Some(upper) = above.pop() else { return Ok(()) };
        here = openat(&here, "..", FOLDER, Mode::empty())?;
        if fstat(&here)?.st_ino != upper.inode {
            return Err(io::Error::other("a folder was moved while it was removed"));
        }
        if !is_removed(here.as_fd(), &upper.child)? {
            return Err(io::Error::other("a folder was filled while it was removed"));
        }
    }
}

/// Removes what is directly in a folder, up to the first folder that has something in it.
fn remove_until_full(folder: &OwnedFd, stop: &AtomicBool) -> io::Result<Option<CString>> {
    loop {
        let mut removed = false;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            if is_itself_or_above(entry.file_name()) {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if !is_removed(folder.as_fd(), entry.file_name())? {
                return Ok(Some(entry.file_name().to_owned()));
            }
            removed = true;
        }
        // Reading may pass over an entry when others go; it is found when nothing went.
        if !removed {
            return Ok(None);
        }
    }
}

fn is_itself_or_above(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Removes a file, a link or an empty folder; says whether that was all that it took.
fn is_removed(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::path::PathBuf;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn scratch() -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("tepui-removal-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// A folder in a folder in a folder, with a file and a sister in each.
    fn dig(top: &Path, levels: usize) {
        let mut folder = openat(CWD, top, FOLDER, Mode::empty()).unwrap();
        for level in 0..levels {
            mkdirat(&folder, "d", Mode::RWXU).unwrap();
            if level % 100 == 0 {
                mkdirat(&folder, "0", Mode::RWXU).unwrap();
                let flags = OFlags::CREATE | OFlags::WRONLY;
                drop(openat(&folder, "f", flags, Mode::RUSR).unwrap());
            }
            folder = openat(&folder, "d", FOLDER, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_folder_of_any_depth_goes_on_a_small_stack_with_few_open_files() {
        let scratch = scratch();
        let deep = scratch.join("deep");
        std::fs::create_dir(&deep).unwrap();
        // Far more than there may be open files, or than fit into a path or onto the stack.
        dig(&deep, 5_000);
        let path = deep.clone();
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn(move || remove(&path, &GO_ON).unwrap()).unwrap().join().unwrap();
        assert!(!deep.exists());
        std::fs::remove_dir(&scratch).unwrap();
    }

    #[test]
    fn names_that_a_guest_took_and_links_are_no_obstacle() {
        let scratch = scratch();
        let outside = scratch.join("outside");
        std::fs::create_dir_all(outside.join("kept")).unwrap();
        let top = scratch.join("top");
        std::fs::create_dir_all(top.join("0/1/2/0/1")).unwrap();
        std::fs::create_dir_all(top.join("1/0")).unwrap();
        std::fs::write(top.join("2"), "file").unwrap();
        std::os::unix::fs::symlink("../outside", top.join("0/link")).unwrap();
        std::os::unix::fs::symlink("/", top.join("0/1/root")).unwrap();
        remove(&top, &GO_ON).unwrap();
        assert!(!top.exists() && outside.join("kept").exists());
        remove(&top, &GO_ON).unwrap();
        std::os::unix::fs::symlink(&outside, &top).unwrap();
        remove(&top, &GO_ON).unwrap();
        assert!(outside.join("kept").exists());
        empty(&scratch, &GO_ON).unwrap();
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
        std::fs::remove_dir(&scratch).unwrap();
    }

    #[test]
    fn what_cannot_be_removed_holds_up_nothing_of_the_rest() {
        let scratch = scratch();
        for name in 0..100 {
            std::fs::create_dir_all(scratch.join(format!("{name}/d"))).unwrap();
        }
        let tried = std::cell::Cell::new(0);
        let some_stay = |entry: &Path| {
            tried.set(tried.get() + 1);
            match entry.file_name().unwrap().to_str().unwrap().parse() {
                Ok(7 | 50..53) => Err(io::Error::other(format!("no {}", tried.get()))),
                Ok(_) | Err(_) => remove(entry, &GO_ON),
            }
        };
        let error = remove_each(&scratch, some_stay).unwrap_err();
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 4);
        // The last pass found those four alone, and told of the first of them.
        assert_eq!(error.to_string(), format!("no {}", tried.get() - 3));
        remove(&scratch, &GO_ON).unwrap();
    }

    #[test]
    fn a_removal_that_is_stopped_goes_on_with_the_next_try() {
        let scratch = scratch();
        dig(&scratch, 200);
        let stopped = remove(&scratch, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        assert!(scratch.exists());
        assert!(empty(&scratch, &AtomicBool::new(true)).is_err());
        assert!(scratch.join("d").exists());
        remove(&scratch, &GO_ON).unwrap();
        assert!(!scratch.exists());
    }
}
