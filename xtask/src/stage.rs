//! The demo's input: regular files under some paths, packed into blobs of like size.
//!
//! Its one surprise: files are put one after the other and cut where no word is, so ten thousand small files and one
//! large file make the same job.

use crate::shell::{Failure, root};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Blobs in all, about; far below what a framework may be submitted with.
const PARTS: u64 = 48;
/// The least that a blob is cut to.
const PART_BYTES_LEAST: u64 = 16 << 10;
/// Sources and documents.
const OWN: &[&str] = &["rs", "md", "toml", "wit"];

/// Regular files under the paths, in order; without paths the project's own sources and documents.
///
/// # Errors
/// When a path is not there, or there are no files.
pub(crate) fn files(paths: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    if paths.is_empty() {
        collect(&root(), true, &mut found)?;
        found.retain(|path| {
            path.extension()
                .and_then(|ending| ending.to_str())
                .is_some_and(|ending| OWN.contains(&ending))
        });
    }
    for path in paths {
        collect(Path::new(path), false, &mut found)?;
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        Err(Failure(format!("there are no regular files under {}", paths.join(", "))))
    } else {
        Ok(found)
    }
}

fn collect(path: &Path, own: bool, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("read", path, &error);
    let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
    if kind.is_file() {
        found.push(path.to_owned());
    }
    if !kind.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let skipped = own && (name == "target" || name.to_string_lossy().starts_with('.'));
        if !skipped {
            collect(&entry.path(), own, found)?;
        }
    }
    Ok(())
}

/// Writes the files as `in/0001`, `in/0002`, … into a folder; gives these names.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn pack(files: &[PathBuf], dir: &Path) -> Result<Vec<String>, Failure> {
    let size = |path: &PathBuf| {
        fs::metadata(path)
            .map(|data| data.len())
            .map_err(|error| Failure::file("read", path, &error))
    };
    let total = files.iter().map(size).sum::<Result<u64, Failure>>()?;
    let mut packer = Packer {
        dir,
        part_bytes: (total / PARTS).max(PART_BYTES_LEAST),
        names: Vec::new(),
        open: None,
    };
    fs::create_dir_all(dir.join("in")).map_err(|error| Failure::file("make", dir, &error))?;
    let mut buffer = vec![0; 64 << 10];
    for path in files {
        let failed = |error: std::io::Error| Failure::file("read", path, &error);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            packer.push(bytes)?;
        }
        // The end of a file ends a word.
        packer.push(b"\n")?;
    }
    packer.close()?;
    Ok(packer.names)
}

/// Cuts a stream of bytes into files, only where no word is.
struct Packer<'a> {
    dir: &'a Path,
    part_bytes: u64,
    names: Vec<String>,
    open: Option<(BufWriter<File>, u64)>,
}

impl Packer<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (mut out, written) = match self.open.take() {
            Some(open) => open,
            None => (self.next()?, 0),
        };
        let failed = |error: std::io::Error| Failure::file("write", self.dir, &error);
        let room = usize::try_from(self.part_bytes.saturating_sub(written)).unwrap_or(usize::MAX);
        let cut = bytes
            .iter()
            .enumerate()
            .skip(room)
            .find(|(_, byte)| !byte.is_ascii_alphabetic())
            .map(|(at, _)| at + 1);
        let (head, tail) = bytes.split_at(cut.unwrap_or(bytes.len()));
        out.write_all(head).map_err(failed)?;
        if cut.is_none() {
            self.open = Some((out, written + head.len() as u64));
            return Ok(());
        }
        out.flush().map_err(failed)?;
        if tail.is_empty() { Ok(()) } else { self.push(tail) }
    }

    fn next(&mut self) -> Result<BufWriter<File>, Failure> {
        let name = format!("in/{:04}", self.names.len() + 1);
        let path = self.dir.join(&name);
        let file = File::create(&path).map_err(|error| Failure::file("write", &path, &error))?;
        self.names.push(name);
        Ok(BufWriter::new(file))
    }

    fn close(&mut self) -> Result<(), Failure> {
        match self.open.take() {
            Some((mut out, _)) => {
                out.flush().map_err(|error| Failure::file("write", self.dir, &error))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_cut_and_nothing_is_lost() {
        let dir = std::env::temp_dir().join(format!("tepui-stage-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let text = "alpha beta,gamma\n".repeat(5_000);
        fs::write(dir.join("a.txt"), &text).unwrap();
        fs::write(dir.join("b.txt"), "last").unwrap();
        let names = pack(&[dir.join("a.txt"), dir.join("b.txt")], &dir.join("out")).unwrap();
        assert!(names.len() > 1, "{names:?}");
        let parts: Vec<String> = names
            .iter()
            .map(|name| fs::read_to_string(dir.join("out").join(name)).unwrap())
            .collect();
        assert_eq!(parts.concat(), format!("{text}\nlast\n"));
        assert!(parts.iter().all(|part| !part.ends_with(|c: char| c.is_ascii_alphabetic())));
        fs::remove_dir_all(&dir).unwrap();
    }
}
