//! Readmits people whom a late event has put out although they are back.

use parlance_domain::{ConversationId, Rev, Summary, UserId};
use rustc_hash::FxHashMap as HashMap;

use super::{Actor, Input, News, asking::summaries};
use crate::{
    Result,
    live::{Event, connections::Connections, doubts::Doubt, gate::Waiting},
    ports::store::{Head, Subject},
};

/// People found in a conversation, and those the store gave no answer about.
#[derive(Default)]
pub(in crate::live) struct Admitted {
    found: Vec<(UserId, Box<Summary>, Head)>,
    unknown: Vec<Doubt>,
}

impl Actor {
    /// Notes that somebody may be in a conversation without listening to it. For a connection being attached, only its
    /// snapshot will tell.
    pub(super) fn admit(&mut self, conversation: ConversationId, user: UserId) {
        if self.peers.is_none() {
            return;
        }
        if misses(&self.connections, (conversation, user)) {
            self.admissions.note(conversation, user);
        }
        self.connections.hold(|of, _| of == user, |attaching| attaching.admit(conversation));
    }

    /// Asks the store about them, after each input.
    pub(super) fn ask_admissions(&mut self) {
        let Some(peers) = self.peers.clone() else { return };
        let connections = &self.connections;
        let asked = self.admissions.ask(|doubt| misses(connections, doubt));
        if asked.is_empty() {
            return;
        }
        let whole = asked.clone();
        let question = async move {
            // Heads first: an `access_rev` that is too old is checked again, one that is too new would not be.
            let conversations = asked.iter().map(|(conversation, _)| *conversation).collect();
            let heads = peers.changes.heads(conversations).await?;
            let known: HashMap<_, _> =
                heads.into_iter().map(|head| (head.conversation_id, head)).collect();
            let there =
                asked.into_iter().filter(|(conversation, _)| known.contains_key(conversation));
            let (inside, unknown) = summaries(&*peers.conversations, there).await;
            let with_head = |(user, summary): (UserId, Summary)| {
                let head = known.get(&summary.conversation.id).copied()?;
                Some((user, Box::new(summary), head))
            };
            Ok(Admitted { found: inside.into_iter().filter_map(with_head).collect(), unknown })
        };
        self.ask(question, |admitted: Result<Admitted>| {
            let admitted = admitted.unwrap_or_else(|error| {
                tracing::warn!(%error, "who came in could not be asked for yet");
                Admitted { unknown: whole, ..Admitted::default() }
            });
            Input::FromPeers(News::Admitted(admitted))
        });
    }

    /// Lets in those who were found.
    pub(super) async fn admitted(&mut self, Admitted { found, unknown }: Admitted) {
        self.admissions.answered(unknown);
        for (user, summary, head) in found {
            // Anybody in a channel is in its workspace.
            let workspace = summary.conversation.workspace_id;
            self.wait(Waiting::Subject(Subject::Member(workspace, user)));
            // The `access_rev` is the current one, maybe later than this person's: others may have left since, which
            // the feed has to find out.
            self.heads(vec![Head { rev: Rev::ZERO, ..head }]).await;
            let joined = Event::joined(user, &summary, head.access_rev);
            self.wait(Waiting::Event(joined.into()));
        }
    }
}

/// Whether somebody has an attached connection here that does not listen.
fn misses(connections: &Connections, (conversation, user): Doubt) -> bool {
    connections.of_user(user).into_iter().filter_map(|id| connections.get(id)).any(|connection| {
        connection.attaching.is_none() && !connection.conversations.contains(conversation)
    })
}
