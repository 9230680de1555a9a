//! The loop over a journal for whose snapshots there is no room.

use super::*;
use std::thread::JoinHandle;
use tepui_master_core::ReplyBody;

/// How large the log grows before a snapshot, and before the next try if there was no room for it.
const SNAPSHOT: u64 = 64 << 20;
const AGAIN: u64 = 16 << 20;

/// What the test says of the disk, and what it was asked.
#[derive(Debug, Default)]
struct Disk {
    is_full: bool,
    size_since_snapshot: u64,
    records: u64,
    tries: usize,
    /// Indexes of the snapshots that were taken.
    taken: Vec<u64>,
}

struct Small(Arc<Mutex<Disk>>);

impl Log for Small {
    fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, JournalError> {
        let mut disk = self.0.lock().unwrap();
        disk.records += records.len() as u64;
        Ok(disk.records)
    }

    fn snapshot(&mut self, index: u64, bytes: &[u8]) -> Result<(), JournalError> {
        let mut disk = self.0.lock().unwrap();
        disk.tries += 1;
        if disk.is_full {
            return Err(JournalError::Full { path: "snapshots".into(), bytes: bytes.len() });
        }
        disk.taken.push(index);
        disk.size_since_snapshot = 0;
        Ok(())
    }

    fn snapshot_index(&self) -> u64 {
        self.0.lock().unwrap().taken.last().copied().unwrap_or(0)
    }

    fn size_since_snapshot(&self) -> u64 {
        self.0.lock().unwrap().size_since_snapshot
    }
}

/// A loop on a thread of its own.
struct Running {
    runtime: Runtime,
    driver: Driver,
    disk: Arc<Mutex<Disk>>,
    ended: JoinHandle<Result<(), DriverError>>,
    blobs: u8,
    _folder: tempfile::TempDir,
}

impl Running {
    fn on_full_disk() -> Self {
        let disk = Arc::new(Mutex::new(Disk { is_full: true, ..Disk::default() }));
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (driver, turn) = driven(&runtime, folder.path(), Small(Arc::clone(&disk)));
        let ended = std::thread::spawn(move || turn.run());
        Self { runtime, driver, disk, ended, blobs: 0, _folder: folder }
    }

    /// Somebody tells a fact while the log is so large. Whoever does is answered, and whoever looks after that sees it.
    /// Says how often a snapshot was tried by then, and how many were taken.
    fn tell(&mut self, size_since_snapshot: u64) -> (usize, usize) {
        self.disk.lock().unwrap().size_since_snapshot = size_since_snapshot;
        self.blobs += 1;
        let digest = Digest([self.blobs; 32]);
        let (driver, records) = (&self.driver, self.disk.lock().unwrap().records);
        let index = self.runtime.block_on(async {
            let stored = |ticket| Input::BlobStored { ticket, digest, size_bytes: 1 };
            let answer = driver.ask(std::time::Duration::from_mins(1), stored).await;
            assert!(matches!(answer, Ok(ReplyBody::Done)), "{answer:?}");
            // Its batch is over once another one has begun.
            let look = move |view: &crate::driver::View<'_>| {
                assert_eq!(view.leader.has_blob(&digest), Some(1));
                view.index
            };
            driver.query(look).await.unwrap()
        });
        let disk = self.disk.lock().unwrap();
        assert!(index > records && index <= disk.records, "{index} of {}", disk.records);
        (disk.tries, disk.taken.len())
    }

    fn stop(self) -> Result<(), DriverError> {
        let Self { runtime, driver, ended, .. } = self;
        runtime.block_on(driver.send(Command::Stop)).unwrap();
        ended.join().unwrap()
    }
}

#[test]
fn without_room_for_a_snapshot_all_goes_on_and_it_is_tried_again_when_the_log_has_grown() {
    let mut running = Running::on_full_disk();
    assert_eq!(running.tell(SNAPSHOT), (0, 0));
    assert_eq!(running.tell(SNAPSHOT + 1), (1, 0));
    // Not in each batch from now on: what a snapshot costs is paid for nothing.
    assert_eq!(running.tell(SNAPSHOT + 1), (1, 0));
    assert_eq!(running.tell(SNAPSHOT + 1 + AGAIN), (1, 0));
    assert_eq!(running.tell(SNAPSHOT + 2 + AGAIN), (2, 0));
    // There is room again.
    running.disk.lock().unwrap().is_full = false;
    assert_eq!(running.tell(SNAPSHOT + 2 + 2 * AGAIN), (2, 0));
    assert_eq!(running.tell(SNAPSHOT + 3 + 2 * AGAIN), (3, 1));
    // From here on as if nothing had been.
    assert_eq!(running.tell(SNAPSHOT), (3, 1));
    assert_eq!(running.tell(SNAPSHOT + 1), (4, 2));
    let disk = Arc::clone(&running.disk);
    assert!(running.stop().is_ok());
    let disk = disk.lock().unwrap();
    assert_eq!(disk.taken.last(), Some(&disk.records), "the last one has all that is in the log");
}

#[test]
fn a_master_that_stops_without_room_for_its_last_snapshot_stops_well() {
    let mut running = Running::on_full_disk();
    assert_eq!(running.tell(1), (0, 0));
    let disk = Arc::clone(&running.disk);
    let ended = running.stop();
    assert!(ended.is_ok(), "all is in the log: {ended:?}");
    assert_eq!(disk.lock().unwrap().tries, 1);
}
