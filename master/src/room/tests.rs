//! A disk of a few megabytes, filled by others.

use super::*;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A disk in memory; gone with its owner.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mounted(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn room(&self, reserve: u64) -> Room {
        let journal = Arc::new(JournalRoom::open(self.0.path(), 0).unwrap());
        Room::new(journal, Reserve { ballast: 0, rest: reserve })
    }

    /// Somebody else's file of so many bytes.
    fn fill(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it cannot be, the folder stays, and the next reboot removes it.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn blobs_are_refused_first_then_new_work_and_both_are_taken_again() {
    let Some(disk) = SmallDisk::mounted("size=64m") else { return };
    let room = disk.room(32 * MIB);
    assert!(room.grant(31 * MIB).is_ok());
    let full = room.grant(33 * MIB).unwrap_err();
    assert_eq!((full.code(), full.kept), ("disk-full", 65 * MIB));
    let first = disk.fill("first", 40 * MIB);
    let full = room.grant(0).unwrap_err();
    assert!(full.to_string().contains("bytes to spare"), "{full}");
    assert_eq!(full.kept, 32 * MIB);
    // Half of what is kept from blobs is for work.
    assert_eq!(room.check_work(), Ok(()));
    let second = disk.fill("second", 10 * MIB);
    let full = room.check_work().unwrap_err();
    assert!(full.spare < 16 * MIB && full.kept == 16 * MIB, "{full:?}");
    fs::remove_file(second).unwrap();
    assert_eq!(room.check_work(), Ok(()));
    assert!(room.grant(0).is_err());
    fs::remove_file(first).unwrap();
    assert!(room.grant(16 * MIB).is_ok());
}

#[test]
fn what_is_granted_counts_until_it_is_written_and_what_is_refused_never() {
    let Some(disk) = SmallDisk::mounted("size=64m") else { return };
    let (room, same) = (disk.room(32 * MIB), disk.room(32 * MIB));
    let clone = room.clone();
    let first = room.grant(16 * MIB).unwrap();
    assert!(clone.grant(17 * MIB).is_err(), "two of them would take what is kept");
    let second = clone.grant(15 * MIB).unwrap();
    assert!(room.grant(2 * MIB).is_err());
    // What another one has granted is not known, so there is one for each disk.
    assert!(same.grant(16 * MIB).is_ok());
    drop(first);
    assert!(room.grant(16 * MIB).is_ok());
    drop(second);
    assert!(room.grant(31 * MIB).is_ok(), "what was refused counts for nothing");
    assert!(room.grant(u64::MAX).is_err());
    assert!(room.grant(31 * MIB).is_ok());
}

#[test]
fn a_disk_that_takes_no_more_files_is_full() {
    let Some(disk) = SmallDisk::mounted("size=64m,nr_inodes=3000") else { return };
    let room = disk.room(MIB);
    assert_eq!(room.check_work(), Ok(()));
    let files: Vec<PathBuf> = (0..2_500).map(|n| disk.0.path().join(format!("f{n}"))).collect();
    for file in &files {
        drop(File::create(file).unwrap());
    }
    // Some hundred are left to the journal.
    assert_eq!(room.check_work().unwrap_err().spare, 0);
    assert!(room.grant(0).is_err());
    for file in files {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(room.check_work(), Ok(()));
    assert!(room.grant(MIB).is_ok());
}
