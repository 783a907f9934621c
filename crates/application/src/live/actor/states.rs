//! State events that the bus did not tell: what a look has found is asked of the store, and told where it is news.

use parlance_domain::{ConversationId, UserId, WorkspaceId};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use super::{Actor, Input, News};
use crate::{
    Error, Result,
    live::{Event, Frame, attaching::Scope, connections::Connection, node::Peers, told::Telling},
    ports::store::{Look, Mark, State, Subject},
};

/// Most subjects in one question to the store.
const ASKED: usize = 1_000;

/// What the store has said of what a look has found.
pub(in crate::live) struct Found {
    states: Vec<(Subject, State)>,
    /// Who is no longer in a workspace that is still there, of those who listen.
    gone: Vec<(WorkspaceId, UserId)>,
    /// Who may still hear of a conversation. Asked for after the states, so whoever is named may know them.
    readers: HashMap<ConversationId, HashSet<UserId>>,
}

/// What is asked of the store at once, and about whom of this node.
struct Question {
    subjects: Vec<Subject>,
    workspaces: Vec<(WorkspaceId, Vec<UserId>)>,
    conversations: Vec<(ConversationId, Vec<UserId>)>,
}

impl Actor {
    /// Asks for what a look has found and nobody here was told.
    pub(super) fn look_into(&mut self, look: &mut Look) {
        let unseen = self.told.unseen(&look.traces);
        let marks = self.told.unseen_marks(std::mem::take(&mut look.marks));
        let attaching = !unseen.is_empty() && self.connections.attaching().next().is_some();
        let mut subjects: Vec<_> =
            unseen.into_iter().filter(|subject| attaching || self.concerns(*subject)).collect();
        // Workspaces first: what is told of their members comes after.
        subjects.sort_unstable();
        let mut workspaces: HashSet<WorkspaceId> = look.workspaces.iter().copied().collect();
        workspaces.extend(subjects.iter().filter_map(|subject| match subject {
            Subject::Workspace(id) | Subject::Member(id, _) | Subject::Role(id, _) => Some(*id),
            Subject::Participant(..) => None,
        }));
        // Who has left is asked about at each look that shows the workspace: whoever was being attached is no listener yet.
        let workspaces: Vec<_> = workspaces.into_iter().filter_map(|id| self.here(id)).collect();
        let conversations: HashSet<_> = subjects.iter().filter_map(conversation).collect();
        let conversations =
            conversations.into_iter().map(|id| (id, self.listeners_of(id))).collect();
        if !(subjects.is_empty() && workspaces.is_empty()) {
            self.ask(Question { subjects, workspaces, conversations });
        }
        self.ask_marks(marks);
        if !look.more {
            self.told.looked(look.until);
        }
    }

    pub(super) async fn found(&mut self, found: Found) {
        let Found { states, gone, readers } = found;
        for (workspace_id, user_id) in gone {
            let left = Frame::workspace_member_left(workspace_id, user_id);
            if self.told.is_news(Telling::Of(Subject::Member(workspace_id, user_id)), &left) {
                let inside = |c: &Connection| c.workspaces.contains(&workspace_id);
                let scope = Scope::Workspace(workspace_id);
                let _ = self.tell_user(user_id, scope, &left, inside).await;
            }
            self.event(&Event::WorkspaceLeft { workspace_id, user_id }).await;
        }
        for (subject, state) in states {
            self.found_one(subject, state, &readers).await;
        }
    }

