use std::sync::Arc;

use parlance_domain::{ConversationId, SessionId, UserId};

use super::{Actor, forget};
use crate::{
    live::{Event, Frame, attaching::Scope, connections::Connection, feed::Step, told::Telling},
    ports::{
        Close,
        store::{Head, Subject},
    },
};

impl Actor {
    /// Carries an event out on this node's connections.
    pub(super) async fn event(&mut self, event: &Event) {
        self.note(event);
        match event {
            Event::Changed { conversation_id, .. } => {
                let steps = self.changed(event).await;
                self.carry_out(*conversation_id, steps).await;
            }
            Event::Joined { conversation_id, user_id, rev, access_rev, read_seq, frame } => {
                self.access_changed(*conversation_id, *access_rev).await;
                let have =
                    Head { conversation_id: *conversation_id, rev: *rev, access_rev: *access_rev };
                self.let_in(*user_id, have, *read_seq, frame).await;
            }
            Event::Left { conversation_id, user_id, access_rev, frame } => {
                if self.is_news(*conversation_id, *access_rev) {
                    self.expel(*conversation_id, *user_id, *access_rev, frame).await;
                }
                self.access_changed(*conversation_id, *access_rev).await;
            }
            Event::Deleted { conversation_id, frame } => {
                self.hold(Scope::Left(*conversation_id, u64::MAX), frame);
                let members = self.members(*conversation_id);
                for member in &members {
                    self.leave(*member, *conversation_id);
                }
                self.tell(members, frame).await;
            }
            Event::Conversation { conversation_id, frame, .. } => {
                self.hold(Scope::Conversation(*conversation_id), frame);
                self.tell(self.members(*conversation_id), frame).await;
            }
            Event::User { user_id, frame } => {
                let _ = self.tell_user(*user_id, Scope::User, frame, |_| true).await;
            }
            Event::Read { user_id, conversation_id, read_seq, frame } => {
                if self.connections.reads_on(*user_id, *conversation_id, *read_seq) {
                    let further = |c: &Connection| c.reads_on(*conversation_id, *read_seq);
                    let scope = Scope::Read(*conversation_id, *read_seq);
                    let _ = self.tell_user(*user_id, scope, frame, further).await;
                }
            }
            Event::Typing { conversation_id, user_id, frame } => {
                self.tell_others(*conversation_id, *user_id, frame).await;
            }
            Event::SessionRevoked { session_id, session_rev, frame } => {
                self.end_session(*session_id, frame).await;
                self.session_ended(*session_rev).await;
            }
            Event::WorkspaceJoined { .. }
            | Event::WorkspaceLeft { .. }
            | Event::WorkspaceDeleted { .. }
            | Event::Workspace { .. } => self.workspace_event(event).await,
        }
    }

    /// Notes what a look need not tell again.
    fn note(&mut self, event: &Event) {
        if self.peers.is_some()
            && let (Some(telling), Some(frame)) = (Telling::by(event), event.frame())
        {
            self.told.note(telling, frame);
        }
        if let Event::WorkspaceLeft { workspace_id, user_id } = event {
            self.told.left(Subject::Member(*workspace_id, *user_id));
        }
    }

    /// Carries out what was committed together, so that it leaves together.
    pub(super) async fn changes(&mut self, changes: &[(ConversationId, Vec<Arc<Event>>)]) {
        let mut deliveries = Vec::with_capacity(changes.len());
        for (conversation, events) in changes {
            for event in events {
                let steps = self.changed(event).await;
                self.begin(*conversation, steps, &mut deliveries);
            }
        }
        self.deliver(deliveries).await;
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
        let Some(feed) = self.feeds.get_mut(conversation_id) else { return Vec::new() };
        feed.share(&mut self.sharing);
        if known {
            feed.changed(*rev, access_rev, frame.clone())
        } else {
            feed.behind(*rev, access_rev)
        }
    }

    /// Joins somebody's connections to a conversation in which they are as of this head, and have read so far.
    pub(super) async fn let_in(&mut self, user: UserId, have: Head, read_seq: u64, frame: &Frame) {
        let conversation = have.conversation_id;
        let outside = |c: &Connection| !c.conversations.contains(conversation);
        let scope = Scope::Joined(have, read_seq);
        for connection in self.tell_user(user, scope, frame, outside).await {
            self.join(connection, have).await;
            // Told by the frame: a mark from before they were out may still come.
            self.connections.reads_on(user, conversation, read_seq);
        }
    }

    pub(super) async fn end_session(&mut self, session: SessionId, frame: &Frame) {
        let connections = self.connections.of_session(session);
        self.tell(connections.clone(), frame).await;
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
        access_rev: u64,
        frame: &Frame,
    ) {
        if self.typing.stop(conversation, user) {
            self.typing_stopped(conversation, user).await;
        }
        let inside = |c: &Connection| c.conversations.contains(conversation);
        let scope = Scope::Left(conversation, access_rev);
        let told = self.tell_user(user, scope, frame, inside);
        for connection in told.await {
            self.leave(connection, conversation);
        }
    }

    async fn workspace_event(&mut self, event: &Event) {
        match event {
            Event::WorkspaceJoined { workspace_id, user_id, frame } => {
                let scope = Scope::WorkspaceJoined(*workspace_id);
                for id in self.tell_user(*user_id, scope, frame, |_| true).await {
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.workspaces.insert(*workspace_id);
                        self.workspaces.entry(*workspace_id).or_default().insert(id);
                    }
                }
            }
            Event::WorkspaceLeft { workspace_id, user_id } => {
                for id in self.connections.of_user(*user_id) {
                    forget(&mut self.workspaces, *workspace_id, id);
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.workspaces.remove(workspace_id);
                        if let Some(attaching) = &mut connection.attaching {
                            attaching.hold(Scope::WorkspaceLeft(*workspace_id), None);
                        }
                    }
                }
            }
            Event::WorkspaceDeleted { workspace_id, frame } => {
                self.hold(Scope::WorkspaceLeft(*workspace_id), frame);
                let members = self.workspaces.remove(workspace_id).unwrap_or_default();
                for id in &members {
                    if let Some(connection) = self.connections.get_mut(*id) {
                        connection.workspaces.remove(workspace_id);
                    }
                }
                self.tell(members.into_iter().collect(), frame).await;
            }
            Event::Workspace { workspace_id, frame, .. } => {
                self.hold(Scope::Workspace(*workspace_id), frame);
                if let Some(members) = self.workspaces.get(workspace_id) {
                    self.tell(members.iter().copied().collect(), frame).await;
                }
            }
            _ => {}
        }
    }
}
