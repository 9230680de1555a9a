//! A journal on a disk that others have filled: with bytes, or with names.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends at what it did not expect, and says what it could not do"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use tepui_journal::{Journal, JournalError};

const MIB: usize = 1 << 20;

/// A disk in memory; gone with its owner.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mounted(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if !is_mounted {
            eprintln!("a small disk cannot be mounted here, so nothing was tried");
        }
        is_mounted.then_some(Self(folder))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    /// Somebody else writes until nothing more goes in, and then gives so many bytes back.
    fn fill(&self, left: usize) -> PathBuf {
        let path = self.0.path().join("other");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left as u64)).unwrap();
        path
    }

    /// Somebody else makes files until no more can be made.
    fn fill_names(&self) -> PathBuf {
        let folder = self.0.path().join("names");
        fs::create_dir(&folder).unwrap();
        let mut made = 0;
        while File::create(folder.join(made.to_string())).is_ok() {
            made += 1;
        }
        assert!(made > 0);
        folder
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it cannot be, the folder stays, and the next reboot removes it.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

fn snapshots(journal: &Path) -> Vec<String> {
    let names = fs::read_dir(journal.join("snapshots")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// No snapshot finds room: the journal is as before and goes on; once there is room again, so do they.
fn goes_on_without_snapshots(disk: &SmallDisk, fill: impl Fn() -> PathBuf) {
    let folder = disk.journal();
    let (mut journal, _) = Journal::open(&folder).unwrap();
    journal.append(&[vec![1; 1_000]]).unwrap();
    journal.snapshot(1, b"one").unwrap();
    journal.append(&[vec![2; 1_000]]).unwrap();
    let (before, size) = (snapshots(&folder), journal.size_since_snapshot());
    let other = fill();
    for _ in 0..3 {
        let full = journal.snapshot(2, &vec![7; 4 * MIB]).unwrap_err();
        assert!(matches!(&full, JournalError::Full { bytes, .. } if *bytes < 4 << 20), "{full}");
        assert_eq!(full.code(), "journal-full");
        assert_eq!((journal.snapshot_index(), journal.size_since_snapshot()), (1, size));
        assert_eq!(snapshots(&folder), before, "something of it is left");
    }
    assert_eq!(journal.append(&[vec![3; 1_000]]).unwrap(), 3, "what is new is written");
    drop(journal);
    // It opens on the full disk, with all that was promised.
    let (mut journal, recovered) = Journal::open(&folder).unwrap();
    assert_eq!(recovered.snapshot, Some((1, b"one".to_vec())));
    assert_eq!(recovered.records, [(2, vec![2; 1_000]), (3, vec![3; 1_000])]);
    assert!(matches!(journal.snapshot(3, &vec![7; 4 * MIB]), Err(JournalError::Full { .. })));
    if other.is_dir() {
        fs::remove_dir_all(&other).unwrap();
    } else {
        fs::remove_file(&other).unwrap();
    }
    journal.snapshot(3, &vec![7; 4 * MIB]).unwrap();
    assert_eq!((journal.snapshot_index(), journal.size_since_snapshot()), (3, 0));
    drop(journal);
    assert_eq!(Journal::open(&folder).unwrap().1.snapshot, Some((3, vec![7; 4 * MIB])));
}

#[test]
fn without_room_for_a_snapshot_a_journal_goes_on() {
    let Some(disk) = SmallDisk::mounted("size=64m") else { return };
    goes_on_without_snapshots(&disk, || disk.fill(2 * MIB));
}

#[test]
fn without_a_name_for_a_snapshot_a_journal_goes_on() {
    let Some(disk) = SmallDisk::mounted("size=64m,nr_inodes=2000") else { return };
    goes_on_without_snapshots(&disk, || disk.fill_names());
}

#[test]
fn who_shares_the_disk_is_told_that_no_more_files_can_be_made() {
    let Some(disk) = SmallDisk::mounted("size=64m,nr_inodes=2000") else { return };
    let (journal, _) = Journal::open(&disk.journal()).unwrap();
    let room = Arc::clone(journal.room());
    assert!(room.spare().unwrap() > 16 << 20);
    let names = disk.fill_names();
    assert_eq!(room.spare().unwrap(), 0);
    fs::remove_dir_all(names).unwrap();
    assert!(room.spare().unwrap() > 16 << 20);
}

#[test]
fn the_ballast_makes_room_for_a_snapshot_and_is_taken_back_once_there_is_some() {
    const BALLAST: u64 = 48 << 20;
    let Some(disk) = SmallDisk::mounted("size=160m") else { return };
    let folder = disk.journal();
    let ballast = || fs::metadata(folder.join("ballast")).unwrap().len();
    let (mut journal, _) = Journal::open_with(&folder, BALLAST).unwrap();
    journal.append(&[vec![1; 1_000]]).unwrap();
    assert_eq!(ballast(), BALLAST);
    let other = disk.fill(0);
    // There is nothing left but what was kept.
    let room = Arc::clone(journal.room());
    assert_eq!(room.spare().unwrap(), 0);
    journal.snapshot(1, &vec![7; 8 * MIB]).unwrap();
    assert_eq!(ballast(), 0);
    // What is free now is the journal's: nobody else is told of it.
    assert_eq!(room.spare().unwrap(), 0);
    drop(journal);
    // Likewise after a start on the full disk.
    let (mut journal, recovered) = Journal::open_with(&folder, BALLAST).unwrap();
    assert_eq!(recovered.snapshot, Some((1, vec![7; 8 * MIB])));
    assert_eq!((ballast(), journal.room().spare().unwrap()), (0, 0));
    fs::remove_file(other).unwrap();
    assert_eq!(ballast(), 0, "only the journal's own writes look after it");
    journal.append(&[vec![2; 1_000]]).unwrap();
    assert_eq!(ballast(), BALLAST);
}

#[test]
fn a_snapshot_that_fills_the_disk_leaves_room_for_the_log_that_goes_on_beside_it() {
    let Some(disk) = SmallDisk::mounted("size=128m") else { return };
    let folder = disk.journal();
    let (mut journal, _) = Journal::open(&folder).unwrap();
    journal.append(&[vec![1; 1_000]]).unwrap();
    let _other = disk.fill(40 * MIB);
    let mut writer = journal.begin_snapshot(1).unwrap();
    let room = Arc::clone(journal.room());
    let writes = std::thread::spawn(move || {
        loop {
            if let Err(error) = writer.write_all(&vec![7; MIB / 4]) {
                // Before anything is given back.
                return (room.spare().unwrap(), writer.abandon(error));
            }
        }
    });
    let mut records = 1;
    while !writes.is_finished() {
        journal.append(&[vec![2; 1_000]]).unwrap();
        records += 1;
    }
    let (spare, error) = writes.join().unwrap();
    assert!(matches!(error, JournalError::Full { bytes, .. } if bytes > 16 << 20), "{error}");
    assert!(spare >= 7 << 20, "{spare} bytes were left to the log");
    drop(journal);
    assert_eq!(Journal::open(&folder).unwrap().1.records.len(), records);
}

#[test]
fn not_even_a_small_snapshot_takes_the_last_of_the_disk() {
    let Some(disk) = SmallDisk::mounted("size=64m") else { return };
    let folder = disk.journal();
    let (mut journal, _) = Journal::open(&folder).unwrap();
    journal.append(&[vec![1; 1_000]]).unwrap();
    let other = disk.fill(5 * MIB);
    assert!(matches!(journal.snapshot(1, b"small"), Err(JournalError::Full { bytes: 0, .. })));
    assert!(snapshots(&folder).is_empty());
    // With some more it makes room by cutting the log, though there is less than a large one leaves.
    File::options().write(true).open(other).unwrap().set_len(50 << 20).unwrap();
    journal.snapshot(1, b"small").unwrap();
}