    async fn found_one(
        &mut self,
        subject: Subject,
        state: State,
        readers: &HashMap<ConversationId, HashSet<UserId>>,
    ) {
        let news = |actor: &Self, frame: &Frame| actor.told.is_news(Telling::Of(subject), frame);
        let about = Some(subject);
        match (subject, state) {
            (Subject::Workspace(workspace_id), State::Workspace(workspace)) => {
                let frame = Frame::workspace_updated(&(&workspace).into());
                if news(self, &frame) {
                    self.event(&Event::Workspace { workspace_id, about, frame }).await;
                }
            }
            (Subject::Workspace(workspace_id), State::Gone) => {
                let frame = Frame::workspace_deleted(workspace_id);
                if news(self, &frame) {
                    self.event(&Event::WorkspaceDeleted { workspace_id, frame }).await;
                }
            }
            (Subject::Member(workspace_id, user_id), State::Member(found)) => {
                let (member, workspace) = *found;
                let frame = Frame::workspace_updated(&(&workspace).into());
                if self.told.is_news(Telling::Own(subject), &frame) {
                    self.event(&Event::WorkspaceJoined { workspace_id, user_id, frame }).await;
                }
                let frame = Frame::workspace_member_joined(&member);
                if news(self, &frame) {
                    self.event(&Event::Workspace { workspace_id, about, frame }).await;
                }
            }
            (Subject::Member(workspace_id, user_id), State::Gone) => {
                let frame = Frame::workspace_member_left(workspace_id, user_id);
                if news(self, &frame) {
                    self.event(&Event::Workspace { workspace_id, about, frame }).await;
                }
            }
            (Subject::Role(workspace_id, _), State::Member(found)) => {
                let frame = Frame::workspace_member_updated(&found.0);
                if news(self, &frame) {
                    self.event(&Event::Workspace { workspace_id, about, frame }).await;
                }
            }
            (Subject::Participant(conversation, user), state @ (State::Inside | State::Gone)) => {
                let frame = match state {
                    State::Inside => Frame::member_joined(conversation, user),
                    _ => Frame::member_left(conversation, user),
                };
                if news(self, &frame) {
                    self.told.note(Telling::Of(subject), &frame);
                    let readers = readers.get(&conversation);
                    self.tell_readers(conversation, readers, &frame).await;
                }
            }
            // Whose role it was has gone, which is told by itself.
            _ => {}
        }
    }

    /// Tells those of a conversation who were found to be in it.
    async fn tell_readers(
        &mut self,
        conversation: ConversationId,
        readers: Option<&HashSet<UserId>>,
        frame: &Frame,
    ) {
        self.hold(Scope::Conversation(conversation), frame);
        let mut members = self.members(conversation);
        members.retain(|id| {
            let user = self.connections.get(*id).map(|connection| connection.user_id);
            user.is_some_and(|user| readers.is_some_and(|readers| readers.contains(&user)))
        });
        self.tell(members, frame).await;
    }

    /// Whether anybody attached here is to hear of it.
    fn concerns(&self, subject: Subject) -> bool {
        match subject {
            Subject::Workspace(id) | Subject::Role(id, _) => self.workspaces.contains_key(&id),
            Subject::Member(id, user) => {
                self.workspaces.contains_key(&id) || !self.connections.of_user(user).is_empty()
            }
            Subject::Participant(id, _) => {
                self.feeds.contains_key(&id) || self.pending.contains_key(&id)
            }
        }
    }

    /// Who listens to a workspace, if anybody does.
    fn here(&self, workspace: WorkspaceId) -> Option<(WorkspaceId, Vec<UserId>)> {
        let here = self.workspaces.get(&workspace)?;
        let users = here.iter().filter_map(|id| self.connections.get(*id).map(|c| c.user_id));
        Some((workspace, users.collect::<HashSet<_>>().into_iter().collect()))
    }

    fn listeners_of(&self, conversation: ConversationId) -> Vec<UserId> {
        let members = self.members(conversation);
        let users = members.iter().filter_map(|id| self.connections.get(*id).map(|c| c.user_id));
        users.collect::<HashSet<_>>().into_iter().collect()
    }

    fn ask(&self, question: Question) {
        let Some(peers) = self.peers.clone() else { return };
        let live = self.live.clone();
        self.tasks.spawn(async move {
            let news = match answer(&peers, &question).await {
                Ok(found) => News::Found(found),
                Err(error) => {
                    tracing::warn!(%error, "what has changed could not be asked for yet");
                    News::Unanswered(question.subjects)
                }
            };
            live.input(Input::FromPeers(news)).await;
        });
    }

