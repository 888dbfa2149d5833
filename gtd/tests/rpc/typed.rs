//! The typed client of `proto` over a small line transport.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gtd::rpc::Limits;
use gtd_proto::rpc::{AgentClient, DaemonClient, EventsClient, RigClient, RpcClient};
use gtd_proto::{ErrorKind, Frame, RpcError, Seq, params};
use jsonrpsee::core::client::{
    Client, ClientBuilder, Error, ReceivedMessage, TransportReceiverT, TransportSenderT,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::common::{Daemon, until};
use crate::table::StandIn;

struct Lines<T>(T);

impl TransportSenderT for Lines<OwnedWriteHalf> {
    type Error = io::Error;
    async fn send(&mut self, mut message: String) -> Result<(), io::Error> {
        message.push('\n');
        self.0.write_all(message.as_bytes()).await
    }
}

impl TransportReceiverT for Lines<BufReader<OwnedReadHalf>> {
    type Error = io::Error;
    async fn receive(&mut self) -> Result<ReceivedMessage, io::Error> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(ReceivedMessage::Text(line)),
        }
    }
}

async fn client(daemon: &Daemon) -> Client {
    let (reader, writer) = UnixStream::connect(&daemon.socket).await.unwrap().into_split();
    ClientBuilder::default()
        .request_timeout(Duration::from_secs(20))
        .build_with_tokio(Lines(writer), Lines(BufReader::new(reader)))
}

fn daemon() -> Daemon {
    let plain = Daemon::start();
    Daemon::serving(StandIn::methods(), Arc::clone(&plain.state), Limits::default())
}

fn kind(error: Error) -> RpcError {
    match error {
        Error::Call(error) => RpcError::from(&error),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn results_and_errors_arrive_as_types() {
    let daemon = daemon();
    let client = client(&daemon).await;
    let hello =
        DaemonClient::hello(&client, params::Hello { client: "test".into(), protocol: 1 }).await.unwrap();
    assert_eq!((hello.body.town.as_str(), hello.seq), ("/town", Seq(7)));
    let error =
        kind(RigClient::status(&client, params::RigRef { rig: "a".parse().unwrap() }).await.unwrap_err());
    assert_eq!(
        (error.code, error.kind, &error.data["known"][0]),
        (1001, ErrorKind::RigNotFound, &"b".into())
    );
    let error = kind(AgentClient::list(&client, params::AgentList { selector: None }).await.unwrap_err());
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Internal, "agent.list"));
    let document = RpcClient::discover(&client, params::None {}).await.unwrap();
    assert_eq!(document["methods"].as_array().unwrap().len(), gtd_proto::method::METHODS.len());
}

#[tokio::test]
async fn a_subscription_arrives_as_types_and_ends_when_it_is_dropped() {
    let daemon = daemon();
    let client = client(&daemon).await;
    let mut follow = EventsClient::follow(&client, params::EventsSubscribe::default()).await.unwrap();
    for _ in 0..3 {
        let frame = follow.next().await.unwrap().unwrap();
        assert_eq!(frame, Frame::Lagged { lagged: 5 });
    }
    assert_eq!(daemon.counters.subscribers(), 1);
    drop(follow);
    until("it has ended", || daemon.counters.subscribers() == 0).await;
    let hello = DaemonClient::hello(&client, params::Hello { client: "test".into(), protocol: 1 }).await;
    assert!(hello.is_ok(), "the connection lives on");
}

#[tokio::test]
async fn many_typed_calls_share_a_connection() {
    let daemon = daemon();
    let client = client(&daemon).await;
    let calls =
        (0..500).map(|_| DaemonClient::hello(&client, params::Hello { client: "t".into(), protocol: 1 }));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.unwrap().body.town, "/town");
    }
}
