//! What goes on while a slow store keeps a command waiting.

use std::sync::Arc;

use actix_codec::Framed;
use actix_http::ws::{Codec, Frame as WsFrame, Message};
use async_trait::async_trait;
use futures::SinkExt as _;
use parlance_application::live::Event;
use parlance_application::ports::{
    Ambient as _, Claims, TokenIssuer as _, Urgency, store::Conversations as _,
};
use parlance_domain::{ConversationId, Seq, SessionId, SessionRev, UserId};
use parlance_testkit::{MemoryStore, PATIENCE, PlainTokens, Stage, TestNode, Weather, socket};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, yield_now},
    time,
};

use super::*;
use crate::{Hub, testing::StoppedClock};

/// Holds up questions to the store until the test lets them through.
struct Slow {
    /// Which questions: replays, and what a test adds.
    keeps: std::sync::Mutex<Vec<&'static str>>,
    /// One permit for each that has come.
    come: Semaphore,
    /// One permit for each that may go on.
    let_through: Semaphore,
}

#[async_trait]
impl Weather for Slow {
    async fn before(&self, method: &'static str) -> Result<()> {
        if self.keeps.lock().expect("not poisoned").contains(&method) {
            self.come.add_permits(1);
            self.let_through.acquire().await.expect("open").forget();
        }
        Ok(())
    }
}

/// Ada's opened socket, from both ends.
struct Scene {
    node: TestNode,
    store: MemoryStore,
    slow: Arc<Slow>,
    ada: UserId,
    bob: UserId,
    session: SessionId,
    here: ConversationId,
    client: Framed<TcpStream, Codec>,
    /// The server's end.
    outbound: Outbound,
    life: JoinHandle<()>,
}

impl Scene {
    async fn new() -> Self {
        let mut scene = Self::set().await;
        scene.greets(json!({})).await;
        scene
    }

    /// She has seen nothing of the conversation yet; her replay waits until the test lets it through.
    async fn resumed() -> Self {
        let mut scene = Self::set().await;
        let cursors = json!({ scene.here.to_string(): 0 });
        scene.greets(json!({ "resume": { "epoch": "memory", "cursors": cursors } })).await;
        scene.has_come().await;
        scene
    }

    async fn set() -> Self {
        Self::set_as(None).await
    }

    /// With a token in the upgrade's header, if any, that lasts this long.
    async fn set_as(header: Option<Duration>) -> Self {
        let store = MemoryStore::new();
        let stage = Stage::new(store.clone());
        let (account, session) = stage.sign_up("ada").await;
        let (ada, session) = (account.id, session.id);
        let bob = stage.person("bob").await;
        let here = stage.team_of(ada, [bob]).await.general;
        for text in ["one", "two", "three"] {
            stage.send(bob, here, text).await;
        }
        let node = TestNode::start(store.clone());
        let slow = Slow {
            keeps: vec!["replay"].into(),
            come: Semaphore::new(0),
            let_through: Semaphore::new(0),
        };
        let slow = Arc::new(slow);
        let app = Data::new(node.app(store.behind(slow.clone())));
        let worker = Hub::new(1).add_worker();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let theirs = TcpStream::connect(listener.local_addr().expect("an address")).await;
        let (ours, _) = listener.accept().await.expect("a connection");
        let (reading, writing) = ours.into_split();
        let mut inbound = Inbound::new(bytes::BytesMut::new(), reading);
        let outbound = Outbound::new(writing, worker.flusher());
        let caller = header.map(|lasts| Caller {
            account,
            session_id: session,
            expires_at: node.ambient.now() + lasts,
        });
        let mut connection = Connection::new(app, &worker, caller, outbound.clone());
        let life = actix_web::rt::spawn(async move { connection.run(&mut inbound).await });
        let ours = outbound.clone();
        actix_web::rt::spawn(async move { ours.written().await });
        let client = Framed::new(theirs.expect("connects"), Codec::new().client_mode());
        Self { node, store, slow, ada, bob, session, here, client, outbound, life }
    }

    async fn greets(&mut self, mut hello: Value) {
        hello["token"] = json!(self.token(Duration::from_mins(5)));
        self.says(1, "hello", hello).await;
        assert_eq!(self.answered().await["id"], 1);
    }

    fn token(&self, lasts: Duration) -> String {
        let expires_at = self.node.ambient.now() + lasts;
        let claims = Claims { user_id: self.ada, session_id: self.session, expires_at };
        PlainTokens.issue(claims).expect("a token").0
    }

    async fn says(&mut self, id: usize, kind: &str, data: Value) {
        self.prepares(id, kind, data).await;
        self.client.flush().await.expect("sent");
    }

