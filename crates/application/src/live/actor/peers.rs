//! Changes by other nodes that the bus did not bring: read from the store.

use parlance_domain::{AccessRev, ConversationId, UserId, WorkspaceId};
use rustc_hash::FxHashSet as HashSet;
use tokio::sync::oneshot;

use super::{Actor, Input, admissions::Admitted, marks::Marked, states::Present};
use crate::{
    Result,
    live::{Event, Frame, bus_link::Choice, feed::FeedNumber},
    ports::{
        Close, Topic,
        store::{Head, Look, Readers},
    },
};

/// The most conversations in one question to the store.
const ASKED: usize = 1_000;

/// What the store or the bus reports of other nodes.
pub(in crate::live) enum News {
    /// What has changed.
    Look(Look),
    /// Heads of conversations.
    Heads(Result<Vec<Head>>),
    /// All heads, after a loss on the bus.
    MadeUp(Result<Vec<Head>>),
    /// Listeners of a workspace who are no longer members.
    Gone(WorkspaceId, Result<Vec<UserId>>),
    /// The current state of what waits, and who may hear it.
    Present(Result<Present>),
    /// Read marks that their users were not told of here.
    Marked(Marked),
    /// From here on the bus brings these topics; it may have missed something before.
    Listening(Vec<Topic>),
    /// The bus has lost events.
    Lost,
    /// A new subscription, which knows no topics yet.
    Subscribed,
    /// People who may be in conversations without listening.
    Admitted(Admitted),
    /// Neither store nor bus has been reached for too long.
    CutOff,
}

impl Actor {
    /// The `access_rev` for feeds: constant on a node with a store of its own, because its events come in order and are
    /// waited for.
    pub(super) fn access(&self, access_rev: AccessRev) -> AccessRev {
        if self.peers.is_some() { access_rev } else { AccessRev::ZERO }
    }

    /// False if this node already knows the change: a bus may deliver a departure after the person has rejoined.
    pub(super) fn is_news(&self, conversation: ConversationId, access_rev: AccessRev) -> bool {
        let feed = self.audiences.feed(conversation);
        self.peers.is_none() || feed.is_none_or(|feed| feed.access_rev() < access_rev)
    }

    /// Whether this node knows a later change of access: an older answer says nothing about who is in now.
    pub(super) fn knows_later(&self, conversation: ConversationId, access_rev: AccessRev) -> bool {
        let feed = self.audiences.feed(conversation);
        feed.is_some_and(|feed| feed.access_rev() > access_rev)
    }

    pub(super) async fn access_changed(
        &mut self,
        conversation: ConversationId,
        access_rev: AccessRev,
    ) {
        let access_rev = self.access(access_rev);
        if let Some(feed) = self.audiences.feed_mut(conversation) {
            let steps = feed.access_changed(access_rev);
            self.carry_out(conversation, steps).await;
        }
    }

    /// Tells the bus how the wanted topics have changed since the last input.
    pub(super) fn choose_topics(&mut self) {
        let Choice { listen, ignore } = self.bus_link.choose(|topic| match topic {
            Topic::Conversation(id) => self.audiences.has_feed(*id),
            Topic::User(id) => !self.connections.of_user(*id).is_empty(),
            Topic::Everybody => true,
        });
        if !ignore.is_empty() {
            self.live.ignore(ignore);
        }
        if !listen.is_empty() {
            self.live.listen(listen);
        }
    }

    /// Completes a registration once the bus brings its user's events.
    pub(super) fn confirm_registration(&mut self, user: UserId, done: oneshot::Sender<()>) {
        let on_bus = self.peers.is_some() && self.live.hears_bus();
        self.bus_link.confirm(user, done, on_bus);
    }

    /// Asks which members of a feed may still read.
    pub(super) fn check(&self, conversation: ConversationId) {
        let (Some(peers), Some(feed)) = (&self.peers, self.audiences.feed(conversation)) else {
            return;
        };
        let users = feed.members().filter_map(|id| self.connections.get(id).map(|c| c.user_id));
        let asked: Vec<UserId> = users.collect::<HashSet<_>>().into_iter().collect();
        let (changes, feed, users) = (peers.changes.clone(), feed.number(), asked.clone());
        self.ask(async move { changes.readers(conversation, users).await }, move |readers| {
            Input::Checked { conversation, feed, asked, readers }
        });
    }