    /// Asks how far those have read whose marks nobody here was told of.
    fn ask_marks(&self, mut marks: Vec<Mark>) {
        let Some(peers) = self.peers.clone() else { return };
        // Most were told by the bus. Who is not connected now reads their mark when they come.
        marks.retain(|mark| self.connections.would_read_on(mark));
        if marks.is_empty() {
            return;
        }
        let live = self.live.clone();
        self.tasks.spawn(async move {
            for mark in marks {
                let Mark { conversation_id, user_id, .. } = mark;
                match peers.conversations.summary(user_id, conversation_id).await {
                    Ok(summary) if summary.joined => {
                        let frame = Frame::read_updated(conversation_id, summary.read);
                        let read_seq = summary.read.read_seq;
                        let read = Event::Read { user_id, conversation_id, read_seq, frame };
                        live.input(Input::Event(read.into())).await;
                    }
                    // Whoever has left needs no mark, even of a channel that they can still read.
                    Ok(_) | Err(Error::NotFound(_)) => {}
                    Err(error) => {
                        tracing::warn!(%error, %conversation_id, "a read mark could not be told yet");
                        live.input(Input::FromPeers(News::Unmarked(mark))).await;
                    }
                }
            }
        });
    }
}

/// The states first: who is found to be there after that may know them.
async fn answer(peers: &Peers, question: &Question) -> Result<Found> {
    let Question { subjects, workspaces, conversations } = question;
    let mut states = Vec::new();
    for asked in subjects.chunks(ASKED) {
        states.extend(peers.changes.states(asked.to_vec()).await?);
    }
    let mut readers = HashMap::default();
    for (conversation, users) in conversations {
        let found = peers.changes.readers(*conversation, users.clone()).await?;
        let users = found.map(|found| found.users).unwrap_or_default();
        readers.insert(*conversation, users.into_iter().collect());
    }
    // Last: whoever comes back after that is told so by a later look.
    let mut gone = Vec::new();
    for (workspace, users) in workspaces {
        let still = peers.changes.workspace_members(*workspace, users.clone()).await?;
        let still: HashSet<UserId> = still.into_iter().collect();
        let left = users.iter().filter(|user| !still.contains(user));
        gone.extend(left.map(|user| (*workspace, *user)));
    }
    ends(peers, &mut states, &mut gone).await?;
    Ok(Found { states, gone, readers })
}

/// Adds how those have gone who are no longer in a workspace, with it or without it: that may have been later than the
/// states, and once they are no listeners nobody would tell them.
async fn ends(
    peers: &Peers,
    states: &mut Vec<(Subject, State)>,
    gone: &mut Vec<(WorkspaceId, UserId)>,
) -> Result<()> {
    let workspaces: HashSet<_> = gone.iter().map(|(id, _)| Subject::Workspace(*id)).collect();
    if workspaces.is_empty() {
        return Ok(());
    }
    let mut ended = peers.changes.states(workspaces.into_iter().collect()).await?;
    ended.retain(|(_, state)| *state == State::Gone);
    let deleted: HashSet<_> = ended.iter().map(|(subject, _)| *subject).collect();
    gone.retain(|(id, _)| !deleted.contains(&Subject::Workspace(*id)));
    let members: Vec<_> = gone.iter().map(|(id, user)| Subject::Member(*id, *user)).collect();
    for asked in members.chunks(ASKED) {
        ended.extend(peers.changes.states(asked.to_vec()).await?);
    }
    let ended: HashMap<_, _> = ended.into_iter().collect();
    // Who has come back since is told so by what brought them back, and not that they had left.
    gone.retain(|(id, user)| ended.get(&Subject::Member(*id, *user)) == Some(&State::Gone));
    states.retain(|(subject, _)| !ended.contains_key(subject));
    states.extend(ended);
    // Workspaces first, as they were asked for.
    states.sort_unstable_by_key(|(subject, _)| *subject);
    Ok(())
}

const fn conversation(subject: &Subject) -> Option<ConversationId> {
    match subject {
        Subject::Participant(conversation, _) => Some(*conversation),
        _ => None,
    }
}
