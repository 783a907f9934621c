//! A node that does not hear its server: because its connections go silent, as when something in between forgets them,
//! so that nothing comes back, not even a refusal; or because the server is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::{join, join_all};
use parlance_application::{
    Error,
    ports::store::{Accounts, Messages, Reader, ReplayQuery},
};
use parlance_domain::Rev;
use parlance_mongo::MongoStore;
use parlance_testkit::Stage;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};

use crate::world::Database;

/// What every command except a heartbeat contains.
const COMMAND: &[u8] = b"lsid";
const COMMIT: &[u8] = b"commitTransaction";
/// The longest that one answer may take, with time to spare.
const ANSWER: Duration = Duration::from_secs(15);

/// A proxy to the server.
#[derive(Clone)]
struct Way {
    /// How often connections have gone silent.
    struck: Arc<AtomicU32>,
    /// Whether the connection of the next commit goes silent, and what comes over it is lost.
    loses_commit: Arc<AtomicBool>,
    /// Whether the server is there.
    there: watch::Sender<bool>,
}

impl Way {
    async fn to(server: &str) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let there = watch::Sender::new(true);
        let way = Self { struck: Arc::default(), loses_commit: Arc::default(), there };
        let server = server.to_owned();
        let passing = way.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *passing.there.borrow() {
                    let server = TcpStream::connect(&server).await.expect("connects");
                    tokio::spawn(passing.clone().pass(client, server));
                }
            }
        });
        (way, address)
    }

    /// Silences all connections that have carried commands; but not new ones, nor those of the driver's heartbeats.
    fn silence(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }

    async fn pass(self, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let born = self.struck.load(Ordering::Relaxed);
        let (used, lost) = (AtomicBool::new(false), AtomicBool::new(false));
        let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|some| some == what);
        let silent = || {
            let struck = self.struck.load(Ordering::Relaxed) > born;
            lost.load(Ordering::Relaxed) || (struck && used.load(Ordering::Relaxed))
        };
        let questions = async {
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                let question = &bytes[..count];
                if has(question, COMMIT) && self.loses_commit.swap(false, Ordering::Relaxed) {
                    lost.store(true, Ordering::Relaxed);
                }
                if !silent() {
                    used.fetch_or(has(question, COMMAND), Ordering::Relaxed);
                    to_server.write_all(question).await.expect("asks");
                }
            }
            let _ = to_server.shutdown().await;
        };
        let answers = async {
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                if !silent() && to_client.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        let mut there = self.there.subscribe();
        tokio::select! {
            _ = join(questions, answers) => {}
            _ = there.wait_for(|there| !there) => {}
        }
    }
}

/// A node that reaches its server this way. The database lasts as long as it is held.
async fn on_the_way() -> (Database, Way, MongoStore, Stage) {
    let database = Database::new();
    let (way, address) = Way::to(database.server()).await;
    let node = database.by_way_of(&address).await;
    let stage = Stage::new(node.clone());
    (database, way, node, stage)
}

#[tokio::test]
async fn silent_connections_hold_nobody_up_for_long() {
    let (_database, way, node, stage) = on_the_way().await;
    let (ada, session) = stage.sign_up("ada").await;
    let team = stage.team(ada.id).await;
    let now = stage.at();
    let unavailable = |error: Error| assert!(matches!(error, Error::Unavailable { .. }), "{error}");

    way.silence();
    let read = async {
        while let Err(error) =
            timeout(ANSWER, node.session_owner(session.id, now)).await.expect("an answer")
        {
            unavailable(error);
        }
    };
    let write = async {
        loop {
            let write = vec![stage.draft(ada.id, "1", "hello")];
            match timeout(ANSWER, node.append(team.general, write)).await.expect("an answer") {
                Ok(mut sent) => return sent.remove(0).expect("sends"),
                Err(error) => unavailable(error),
            }
        }
    };
    // Each answer that does not come costs one of the connections.
    let both = timeout(ANSWER * 4, join(read, write)).await;
    let ((), commit) = both.expect("other connections are made");
    assert_eq!(commit.change.map(|(_, rev)| rev), Some(Rev(1)));
}

#[tokio::test]
async fn a_commit_that_is_not_answered_is_asked_for_once_more() {
    let (_database, way, node, stage) = on_the_way().await;
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    way.loses_commit.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let write = vec![stage.draft(ada, "1", "hello")];
    let sent = timeout(ANSWER, node.append(team.general, write)).await.expect("an answer");
    sent.expect("appends").remove(0).expect("sends");
    assert!(begun.elapsed() > Duration::from_secs(1), "it was lost");
    let page = node.replay(Reader::Node, team.general, ReplayQuery::after(Rev::ZERO)).await;
    assert_eq!(page.expect("a page").messages.len(), 1);
}

#[tokio::test]
async fn a_group_is_told_at_once_that_the_server_is_gone() {
    let (_database, way, node, stage) = on_the_way().await;
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let mut channels = stage.channels(ada, &team, 9).await;
    channels.push(team.general);
    way.there.send_replace(false);
    let sends = channels.iter().map(async |channel| {
        let write = vec![stage.draft(ada, "1", "hello")];
        timeout(ANSWER, node.append(*channel, write)).await.expect("an answer")
    });
    for sent in join_all(sends).await {
        assert!(matches!(sent, Err(Error::Unavailable { .. })), "{sent:?}");
    }
    way.there.send_replace(true);
}
