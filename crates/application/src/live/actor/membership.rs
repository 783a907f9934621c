//! How connections register, join conversations, and end.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use parlance_domain::{ConversationId, SessionId, UserId};

use super::{Actor, Attachment};
use crate::{
    live::{Frame, attaching::Attached, gate::Waiting},
    ports::{
        Close, ConnectionId, Topic,
        store::{Head, Subject},
    },
};

impl Actor {
    pub(super) async fn register(
        &mut self,
        id: ConnectionId,
        user_id: UserId,
        session_id: SessionId,
        heard_at: Arc<AtomicI64>,
    ) {
        if self.draining {
            return self.fanout.close(id, Close::Draining).await;
        }
        let others = self.connections.of_user(user_id);
        if self.connections_per_user.is_some_and(|limit| others.len() >= limit) {
            let heard = |id: &ConnectionId| {
                self.connections.get(*id).map_or(0, |c| c.heard_at.load(Ordering::Relaxed))
            };
            if let Some(silent) = others.into_iter().min_by_key(heard) {
                self.unregister(silent).await;
                self.fanout.close(silent, Close::TooManyConnections).await;
            }
        }
        if self.connections.insert(id, user_id, session_id, heard_at) {
            self.bus_link.want(Topic::User(user_id));
        }
    }

    pub(super) async fn attach(&mut self, id: ConnectionId, attachment: Attachment) {
        let Some(attaching) = self.connections.attach(id) else { return };
        let Some(attached) = attaching.attach(attachment) else {
            self.unregister(id).await;
            self.fanout.close(id, Close::Overloaded).await;
            return;
        };
        let Attached { told, workspaces, left, doubted, admitted, homes, joined, pending, read } =
            attached;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let user = connection.user_id;
        for workspace in &workspaces {
            self.audiences.enter_workspace(id, *workspace);
        }
        connection.workspaces = workspaces;
        let all = pending.iter().chain(&joined).map(|head| head.conversation_id);
        self.connections.set_joined(id, all);
        self.connections.set_read(id, read);
        // Only with a shared store: with one of the node's own, nobody leaves a workspace before its conversations.
        if self.peers.is_some()
            && let Some(connection) = self.connections.get(id)
        {
            let inside = |(of, _): &(_, _)| connection.conversations.contains(*of);
            self.audiences.set_homes(homes.into_iter().filter(inside));
        }
        for Head { conversation_id, .. } in pending {
            self.audiences.await_replay(id, conversation_id);
        }
        for frame in told {
            self.tell(vec![id], &frame).await;
        }
        for frame in left.into_values().flatten() {
            self.tell(vec![id], &frame).await;
        }
        for workspace in doubted {
            self.wait(Waiting::Subject(Subject::Member(workspace, user)));
        }
        for have in joined {
            self.join(id, have).await;
        }
        for conversation in admitted {
            self.admit(conversation, user);
        }
    }

    /// Sends a page to a connection still waiting for it, which joins the conversation after the last one.
    pub(super) async fn replay(
        &mut self,
        id: ConnectionId,
        conversation: ConversationId,
        frame: Option<Frame>,
        then: Option<Head>,
    ) -> bool {
        let wanted = self.audiences.awaits(id, conversation);
        if wanted {
            if let Some(frame) = frame {
                self.tell(vec![id], &frame).await;
            }
            if let Some(have) = then {
                self.join(id, have).await;
            }
        }
        wanted
    }

    pub(super) async fn unregister(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(id) else { return };
        if self.connections.of_user(connection.user_id).is_empty() {
            self.bus_link.unwant(Topic::User(connection.user_id));
        }
        for conversation in connection.conversations.iter() {
            self.leave_feed(id, conversation);
        }
        // It is told nothing any more, not even that its own typing has ended.
        for (conversation, user) in self.typing.disconnect(id) {
            self.typing_stopped(conversation, user).await;
        }
        for workspace in connection.workspaces {
            self.audiences.leave_workspace(id, workspace);
        }
    }

    pub(super) async fn join(&mut self, id: ConnectionId, have: Head) {
        let conversation = have.conversation_id;
        if !self.connections.join(id, conversation) {
            return;
        }
        let access_rev = self.access(have.access_rev);
        let (steps, begins) = self.audiences.join(id, Head { access_rev, ..have });
        if begins {
            self.bus_link.want(Topic::Conversation(conversation));
        }
        self.carry_out(conversation, steps).await;
    }

    pub(super) fn leave(&mut self, id: ConnectionId, conversation: ConversationId) {
        self.connections.leave(id, conversation);
        self.leave_feed(id, conversation);
    }

    pub(super) fn leave_feed(&mut self, id: ConnectionId, conversation: ConversationId) {
        if self.audiences.leave(id, conversation) {
            self.unclear.remove(&conversation);
            self.bus_link.unwant(Topic::Conversation(conversation));
        }
    }
}
