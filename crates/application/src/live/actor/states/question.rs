//! What is asked of the store about all that waits, in one go: first how it is, then who may hear of it, and which sessions
//! have ended.

use futures::{StreamExt, TryStreamExt, stream};
use parlance_domain::{ConversationId, UserId, WorkspaceId};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    Result,
    live::{Event, actor::Actor, gate::Waiting},
    ports::store::{Changes, State, Subject},
};

/// Most subjects in one question to the store.
const ASKED: usize = 1_000;
/// Most questions at the same time, of each kind.
const AT_ONCE: usize = 8;

/// Whom to ask about, and what.
#[derive(Default)]
pub(super) struct Question {
    subjects: Vec<Subject>,
    workspaces: HashMap<WorkspaceId, HashSet<UserId>>,
    conversations: HashMap<ConversationId, HashSet<UserId>>,
}

/// How things are, and who may hear of them, of those who were asked about.
#[derive(Default)]
pub(in crate::live) struct Present {
    pub(super) states: HashMap<Subject, State>,
    workspaces: HashMap<WorkspaceId, HashSet<UserId>>,
    conversations: HashMap<ConversationId, HashSet<UserId>>,
    /// All sessions that had ended before the question are in this count.
    pub(in crate::live) session_rev: u64,
}

impl Actor {
    /// About all who listen, who are being attached, and whose way in goes through at the same time. Who registers later
    /// reads a snapshot that shows what waits.
    pub(super) fn question(&mut self, waiting: &[Waiting]) -> Question {
        let mut question = Question::default();
        let Question { subjects, workspaces, conversations } = &mut question;
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
        let attaching: Vec<UserId> = self.connections.attaching().map(|(user, _)| user).collect();
        for (workspace, users) in workspaces {
            users.extend(self.listeners_to(*workspace));
            users.extend(&attaching);
        }
        for (conversation, users) in conversations {
            users.extend(self.users_of(self.members(*conversation)));
            users.extend(&attaching);
        }
        question
    }
}

impl Question {
    pub(super) async fn answer(self, changes: &dyn Changes) -> Result<Present> {
        let mut states = HashMap::default();
        for asked in self.subjects.chunks(ASKED) {
            states.extend(changes.states(asked.to_vec()).await?);
        }
        // After the states: whoever is named may know them.
        let workspaces = stream::iter(self.workspaces)
            .map(|(id, users)| async move {
                let users = changes.workspace_members(id, users.into_iter().collect()).await?;
                Ok((id, users.into_iter().collect()))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect();
        let conversations = stream::iter(self.conversations)
            .map(|(id, users)| async move {
                let found = changes.readers(id, users.into_iter().collect()).await?;
                let users = found.map(|readers| readers.users).unwrap_or_default();
                Ok((id, users.into_iter().collect()))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect();
        let (workspaces, conversations, session_rev) =
            tokio::try_join!(workspaces, conversations, changes.session_rev())?;
        Ok(Present { states, workspaces, conversations, session_rev })
    }
}

impl Present {
    pub(super) fn is_in(&self, workspace: WorkspaceId, user: UserId) -> bool {
        self.workspaces.get(&workspace).is_some_and(|users| users.contains(&user))
    }

    pub(super) fn reads(&self, conversation: ConversationId, user: UserId) -> bool {
        self.conversations.get(&conversation).is_some_and(|users| users.contains(&user))
    }
}
