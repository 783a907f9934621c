//! From documents to read models.

use parlance_domain::{
    Account, ChannelMember, Conversation, ConversationId, Member, Message, MessageId, Reaction,
    User, UserId, WorkspaceId,
};

use crate::documents::{ConversationDoc, MemberDoc, MessageDoc, RoleDoc, UserDoc, at, num, uuid};

impl UserDoc {
    pub(crate) fn account(self) -> Account {
        Account {
            id: UserId(uuid(self.id)),
            email: self.email,
            display_name: self.display_name,
            created_at: at(self.created_at),
        }
    }

    pub(crate) fn user(self) -> User {
        self.account().into()
    }
}

impl RoleDoc {
    pub(crate) fn member(&self, user: UserDoc) -> Member {
        Member {
            workspace_id: WorkspaceId(uuid(self.workspace_id)),
            user_id: UserId(uuid(self.user_id)),
            role: self.role,
            joined_at: at(self.joined_at),
            user: user.user(),
        }
    }
}

impl MemberDoc {
    pub(crate) fn member(&self, user: UserDoc) -> ChannelMember {
        ChannelMember {
            user_id: UserId(uuid(self.user_id)),
            joined_at: at(self.joined_at),
            user: user.user(),
        }
    }
}

impl ConversationDoc {
    /// The other side of a DM.
    pub(crate) fn peer_of(&self, user: bson::Uuid) -> Option<bson::Uuid> {
        if self.peer_low == Some(user) { self.peer_high } else { self.peer_low }
    }

    pub(crate) fn conversation(&self) -> Conversation {
        let pair = self.peer_low.zip(self.peer_high);
        Conversation {
            id: ConversationId(uuid(self.id)),
            workspace_id: WorkspaceId(uuid(self.workspace_id)),
            kind: self.kind,
            name: self.name.clone(),
            topic: self.topic.clone(),
            private: self.private,
            archived_at: self.archived_at.map(at),
            member_ids: pair.map(|(low, high)| vec![UserId(uuid(low)), UserId(uuid(high))]),
            rev: num(self.rev),
            last_seq: num(self.last_seq),
            last_message_at: self.last_message_at.map(at),
        }
    }
}

impl MessageDoc {
    /// The read model; the workspace is the conversation's.
    pub(crate) fn message(self, workspace_id: WorkspaceId) -> Message {
        let reactions = self.reactions.into_iter().map(|part| Reaction {
            emoji: part.emoji,
            count: num(part.count),
            user_ids: part.user_ids.into_iter().map(|id| UserId(uuid(id))).collect(),
        });
        Message {
            seq: num(self.seq),
            rev: num(self.rev),
            author_id: Some(UserId(uuid(self.author_id))),
            text: self.text,
            reactions: reactions.collect(),
            client_msg_id: self.client_msg_id,
            created_at: at(self.created_at),
            edited_at: self.edited_at.map(at),
            deleted_at: self.deleted_at.map(at),
            deleted_by: self.deleted_by.map(|id| UserId(uuid(id))),
            ..Message::blank(
                MessageId(uuid(self.id)),
                ConversationId(uuid(self.conversation_id)),
                workspace_id,
            )
        }
    }
}
