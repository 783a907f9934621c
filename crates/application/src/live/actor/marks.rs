//! Read marks: sent to the person's own connections, and read from the store where the bus has lost them.

use parlance_domain::{ConversationId, ReadState, Seq, Summary, UserId};

use super::{Actor, Input, News, asking::summaries};
use crate::{
    Result,
    live::{Event, Frame, attaching::Scope, connections::Connection, doubts::Doubt},
    ports::store::Mark,
};

/// Marks found, and those the store gave no answer about.
#[derive(Default)]
pub(in crate::live) struct Marked {
    found: Vec<(UserId, ConversationId, ReadState)>,
    unknown: Vec<Doubt>,
}

impl Actor {
    /// Tells a read mark if it goes beyond what the person was told.
    pub(super) async fn read_on(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
        frame: &Frame,
    ) {
        if self.connections.reads_on(user, conversation, seq) {
            let further = |c: &Connection| c.reads_on(conversation, seq);
            let scope = Scope::Read(conversation, seq);
            let all = self.connections.registered();
            let _ = self.tell_user(user, all, scope, frame, further).await;
        }
    }

    /// Notes the marks that their users were not told of here. The bus brought most of them; a user who is not
    /// connected gets theirs with the snapshot.
    pub(super) fn doubt_marks(&mut self, marks: &[Mark]) {
        for mark in marks.iter().filter(|mark| self.connections.would_read_on(mark)) {
            self.marks.note(mark.conversation_id, mark.user_id);
        }
    }

    /// Asks the store for them, after each input.
    pub(super) fn ask_marks(&mut self) {
        let Some(peers) = self.peers.clone() else { return };
        let connections = &self.connections;
        let asked = self.marks.ask(|(conversation, user)| connections.listens(user, conversation));
        if asked.is_empty() {
            return;
        }
        let whole = asked.clone();
        let question = async move {
            let (inside, unknown) = summaries(&*peers.conversations, asked).await;
            let mark =
                |(user, summary): (UserId, Summary)| (user, summary.conversation.id, summary.read);
            // Somebody who has left needs no mark.
            Ok(Marked { found: inside.into_iter().map(mark).collect(), unknown })
        };
        self.ask(question, |marked: Result<Marked>| {
            let unanswered = |_| Marked { unknown: whole, ..Marked::default() };
            Input::FromPeers(News::Marked(marked.unwrap_or_else(unanswered)))
        });
    }

    pub(super) async fn marked(&mut self, Marked { found, unknown }: Marked) {
        self.marks.answered(unknown);
        for (user, conversation, read) in found {
            self.events(&[Event::read(user, conversation, read).into()]).await;
        }
    }
}
