//! Ended sessions that the bus did not report. The store counts them, and every durable change carries the count at its
//! commit: what carries a later count than the node's own is not delivered until the store has said which of its
//! sessions have ended. State events carry no count, and always wait for the store (`states.rs`).

use parlance_domain::{SessionId, SessionRev};

use super::{Actor, Input};
use crate::{Result, live::Frame};

/// The most sessions in one question to the store.
const ASKED: usize = 1_000;

impl Actor {
    /// Whether all sessions that had ended at this count are known. If not, starts to find out.
    pub(super) fn knows_sessions(&mut self, session_rev: SessionRev) -> bool {
        if self.peers.is_none() {
            // A node that shares its store with no other ends all sessions itself.
            return true;
        }
        let knows = self.ended.knows(session_rev);
        self.ask_sessions();
        knows
    }

    /// The event of the end that raised the count to this has come. Earlier ones may still come: the store is asked at
    /// once only if something waits for them, otherwise within a second.
    pub(super) async fn session_ended(&mut self, session_rev: SessionRev) {
        if self.peers.is_some() && self.ended.heard(session_rev) {
            self.go_on().await;
        }
    }

    /// Delivers what waited for the ended sessions to be known.
    async fn go_on(&mut self) {
        for (conversation, page) in std::mem::take(&mut self.unclear) {
            self.bridged(conversation, Ok(page)).await;
        }
        self.retry().await;
        self.let_through().await;
    }

    /// Asks which of this node's sessions have ended, if the count shows any it does not know of. A later registration
    /// checks its own session.
    pub(super) fn ask_sessions(&mut self) {
        let Some(peers) = &self.peers else { return };
        let Some(session_rev) = self.ended.ask() else { return };
        let (sessions, changes) = (self.connections.sessions(), peers.changes.clone());
        let question = async move {
            let mut ended = Vec::new();
            for some in sessions.chunks(ASKED) {
                ended.extend(changes.ended_sessions(some.to_vec()).await?);
            }
            Ok(ended)
        };
        self.ask(question, move |ended| Input::SessionsChecked { session_rev, ended });
    }

    pub(super) async fn sessions_checked(
        &mut self,
        session_rev: SessionRev,
        ended: Result<Vec<SessionId>>,
    ) {
        self.ended.answered(ended.is_ok().then_some(session_rev));
        match ended {
            Ok(ended) => {
                for session in ended {
                    self.end_session(session, &Frame::session_revoked(session)).await;
                }
                self.ask_sessions();
                self.go_on().await;
            }
            // Asked again within a second.
            Err(error) => tracing::warn!(%error, "ended sessions could not be looked at"),
        }
    }
}
