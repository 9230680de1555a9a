//! What is on disk after a crash, a cut, or damage: all that was promised, and nothing else.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_journal::{Journal, JournalError, Recovered};

fn batch(first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count).map(record).collect()
}

fn record(index: u64) -> Vec<u8> {
    let length = usize::try_from(index * 37 % 500).unwrap();
    [format!("record {index} ").into_bytes(), vec![u8::try_from(index % 256).unwrap(); length]]
        .concat()
}

/// Opens, checks that every record is what was written, and says what is there.
fn open(folder: &Path) -> (Journal, Recovered) {
    let (journal, recovered) = Journal::open(folder).unwrap();
    let covered = recovered.snapshot.as_ref().map_or(0, |(index, _)| *index);
    for (expected, (index, bytes)) in (covered + 1..).zip(&recovered.records) {
        assert_eq!((*index, bytes), (expected, &record(expected)));
    }
    assert_eq!(recovered.next_index, covered + 1 + recovered.records.len() as u64);
    (journal, recovered)
}

/// The newest file of the log.
fn newest_log(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "raftlog")).max().unwrap()
}

fn snapshot_path(folder: &Path, index: u64) -> PathBuf {
    folder.join("snapshots").join(format!("{index:020}.snapshot"))
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn what_was_appended_is_there_after_the_next_open() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, recovered) = open(&folder);
    assert_eq!(recovered, Recovered { next_index: 1, ..Recovered::default() });
    assert_eq!(journal.append(&[]).unwrap(), 0);
    assert_eq!(journal.append(&batch(1, 3)).unwrap(), 3);
    assert_eq!(journal.append(&batch(4, 600)).unwrap(), 603);
    let size = journal.size_since_snapshot();
    drop(journal);
    let (mut journal, recovered) = open(&folder);
    assert_eq!(recovered.next_index, 604);
    assert_eq!(journal.size_since_snapshot(), size);
    assert_eq!(journal.append(&batch(604, 1)).unwrap(), 604);
    drop(journal);
    assert_eq!(open(&folder).1.next_index, 605);
}

#[test]
fn an_empty_record_is_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&[Vec::new(), Vec::new()]).unwrap();
    drop(journal);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.records, [(1, Vec::new()), (2, Vec::new())]);
}

/// A journal of batches of one to three records, closed after each: where each batch ends in its file, and with which
/// record.
fn batches(folder: &Path) -> Vec<(usize, u64)> {
    let mut ends = Vec::new();
    for (first, count) in [(1, 3), (4, 1), (5, 2), (7, 1), (8, 1)] {
        let (mut journal, _) = open(folder);
        let last = journal.append(&batch(first, count)).unwrap();
        drop(journal);
        let length = fs::metadata(newest_log(folder)).unwrap().len();
        ends.push((usize::try_from(length).unwrap(), last));
    }
    ends
}

/// The last record of the batches that end at or before a place.
fn last_before(ends: &[(usize, u64)], place: usize) -> u64 {
    ends.iter().take_while(|(end, _)| *end <= place).last().map_or(0, |(_, last)| *last)
}