    /// Sends it together with what is said next, in one piece.
    async fn prepares(&mut self, id: usize, kind: &str, data: Value) {
        let frame = json!({ "type": kind, "id": id, "data": data }).to_string();
        self.client.feed(Message::Text(frame.into())).await.expect("prepared");
    }

    async fn sends(&mut self, id: usize) {
        self.says(id, "message.send", self.message(id)).await;
    }

    fn message(&self, id: usize) -> Value {
        json!({ "conversation_id": self.here, "client_msg_id": id.to_string(), "text": "x" })
    }

    async fn syncs(&mut self, id: usize) {
        self.says(id, "sync", json!({ "conversation_id": self.here, "from_rev": 0 })).await;
    }

    async fn heard(&mut self) -> WsFrame {
        let frame = timeout(PATIENCE, self.client.next()).await.expect("in time");
        frame.expect("no end").expect("a frame")
    }

    /// The next reply, which is an `ok`.
    async fn answered(&mut self) -> Value {
        let WsFrame::Text(text) = self.heard().await else { panic!("no text") };
        let reply: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(reply["type"], "ok", "{reply}");
        reply
    }

    /// Which commands the next replies belong to.
    async fn order(&mut self, count: usize) -> Vec<u64> {
        let mut order = vec![];
        while order.len() < count {
            order.extend(self.answered().await["id"].as_u64());
        }
        order
    }

    /// Returns when everything said has been read.
    async fn is_read(&mut self) {
        self.client.send(Message::Ping("read?".into())).await.expect("sent");
        assert!(matches!(self.heard().await, WsFrame::Pong(_)));
    }

    /// Returns when something waits to be let through.
    async fn has_come(&self) {
        let come = timeout(PATIENCE, self.slow.come.acquire()).await;
        come.expect("in time").expect("open").forget();
    }

    fn lets_through(&self, syncs: usize) {
        self.slow.let_through.add_permits(syncs);
    }

    async fn ends(self) {
        timeout(PATIENCE, self.life).await.expect("in time").expect("no panic");
    }
}

#[actix_web::test]
async fn a_send_is_answered_while_another_command_waits_and_the_others_keep_their_order() {
    let mut scene = Scene::new().await;
    scene.sends(2).await;
    scene.syncs(3).await;
    scene.says(4, "ping", json!({})).await;
    scene.sends(5).await;
    scene.syncs(6).await;
    scene.sends(7).await;
    let mut first = scene.order(3).await;
    first.sort_unstable();
    assert_eq!(first, [2, 5, 7]);
    scene.lets_through(2);
    assert_eq!(scene.order(3).await, [3, 4, 6]);
}

/// A send is executed at once, an earlier `typing.start` only after other commands.
#[actix_web::test]
async fn typing_that_its_message_overtakes_does_not_begin() {
    let mut scene = Scene::new().await;
    let (bobs, rev) = (socket(77), scene.store.head(scene.here).expect("a head").rev);
    scene.node.connect(bobs, scene.bob, &[(scene.here, rev.0)]).await;
    let here = json!({ "conversation_id": scene.here });
    scene.syncs(2).await;
    scene.says(3, "typing.start", here.clone()).await;
    scene.sends(4).await;
    assert_eq!(scene.order(1).await, [4]);
    scene.lets_through(1);
    assert_eq!(scene.order(2).await, [2, 3]);
    scene.node.live.settle().await;
    assert_eq!(scene.node.fanout.types(bobs), ["message.created"]);
    // The next one does.
    scene.says(5, "typing.start", here).await;
    assert_eq!(scene.order(1).await, [5]);
    scene.node.fanout.heard(bobs, "typing.started").await;
}

#[actix_web::test]
async fn pings_and_the_end_do_not_wait_for_a_command() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.is_read().await;
    scene.outbound.close(Close::Draining);
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no end") };
    assert_eq!(u16::from(reason.code), Close::Draining.code());
    scene.ends().await;
}

#[actix_web::test]
async fn a_token_that_expired_between_upgrade_and_hello_opens_nothing() {
    let mut scene = Scene::set_as(Some(Duration::from_secs(5))).await;
    scene.node.ambient.advance(Duration::from_secs(5));
    scene.says(1, "hello", json!({})).await;
    let WsFrame::Text(text) = scene.heard().await else { panic!("no text") };
    let reply: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(reply["error"]["code"], "unauthenticated", "{reply}");
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no end") };
    assert_eq!(u16::from(reason.code), Close::TokenExpired.code());
}

#[actix_web::test]
async fn a_connection_lives_by_its_latest_token() {
    let mut scene = Scene::new().await;
    let token = scene.token(Duration::from_millis(50));
    scene.says(2, "auth.refresh", json!({ "token": token })).await;
    assert_eq!(scene.answered().await["data"]["token_expires_in_ms"], 50);
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no end") };
    assert_eq!(u16::from(reason.code), Close::TokenExpired.code());
}

