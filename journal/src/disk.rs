//! raft-engine's files, opened as this project opens files: closed in children, for their owner alone.
//!
//! raft-engine's own way to the disk leaves its descriptors open, writable, in every child of the process.

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// Who may read a file of the log.
const MODE: u32 = 0o600;

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk;

/// An open file.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    #[cfg(test)]
    path: std::path::PathBuf,
}

/// A place in an open file, to read or write from.
#[derive(Debug)]
pub(crate) struct Cursor {
    opened: Arc<Opened>,
    offset: u64,
}

impl FileSystem for Disk {
    type Handle = Opened;
    type Reader = Cursor;
    type Writer = Cursor;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Opened> {
        let mut options = OpenOptions::new();
        // Not truncated: raft-engine says itself what of an old file it throws away.
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        Opened::new(path.as_ref(), &options)
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Opened> {
        let mut options = OpenOptions::new();
        options.read(true).write(permission == Permission::ReadWrite);
        Opened::new(path.as_ref(), &options)
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn new_reader(&self, opened: Arc<Opened>) -> io::Result<Cursor> {
        Ok(Cursor { opened, offset: 0 })
    }

    fn new_writer(&self, opened: Arc<Opened>) -> io::Result<Cursor> {
        Ok(Cursor { opened, offset: 0 })
    }
}

impl Opened {
    fn new(path: &Path, options: &OpenOptions) -> io::Result<Self> {
        Ok(Self {
            file: options.open(path)?,
            #[cfg(test)]
            path: path.to_owned(),
        })
    }
}

impl Handle for Opened {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.file.set_len(offset as u64)
    }

    fn file_size(&self) -> io::Result<usize> {
        usize::try_from(self.file.metadata()?.len()).map_err(io::Error::other)
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        crate::faults::on_sync(&self.path)?;
        self.file.sync_data()
    }
}

impl Read for Cursor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.opened.file.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.opened.file.write_at(bytes, self.offset)?;
        #[cfg(test)]
        crate::faults::on_write(&self.opened.path, self.offset, count);
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => (self.offset, by),
            SeekFrom::End(by) => (self.opened.file.metadata()?.len(), by),
        };
        self.offset = base.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}

impl WriteExt for Cursor {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.offset = offset as u64;
        self.opened.file.set_len(self.offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        let allocated =
            fallocate(&self.opened.file, FallocateFlags::empty(), offset as u64, size as u64);
        match allocated {
            // Not every file system can; it is only faster.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            allocated => Ok(allocated?),
        }
    }
}

/// Writes a file's bytes once more, where they are, and syncs them.
///
/// When a sync has failed, the kernel may call the bytes clean that it could not write: a later sync then speaks well
/// of what is not on disk (the "fsyncgate" of 2018). Only bytes that are written again after that are asked of the
/// disk again. What stands there is what was read and checked, so a crash in the middle of this changes nothing.
pub(crate) fn write_again(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < length {
        let count = file.read_at(&mut bytes, offset)?;
        let Some(read) = bytes.get(..count).filter(|read| !read.is_empty()) else { break };
        file.write_all_at(read, offset)?;
        #[cfg(test)]
        crate::faults::on_write(path, offset, count);
        offset += count as u64;
    }
    #[cfg(test)]
    crate::faults::on_sync(path)?;
    file.sync_all()
}
