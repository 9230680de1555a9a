//! Removing a folder that a guest has filled, however deep and however wide it is.
//!
//! What lies deep is moved up: a folder's own folders are renamed into the top before it goes, so neither the stack nor
//! the open files nor the length of a path grow with the depth. Each folder is moved once at most, so the work grows with
//! what there is. Links are never followed. Its one surprise: a removal that is interrupted leaves a flatter folder.

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
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
    Emptying { top: &top, moved: 0, stop }.empty()?;
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Removes all that is in a folder, and leaves the folder.
///
/// # Errors
/// As for [`remove`].
pub(crate) fn empty(path: &Path, stop: &AtomicBool) -> io::Result<()> {
    let top = openat(CWD, path, FOLDER, Mode::empty())?;
    Emptying { top: &top, moved: 0, stop }.empty()
}

struct Emptying<'a> {
    top: &'a OwnedFd,
    /// Folders that were moved up so far; their new names are numbers.
    moved: u64,
    stop: &'a AtomicBool,
}

impl Emptying<'_> {
    /// Looks at the top again and again until nothing is left, or nothing of what is left can be removed.
    fn empty(&mut self) -> io::Result<()> {
        loop {
            let (mut removed, mut failed) = (0_u64, None);
            for entry in Dir::read_from(self.top)? {
                let entry = entry?;
                if is_itself_or_above(entry.file_name()) {
                    continue;
                }
                self.look_whether_to_stop()?;
                match self.remove_child(entry.file_name()) {
                    Ok(()) => removed += 1,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) if removed == 0 => return Err(error),
                None if removed == 0 => return Ok(()),
                _ => {}
            }
        }
    }

    fn look_whether_to_stop(&self) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn remove_child(&mut self, name: &CStr) -> io::Result<()> {
        if is_removed(self.top.as_fd(), name)? {
            return Ok(());
        }
        // A folder with something in it.
        let child = openat(self.top, name, FOLDER, Mode::empty())?;
        for entry in Dir::read_from(&child)? {
            let entry = entry?;
            if is_itself_or_above(entry.file_name()) {
                continue;
            }
            self.look_whether_to_stop()?;
            if !is_removed(child.as_fd(), entry.file_name())? {
                self.move_up(child.as_fd(), entry.file_name())?;
            }
        }
        drop(child);
        // An entry that the reading passed over is found when the top is read again.
        is_removed(self.top.as_fd(), name).map(|_is_gone| ())
    }

    /// Moves a folder of a folder into the top, under a name that is not taken there.
    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        loop {
            let new = format!("{}", self.moved);
            self.moved += 1;
            // A guest may have used that name; a rename would replace an empty folder of it, which does no harm.
            match renameat(folder, name, self.top, &new) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                done => return Ok(done?),
            }
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
        dig(&deep, 20_000);
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
    fn a_removal_that_is_stopped_goes_on_with_the_next_try() {
        let scratch = scratch();
        dig(&scratch, 200);
        let stopped = remove(&scratch, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        assert!(scratch.exists());
        remove(&scratch, &GO_ON).unwrap();
        assert!(!scratch.exists());
    }
}
