//! The read models are the wire objects: their JSON is pinned here. A change of a snapshot is a change of the contract.

use parlance_domain::{
    Account, ChannelMember, Conversation, ConversationId, ConversationKind, Member, Mentions,
    Message, MessageId, Reaction, ReadState, Rev, Role, Seq, Session, SessionId, Summary,
    Timestamp, User, UserId, Workspace, WorkspaceId, message::MessageKind,
};
use uuid::Uuid;

const AT: Timestamp = Timestamp::from_millis(1_732_428_869_007);

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn hello() -> Message {
    Message {
        id: MessageId(id(1)),
        conversation_id: ConversationId(id(2)),
        workspace_id: WorkspaceId(id(3)),
        seq: Seq(7),
        rev: Rev(9),
        kind: MessageKind::User,
        author_id: Some(UserId(id(4))),
        text: "Hello".into(),
        thread_root_id: None,
        reply_count: 0,
        last_reply_at: None,
        reply_user_ids: vec![],
        reactions: vec![Reaction { emoji: "👍".into(), count: 1, user_ids: vec![UserId(id(4))] }],
        mentions: Mentions::default(),
        attachments: [],
        pinned_at: None,
        pinned_by: None,
        client_msg_id: "a-1".into(),
        created_at: AT,
        edited_at: Some(AT),
        deleted_at: None,
        deleted_by: None,
    }
}

#[test]
fn message() {
    insta::assert_json_snapshot!(hello());
}

#[test]
fn summary() {
    insta::assert_json_snapshot!(Summary {
        conversation: Conversation {
            id: ConversationId(id(2)),
            workspace_id: WorkspaceId(id(3)),
            kind: ConversationKind::Dm,
            name: None,
            topic: None,
            private: true,
            archived_at: None,
            member_ids: Some(vec![UserId(id(4)), UserId(id(5))]),
            rev: Rev(9),
            last_seq: Seq(7),
            last_message_at: Some(AT),
        },
        read: ReadState { read_seq: Seq(6), unread_count: 1, mention_count: 0 },
        can_post: true,
        joined: true,
    });
}

#[test]
fn workspace_and_account() {
    let workspace = Workspace {
        id: WorkspaceId(id(3)),
        name: "Acme".into(),
        role: Role::Member,
        join_code: None,
        created_at: AT,
    };
    let account = Account {
        id: UserId(id(4)),
        email: "ada@example.org".into(),
        display_name: "Ada".into(),
        created_at: AT,
    };
    insta::assert_json_snapshot!((workspace, account));
}

fn ada() -> User {
    User { id: UserId(id(4)), display_name: "Ada".into(), created_at: AT }
}

#[test]
fn members_and_sessions() {
    let (user_id, joined_at) = (UserId(id(4)), AT);
    let member = Member {
        workspace_id: WorkspaceId(id(3)),
        user_id,
        role: Role::Admin,
        joined_at,
        user: ada(),
    };
    let in_channel = ChannelMember { user_id, joined_at, user: ada() };
    let session = Session { id: SessionId(id(6)), created_at: AT, last_used_at: AT, current: true };
    insta::assert_json_snapshot!((member, in_channel, session));
}

#[test]
fn what_an_admin_sees_of_a_workspace() {
    insta::assert_json_snapshot!(Workspace {
        id: WorkspaceId(id(3)),
        name: "Acme".into(),
        role: Role::Admin,
        join_code: Some("ABCD-EFGH".into()),
        created_at: AT,
    });
}

#[test]
fn tombstone() {
    insta::assert_json_snapshot!(Message {
        text: String::new(),
        reactions: vec![],
        deleted_at: Some(AT),
        deleted_by: Some(UserId(id(5))),
        ..hello()
    });
}