    pub(super) async fn checked(
        &mut self,
        conversation_id: ConversationId,
        asking: FeedNumber,
        asked: Vec<UserId>,
        readers: Result<Option<Readers>>,
    ) {
        let feed = self.audiences.feed_mut(conversation_id);
        // An answer to an earlier feed may not cover the present listeners: their feed asks for itself.
        let Some(feed) = feed.filter(|feed| feed.number() == asking) else { return };
        let readers = match readers {
            Ok(Some(readers)) => readers,
            Ok(None) => {
                self.events(&[Event::deleted(conversation_id).into()]).await;
                return;
            }
            Err(error) => {
                tracing::warn!(%error, conversation = %conversation_id, "who may read could not be checked yet");
                return feed.unchecked();
            }
        };
        let still: HashSet<UserId> = readers.users.into_iter().collect();
        for user_id in asked.into_iter().filter(|user| !still.contains(user)) {
            let frame = Frame::left(conversation_id);
            self.expel(conversation_id, user_id, readers.access_rev, &frame).await;
            // They may have rejoined since the question.
            self.admit(conversation_id, user_id);
        }
        if let Some(feed) = self.audiences.feed_mut(conversation_id) {
            let steps = feed.checked(readers.access_rev);
            self.carry_out(conversation_id, steps).await;
        }
    }

    pub(super) async fn heed(&mut self, news: News) {
        match news {
            News::Heads(Ok(heads)) => self.heads(heads).await,
            // The next look finds what has changed.
            News::Heads(Err(error)) => {
                tracing::warn!(%error, "conversations could not be looked at");
            }
            News::Look(mut look) => {
                self.look_into(&mut look);
                self.heads(look.heads).await;
                for (conversation, user) in look.admitted {
                    self.admit(conversation, user);
                }
                self.knows_sessions(look.session_rev);
            }
            News::Gone(workspace, Ok(users)) => self.gone(workspace, users),
            // The next looks show the workspace again.
            News::Gone(_, Err(error)) => {
                tracing::warn!(%error, "a workspace could not be looked at");
            }
            News::Present(present) => self.answered(present).await,
            News::Marked(marked) => self.marked(marked).await,
            News::Listening(topics) => {
                for topic in &topics {
                    self.bus_link.listens(topic);
                }
                let conversation = |topic: &Topic| match topic {
                    Topic::Conversation(id) if self.audiences.has_feed(*id) => Some(*id),
                    _ => None,
                };
                let listened: Vec<_> = topics.iter().filter_map(conversation).collect();
                if !listened.is_empty() {
                    self.ask_heads(listened, News::Heads);
                }
            }
            News::Lost => self.bus_link.note_loss(),
            News::Subscribed => {
                if self.audiences.has_feeds() {
                    self.bus_link.note_loss();
                }
                for conversation in self.audiences.conversations() {
                    self.bus_link.want(Topic::Conversation(conversation));
                }
                for user in self.connections.users() {
                    self.bus_link.want(Topic::User(user));
                }
            }
            News::MadeUp(heads) => {
                self.bus_link.made_up(heads.is_ok());
                match heads {
                    Ok(heads) => self.heads(heads).await,
                    Err(error) => {
                        tracing::warn!(%error, "what the bus has lost could not be looked up yet");
                    }
                }
            }
            News::Admitted(admitted) => self.admitted(admitted).await,
            News::CutOff => {
                for connection in self.connections.ids() {
                    self.unregister(connection).await;
                    self.fanout.close(connection, Close::Overloaded).await;
                }
            }
        }
    }

    pub(super) async fn heads(&mut self, heads: Vec<Head>) {
        for head in heads {
            let steps = self.audiences.behind(head);
            self.carry_out(head.conversation_id, steps).await;
        }
    }

    /// Asks for all heads if the bus has lost anything. At most once a second, and not while a question is in flight:
    /// an overloaded bus may report a loss with every other event.
    pub(super) fn make_up(&mut self) {
        if self.bus_link.begin_making_up() {
            self.ask_heads(self.audiences.conversations().collect(), News::MadeUp);
        }
    }

    /// Asks for heads, possibly of none.
    fn ask_heads(&self, conversations: Vec<ConversationId>, news: fn(Result<Vec<Head>>) -> News) {
        let Some(peers) = &self.peers else { return };
        let changes = peers.changes.clone();
        let question = async move {
            let mut heads = Vec::new();
            for some in conversations.chunks(ASKED) {
                heads.extend(changes.heads(some.to_vec()).await?);
            }
            Ok(heads)
        };
        self.ask(question, move |heads| Input::FromPeers(news(heads)));
    }
}
