//! Carries out what feeds ask for: frames to deliver, pages to read, members to check.

use std::sync::Arc;

use parlance_domain::{AccessRev, ConversationId, SessionRev};
use tokio::time::sleep;

use super::{Actor, Input};
use crate::{
    Error, Result,
    live::{
        feed::{Bridge, Step},
        replay_frame,
    },
    ports::{
        Delivery,
        store::{Reader, ReplayPage, ReplayQuery},
    },
};

impl Actor {
    pub(super) async fn carry_out(&mut self, conversation: ConversationId, steps: Vec<Step>) {
        let mut deliveries = Vec::new();
        self.begin(conversation, steps, &mut deliveries);
        self.deliver(deliveries).await;
    }

    /// Starts what takes time; adds what is to be delivered to the list.
    pub(super) fn begin(
        &mut self,
        conversation: ConversationId,
        steps: Vec<Step>,
        deliveries: &mut Vec<Delivery>,
    ) {
        for step in steps {
            match step {
                Step::Deliver(to, frame) => match deliveries.last_mut() {
                    Some(last) if Arc::ptr_eq(&last.to, &to) => last.frames.push(frame),
                    _ if to.is_empty() => {}
                    _ => deliveries.push(Delivery { to, frames: vec![frame] }),
                },
                Step::Read { from_rev, after } => {
                    let store = self.store.clone();
                    let read = async move {
                        if !after.is_zero() {
                            sleep(after).await;
                        }
                        let query = ReplayQuery::after(from_rev);
                        store.replay(Reader::Node, conversation, query).await
                    };
                    self.ask(read, move |page| Input::Bridged { conversation, page });
                }
                Step::Check => self.check(conversation),
            }
        }
    }

    /// Returns the number of sockets.
    pub(super) async fn deliver(&self, deliveries: Vec<Delivery>) -> usize {
        let sockets = deliveries.iter().map(|delivery| delivery.to.len()).sum();
        if !deliveries.is_empty() {
            self.fanout.deliver_all(deliveries).await;
        }
        sockets
    }

    pub(super) async fn bridged(&mut self, conversation: ConversationId, page: Result<ReplayPage>) {
        let access_rev = page.as_ref().map_or(AccessRev::ZERO, |page| self.access(page.access_rev));
        let session_rev = page.as_ref().map_or(SessionRev::ZERO, |page| page.session_rev);
        let known = self.knows_sessions(session_rev);
        let Some(feed) = self.audiences.feed_mut(conversation) else { return };
        match page {
            // Delivered once all ended sessions are known: their connections must not get it.
            Ok(page) if !known => {
                self.unclear.insert(conversation, page);
            }
            Ok(page) => {
                let frame = replay_frame(&page);
                let ReplayPage { from_rev, to_rev, complete, .. } = page;
                let page = Bridge { from_rev, to_rev, access_rev, complete, frame };
                let steps = feed.bridged(page);
                self.carry_out(conversation, steps).await;
            }
            // The conversation is gone; its event is on its way.
            Err(Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(%error, %conversation, "a hole could not be bridged yet");
                feed.unread();
            }
        }
    }

    pub(super) async fn retry(&mut self) {
        let steps: Vec<_> =
            self.audiences.feeds_mut().map(|(id, feed)| (id, feed.retry())).collect();
        for (conversation, steps) in steps {
            self.carry_out(conversation, steps).await;
        }
    }
}
