//! What happened, here or on another node: who is told of it, and what it ends.

use std::sync::Arc;

use parlance_domain::{AccessRev, ConversationId, Seq, SessionId, UserId, WorkspaceId};

use super::Actor;
use crate::{
    live::{
        Event, Frame,
        attaching::{Attaching, Scope},
        connections::{Connection, Registration},
        feed::Step,
    },
    ports::{Close, ConnectionId, Delivery, store::Head},
};

impl Actor {
    /// Applies events to this node's connections: an end of access at once, state events once it is known who may hear
    /// them. Adjacent changes are delivered together, after the ends of typing they cause. Returns how many sockets
    /// changes went to.
    pub(super) async fn events(&mut self, events: &[Arc<Event>]) -> usize {
        let (mut deliveries, mut told) = (Vec::with_capacity(events.len()), 0);
        for event in events {
            if !matches!(**event, Event::Changed { .. }) {
                told += self.deliver(std::mem::take(&mut deliveries)).await;
            }
            self.event(event, &mut deliveries).await;
        }
        told + self.deliver(deliveries).await
    }

    /// Adds a change's deliveries to the list; anything else is told at once.
    async fn event(&mut self, event: &Arc<Event>, deliveries: &mut Vec<Delivery>) {
        match &**event {
            Event::Changed { conversation_id, .. } => {
                let steps = self.changed(event).await;
                self.begin(*conversation_id, steps, deliveries);
            }
            Event::Typing { conversation_id, user_id, frame } => {
                self.tell_others(*conversation_id, *user_id, frame).await;
            }
            Event::Left { .. } | Event::Deleted { .. } | Event::WorkspaceDeleted { .. } => {
                self.note(event, self.connections.registered());
                self.gate.end(event);
                self.end(event).await;
            }
            Event::SessionRevoked { session_id, session_rev, frame } => {
                self.end_session(*session_id, frame).await;
                self.session_ended(*session_rev).await;
            }
            Event::Joined { conversation_id, access_rev, .. } => {
                self.access_changed(*conversation_id, *access_rev).await;
                self.state_event(event).await;
            }
            Event::Conversation { .. }
            | Event::WorkspaceJoined { .. }
            | Event::WorkspaceLeft { .. }
            | Event::Workspace { .. }
            | Event::Read { .. } => self.state_event(event).await,
        }
    }

    /// Notes that connections up to this number need not be told this again.
    pub(super) fn note(&mut self, event: &Event, upto: Registration) {
        if self.peers.is_some()
            && let (Some(subject), Some(frame)) = (event.about(), event.frame())
        {
            self.told.note(subject, frame, upto);
        }
    }

    /// Connections numbered above this have not lately been told this state; `Registration::NONE` if none has.
    pub(super) fn news_after(&self, event: &Event) -> Registration {
        let news = event.about().zip(event.frame());
        news.map_or(Registration::NONE, |(subject, frame)| self.told.news_after(subject, frame))
    }

    async fn changed(&mut self, event: &Event) -> Vec<Step> {
        let Event::Changed { conversation_id, rev, access_rev, session_rev, author_id, frame } =
            event
        else {
            return Vec::new();
        };
        if let Some(author) = author_id
            && self.typing.stop(*conversation_id, *author)
        {
            self.typing_stopped(*conversation_id, *author).await;
        }
        let access_rev = self.access(*access_rev);
        let known = self.knows_sessions(*session_rev);
        let head = Head { conversation_id: *conversation_id, rev: *rev, access_rev };
        if known { self.audiences.changed(head, frame) } else { self.audiences.behind(head) }
    }

    /// Joins somebody's connections up to this number to a conversation, from this head on. They have read up to
    /// `read_seq`; `home` is its workspace.
    pub(super) async fn let_in(
        &mut self,
        user: UserId,
        upto: Registration,
        have: Head,
        read_seq: Seq,
        home: Option<WorkspaceId>,
        frame: &Frame,
    ) {
        let conversation = have.conversation_id;
        let outside = |c: &Connection| !c.conversations.contains(conversation);
        let scope = Scope::Joined(have, read_seq, home);
        for connection in self.tell_user(user, upto, scope, frame, outside).await {
            self.join(connection, have).await;
            // The frame has shown this mark. The bus may still bring one from before they left.
            self.connections.reads_on(user, conversation, read_seq);
        }
        if self.peers.is_some() && self.audiences.is_listened_to(conversation) {
            self.audiences.set_homes(home.map(|home| (conversation, home)));
        }
    }

