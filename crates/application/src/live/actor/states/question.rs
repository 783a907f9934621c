//! The questions to the store about everything at the gate: first its state, then who may hear of it and which sessions
//! have ended.

use futures::{StreamExt, TryStreamExt, stream};
use parlance_domain::{AccessRev, ConversationId, SessionRev, UserId, WorkspaceId};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    Result,
    live::{Event, actor::Actor, connections::Registration, gate::Waiting},
    ports::store::{Changes, State, Subject},
};

/// The most concurrent questions of each kind.
const AT_ONCE: usize = 8;

/// What to ask, and about whom.
#[derive(Default)]
pub(super) struct Question {
    asked_at: Registration,
    subjects: Vec<Subject>,
    workspaces: HashMap<WorkspaceId, HashSet<UserId>>,
    /// Each with its listeners, and the people the change itself is about.
    conversations: HashMap<ConversationId, HashSet<UserId>>,
    /// Asked about everywhere, because their memberships are not known yet.
    attaching: Vec<UserId>,
}

/// The current states, and which of the people asked about may hear of them.
#[derive(Default)]
pub(in crate::live) struct Present {
    /// Connections up to this number were registered then. The snapshot of a later one shows what was waiting.
    pub(super) asked_at: Registration,
    pub(super) states: HashMap<Subject, State>,
    workspaces: HashMap<WorkspaceId, Answer>,
    conversations: HashMap<ConversationId, Answer>,
    /// Workspaces that ended after their state was asked for.
    pub(super) ended: Vec<WorkspaceId>,
    /// A count that includes all sessions ended before the question.
    pub(in crate::live) session_rev: SessionRev,
}

struct Answer {
    /// For a conversation, excludes those only being attached: most were never in it, and one who has left joins its
    /// feed with an older count and is checked.
    asked: HashSet<UserId>,
    inside: HashSet<UserId>,
    /// The conversation's `access_rev` at the answer; none for a workspace, or if the conversation is gone.
    access_rev: Option<AccessRev>,
}

/// Who may be told a state event.
pub(super) enum Hearers<'a> {
    /// Everybody concerned: the store is this node's own.
    Everybody,
    /// Those named by the store, on connections with a higher number than this: the others have been told already.
    Present(&'a Present, Registration),
}

impl Actor {
    /// Asks about everybody who listens, is being attached, or is let in by the same batch. A later registration reads
    /// a snapshot that shows what waits.
    pub(super) fn question(&mut self, waiting: &[Waiting]) -> Question {
        let mut question =
            Question { asked_at: self.connections.registered(), ..Question::default() };
        let Question { subjects, workspaces, conversations, .. } = &mut question;
        for waiting in waiting {
            match waiting {
                Waiting::Subject(subject) => {
                    subjects.push(*subject);
                    match *subject {
                        Subject::Workspace(id) | Subject::Role(id, _) => {
                            workspaces.entry(id).or_default();
                        }
                        Subject::Member(id, user) => {
                            workspaces.entry(id).or_default().insert(user);
                        }
                        Subject::Participant(id, _) => {
                            conversations.entry(id).or_default();
                        }
                    }
                }
                Waiting::Event(event) => match &**event {
                    Event::Workspace { workspace_id, .. } => {
                        workspaces.entry(*workspace_id).or_default();
                    }
                    Event::Conversation { conversation_id, .. } => {
                        conversations.entry(*conversation_id).or_default();
                    }
                    Event::Joined { conversation_id, user_id, .. } => {
                        conversations.entry(*conversation_id).or_default().insert(*user_id);
                    }
                    _ => {}
                },
            }
        }
        subjects.sort_unstable();
        subjects.dedup();
        let attaching: Vec<UserId> = self.connections.attaching().collect();
        for (workspace, users) in workspaces {
            users.extend(self.listeners_to(*workspace));
            users.extend(&attaching);
        }
        for (conversation, users) in conversations {
            users.extend(self.users_of(self.audiences.members(*conversation)));
        }
        question.attaching = attaching;
        question
    }
}