#[test]
fn a_cut_at_any_byte_loses_the_batch_that_it_cuts_and_no_other() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("whole");
    let ends = batches(&folder);
    let whole = fs::read(newest_log(&folder)).unwrap();
    let name = newest_log(&folder).file_name().unwrap().to_owned();
    // What is before the first batch is written and synced when the file is made.
    let start = header_length(&whole);
    for cut in start..=whole.len() {
        let tail = [&[][..], &[0; 64], &[0xa5; 64]][cut % 3];
        let folder = home.path().join("cut");
        fs::create_dir_all(folder.join("log")).unwrap();
        fs::write(folder.join("log").join(&name), [&whole[..cut], tail].concat()).unwrap();
        let (mut journal, recovered) = open(&folder);
        let next = last_before(&ends, cut) + 1;
        assert_eq!(recovered.next_index, next, "cut at {cut}");
        if cut % 50 == 0 {
            // It goes on from there, and the lost batch does not come back.
            journal.append(&batch(next, 1)).unwrap();
            drop(journal);
            assert_eq!(open(&folder).1.next_index, next + 1);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// Up to where the file of an empty journal goes.
fn header_length(whole: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let header = fs::read(newest_log(folder.path())).unwrap();
    assert!(whole.starts_with(&header));
    header.len()
}

#[test]
fn a_flipped_bit_in_any_byte_costs_its_batch_and_those_after_it_and_nothing_before() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("whole");
    let ends = batches(&folder);
    let log = newest_log(&folder);
    let whole = fs::read(&log).unwrap();
    let (mut errors, mut harmless) = (0, 0);
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(&log, &damaged).unwrap();
        match Journal::open(&folder) {
            Ok((_, recovered)) => {
                // A few bits mean nothing; then nothing is lost.
                let all = last_before(&ends, whole.len());
                let kept = [last_before(&ends, place), all].map(|last| last + 1);
                assert!(kept.contains(&recovered.next_index), "byte {place}: {recovered:?}");
                harmless += usize::from(recovered.next_index == all + 1);
                for (index, bytes) in &recovered.records {
                    assert_eq!(bytes, &record(*index), "byte {place}");
                }
            }
            Err(error) => {
                assert!(["journal-io", "journal-damaged"].contains(&error.code()), "{error}");
                errors += 1;
            }
        }
    }
    assert!(errors < whole.len(), "nothing was ever recovered");
    assert!(harmless < 20, "{harmless} flipped bits were not seen");
}

#[test]
fn a_damaged_start_of_the_log_is_an_error_not_an_empty_journal() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, _) = open(&folder);
    journal.append(&batch(1, 9)).unwrap();
    drop(journal);
    overwrite(&newest_log(&folder), 3, b"X");
    assert_eq!(Journal::open(&folder).unwrap_err().code(), "journal-damaged");
}

#[test]
fn a_snapshot_covers_its_records_and_the_log_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    let record = vec![7_u8; 1 << 20];
    let mut last = 0;
    for round in 1..=6_u8 {
        for _ in 0..20 {
            last = journal.append(std::slice::from_ref(&record)).unwrap();
        }
        assert!(journal.size_since_snapshot() >= 20 << 20);
        journal.snapshot(last, &[round]).unwrap();
        assert_eq!((journal.size_since_snapshot(), journal.snapshot_index()), (0, last));
    }
    let files = fs::read_dir(folder.path().join("log")).unwrap();
    let bytes: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 80 << 20, "{bytes} bytes of 120 MiB are left");
    assert_eq!(fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 2);
    journal.append(&[vec![1]]).unwrap();
    drop(journal);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.snapshot, Some((last, vec![6])));
    assert_eq!(recovered.records, [(last + 1, vec![1])]);
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, _) = open(&folder);
    for index in 1..=9 {
        journal.append(&batch(index, 1)).unwrap();
        if index % 3 == 0 {
            journal.snapshot(index, format!("state {index}").as_bytes()).unwrap();
        }
    }
    drop(journal);
    let newest = snapshot_path(&folder, 9);
    let whole = fs::read(&newest).unwrap();
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(&newest, damaged).unwrap();
        let (_journal, recovered) = open(&folder);
        assert_eq!(recovered.snapshot, Some((6, b"state 6".to_vec())), "byte {place}");
        assert_eq!(recovered.next_index, 10);
    }
    for length in 0..whole.len() {
        fs::write(&newest, &whole[..length]).unwrap();
        assert_eq!(open(&folder).1.next_index, 10);
    }
    // It is written again, and the damaged one is no more.
    let (mut journal, _) = open(&folder);
    journal.snapshot(9, b"state 9 again").unwrap();
    drop(journal);
    assert_eq!(open(&folder).1.snapshot, Some((9, b"state 9 again".to_vec())));
}

