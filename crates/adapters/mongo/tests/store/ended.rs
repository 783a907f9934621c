//! A session that ends while a write of its own is in progress.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join;
use parlance_application::{
    Error, Unauthenticated,
    ports::store::{Accounts, Messages, Principal, Write},
};
use parlance_testkit::Stage;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::world::Database;

/// What each query of the count of ended sessions contains.
const COUNT: &[u8] = b"session_rev";
/// What the first write of a lone append contains.
const LOCK: &[u8] = b"findAndModify";

/// A proxy to the server that holds up queries of the count while it is closed.
#[derive(Clone)]
struct Gate {
    open: watch::Sender<bool>,
    /// Whether an append's first write has been answered.
    locked: watch::Sender<bool>,
}

impl Gate {
    /// Open, and its address.
    async fn before(server: &str) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let gate = Self { open: watch::Sender::new(true), locked: watch::Sender::new(false) };
        let (passing, server) = (gate.clone(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("connects");
                tokio::spawn(passing.clone().pass(client, server));
            }
        });
        (gate, address)
    }

    async fn pass(self, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let locks = AtomicBool::new(false);
        let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|some| some == what);
        let questions = async {
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                let question = &bytes[..count];
                locks.fetch_or(has(question, LOCK), Ordering::Relaxed);
                if has(question, COUNT) {
                    self.open.subscribe().wait_for(|open| *open).await.expect("the test goes on");
                }
                to_server.write_all(question).await.expect("asks");
            }
            let _ = to_server.shutdown().await;
        };
        let answers = async {
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                if locks.load(Ordering::Relaxed) {
                    self.locked.send_replace(true);
                }
                to_client.write_all(&bytes[..count]).await.expect("answers");
            }
        };
        join(questions, answers).await;
    }
}

/// It is counted by then, but in the append's snapshot the session is live: the node must not pair the two.
#[tokio::test]
async fn an_end_beside_an_append_is_known_to_the_next() {
    let database = Database::new();
    let other = database.store().await;
    let (gate, address) = Gate::before(database.server()).await;
    let node = database.by_way_of(&address).await;
    let stage = Stage::new(other.clone());
    let (ada, session) = stage.sign_up("ada").await;
    let team = stage.team(ada.id).await;
    let by = Principal { user: ada.id, session: session.id };
    let write = |id| Write { by, ..stage.draft(ada.id, id, "hello") };

    gate.open.send_replace(false);
    let append = node.append(team.general, vec![write("1")]);
    let end = async {
        gate.locked.subscribe().wait_for(|locked| *locked).await.expect("locks");
        other.revoke_session(ada.id, session.id, stage.at()).await.expect("ends");
        gate.open.send_replace(true);
    };
    let (beside, ()) = join(append, end).await;
    beside.expect("appends").remove(0).expect("it lived at the append's moment");
    let after = node.append(team.general, vec![write("2")]).await.expect("appends").remove(0);
    assert!(matches!(after, Err(Error::Unauthenticated(Unauthenticated::Revoked))), "{after:?}");
}
