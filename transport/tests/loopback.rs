//! Agents and a master on loopback: who comes in, who does not, and what a bad peer can do to a good one.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use std::net::SocketAddr;
use std::time::Duration;
use tepui_proto::control::{AgentMessage, AgentStream};
use tepui_transport::{
    Authority, CloseCode, CloseReason, Connection, DialError, Dialer, Identity, Listener,
    ListenerLimits, PeerRole, client, server, server_with,
};

const SOON: Duration = Duration::from_secs(10);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn agent(authority: &Authority, name: &str) -> Dialer {
    client(&authority.issue(PeerRole::Agent, name, &[]).unwrap()).unwrap()
}

fn master(authority: &Authority) -> Identity {
    authority.issue(PeerRole::Master, "master-0", &[]).unwrap()
}

struct Cluster {
    authority: Authority,
    listener: Listener,
    address: SocketAddr,
}

impl Cluster {
    fn new() -> Self {
        let authority = Authority::create().unwrap();
        let listener = server(&master(&authority), loopback()).unwrap();
        let address = listener.local_address().unwrap();
        Self { authority, listener, address }
    }

    /// Both ends of a new connection.
    async fn connect(&mut self, name: &str) -> (Dialer, Connection, Connection) {
        let dialer = agent(&self.authority, name);
        let near = dialer.dial(self.address).await.unwrap();
        let far = self.accept().await;
        (dialer, near, far)
    }

    async fn accept(&mut self) -> Connection {
        tokio::time::timeout(SOON, self.listener.accept()).await.unwrap().unwrap()
    }

    /// That the next to come in is `name`, so whoever came before was refused.
    async fn lets_in_only(&mut self, name: &str) {
        let (_dialer, near, far) = self.connect(name).await;
        assert_eq!(far.peer().name, name);
        echo(&near, &far).await;
    }
}

/// A message each way, on a new stream.
async fn echo(near: &Connection, far: &Connection) {
    let there = async {
        let (mut writer, mut reader) = near.open().await.unwrap();
        writer.write(&AgentStream::Control).await.unwrap();
        writer.write_all(&[AgentMessage::Heartbeat, AgentMessage::Goodbye]).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(reader.read::<u32>().await.unwrap(), Some(7));
        assert_eq!(reader.read::<u32>().await.unwrap(), None);
    };
    let back = async {
        let (mut writer, mut reader) = far.accept().await.unwrap();
        assert_eq!(reader.read_within(SOON).await.unwrap(), Some(AgentStream::Control));
        assert_eq!(reader.read().await.unwrap(), Some(AgentMessage::Heartbeat));
        assert_eq!(reader.read().await.unwrap(), Some(AgentMessage::Goodbye));
        assert_eq!(reader.read::<AgentMessage>().await.unwrap(), None);
        writer.write(&7_u32).await.unwrap();
        writer.finish().await.unwrap();
    };
    tokio::time::timeout(SOON, async { tokio::join!(there, back) }).await.unwrap();
}

#[tokio::test]
async fn an_agent_and_a_master_know_each_other_and_talk() {
    let mut cluster = Cluster::new();
    let (_dialer, near, far) = cluster.connect("agent-1").await;
    assert_eq!((far.peer().role, far.peer().name.as_str()), (PeerRole::Agent, "agent-1"));
    assert_eq!((near.peer().role, near.peer().name.as_str()), (PeerRole::Master, "master-0"));
    echo(&near, &far).await;
    near.send_datagram(&AgentMessage::Heartbeat).unwrap();
    assert_eq!(far.read_datagram::<AgentMessage>().await.unwrap(), AgentMessage::Heartbeat);
    let large = near.send_datagram(&vec![0_u8; 4_000]).unwrap_err();
    assert_eq!(large.code(), "datagram-too-large");
    far.close(CloseCode::Superseded, "the same agent came again");
    let CloseReason::Peer { code, reason } = near.closed().await else {
        panic!("not closed by its peer")
    };
    assert_eq!(code, Some(CloseCode::Superseded));
    assert_eq!(reason, "superseded: the same agent came again");
    assert_eq!(far.closed().await, CloseReason::Here);
}

#[tokio::test]
async fn an_agent_of_another_authority_is_refused_by_both_sides() {
    let mut cluster = Cluster::new();
    let other = Authority::create().unwrap();
    // It does not trust this master.
    let error = agent(&other, "stranger").dial(cluster.address).await.unwrap_err();
    assert_eq!(error.code(), "tls-refused");
    // It trusts this master, but its own certificate is of the other authority.
    let mut identity = other.issue(PeerRole::Agent, "stranger", &[]).unwrap();
    identity.ca_pem = cluster.authority.ca_pem().to_owned();
    let reason = match client(&identity).unwrap().dial(cluster.address).await {
        Ok(connection) => tokio::time::timeout(SOON, connection.closed()).await.unwrap(),
        Err(DialError::Handshake { source, .. }) => source,
        Err(error) => panic!("{error}"),
    };
    assert!(matches!(reason, CloseReason::Tls { .. }), "{reason}");
    cluster.lets_in_only("agent-1").await;
}

