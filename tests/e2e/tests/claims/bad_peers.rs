//! Peers that are strangers, liars, or speak nonsense: each is closed with a reason, and nobody else notices.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;
use tepui_e2e::{Cluster, PATIENCE, guest, memory_bytes};
use tepui_proto::control::{AgentMessage, AgentStream, Hello, MasterMessage};
use tepui_proto::{Digest, LaunchNumber, Life, Resources, Term};
use tepui_transport::{Authority, Connection, DialError, Dialer, Identity, PeerRole, client};

/// How often each quick trick is played, so that what a master keeps of one would add up.
const ROUNDS: usize = 40;
/// What a master's memory may differ by after all of them: an allocator keeps some of what it was given back.
const NOISE_BYTES: u64 = 8 << 20;

pub(crate) struct Door {
    address: SocketAddr,
    authority: Authority,
}

impl Door {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let text = std::fs::read_to_string(cluster.dir().join("master/addresses")).unwrap();
        let addresses: Value = serde_json::from_str(&text).unwrap();
        let address = addresses.get("quic").and_then(Value::as_str).unwrap().parse().unwrap();
        let authority = Authority::load(&cluster.dir().join("authority")).unwrap();
        Self { address, authority }
    }

    fn identity(&self, role: PeerRole) -> Identity {
        self.authority.issue(role, "mallory", &[]).unwrap()
    }

    pub(crate) async fn enter(&self) -> (Dialer, Connection) {
        let dialer = client(&self.identity(PeerRole::Agent)).unwrap();
        let connection = dialer.dial(self.address).await.unwrap();
        (dialer, connection)
    }

    /// The code with which the door is shut on somebody.
    async fn shut_on(&self, identity: &Identity) -> String {
        match client(identity).unwrap().dial(self.address).await {
            Ok(connection) => closed(&connection).await,
            Err(DialError::Handshake { source, .. }) => source.code().to_owned(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends bytes on the first stream, ends it or not, and gives the code of the end.
    async fn say(&self, bytes: &[u8], ends: bool) -> String {
        let (_dialer, connection) = self.enter().await;
        let (mut writer, _reader) = connection.open().await.unwrap();
        // The master may hang up before all is said.
        let _written = writer.get_mut().write_all(bytes).await;
        if ends {
            let _finished = writer.finish().await;
        }
        closed(&connection).await
    }

    /// Says one thing on the control stream after another, and gives the code of the end.
    async fn tell(&self, first: AgentStream, messages: &[AgentMessage]) -> String {
        let (_dialer, connection) = self.enter().await;
        let (mut writer, _reader) = connection.open().await.unwrap();
        let _first = writer.write(&first).await;
        let _rest = writer.write_all(messages).await;
        closed(&connection).await
    }
}

async fn closed(connection: &Connection) -> String {
    let reason = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    reason.code().to_owned()
}

pub(crate) fn hello(resources: Resources) -> AgentMessage {
    AgentMessage::Hello(Box::new(Hello {
        life: Life(7),
        term: Term(0),
        hostname: "nowhere".to_owned(),
        version: "0".to_owned(),
        resources,
        pools: Vec::new(),
        attributes: Vec::new(),
        domain: None,
        max_tasks: tepui_proto::limits::CELL_INSTANCES,
        has_room: true,
        launch_mark: LaunchNumber(0),
        tasks: Vec::new(),
        has_more_tasks: false,
        reports: Vec::new(),
    }))
}

async fn tricks(door: &Door) {
    let strangers = Authority::create().unwrap();
    let stranger = strangers.issue(PeerRole::Agent, "agent-1", &[]).unwrap();
    assert_eq!(door.shut_on(&stranger).await, "tls-refused", "it does not trust this master");
    let pretender = Identity { ca_pem: door.authority.ca_pem().to_owned(), ..stranger };
    assert_eq!(door.shut_on(&pretender).await, "tls-refused", "it is of another cluster");
    assert_eq!(door.shut_on(&door.identity(PeerRole::Master)).await, "peer-role");

    let invalid = [9, 0, 0, 0, tepui_proto::limits::WIRE_VERSION, 99, 99, 99, 99, 99, 99, 99, 99];
    for _ in 0..ROUNDS {
        // 4 GiB.
        assert_eq!(door.say(&[0xff; 4], false).await, "frame-too-large");
        assert_eq!(door.say(b"GET / HTTP/1.1\r\n\r\n", false).await, "frame-too-large");
        assert_eq!(door.say(&[0; 64], true).await, "frame-too-large");
        assert_eq!(door.say(&[3, 0, 0, 0, 200, 1, 2], true).await, "wire-version");
        assert_eq!(door.say(&invalid, true).await, "frame-invalid");
        assert_eq!(
            door.say(&[100, 0, 0, 0, tepui_proto::limits::WIRE_VERSION, 0], true).await,
            "frame-cut"
        );
        let fetch = AgentStream::Fetch(Digest([0; 32]));
        assert_eq!(door.tell(fetch, &[]).await, "unexpected-message");
        let heartbeat = [AgentMessage::Heartbeat];
        assert_eq!(door.tell(AgentStream::Control, &heartbeat).await, "unexpected-message");
    }
    let absurd = Resources::cpu_memory(u64::MAX, u64::MAX);
    assert_eq!(refused(door, hello(absurd)).await, "invalid-hello");
    let twice = [hello(Resources::default()), hello(Resources::default())];
    assert_eq!(door.tell(AgentStream::Control, &twice).await, "unexpected-message");
}

/// The code of the refusal that answers a hello.
async fn refused(door: &Door, hello: AgentMessage) -> String {
    let (_dialer, connection) = door.enter().await;
    let (mut writer, mut reader) = connection.open().await.unwrap();
    writer.write(&AgentStream::Control).await.unwrap();
    writer.write(&hello).await.unwrap();
    match reader.read::<MasterMessage>().await {
        Ok(Some(MasterMessage::Refused { code, retry: false, .. })) => code,
        other => panic!("{other:?}"),
    }
}

/// Half a frame, or nothing at all, and then silence; all of it at once, since the master waits some seconds.
async fn silences(door: &Door) {
    let half = door.say(&[100, 0, 0, 0, tepui_proto::limits::WIRE_VERSION, 0], false);
    let header = door.say(&[9, 0], false);
    let greeted = door.tell(AgentStream::Control, &[]);
    let mute = async {
        let (_dialer, connection) = door.enter().await;
        closed(&connection).await
    };
    let ends: [String; 4] = tokio::join!(half, header, greeted, mute).into();
    assert_eq!(ends, ["stream-silent"; 4]);
}

#[test]
fn bad_peers_are_closed_with_a_reason_and_cost_the_master_and_the_others_nothing() {
    let cluster = Cluster::start(1);
    let module = guest("hello.wasm").display().to_string();
    let run = || cluster.tepui(["run", &module]).good();
    let _first = run();
    let door = Door::of(&cluster);
    let runtime = cluster.api().runtime();
    // Once beforehand, so that what is set up on first use is not counted.
    runtime.block_on(tricks(&door));
    let before = memory_bytes(cluster.pid("master"));
    thread::scope(|scope| {
        let working = scope.spawn(|| (0..10).for_each(|_| drop(run())));
        runtime.block_on(async { tokio::join!(tricks(&door), silences(&door)) });
        working.join().unwrap();
    });
    let after = memory_bytes(cluster.pid("master"));
    assert!(after < before + NOISE_BYTES, "the master's memory went from {before} to {after}");
    let honest = cluster.json(&["agent", "show", "agent-1"]);
    assert_eq!(honest.get("state"), Some(&json!("connected")), "{honest}");
    let _last = run();
}

#[test]
fn a_peer_that_never_answers_quic_itself_is_let_go() {
    let cluster = Cluster::start(1);
    let door = Door::of(&cluster);
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // First packets without sense, and with the version that no one speaks, to which QUIC has an answer.
    for length in [1, 20, 1_200] {
        socket.send_to(&vec![0x5a; length], door.address).unwrap();
    }
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    packet.resize(1_200, 0);
    socket.send_to(&packet, door.address).unwrap();
    let mut answer = [0; 1_500];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((from, answer[1..5].to_vec()), (door.address, vec![0; 4]), "{length} bytes");
    assert_eq!(cluster.tepui(["run", &guest("hello.wasm").display().to_string()]).good().code, 0);
}
