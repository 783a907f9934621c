//! Values for tests that do not care about their details.

use std::time::Duration;

use parlance_application::{
    Caller,
    ports::{Ambient, ConnectionId},
};
use parlance_domain::{
    Account, ClientMsgId, Conversation, ConversationId, ConversationKind, Email, Message,
    MessageId, MessageText, Password, ReadState, Rev, Seq, SessionId, Summary, UserId, WorkspaceId,
};

use crate::TestAmbient;

/// Somebody with an account, created now, at `name@example.org`.
pub fn account(ambient: &TestAmbient, name: &str) -> Account {
    Account {
        id: UserId(ambient.uuid()),
        email: email(name).into(),
        display_name: name.to_owned(),
        created_at: ambient.now(),
    }
}

/// Somebody new, authenticated.
pub fn caller(ambient: &TestAmbient, name: &str) -> Caller {
    Caller {
        account: account(ambient, name),
        session_id: SessionId(ambient.uuid()),
        expires_at: ambient.now() + Duration::from_mins(15),
    }
}

/// `name@example.org`.
pub fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@example.org")).expect("a valid address")
}

/// What somebody typed as a password.
pub fn password(text: &str) -> Password {
    Password::candidate(text)
}

/// A message's text.
pub fn text(text: &str) -> MessageText {
    MessageText::parse(text).expect("a valid text")
}

/// The sender's own id of a send.
pub fn client_msg_id(id: &str) -> ClientMsgId {
    ClientMsgId::parse(id).expect("a valid id")
}

/// The only worker's socket of that number.
pub fn socket(number: u32) -> ConnectionId {
    ConnectionId { worker: 0, number }
}

/// A public channel `team` in which `n` messages have been sent.
pub fn channel(id: ConversationId, n: u64) -> Conversation {
    Conversation {
        id,
        workspace_id: WorkspaceId(uuid::Uuid::from_u128(1)),
        kind: ConversationKind::Channel,
        name: Some("team".to_owned()),
        topic: Some(String::new()),
        private: false,
        archived_at: None,
        member_ids: None,
        rev: Rev(n),
        last_seq: Seq(n),
        last_message_at: None,
    }
}

/// A conversation as somebody in it sees it, all read.
pub fn summary(conversation: Conversation) -> Summary {
    let read = ReadState { read_seq: conversation.last_seq, unread_count: 0, mention_count: 0 };
    Summary { conversation, read, can_post: true, joined: true }
}

/// A message as it is after its send, the `n`th change of a conversation with nothing but sends.
pub fn message(
    id: MessageId,
    conversation_id: ConversationId,
    author: UserId,
    n: u64,
    text: &str,
) -> Message {
    Message {
        seq: Seq(n),
        rev: Rev(n),
        author_id: Some(author),
        text: text.to_owned(),
        client_msg_id: format!("m-{n}"),
        created_at: TestAmbient::BEGIN,
        ..Message::blank(id, conversation_id, WorkspaceId(uuid::Uuid::from_u128(1)))
    }
}