#[test]
fn two_damaged_snapshots_are_an_error_not_an_empty_journal() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, _) = open(&folder);
    journal.append(&batch(1, 4)).unwrap();
    journal.snapshot(2, b"two").unwrap();
    journal.snapshot(4, b"four").unwrap();
    drop(journal);
    overwrite(&snapshot_path(&folder, 2), 41, b"X");
    overwrite(&snapshot_path(&folder, 4), 41, b"X");
    assert!(matches!(Journal::open(&folder), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_log_that_ends_before_a_damaged_snapshot_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, _) = open(&folder);
    journal.append(&batch(1, 4)).unwrap();
    journal.snapshot(4, b"four").unwrap();
    drop(journal);
    overwrite(&snapshot_path(&folder, 4), 41, b"X");
    fs::remove_dir_all(folder.join("log")).unwrap();
    assert!(matches!(Journal::open(&folder), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_log_that_ends_before_a_whole_snapshot_goes_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, _) = open(&folder);
    journal.append(&batch(1, 2)).unwrap();
    let short = fs::metadata(newest_log(&folder)).unwrap().len();
    drop(journal);
    let short = short.min(fs::metadata(newest_log(&folder)).unwrap().len());
    let (mut journal, _) = open(&folder);
    journal.append(&batch(3, 2)).unwrap();
    journal.snapshot(4, b"four").unwrap();
    drop(journal);
    OpenOptions::new().write(true).open(newest_log(&folder)).unwrap().set_len(short).unwrap();
    let (mut journal, recovered) = open(&folder);
    assert_eq!((recovered.snapshot, recovered.next_index), (Some((4, b"four".to_vec())), 5));
    journal.append(&batch(5, 2)).unwrap();
    drop(journal);
    assert_eq!(open(&folder).1.next_index, 7);
}

#[test]
fn half_a_snapshot_is_ignored_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (mut journal, _) = open(&folder);
    journal.append(&batch(1, 2)).unwrap();
    drop(journal);
    let half = folder.join("snapshots").join(format!("{:020}.new", 2));
    fs::write(&half, b"TEPUISN1 half").unwrap();
    let (_journal, recovered) = open(&folder);
    assert_eq!((recovered.snapshot, recovered.next_index), (None, 3));
    assert!(!half.exists());
}

#[test]
fn a_snapshot_of_what_is_not_written_is_refused_and_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&batch(1, 4)).unwrap();
    for index in [0, 5] {
        assert!(matches!(journal.snapshot(index, b""), Err(JournalError::Index { .. })));
    }
    journal.snapshot(3, b"three").unwrap();
    journal.snapshot(3, b"ignored").unwrap();
    assert!(matches!(journal.snapshot(2, b""), Err(JournalError::Index { .. })));
    assert!(journal.size_since_snapshot() > 0);
    assert_eq!(journal.append(&batch(5, 1)).unwrap(), 5);
}

#[test]
fn one_journal_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::InUse(_))));
    drop(journal);
    assert!(Journal::open(folder.path()).is_ok());
}

#[test]
fn too_much_at_once_is_refused_and_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    let large = vec![0_u8; tepui_journal::RECORD_BYTES + 1];
    assert!(matches!(journal.append(&[large]), Err(JournalError::TooLarge { .. })));
    assert_eq!(journal.append(&batch(1, 1)).unwrap(), 1);
}

#[test]
fn the_ballast_is_there_until_the_journal_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let (journal, _) = Journal::open_with(&folder, 4 << 20).unwrap();
    let room = Arc::clone(journal.room());
    let ballast = folder.join("ballast");
    let held = fs::metadata(&ballast).unwrap();
    assert_eq!((held.len(), held.blocks() * 512 >= 4 << 20), (4 << 20, true));
    // It is somebody else's to spare.
    let spare = room.spare().unwrap();
    assert!(spare > 0);
    drop((journal, room));
    // Less is wanted: it is given back.
    let (journal, _) = Journal::open_with(&folder, 0).unwrap();
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 0);
    drop(journal);
    assert_eq!(open(&folder).1.next_index, 1);
}
