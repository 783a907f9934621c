//! The reply to `sync`: one type for the socket and REST, so that both answer alike.

use parlance_application::ports::store::ReplayPage;
use parlance_domain::{Conversation, ConversationId, Message, Rev};
use serde::Serialize;
use utoipa::ToSchema;

/// What changed after a rev, as current state: the reply to `sync`, on the socket and over REST.
#[derive(Serialize, ToSchema)]
pub(crate) struct SyncPage {
    conversation_id: ConversationId,
    from_rev: Rev,
    /// The next `from_rev` if not `complete`.
    to_rev: Rev,
    complete: bool,
    /// True if the client holds a different history: it must drop its cache of the conversation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    messages: Vec<Message>,
    conversation: Conversation,
}

impl From<ReplayPage> for SyncPage {
    fn from(page: ReplayPage) -> Self {
        Self {
            conversation_id: page.conversation.id,
            from_rev: page.from_rev,
            to_rev: page.to_rev,
            complete: page.complete,
            reset: page.reset,
            messages: page.messages,
            conversation: page.conversation,
        }
    }
}
