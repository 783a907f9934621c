//! Tells who is typing.

use std::{sync::Arc, time::Duration};

use parlance_domain::{ConversationId, UserId};
use tokio::time::Instant;

use super::Actor;
use crate::{
    live::{
        Event, Frame,
        typing::{TYPING_FOR, Turn},
    },
    ports::{ConnectionId, Urgency},
};

impl Actor {
    /// Tells what has become due.
    pub(super) async fn type_on(&mut self, now: Instant) {
        for ((conversation, user), turn) in self.typing.expire(now) {
            match turn {
                Turn::Types(rest) => self.typing_started(conversation, user, rest).await,
                Turn::Stopped => self.typing_stopped(conversation, user).await,
            }
        }
    }

    pub(super) async fn type_in(
        &mut self,
        id: ConnectionId,
        conversation: ConversationId,
        on: bool,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let user_id = connection.user_id;
        if !on {
            if self.typing.stop(conversation, user_id) {
                self.typing_stopped(conversation, user_id).await;
            }
        } else if self.audiences.feed(conversation).is_some_and(|feed| feed.contains(id))
            && self.typing.start(conversation, user_id, id, Instant::now())
        {
            self.typing_started(conversation, user_id, TYPING_FOR).await;
        }
    }

    async fn typing_started(&mut self, conversation: ConversationId, user: UserId, rest: Duration) {
        let ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.tell_typing(conversation, user, Frame::typing_started(conversation, user, ms)).await;
    }

    pub(super) async fn typing_stopped(&mut self, conversation: ConversationId, user: UserId) {
        self.tell_typing(conversation, user, Frame::typing_stopped(conversation, user)).await;
    }

    async fn tell_typing(
        &mut self,
        conversation_id: ConversationId,
        user_id: UserId,
        frame: Frame,
    ) {
        self.tell_others(conversation_id, user_id, &frame).await;
        self.live.publish_ephemeral(Event::Typing { conversation_id, user_id, frame });
    }

    pub(super) async fn tell_others(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        frame: &Frame,
    ) {
        let own = self.connections.of_user(user);
        let all = self.audiences.audience(conversation);
        let to: Arc<[ConnectionId]> = all.iter().copied().filter(|id| !own.contains(id)).collect();
        if !to.is_empty() {
            self.fanout.deliver(to, frame.clone(), Urgency::Ephemeral).await;
        }
    }
}
