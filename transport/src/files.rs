//! Small files that must be whole or absent, and perhaps secret.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Its owner (0600).
    Secret,
    /// All (0644).
    Public,
}

/// Writes a file beside its place, syncs it, and moves it there, so that no one ever reads half of it.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    // A bare name has an empty parent, which is the folder of the process.
    let folder = match path.parent().ok_or(io::ErrorKind::InvalidInput)? {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = name.to_owned();
    beside.push(".new");
    let beside = folder.join(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let bits = match mode {
        Mode::Secret => 0o600,
        Mode::Public => 0o644,
    };
    // `create_new`, so that the mode holds from the first byte.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(bits).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
