//! Sending.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use parlance_application::{
    App, Error, NewMessage, Result,
    ports::store::{Change, Commit, Committed, SENT_BEFORE, Write},
};
use parlance_domain::{
    AccessRev, ChangeKind, ConversationAction, ConversationId, MessageId, Rev, SessionRev,
};
use parlance_testkit::{
    MemoryStore, TestNode, Weather, caller, message,
    mocks::{MockMessages, MockStore},
};
use tokio::sync::Semaphore;

const fn new<'a>(client_msg_id: &'a str, text: &'a str) -> NewMessage<'a> {
    NewMessage { client_msg_id, text, thread_root_id: None }
}

/// What becomes of an empty text when the look for the same id answers this.
async fn refusal(look: Result<Option<MessageId>>) -> Error {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
    let mut store = MockStore::new();
    let id = ada.id();
    store
        .expect_sent()
        .withf(move |author, conversation, sent| {
            *author == id && *conversation == here && sent.as_str() == "1"
        })
        .once()
        .return_once(move |_, _, _| look);
    store.expect_append().never();
    let sent = node.app(store).messages.send(&ada, here, new("1", " \n ")).await;
    sent.expect_err("is refused")
}

#[tokio::test]
async fn an_invalid_text_is_refused_after_access() {
    assert!(matches!(refusal(Err(Error::NotFound("conversation"))).await, Error::NotFound(_)));
    assert!(matches!(refusal(Err(Error::Forbidden("no"))).await, Error::Forbidden(_)));
}

#[tokio::test]
async fn an_invalid_text_is_refused_after_the_look_for_a_duplicate() {
    let earlier = MessageId(uuid_of(5));
    let error = refusal(Ok(Some(earlier))).await;
    assert!(
        matches!(error, Error::Conflict { message: SENT_BEFORE, message_id: Some(id) } if id == earlier),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_invalid_text_is_refused_at_last() {
    let Error::Validation(fields) = refusal(Ok(None)).await else {
        unreachable!("not `Validation`")
    };
    assert_eq!((fields[0].field.as_str(), fields[0].code), ("text", "too_short"));
}

#[tokio::test]
async fn a_thread_is_refused_after_the_look_for_a_duplicate() {
    let earlier = MessageId(uuid_of(5));
    for (look, refused) in [(Some(earlier), "conflict"), (None, "thread_root_id")] {
        let node = TestNode::start(MockMessages::new());
        let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
        let mut store = MockStore::new();
        store.expect_sent().once().return_once(move |_, _, _| Ok(look));
        let new = NewMessage { thread_root_id: Some(earlier), ..new("1", "hello") };
        match node.app(store).messages.send(&ada, here, new).await {
            Err(Error::Conflict { message_id, .. }) => {
                assert_eq!((refused, message_id), ("conflict", look));
            }
            Err(Error::Validation(fields)) => {
                assert_eq!((refused, fields[0].code), (fields[0].field.as_str(), "invalid"));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Even the id.
#[tokio::test]
async fn who_may_not_post_learns_nothing_of_what_is_invalid() {
    for may in [true, false] {
        let node = TestNode::start(MockMessages::new());
        let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
        let mut store = MockStore::new();
        store.expect_permit().once().returning(move |_, _, action| {
            assert_eq!(action, ConversationAction::Post);
            if may { Ok(()) } else { Err(Error::NotFound("conversation")) }
        });
        let refused = node.app(store).messages.send(&ada, here, new("é", "hello")).await;
        match refused {
            Err(Error::Validation(fields)) => {
                assert!(may && fields[0].field == "client_msg_id", "{fields:?}");
            }
            Err(Error::NotFound(_)) => assert!(!may),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_has_a_share_and_duplicates_are_free() {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
    let mut store = MockStore::new();
    let (ambient, id) = (node.ambient.clone(), ada.id());
    store.expect_append().returning(move |_, writes| {
        let commit = |write: Write| {
            let Change::Send(draft) = write.change else { unreachable!("not a send") };
            let new = draft.client_msg_id.as_str() != "again";
            let message = message(MessageId(ambient.next_uuid()), here, id, 1, "hello");
            let change = new.then_some((ChangeKind::Created, Rev(1)));
            Ok(Commit {
                subject: Committed::Message(message),
                change,
                access_rev: AccessRev(1),
                session_rev: SessionRev::ZERO,
            })
        };
        Ok(writes.into_iter().map(commit).collect())
    });
    store
        .expect_sent()
        .returning(|_, _, sent| Ok((sent.as_str() == "again").then(|| MessageId(uuid_of(5)))));
    let mut ports = node.ports(store);
    ports.rate_limits = true;
    let app = App::new(ports);
    let send = async |key: &str| app.messages.send(&ada, here, new(key, "hello")).await;

    for _ in 0..2_000 {
        assert!(send("again").await.is_ok_and(|sent| sent.duplicate));
    }
    for n in 0..1_000 {
        assert!(send(&n.to_string()).await.is_ok(), "send {n}");
    }
    let refused = send("one more").await;
    let wait = Duration::from_millis(10);
    assert!(matches!(refused, Err(Error::RateLimited { retry_after }) if retry_after == wait));
    assert!(send("again").await.is_ok_and(|sent| sent.duplicate));
    tokio::time::advance(wait).await;
    assert!(send("one more").await.is_ok());
}

/// A store that answers no look for an earlier send until it is told to.
struct Still {
    asked: AtomicUsize,
    answers: Semaphore,
}

#[async_trait]
impl Weather for Still {
    async fn before(&self, method: &'static str) -> Result<()> {
        if method == "sent" {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.answers.acquire().await.expect("is never closed").forget();
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn those_to_be_refused_leave_the_store_to_others() {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
    let still = Arc::new(Still { asked: AtomicUsize::new(0), answers: Semaphore::new(0) });
    let app = node.app(MemoryStore::new().behind(still.clone()));
    let sends = (0..100).map(|n| app.messages.send(&ada, here, new(&n.to_string(), "")));
    let refused = join_all(sends);
    let answers = async {
        // The clock goes on when nobody can.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(still.asked.load(Ordering::Relaxed), 16);
        still.answers.add_permits(100);
    };
    let (refused, ()) = tokio::join!(refused, answers);
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::NotFound(_)))));
    assert_eq!(still.asked.load(Ordering::Relaxed), 100);
}

fn uuid_of(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}