#[tokio::test]
async fn a_master_does_not_come_in_as_an_agent() {
    let mut cluster = Cluster::new();
    let dialer = client(&master(&cluster.authority)).unwrap();
    let reason = match dialer.dial(cluster.address).await {
        Ok(connection) => tokio::time::timeout(SOON, connection.closed()).await.unwrap(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(reason.code(), "peer-role");
    cluster.lets_in_only("agent-1").await;
}

#[tokio::test]
async fn an_agent_cannot_pose_as_a_master() {
    let authority = Authority::create().unwrap();
    let impostor = authority.issue(PeerRole::Agent, "agent-1", &[]).unwrap();
    let listener = server(&impostor, loopback()).unwrap();
    let address = listener.local_address().unwrap();
    let error = agent(&authority, "agent-2").dial(address).await.unwrap_err();
    assert_eq!(error.code(), "tls-refused");
}

#[tokio::test]
async fn a_bad_frame_ends_in_a_typed_error_and_disturbs_no_one() {
    let mut cluster = Cluster::new();
    let (_good, good_near, good_far) = cluster.connect("good").await;
    for (bytes, code) in [
        // 4 GiB.
        (&[0xff_u8, 0xff, 0xff, 0xff, 1, 2, 3][..], CloseCode::FrameTooLarge),
        (&[0; 64], CloseCode::FrameTooLarge),
        (b"GET / HTTP/1.1\r\n\r\n", CloseCode::FrameTooLarge),
        (&[3, 0, 0, 0, 200, 1, 2], CloseCode::WireVersion),
        (&[5, 0, 0, 0, tepui_proto::limits::WIRE_VERSION, 99, 99, 99, 99], CloseCode::FrameInvalid),
        (&[100, 0, 0, 0, tepui_proto::limits::WIRE_VERSION, 0], CloseCode::FrameCut),
        (&[100, 0], CloseCode::FrameCut),
    ] {
        let (_bad, bad_near, bad_far) = cluster.connect("bad").await;
        let (mut writer, _reader) = bad_near.open().await.unwrap();
        writer.get_mut().write_all(bytes).await.unwrap();
        writer.finish().await.unwrap();
        let (_writer, mut reader) = bad_far.accept().await.unwrap();
        let error = reader.read_within::<AgentStream>(SOON).await.unwrap_err();
        assert_eq!(error.code(), code.code(), "{bytes:?}");
        bad_far.close(CloseCode::from(&error), &error.to_string());
        let reason = tokio::time::timeout(SOON, bad_near.closed()).await.unwrap();
        assert_eq!(reason.code(), code.code());
        echo(&good_near, &good_far).await;
    }
}

#[tokio::test]
async fn half_a_frame_and_silence_holds_no_one_up() {
    let mut cluster = Cluster::new();
    let (_dialer, near, far) = cluster.connect("agent-1").await;
    let (mut writer, _reader) = near.open().await.unwrap();
    writer.get_mut().write_all(&[9, 0]).await.unwrap();
    let (_writer, mut reader) = far.accept().await.unwrap();
    let error = reader.read_within::<AgentStream>(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.code(), "stream-silent");
    // Another stream of the same connection goes on.
    echo(&near, &far).await;
}

#[tokio::test]
async fn the_bound_on_connections_holds_and_room_that_is_freed_is_used() {
    let authority = Authority::create().unwrap();
    let limits = ListenerLimits { connections: 2, ..ListenerLimits::default() };
    let mut listener = server_with(&master(&authority), loopback(), limits).unwrap();
    let address = listener.local_address().unwrap();
    let (first, second, third) =
        (agent(&authority, "a"), agent(&authority, "b"), agent(&authority, "c"));
    let one = first.dial(address).await.unwrap();
    let two = second.dial(address).await.unwrap();
    let far_one = listener.accept().await.unwrap();
    let far_two = listener.accept().await.unwrap();
    assert!(matches!(third.dial(address).await, Err(DialError::Handshake { .. })));
    echo(&two, &far_two).await;
    far_one.close(CloseCode::Done, "");
    one.closed().await;
    // QUIC forgets a closed connection a little later; dialling again is what an agent does anyway.
    let again = tokio::time::timeout(SOON, async {
        loop {
            if let Ok(connection) = third.dial(address).await {
                return connection;
            }
        }
    });
    let again = again.await.unwrap();
    let far = listener.accept().await.unwrap();
    echo(&again, &far).await;
}

#[tokio::test]
async fn many_agents_come_in_at_once_and_a_stopping_master_tells_them() {
    let mut cluster = Cluster::new();
    let mut agents = Vec::new();
    for index in 0..40 {
        let dialer = agent(&cluster.authority, &format!("agent-{index}"));
        let address = cluster.address;
        agents.push(tokio::spawn(async move { (dialer.dial(address).await, dialer) }));
    }
    let mut names = Vec::new();
    let mut far = Vec::new();
    for _ in 0..40 {
        let connection = cluster.accept().await;
        names.push(connection.peer().name.clone());
        // A connection that no one holds closes.
        far.push(connection);
    }
    assert!(far.iter().all(|connection| connection.close_reason().is_none()));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 40);
    cluster.listener.close(CloseCode::Stopping);
    for agent in agents {
        let (connection, _dialer) = agent.await.unwrap();
        assert_eq!(connection.unwrap().closed().await.code(), "stopping");
    }
    assert!(cluster.listener.accept().await.is_none());
}
