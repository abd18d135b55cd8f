use super::*;
use crate::{
    answer::Answer,
    hub::Hub,
    keys::{Keys, Sources},
    link::replica,
    store::{AgentStore, AgentWriter, identity::Identity, schema::APPLICATION},
};
use protocol::Epoch;
use room_log::{Database, Outbound, Readers, Writer};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::codec::Decoder;

/// An agent of host ada, and the server it is about to meet.
struct Desk {
    _dir: TempDir,
    link: Link,
    people: People,
    listener: TcpListener,
    epoch: Epoch,
}

/// What the users of ada do.
#[derive(Clone)]
struct People {
    writer: AgentWriter,
}

impl Desk {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (database, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let identity = Identity::load_or_create(&connection, &"ada".parse().unwrap()).unwrap();
        let hub = Arc::new(Hub::new(&identity, u64::MAX));
        let writer = Writer::spawn(connection, AgentStore::new(Arc::clone(&hub))).unwrap();
        let people = People {
            writer: writer.clone(),
        };
        let keys = Arc::new(Keys::open(dir.path(), Sources::default()).unwrap());
        let (link, _) = Link::new(hub, writer, Readers::new(database), keys);
        Self {
            _dir: dir,
            link,
            people,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            epoch: Epoch::new(),
        }
    }

    async fn replica(&self) -> Replica {
        let Link {
            hub,
            writer,
            readers,
            ..
        } = &self.link;
        let replica = replica::prepare(hub, writer, readers, self.epoch).await;
        replica.unwrap()
    }

    async fn begin(&mut self, replica: Replica) -> Online<'_> {
        let address = self.listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let welcome = Welcome {
            epoch: self.epoch,
            software: "a test".to_owned(),
            rest: BytesMut::new(),
        };
        let server = ServerAddress::parse("plain://server").unwrap();
        let stream = Stream::Plain(stream);
        Online::begin(&mut self.link, server, stream, welcome, replica).unwrap()
    }

    async fn online(&mut self) -> Online<'_> {
        let replica = self.replica().await;
        self.begin(replica).await
    }
}

impl People {
    async fn join(&self, room: &str) {
        let (done, joined) = oneshot::channel();
        let (room, user) = (room.parse().unwrap(), alice());
        let command = Command::Join { room, user, done };
        self.writer.submit(command).await.unwrap();
        assert_eq!(joined.await, Ok(Ok(())));
    }

    async fn leave(&self, room: &str) {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let answer = Answer::new(Arc::new(Outbound::new(1024)), RequestId(1), place);
        let (room, user) = (room.parse().unwrap(), alice());
        let command = Command::Leave { room, user, answer };
        self.writer.submit(command).await.unwrap();
        // Commands are done in order, and this one says when.
        self.join("&elsewhere").await;
    }
}

impl Online<'_> {
    /// What was asked since this was called last.
    fn asked(&mut self) -> Vec<AgentFrame> {
        let mut codec = FrameCodec::<AgentFrame, ServerFrame>::new();
        std::iter::from_fn(|| codec.decode(&mut self.out).unwrap()).collect()
    }

    /// Answers the one request like `request` among those asked since the last call.
    fn answer(&mut self, request: &Request, reply: Reply) {
        let asked = self.asked();
        let mut alike = asked.iter().filter(|asked| asked.request == *request);
        let (Some(one), None) = (alike.next(), alike.next()) else {
            panic!("asked {asked:?}, not {request:?}");
        };
        self.replied(one.id, Ok(reply)).unwrap();
    }

    /// Asks for a wait until the replica has all of `room`.
    fn sync(&mut self, room: &Room) -> oneshot::Receiver<bool> {
        let (done, synced) = oneshot::channel();
        let room = room.clone();
        self.requested(LinkRequest::Sync { room, done }).unwrap();
        synced
    }
}

fn alice() -> UserName {
    "alice@ada".parse().unwrap()
}

fn head(room: &Room) -> Request {
    Request::Head { room: room.clone() }
}

const FAR: Reply = Reply::Head { head: Seq::new(9) };

#[tokio::test]
async fn nobody_waits_for_a_room_whose_last_member_left() {
    let mut desk = Desk::new().await;
    let people = desk.people.clone();
    let fat: Room = "#fat".parse().unwrap();
    people.join("#fat").await;
    let mut online = desk.online().await;
    let mut before = online.sync(&fat);
    online.answer(&head(&fat), FAR);
    assert!(before.try_recv().is_err(), "there is something to wait for");
    let mut meanwhile = online.sync(&fat);
    people.leave("#fat").await;
    online.reconcile().unwrap();
    assert_eq!(before.try_recv(), Ok(false));
    online.answer(&head(&fat), FAR);
    assert_eq!(meanwhile.try_recv(), Ok(false));
    assert_eq!(online.sync(&fat).try_recv(), Ok(false));
}

#[tokio::test]
async fn a_conversation_the_server_has_not_listed_yet_can_be_waited_for() {
    let mut desk = Desk::new().await;
    let mut online = desk.online().await;
    let room: Room = "alice@ada,bob@bee".parse().unwrap();
    let mut empty = online.sync(&room);
    online.answer(&head(&room), Reply::Head { head: Seq::START });
    assert_eq!(empty.try_recv(), Ok(true));
    let mut waiting = online.sync(&room);
    online.answer(&head(&room), FAR);
    assert!(waiting.try_recv().is_err());
    let subscribed = |asked: &AgentFrame| matches!(asked.request, Request::Subscribe { .. });
    assert!(
        online.asked().iter().any(subscribed),
        "or nothing would come"
    );
}

#[tokio::test]
async fn who_leaves_while_a_connection_begins_is_gone_for_the_server_too() {
    let mut desk = Desk::new().await;
    let people = desk.people.clone();
    people.join("#ops").await;
    let replica = desk.replica().await;
    people.leave("#ops").await;
    let mut online = desk.begin(replica).await;
    let last = online.asked().into_iter().rfind(|asked| {
        let request = &asked.request;
        matches!(request, Request::Join { .. } | Request::Leave { .. })
    });
    let request = last.map(|asked| asked.request);
    assert!(
        matches!(request, Some(Request::Leave { .. })),
        "{request:?}"
    );
}