/// A token expires by the clock: a long replay must not keep it from being renewed.
#[actix_web::test]
async fn a_token_is_renewed_beside_a_replay() {
    let mut scene = Scene::resumed().await;
    scene.says(2, "ping", json!({})).await;
    let token = scene.token(Duration::from_mins(9));
    scene.says(3, "auth.refresh", json!({ "token": token })).await;
    assert_eq!(scene.order(1).await, [3], "and the other waits");
}

/// Of endless commands, only a bounded number is held while the first is executed.
#[actix_web::test]
async fn only_so_much_is_read_ahead_of_a_command() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    for id in 1..HELD {
        scene.says(100 + id, "ping", json!({})).await;
    }
    scene.is_read().await;
    let before = scene.store.messages(scene.here).len();
    // In one piece: whatever is read of it is read at once, before any of it is answered, and both sends would be
    // committed together.
    scene.prepares(3, "message.send", scene.message(3)).await;
    scene.prepares(4, "ping", json!({})).await;
    scene.sends(5).await;
    assert_eq!(scene.order(1).await, [3]);
    assert_eq!(scene.store.messages(scene.here).len(), before + 1, "the other waits");
    scene.lets_through(1);
    assert_eq!(scene.order(1).await, [2]);
    assert!(scene.order(HELD + 1).await.contains(&5));
}

#[actix_web::test]
async fn what_was_said_before_a_goodbye_is_done() {
    // Nobody needs the replay of the one who resumed any more: what is let through is for the command.
    for mut scene in [Scene::new().await, Scene::resumed().await] {
        scene.syncs(2).await;
        scene.says(3, "read.mark", json!({ "conversation_id": scene.here, "seq": 2 })).await;
        scene.client.send(Message::Close(None)).await.expect("sent");
        assert!(matches!(scene.heard().await, WsFrame::Close(_)));
        scene.lets_through(1);
        let (store, ada, here) = (scene.store.clone(), scene.ada, scene.here);
        scene.ends().await;
        assert_eq!(store.summary(ada, here).await.expect("a summary").read.read_seq, Seq(2));
    }
}

/// A blocked writer notices first.
#[actix_web::test]
async fn what_was_said_before_the_line_broke_is_done() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.says(3, "read.mark", json!({ "conversation_id": scene.here, "seq": 2 })).await;
    scene.is_read().await;
    let frame = text_frame(&vec![b'x'; 32 * 1024]);
    while scene.outbound.has_room() {
        scene.outbound.tell(frame.clone(), Urgency::Reliable);
        yield_now().await;
    }
    // The connection is reset, since not everything has been read.
    let Scene { store, slow, ada, here, client, life, .. } = scene;
    drop(client);
    slow.let_through.add_permits(1);
    timeout(PATIENCE, life).await.expect("in time").expect("no panic");
    assert_eq!(store.summary(ada, here).await.expect("a summary").read.read_seq, Seq(2));
}

#[actix_web::test]
async fn a_command_that_panics_ends_its_connection_alone_and_whole() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.has_come().await;
    // What waits there panics.
    scene.slow.let_through.close();
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no end") };
    assert_eq!(u16::from(reason.code), Close::Overloaded.code());
    let (live, fanout, session_id) =
        (scene.node.live.clone(), scene.node.fanout.clone(), scene.session);
    scene.ends().await;
    let (frame, session_rev) = (Frame::session_revoked(session_id), SessionRev(1));
    live.publish(Event::SessionRevoked { session_id, session_rev, frame }).await;
    live.settle().await;
    assert!((0..2).all(|number| fanout.closed(socket(number)).is_none()), "it is known no more");
}

#[actix_web::test]
async fn who_has_gone_is_not_worked_for_without_end() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.client.close().await.expect("closed");
    let left = Instant::now();
    scene.ends().await;
    assert!(left.elapsed() < 2 * LAST_WORDS + 2 * GOODBYE, "{:?}", left.elapsed());
}

/// The pings it should answer are behind what it has not read yet.
#[actix_web::test]
async fn who_takes_what_waits_for_them_is_not_silent() {
    let mut scene = Scene::new().await;
    let _clock = StoppedClock::new();
    let frame = text_frame(&vec![b'x'; 32 * 1024]);
    for _ in 0..6 {
        while scene.outbound.has_room() {
            scene.outbound.tell(frame.clone(), Urgency::Reliable);
            yield_now().await;
        }
        time::advance(HEARTBEAT).await;
        let now = Some(Instant::now());
        while scene.outbound.taken_at() != now {
            scene.heard().await;
        }
        assert!(scene.outbound.ended().now_or_never().is_none(), "open");
    }
    time::advance(Duration::from_mins(1)).await;
    scene.outbound.ended().await;
}

