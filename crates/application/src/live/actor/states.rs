//! State events: workspace names, memberships, roles, read marks.
//!
//! A node with a store of its own tells them as they come: all ends of access are its own, and in order. A node that
//! shares its store takes events, and what a look finds, as hints. They wait at the [`Gate`] until the store has given
//! their current state, who may hear of them, and which sessions have ended by now. So nothing committed after an
//! acknowledged end of access reaches the person who lost it, whatever the bus has lost, and late events are not told
//! as news.
//!
//! [`Gate`]: crate::live::gate::Gate

mod question;

use std::{pin::pin, sync::Arc, time::Duration};

use parlance_domain::{UserId, WorkspaceId};
use rustc_hash::FxHashSet as HashSet;
use tokio::time::timeout;

use super::{Actor, Input, News};
use crate::{
    Error, Result,
    live::{
        Event, Frame,
        attaching::Scope,
        connections::{Connection, Registration},
        gate::Waiting,
    },
    ports::{
        ConnectionId,
        store::{Head, Look, Mark, State, Subject},
    },
    tasks::answer,
};

use question::Hearers;
pub(in crate::live) use question::Present;

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl Actor {
    /// Tells a state event, or makes it wait.
    pub(super) async fn state_event(&mut self, event: &Arc<Event>) {
        if self.peers.is_none() {
            self.tell_state(event, &Hearers::Everybody).await;
        } else if let Some(subject) = event.hint() {
            if let (Some(about), Some(frame)) = (event.about(), event.frame()) {
                self.told.another(about, frame);
            }
            self.wait(Waiting::Subject(subject));
        } else {
            self.wait(Waiting::Event(event.clone()));
        }
    }

    /// Queues something until the store has given its state and who may hear it.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        if self.concerns_anybody(&waiting)
            && let Err(refused) = self.gate.wait(waiting)
        {
            tracing::warn!("too much waits for the store");
            self.give_up(&refused);
        }
    }

    /// Marks something as untold, for a look to find again.
    fn give_up(&mut self, waiting: &Waiting) {
        match waiting {
            Waiting::Subject(subject) => self.told.untold(*subject),
            Waiting::Event(event) => {
                if let Event::Read { user_id, conversation_id, read_seq, .. } = &**event {
                    let (user_id, conversation_id) = (*user_id, *conversation_id);
                    self.told.unmarked(&Mark { conversation_id, user_id, read_seq: *read_seq });
                }
            }
        }
    }

    /// Asks the store about what waits, after each input.
    pub(super) fn ask_gate(&mut self) {
        let Some(waiting) = self.gate.ask() else { return };
        let Some(peers) = self.peers.clone() else { return };
        let question = self.question(&waiting);
        let live = self.live.clone();
        self.tasks.spawn(async move {
            // Not dropped when late: a database driver's query should run to its end.
            let mut answer = pin!(answer(question.answer(&*peers.changes)));
            let present = timeout(PATIENCE, &mut answer).await;
            let late = present.is_err();
            let present =
                present.unwrap_or_else(|_| Err(Error::unavailable("the store is silent")));
            live.input(Input::FromPeers(News::Present(present))).await;
            if late {
                let _ = answer.await;
            }
        });
    }

    pub(super) async fn answered(&mut self, present: Result<Present>) {
        match present {
            Ok(present) => {
                self.present = Some(present);
                self.let_through().await;
            }
            Err(error) => {
                tracing::warn!(%error, "what has changed could not be asked for yet");
                if let Some(waiting) = self.gate.unanswered() {
                    self.give_up(&waiting);
                }
            }
        }
    }

    /// Tells what the store has answered, once the sessions that had ended by then are known.
    pub(super) async fn let_through(&mut self) {
        let Some(session_rev) = self.present.as_ref().map(|present| present.session_rev) else {
            return;
        };
        if !self.knows_sessions(session_rev) {
            return;
        }
        let Some(mut present) = self.present.take() else { return };
        self.put_out_gone(&present).await;
        for waiting in self.gate.answered() {
            match waiting {
                Waiting::Event(event) => {
                    self.tell_state(&event, &Hearers::Present(&present, Registration::NONE)).await;
                }
                Waiting::Subject(subject) => {
                    if let Some(state) = present.states.remove(&subject) {
                        self.tell_present(subject, state, &present).await;
                    }
                }
            }
        }
    }

    /// Removes listeners found to be no longer members: only somebody who is out can be let in on their return.
    async fn put_out_gone(&mut self, present: &Present) {
        for workspace in &present.ended {
            self.wait(Waiting::Subject(Subject::Workspace(*workspace)));
        }
        for (workspace, user) in present.out_of_workspaces() {
            self.put_out(workspace, user, present.asked_at).await;
        }
        for (conversation, user, access_rev) in present.out_of_conversations() {
            // Somebody who has connected since may be back: their snapshot will tell, or the next check.
            let since = self.connections.any_after(user, present.asked_at);
            if !since && !self.knows_later(conversation, access_rev) {
                self.expel(conversation, user, access_rev, &Frame::left(conversation)).await;
                // Or they have rejoined by now, on a connection that was there before.
                self.admit(conversation, user);
            }
        }
    }

    /// Tells a state to those for whom it is news.
    async fn tell_present(&mut self, subject: Subject, state: State, present: &Present) {
        for event in events(subject, state) {
            let known = self.news_after(&event);
            if matches!(event, Event::WorkspaceDeleted { .. }) {
                // Reaches the remaining listeners, if any.
                self.note(&event, self.connections.registered());
                self.end(&event).await;
            } else if known < present.asked_at {
                self.tell_state(&event, &Hearers::Present(present, known)).await;
            }
        }
    }

    /// Tells a state event to the hearers it concerns.
    async fn tell_state(&mut self, event: &Event, hearers: &Hearers<'_>) {
        let upto = hearers.upto(self.connections.registered());
        self.note(event, upto);
        match event {
            Event::Joined {
                conversation_id,
                user_id,
                rev,
                access_rev,
                read_seq,
                workspace_id,
                frame,
            } => {
                if let Some(count) = hearers.read_at(*conversation_id, *user_id) {
                    let access_rev = (*access_rev).max(count);
                    let have = Head { conversation_id: *conversation_id, rev: *rev, access_rev };
                    self.let_in(*user_id, upto, have, *read_seq, *workspace_id, frame).await;
                }
            }
            Event::Conversation { conversation_id, frame, .. } => {
                let id = *conversation_id;
                let may_hear = |user, number| hearers.may_hear_of(id, user, number);
                self.tell_those(
                    self.audiences.members(id),
                    Scope::Conversation(id),
                    frame,
                    may_hear,
                )
                .await;
            }
            Event::WorkspaceJoined { workspace_id, user_id, frame } => {
                // They may have been removed between the answers of one question.
                if !hearers.has_in_workspace(*workspace_id, *user_id) {
                    return;
                }
                let scope = Scope::WorkspaceJoined(*workspace_id);
                let outside = |c: &Connection| !c.workspaces.contains(workspace_id);
                for id in self.tell_user(*user_id, upto, scope, frame, outside).await {
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.workspaces.insert(*workspace_id);
                        self.audiences.enter_workspace(id, *workspace_id);
                    }
                }
            }
            Event::WorkspaceLeft { workspace_id, user_id } => {
                self.put_out(*workspace_id, *user_id, upto).await;
            }
            Event::Workspace { workspace_id, frame, .. } => {
                let id = *workspace_id;
                let members = self.audiences.of_workspace(id).collect();
                let may_hear = |user, number| hearers.may_hear_of_workspace(id, user, number);
                self.tell_those(members, Scope::Workspace(id), frame, may_hear).await;
            }
            Event::Read { user_id, conversation_id, read_seq, frame } => {
                self.read_on(*user_id, *conversation_id, *read_seq, frame).await;
            }
            // Not state events.
            Event::Changed { .. }
            | Event::Typing { .. }
            | Event::Left { .. }
            | Event::Deleted { .. }
            | Event::WorkspaceDeleted { .. }
            | Event::SessionRevoked { .. } => {}
        }
    }

    async fn tell_those(
        &mut self,
        mut to: Vec<ConnectionId>,
        scope: Scope,
        frame: &Frame,
        may_hear: impl Fn(UserId, Registration) -> bool,
    ) {
        self.hold(scope, frame, &may_hear);
        to.retain(|id| self.connections.get(*id).is_some_and(|c| may_hear(c.user_id, c.number)));
        self.tell(to, frame).await;
    }

    /// Handles what a look has found that nobody here was told.
    pub(super) fn look_into(&mut self, look: &mut Look) {
        let mut subjects = self.told.unseen(&look.traces);
        let marks = self.told.unseen_marks(std::mem::take(&mut look.marks));
        // Every look that shows the workspace asks about departures, not only the first: a connection being attached
        // then was not a listener yet.
        let mut workspaces: HashSet<WorkspaceId> = look.workspaces.iter().copied().collect();
        workspaces.extend(subjects.iter().filter_map(|subject| match subject {
            Subject::Workspace(id) | Subject::Member(id, _) | Subject::Role(id, _) => Some(*id),
            Subject::Participant(..) => None,
        }));
        // Workspaces first, then their members.
        subjects.sort_unstable();
        for subject in subjects {
            self.wait(Waiting::Subject(subject));
        }
        for workspace in workspaces {
            self.ask_gone(workspace);
        }
        self.doubt_marks(&marks);
        if !look.more {
            self.told.looked(look.until);
        }
    }

    /// Asks which listeners of a workspace are not in it any more.
    fn ask_gone(&self, workspace: WorkspaceId) {
        let users = self.listeners_to(workspace);
        let Some(peers) = self.peers.clone().filter(|_| !users.is_empty()) else { return };
        let question = async move {
            let still = peers.changes.workspace_members(workspace, users.clone()).await?;
            let still: HashSet<_> = still.into_iter().collect();
            Ok(users.into_iter().filter(|user| !still.contains(user)).collect())
        };
        self.ask(question, move |gone| Input::FromPeers(News::Gone(workspace, gone)));
    }

    /// They have left, or the workspace is gone; or they have rejoined by now.
    pub(super) fn gone(&mut self, workspace: WorkspaceId, users: Vec<UserId>) {
        if !users.is_empty() {
            self.wait(Waiting::Subject(Subject::Workspace(workspace)));
        }
        for user in users {
            self.wait(Waiting::Subject(Subject::Member(workspace, user)));
        }
    }

    /// Whether it concerns anybody here, or may once they are attached or what waits at the gate has gone through.
    fn concerns_anybody(&mut self, waiting: &Waiting) -> bool {
        let is_here = |user: UserId| !self.connections.of_user(user).is_empty();
        let concerns = match waiting {
            Waiting::Subject(Subject::Workspace(id) | Subject::Role(id, _)) => {
                self.audiences.is_workspace_listened_to(*id)
            }
            Waiting::Subject(Subject::Member(id, user)) => {
                self.audiences.is_workspace_listened_to(*id) || is_here(*user)
            }
            Waiting::Subject(Subject::Participant(id, _)) => self.audiences.is_listened_to(*id),
            Waiting::Event(event) => match &**event {
                Event::Joined { user_id, .. } | Event::Read { user_id, .. } => {
                    return is_here(*user_id);
                }
                Event::Workspace { workspace_id: id, .. } => {
                    self.audiences.is_workspace_listened_to(*id)
                }
                Event::Conversation { conversation_id: id, .. } => {
                    self.audiences.is_listened_to(*id)
                }
                _ => true,
            },
        };
        concerns || !self.gate.is_empty() || self.connections.is_any_attaching()
    }

    /// Who listens to a workspace.
    fn listeners_to(&self, workspace: WorkspaceId) -> Vec<UserId> {
        self.users_of(self.audiences.of_workspace(workspace))
    }

    fn users_of(&self, connections: impl IntoIterator<Item = ConnectionId>) -> Vec<UserId> {
        let user = |id| self.connections.get(id).map(|connection| connection.user_id);
        let users: HashSet<_> = connections.into_iter().filter_map(user).collect();
        users.into_iter().collect()
    }
}

/// The events that convey this state of a subject.
fn events(subject: Subject, state: State) -> Vec<Event> {
    match (subject, state) {
        (Subject::Workspace(_), State::Workspace(workspace)) => {
            vec![Event::workspace_updated(&workspace)]
        }
        (Subject::Workspace(id), State::Gone) => vec![Event::workspace_deleted(id)],
        (Subject::Member(..), State::Member(found)) => {
            let (member, workspace) = *found;
            vec![
                Event::workspace_joined(member.user_id, &workspace),
                Event::workspace_member_joined(&member),
            ]
        }
        (Subject::Member(workspace_id, user_id), State::Gone) => {
            vec![
                Event::WorkspaceLeft { workspace_id, user_id },
                Event::workspace_member_left(workspace_id, user_id),
            ]
        }
        (Subject::Role(..), State::Member(found)) => {
            vec![Event::workspace_member_updated(&found.0)]
        }
        (Subject::Participant(id, user), State::Inside) => vec![Event::member_joined(id, user)],
        (Subject::Participant(id, user), State::Gone) => vec![Event::member_left(id, user)],
        // The member is gone, which is told separately.
        _ => vec![],
    }
}
