//! Sending.

use parlance_application::{Error, ports::store::SENT_BEFORE};
use parlance_domain::{ConversationId, MessageId};
use parlance_testkit::{
    TestNode, caller, client_msg_id,
    mocks::{MockMessages, MockStore},
};

/// What becomes of an empty text when the look for the same id answers this.
async fn refusal(look: Result<Option<MessageId>, Error>) -> Error {
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
    let sent = node.app(store).messages.send(&ada, here, client_msg_id("1"), " \n ").await;
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

fn uuid_of(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}