impl Question {
    pub(super) async fn answer(self, changes: &dyn Changes) -> Result<Present> {
        let states = if self.subjects.is_empty() {
            HashMap::default()
        } else {
            changes.states(self.subjects).await?.into_iter().collect()
        };
        let attaching = &self.attaching;
        // After the states: anybody who is in now may know them.
        let workspaces = stream::iter(self.workspaces)
            .map(|(id, asked)| async move {
                let users = asked.iter().copied().collect();
                let inside = changes.workspace_members(id, users).await?.into_iter().collect();
                Ok((id, Answer { asked, inside, access_rev: None }))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect();
        let conversations = stream::iter(self.conversations)
            .map(|(id, asked)| async move {
                let others = attaching.iter().filter(|user| !asked.contains(user));
                let users = asked.iter().chain(others).copied().collect();
                let found = changes.readers(id, users).await?;
                let access_rev = found.as_ref().map(|readers| readers.access_rev);
                let inside = found.map(|readers| readers.users).unwrap_or_default();
                Ok((id, Answer { asked, inside: inside.into_iter().collect(), access_rev }))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect();
        let (mut workspaces, conversations, session_rev): (HashMap<_, Answer>, _, _) =
            tokio::try_join!(workspaces, conversations, changes.session_rev())?;
        let ended = ended(changes, &workspaces).await?;
        workspaces.retain(|id, _| !ended.contains(id));
        let asked_at = self.asked_at;
        Ok(Present { asked_at, states, workspaces, conversations, ended, session_rev })
    }
}

/// Which workspaces are gone: nobody is found in them, but nobody has left them.
async fn ended(
    changes: &dyn Changes,
    workspaces: &HashMap<WorkspaceId, Answer>,
) -> Result<Vec<WorkspaceId>> {
    let left = workspaces.iter().filter(|(_, answer)| answer.out().next().is_some());
    let left: Vec<_> = left.map(|(id, _)| Subject::Workspace(*id)).collect();
    if left.is_empty() {
        return Ok(vec![]);
    }
    let states = changes.states(left).await?.into_iter();
    Ok(states
        .filter_map(|found| match found {
            (Subject::Workspace(id), State::Gone) => Some(id),
            _ => None,
        })
        .collect())
}

impl Answer {
    fn out(&self) -> impl Iterator<Item = UserId> {
        self.asked.difference(&self.inside).copied()
    }
}

impl Hearers<'_> {
    /// The number up to which connections have been told, once the hearers have; `all` is the highest one registered.
    pub(super) const fn upto(&self, all: Registration) -> Registration {
        match self {
            Self::Everybody => all,
            Self::Present(present, _) => present.asked_at,
        }
    }

    pub(super) fn may_hear_of_workspace(
        &self,
        id: WorkspaceId,
        user: UserId,
        number: Registration,
    ) -> bool {
        let Self::Present(present, known) = self else { return true };
        present.are_among(*known, number) && self.has_in_workspace(id, user)
    }

    /// Whether somebody was found in a workspace.
    pub(super) fn has_in_workspace(&self, id: WorkspaceId, user: UserId) -> bool {
        let Self::Present(present, _) = self else { return true };
        present.workspaces.get(&id).is_some_and(|answer| answer.inside.contains(&user))
    }

    pub(super) fn may_hear_of(
        &self,
        id: ConversationId,
        user: UserId,
        number: Registration,
    ) -> bool {
        let Self::Present(present, known) = self else { return true };
        present.are_among(*known, number)
            && present.conversations.get(&id).is_some_and(|answer| answer.inside.contains(&user))
    }

    /// The `access_rev` at which somebody was found in a conversation, if they were.
    pub(super) fn read_at(&self, id: ConversationId, user: UserId) -> Option<AccessRev> {
        let Self::Present(present, _) = self else { return Some(AccessRev::ZERO) };
        let answer = present.conversations.get(&id)?;
        answer.access_rev.filter(|_| answer.inside.contains(&user))
    }
}

impl Present {
    /// Whether a connection was registered after `known`, and before the question.
    fn are_among(&self, known: Registration, number: Registration) -> bool {
        known < number && number <= self.asked_at
    }

    /// Those asked about who are no longer in a workspace.
    pub(super) fn out_of_workspaces(&self) -> Vec<(WorkspaceId, UserId)> {
        let out = |(id, answer): (&WorkspaceId, &Answer)| {
            answer.out().map(|user| (*id, user)).collect::<Vec<_>>()
        };
        self.workspaces.iter().flat_map(out).collect()
    }

    /// Those asked about who are no longer in a conversation, each with the `access_rev` of the answer.
    pub(super) fn out_of_conversations(&self) -> Vec<(ConversationId, UserId, AccessRev)> {
        let mut out = Vec::new();
        for (id, answer) in &self.conversations {
            // A deleted conversation has an event of its own.
            if let Some(access_rev) = answer.access_rev {
                out.extend(answer.out().map(|user| (*id, user, access_rev)));
            }
        }
        out
    }
}