    pub(super) async fn end_session(&mut self, session: SessionId, frame: &Frame) {
        let connections = self.connections.of_session(session);
        // No event precedes the reply to `hello`: a client still waiting for it sees only the close code.
        let attached = |id: &ConnectionId| {
            self.connections.get(*id).is_some_and(|connection| connection.attaching.is_none())
        };
        self.tell(connections.iter().copied().filter(attached).collect(), frame).await;
        for connection in connections {
            self.unregister(connection).await;
            self.fanout.close(connection, Close::SessionRevoked).await;
        }
    }

    /// Ends somebody's membership on this node.
    pub(super) async fn expel(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        access_rev: AccessRev,
        frame: &Frame,
    ) {
        if self.typing.stop(conversation, user) {
            self.typing_stopped(conversation, user).await;
        }
        let inside = |c: &Connection| c.conversations.contains(conversation);
        let scope = Scope::Left(conversation, access_rev);
        let told = self.tell_user(user, self.connections.registered(), scope, frame, inside);
        for connection in told.await {
            self.leave(connection, conversation);
        }
    }

    /// Removes somebody's connections up to this number from a workspace, and tells those that were in it. They leave
    /// its conversations first: the bus may have lost those departures, and a client that leaves a workspace forgets
    /// all its conversations.
    pub(super) async fn put_out(
        &mut self,
        workspace: WorkspaceId,
        user: UserId,
        upto: Registration,
    ) {
        let frame = Frame::workspace_member_left(workspace, user);
        let in_doubt = self.peers.is_some();
        for id in self.connections.of_user(user) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.number > upto {
                continue;
            }
            if let Some(attaching) = &mut connection.attaching {
                if in_doubt {
                    attaching.doubt(workspace);
                } else {
                    attaching.hold(Scope::WorkspaceLeft(workspace), Some(&frame));
                }
            } else if connection.workspaces.remove(&workspace) {
                self.audiences.leave_workspace(id, workspace);
                self.leave_all(id, user, workspace).await;
                self.tell(vec![id], &frame).await;
            }
        }
    }

    /// Makes a connection leave all conversations of a workspace.
    async fn leave_all(&mut self, id: ConnectionId, user: UserId, workspace: WorkspaceId) {
        let Some(connection) = self.connections.get(id) else { return };
        let home = |of: &ConversationId| self.audiences.is_of(*of, workspace);
        for conversation in connection.conversations.iter().filter(home).collect::<Vec<_>>() {
            if self.typing.stop(conversation, user) {
                self.typing_stopped(conversation, user).await;
            }
            self.tell(vec![id], &Frame::left(conversation)).await;
            self.leave(id, conversation);
        }
    }

    /// Ends somebody's or everybody's access to something, and tells them that and no more.
    pub(super) async fn end(&mut self, event: &Event) {
        match event {
            Event::Left { conversation_id, user_id, access_rev, frame } => {
                if self.is_news(*conversation_id, *access_rev) {
                    self.expel(*conversation_id, *user_id, *access_rev, frame).await;
                    // The bus may deliver it after they have rejoined.
                    self.admit(*conversation_id, *user_id);
                }
                self.access_changed(*conversation_id, *access_rev).await;
            }
            Event::Deleted { conversation_id, frame } => {
                let deleted = |attaching: &mut Attaching| attaching.deleted(*conversation_id);
                self.connections.hold(|_, _| true, deleted);
                let members = self.audiences.members(*conversation_id);
                for member in &members {
                    self.leave(*member, *conversation_id);
                }
                self.tell(members, frame).await;
            }
            Event::WorkspaceDeleted { workspace_id, frame } => {
                self.hold(Scope::WorkspaceDeleted(*workspace_id), frame, |_, _| true);
                let members = self.audiences.end_workspace(*workspace_id);
                for id in &members {
                    if let Some(connection) = self.connections.get_mut(*id) {
                        connection.workspaces.remove(workspace_id);
                    }
                }
                self.tell(members, frame).await;
            }
            // No end of access; or the end of a session, which also closes connections.
            Event::Changed { .. }
            | Event::Typing { .. }
            | Event::Joined { .. }
            | Event::Conversation { .. }
            | Event::WorkspaceJoined { .. }
            | Event::WorkspaceLeft { .. }
            | Event::Workspace { .. }
            | Event::Read { .. }
            | Event::SessionRevoked { .. } => {}
        }
    }
}
