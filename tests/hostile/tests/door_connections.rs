//! Strangers at the door: connections without a token, that say nothing or too little.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use rustls::ClientConnection;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tepui_e2e::Cluster;
use tepui_hostile::besieged;

/// Well above what the master's deadlines add up to.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

/// Descriptors that a process has open.
fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A connection whose handshake is over; none if the door has pushed it out meanwhile.
fn shaken(cluster: &Cluster) -> Option<(ClientConnection, TcpStream)> {
    let mut stream = TcpStream::connect(cluster.api().address()).ok()?;
    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::new(cluster.api().tls()), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).ok()?;
    }
    Some((tls, stream))
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
    let mut bytes = [0; 4_096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            // A session ticket, or a farewell.
            Ok(_) => {}
            Err(error) => {
                return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
    }
}

#[test]
fn a_thousand_silent_strangers_take_nothing_from_anybody() {
    let cluster = Cluster::start(1);
    besieged(&cluster, 256 << 20, || {
        let mut all = Vec::new();
        // Not even a first byte.
        for _ in 0..700 {
            all.push(TcpStream::connect(cluster.api().address()).unwrap());
        }
        // A handshake, and then nothing, or half of a request.
        for at in 0..700 {
            let Some((mut tls, mut stream)) = shaken(&cluster) else { continue };
            if at % 2 == 0 {
                tls.writer().write_all(b"GET /v1/cluster HTTP/1.1\r\nHost: a\r\n").unwrap();
                // It may be pushed out in this moment.
                drop(tls.complete_io(&mut stream));
            }
            all.push(stream);
        }
        assert!(all.len() > 1_000, "only {} got as far as that", all.len());
        let files = open_files(cluster.pid("master"));
        assert!(files < 700, "the master has {files} files open");
        let stay = all.iter_mut().map(is_closed).filter(|is_closed| !is_closed).count();
        assert_eq!(stay, 0, "were never closed");
    });
}

#[test]
fn who_has_the_token_and_thousands_of_connections_pushes_out_only_those() {
    let cluster = Cluster::start(1);
    let good = format!(
        "GET /v1/cluster HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
        cluster.api().token()
    );
    besieged(&cluster, 512 << 20, || {
        let mut all = Vec::new();
        for _ in 0..1_500 {
            let Some((mut tls, mut stream)) = shaken(&cluster) else { continue };
            tls.writer().write_all(good.as_bytes()).unwrap();
            drop(tls.complete_io(&mut stream));
            all.push(stream);
        }
        // One request was answered, and no other comes.
        let stay = all.iter_mut().map(is_closed).filter(|is_closed| !is_closed).count();
        assert_eq!(stay, 0, "idle for ever");
    });
}
