//! Strangers at the door who speak HTTP/2, without a token: requests and requests, on many connections.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use rustls::{ClientConfig, ClientConnection};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tepui_e2e::Cluster;
use tepui_hostile::besieged;

/// Well above what the master's deadlines add up to.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);
/// How long they go on: a stranger has 10 s.
const FOR: Duration = Duration::from_secs(8);
/// What a master may hold with all of them at its door.
const MASTER_BYTES: u64 = 256 << 20;
const CONNECTIONS: usize = 120;
/// Those that write at once.
const THREADS: usize = 6;
/// Requests that are written at once, as many as may be open on a connection.
const TOGETHER: u32 = 250;

/// How the attacker takes in what it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// As fast as it comes, so that it can ask for more.
    All,
    /// Not a byte of a body: each answer has to wait.
    Nothing,
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// What opens a connection: the preface, settings, and how much of bodies may come.
fn opening(reads: Reads) -> Vec<u8> {
    let window: u32 = if reads == Reads::All { i32::MAX.cast_unsigned() } else { 0 };
    // Setting 4 is the window of a new stream.
    let settings = frame(4, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let more = frame(8, 0, 0, &(i32::MAX.cast_unsigned() - 65_535).to_be_bytes());
    if reads == Reads::All {
        [preface, settings, more].concat()
    } else {
        [preface, settings].concat()
    }
}

/// A request without a token, with headers that fill the list that is allowed, about.
fn headers(stream: u32) -> Vec<u8> {
    // `GET`, `https` and `/` as the static table has them; then literals that no table keeps.
    let mut block = vec![0x82, 0x87, 0x84, 0x01, 1, b'a'];
    for _ in 0..10 {
        block.extend([0x00, 1, b'x', 126]);
        block.extend([b'y'; 126]);
    }
    // The stream and the headers end with it.
    frame(1, 0x5, stream, &block)
}

/// As many as are written at once, from this stream on.
fn requests(stream: u32) -> Vec<u8> {
    (0..TOGETHER).flat_map(|n| headers(stream + 2 * n)).collect()
}

/// A connection of the attacker's.
struct Stranger {
    tls: ClientConnection,
    stream: TcpStream,
    next: u32,
    reads: Reads,
}

impl Stranger {
    /// None if the door has pushed it out already.
    fn new(cluster: &Cluster, tls: &Arc<ClientConfig>, reads: Reads) -> Option<Self> {
        let mut stream = TcpStream::connect(cluster.api().address()).ok()?;
        let name = "localhost".try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::clone(tls), name).unwrap();
        // All that is asked for at once has to fit.
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).ok()?;
        }
        assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
        // So that one of which nothing is read holds up no other.
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        tls.writer().write_all(&opening(reads)).unwrap();
        Some(Self { tls, stream, next: 1, reads })
    }

    /// Asks for more, if all that it asked for has left, and reads what has come. Says for how much it asked, none if it
    /// was closed.
    fn ask(&mut self, first: &[u8]) -> Option<u32> {
        let mut asked = 0;
        // Where no answer ends, no more can be open.
        let may_ask = self.reads == Reads::All || self.next == 1;
        if may_ask && !self.tls.wants_write() {
            // What an attacker's machine does is not what is tested: the most of it was done before.
            if self.next == 1 {
                self.tls.writer().write_all(first).unwrap();
            } else {
                self.tls.writer().write_all(&requests(self.next)).unwrap();
            }
            self.next += 2 * TOGETHER;
            asked = TOGETHER;
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if is_late(&error) => break,
                Err(_) => return None,
            }
        }
        self.read().then_some(asked)
    }

    /// Takes in what has come; false once it was closed.
    fn read(&mut self) -> bool {
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return is_late(&error),
        }
        if self.tls.process_new_packets().is_err() {
            return false;
        }
        let mut bytes = [0; 16_384];
        while matches!(self.tls.reader().read(&mut bytes), Ok(count) if count > 0) {}
        true
    }

    fn closes_in_time(mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < CLOSED_WITHIN {
            if !self.read() {
                return true;
            }
        }
        false
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// One thread's connections, each as fast as it is read from, and another for each that the door closes; says how many
/// there were, and how many requests.
fn flood(cluster: &Cluster, tls: &Arc<ClientConfig>, reads: Reads) -> (usize, u64) {
    // An attacker has a machine of their own, so this thread stands behind all others of this one.
    rustix::process::nice(19).unwrap();
    let (mut open, mut opened, mut asked, first) = (Vec::new(), 0, 0, requests(1));
    let begun = Instant::now();
    while begun.elapsed() < FOR {
        let lacking = CONNECTIONS / THREADS - open.len();
        let new = (0..lacking).filter_map(|_| Stranger::new(cluster, tls, reads));
        let before = open.len();
        open.extend(new);
        opened += open.len() - before;
        open.retain_mut(|stranger| {
            let more = stranger.ask(&first);
            asked += u64::from(more.unwrap_or(0));
            more.is_some()
        });
    }
    let stay = open.into_iter().map(Stranger::closes_in_time).filter(|closed| !closed).count();
    assert_eq!(stay, 0, "were never closed");
    (opened, asked)
}

fn besiege_with(reads: Reads) {
    let cluster = Cluster::start(1);
    let mut tls = cluster.api().tls();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = Arc::new(tls);
    besieged(&cluster, MASTER_BYTES, || {
        let all: Vec<(usize, u64)> = thread::scope(|scope| {
            let flood = || flood(&cluster, &tls, reads);
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(flood)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let opened: usize = all.iter().map(|(opened, _)| opened).sum();
        let asked: u64 = all.iter().map(|(_, asked)| asked).sum();
        // However soon they are shown the door, that many came in.
        assert!(opened >= CONNECTIONS, "only {opened} connections");
        assert!(asked >= 10_000, "only {asked} requests on {opened} connections");
    });
}

#[test]
fn strangers_with_many_connections_and_many_requests_on_each_keep_nobody_waiting() {
    besiege_with(Reads::All);
}

#[test]
fn strangers_who_ask_and_never_read_take_no_memory() {
    besiege_with(Reads::Nothing);
}