/// An answer repeats the command's id, however long that is.
#[actix_web::test]
async fn long_ids_are_read_no_faster_than_they_are_answered() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    let id = "x".repeat(32 * 1024);
    for n in 0..6 {
        let frame = json!({ "type": "ping", "id": format!("{n}{id}") }).to_string();
        scene.client.feed(Message::Text(frame.into())).await.expect("prepared");
    }
    scene.sends(3).await;
    let before = scene.store.messages(scene.here).len();
    // Enough time for everything that comes to be read; then the send would be executed.
    for _ in 0..5_000 {
        yield_now().await;
    }
    assert_eq!(scene.store.messages(scene.here).len(), before);
    scene.lets_through(1);
    while scene.answered().await["id"] != 3 {}
}

/// Otherwise every restart would leave clients to repeat what was about to be answered.
#[actix_web::test]
async fn who_is_sent_away_is_answered_first() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.sends(3).await;
    scene.is_read().await;
    scene.outbound.leave();
    scene.sends(4).await;
    let before = scene.store.messages(scene.here).len();
    scene.lets_through(1);
    let mut answered = scene.order(2).await;
    answered.sort_unstable();
    assert_eq!(answered, [2, 3]);
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no end") };
    assert_eq!(u16::from(reason.code), Close::Draining.code());
    assert_eq!(scene.store.messages(scene.here).len(), before, "nothing new is begun");
}

#[actix_web::test]
async fn who_is_sent_away_is_not_waited_for_without_end() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.is_read().await;
    let asked = Instant::now();
    scene.outbound.leave();
    let WsFrame::Close(Some(_)) = scene.heard().await else { panic!("no end") };
    assert!(asked.elapsed() < 2 * LAST_WORDS, "{:?}", asked.elapsed());
}

/// Otherwise their `hello` would keep others from being let in.
#[actix_web::test]
async fn who_has_gone_is_not_let_in() {
    for goodbye in [None, Some(Message::Close(None))] {
        let mut scene = Scene::set().await;
        scene.slow.keeps.lock().expect("not poisoned").push("snapshot");
        let token = scene.token(Duration::from_mins(5));
        scene.says(1, "hello", json!({ "token": token })).await;
        scene.has_come().await;
        if let Some(goodbye) = goodbye {
            scene.client.send(goodbye).await.expect("sent");
        }
        scene.client.close().await.expect("closed");
        scene.ends().await;
    }
}

/// What it says next shows that it is still waiting.
#[actix_web::test]
async fn who_has_said_more_is_let_in_and_that_is_done() {
    let mut scene = Scene::set().await;
    scene.slow.keeps.lock().expect("not poisoned").push("snapshot");
    let token = scene.token(Duration::from_mins(5));
    scene.prepares(1, "hello", json!({ "token": token })).await;
    scene.sends(2).await;
    scene.has_come().await;
    let before = scene.store.messages(scene.here).len();
    scene.client.close().await.expect("closed");
    // All of it has arrived before the store answers.
    for _ in 0..1_000 {
        yield_now().await;
    }
    scene.lets_through(1);
    let (store, here) = (scene.store.clone(), scene.here);
    scene.ends().await;
    assert_eq!(store.messages(here).len(), before + 1);
}

/// All in one piece: when the frame that ends the connection is read, the answers are not there yet.
#[actix_web::test]
async fn what_was_said_before_a_broken_frame_is_answered() {
    let mut scene = Scene::new().await;
    scene.prepares(2, "message.send", scene.message(2)).await;
    scene.prepares(3, "ping", json!({})).await;
    scene.prepares(4, "ping", json!({})).await;
    scene.client.send(Message::Binary("?".into())).await.expect("sent");
    let mut order = scene.order(3).await;
    order.sort_unstable();
    assert_eq!(order, [2, 3, 4]);
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no close") };
    assert_eq!(u16::from(reason.code), 4503);
}

#[actix_web::test]
async fn who_breaks_the_protocol_is_not_waited_for_without_end() {
    let mut scene = Scene::new().await;
    scene.syncs(2).await;
    scene.says(3, "ping", json!({})).await;
    scene.client.send(Message::Binary("?".into())).await.expect("sent");
    let broken = Instant::now();
    let WsFrame::Close(Some(reason)) = scene.heard().await else { panic!("no close") };
    assert_eq!(u16::from(reason.code), 4503);
    assert!(broken.elapsed() < 2 * LAST_WORDS, "{:?}", broken.elapsed());
}
