//! Which life this is: one storage, from one start of the machine to the next.
//!
//! A launch is bound to a life, so what an agent wrote down counts only as long as the disk and the machine that ran its
//! tasks are the same. Another boot begins another life, and the journal of the one before is put aside.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tepui_proto::Life;

use crate::error::AgentError;
use crate::folders::Folders;

/// Where Linux says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The life of the agent in these folders, and the folder of its journal.
pub(crate) fn begin_or_resume(folders: &Folders) -> Result<(Life, PathBuf), AgentError> {
    let dir = folders.root();
    let path = dir.join("life");
    // A machine that does not say is one whose every start is the same; its journal still knows what was running.
    let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let boot = boot.trim();
    let known = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text, boot),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(AgentError::at(&path)(error)),
    };
    let life = if let Some(life) = known {
        life
    } else {
        let life = Life(rand::random());
        write(&path, &format!("{life} {boot}\n")).map_err(AgentError::at(&path))?;
        life
    };
    let journal = dir.join(format!("journal-{life}"));
    put_others_aside(folders, &journal).map_err(AgentError::at(dir))?;
    Ok((life, journal))
}

fn parse(text: &str, boot: &str) -> Option<Life> {
    let (life, of) = text.trim_end_matches('\n').split_once(' ')?;
    (of == boot).then_some(Life(life.parse().ok()?))
}

/// Writes a small file, whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::File::open(folder)?.sync_all()
}

fn put_others_aside(folders: &Folders, journal: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folders.root())? {
        let path = entry?.path();
        let is_journal = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("journal-"));
        if is_journal && path != journal {
            folders.put_aside(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boot_is_another_life() {
        assert_eq!(parse("7 abc\n", "abc"), Some(Life(7)));
        assert_eq!(parse("7 abc\n", "abd"), None);
        assert_eq!(parse("seven abc\n", "abc"), None);
        assert_eq!(parse("7 \n", ""), Some(Life(7)));
    }
}
