//! The loop over a journal whose snapshots take their time, are large, or find no room.

use super::*;
use std::thread::JoinHandle;
use tepui_master_core::{Leader, ReplyBody};

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
    /// The last of them, as it was written.
    written: Vec<u8>,
    /// How large a snapshot is.
    snapshot_bytes: u64,
    /// The next snapshot is written once something comes here.
    gate: Option<std::sync::mpsc::Receiver<()>>,
}

struct Small(Arc<Mutex<Disk>>);

impl Log for Small {
    /// Its index, and how large it is.
    type Written = (u64, u64);

    fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, JournalError> {
        let mut disk = self.0.lock().unwrap();
        disk.records += records.len() as u64;
        Ok(disk.records)
    }

    fn snapshot_writer(
        &self,
        index: u64,
    ) -> Result<
        impl FnOnce(&Frozen) -> Result<Self::Written, DriverError> + Send + 'static,
        JournalError,
    > {
        let disk = Arc::clone(&self.0);
        Ok(move |state: &Frozen| {
            let gate = disk.lock().unwrap().gate.take();
            gate.inspect(|gate| gate.recv().unwrap());
            let mut disk = disk.lock().unwrap();
            disk.tries += 1;
            if disk.is_full {
                return Err(JournalError::Full { path: "snapshots".into(), bytes: 7 }.into());
            }
            disk.written.clear();
            state.write(&mut disk.written).unwrap();
            Ok((index, disk.snapshot_bytes))
        })
    }

    fn install(&mut self, (index, _bytes): Self::Written) -> Result<(), JournalError> {
        let mut disk = self.0.lock().unwrap();
        disk.taken.push(index);
        disk.size_since_snapshot = 0;
        Ok(())
    }

    fn bytes((_index, bytes): &Self::Written) -> u64 {
        *bytes
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
        Self::on(Disk { is_full: true, ..Disk::default() })
    }

    fn on(disk: Disk) -> Self {
        let disk = Arc::new(Mutex::new(disk));
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (driver, turn) = driven(&runtime, folder.path(), Small(Arc::clone(&disk)));
        let ended = std::thread::spawn(move || turn.run());
        let running = Self { runtime, driver, disk, ended, blobs: 0, _folder: folder };
        // The batch in which the term begins is over.
        running.look(|_| ());
        running
    }

    /// Somebody tells a fact while the log is so large. Whoever does is answered, and whoever looks after that sees it.
    /// Says how often a snapshot was tried by then, and how many were taken.
    fn tell(&mut self, size_since_snapshot: u64) -> (usize, usize) {
        let index = self.told(size_since_snapshot);
        // Nothing is written any more.
        while self.look(|view| view.stats.is_writing_snapshot) {
            std::thread::yield_now();
        }
        let disk = self.disk.lock().unwrap();
        assert!(index <= disk.records, "{index} of {}", disk.records);
        (disk.tries, disk.taken.len())
    }

    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&crate::driver::View<'_>) -> T + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.driver.query(look)).unwrap()
    }

    /// The same, and what is being written is left to itself. Says the index of the fact.
    fn told(&mut self, size_since_snapshot: u64) -> u64 {
        self.disk.lock().unwrap().size_since_snapshot = size_since_snapshot;
        self.blobs += 1;
        let digest = Digest([self.blobs; 32]);
        let (driver, records) = (&self.driver, self.disk.lock().unwrap().records);
        let stored = |ticket| Input::BlobStored { ticket, digest, size_bytes: 1 };
        let limit = std::time::Duration::from_mins(1);
        let answer = self.runtime.block_on(driver.ask(limit, stored));
        assert!(matches!(answer, Ok(ReplyBody::Done)), "{answer:?}");
        // Its batch is over once another one has begun.
        let index = self.look(move |view| {
            assert_eq!(view.leader.has_blob(&digest), Some(1));
            view.index
        });
        assert!(index > records, "{index}");
        index
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

#[test]
fn the_loop_goes_on_while_a_snapshot_is_written_and_what_came_meanwhile_is_not_in_it() {
    let (open, gate) = std::sync::mpsc::channel();
    let mut running = Running::on(Disk { gate: Some(gate), ..Disk::default() });
    let first = running.told(SNAPSHOT + 1);
    for _ in 0..3 {
        // Answered, and there is no second one beside the first.
        running.told(SNAPSHOT + 1);
        assert!(running.look(|view| view.stats.is_writing_snapshot));
    }
    assert!(running.disk.lock().unwrap().taken.is_empty());
    open.send(()).unwrap();
    assert_eq!(running.tell(1), (1, 1));
    assert_eq!(running.disk.lock().unwrap().taken, [first]);
    let written = State::decode(&running.disk.lock().unwrap().written).unwrap();
    let has = |number| Leader::new(written.clone()).has_blob(&Digest([number; 32])).is_some();
    assert_eq!([1, 2, 3, 4].map(has), [true, false, false, false]);
    running.stop().unwrap();
}

#[test]
fn a_master_that_stops_waits_for_its_snapshot_and_takes_another_of_what_came_since() {
    let (open, gate) = std::sync::mpsc::channel();
    let mut running = Running::on(Disk { gate: Some(gate), ..Disk::default() });
    let first = running.told(SNAPSHOT + 1);
    let last = running.told(1);
    let disk = Arc::clone(&running.disk);
    let Running { runtime, driver, ended, .. } = running;
    runtime.block_on(driver.send(Command::Stop)).unwrap();
    // Once it has taken the order, it waits for the snapshot.
    while driver.commands.capacity() < driver.commands.max_capacity() {
        std::thread::yield_now();
    }
    open.send(()).unwrap();
    ended.join().unwrap().unwrap();
    assert_eq!(disk.lock().unwrap().taken, [first, last]);
}

#[test]
fn as_much_log_is_written_as_a_snapshot_is_large_before_the_next_up_to_a_bound() {
    const LARGE: u64 = 300 << 20;
    const MOST: u64 = 512 << 20;
    let mut running = Running::on(Disk { snapshot_bytes: LARGE, ..Disk::default() });
    assert_eq!(running.tell(SNAPSHOT + 1), (1, 1));
    assert_eq!(running.tell(LARGE), (1, 1));
    running.disk.lock().unwrap().snapshot_bytes = 2 << 30;
    assert_eq!(running.tell(LARGE + 1), (2, 2));
    assert_eq!(running.tell(MOST), (2, 2));
    assert_eq!(running.tell(MOST + 1), (3, 3));
    running.stop().unwrap();
}
