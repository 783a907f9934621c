use std::sync::Arc;

use futures::{Future, FutureExt, future::Either};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Emoji, Message, MessageId, MessageText, Rev,
    UserId,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Caller, Error, Result,
    live::Sequencer,
    ports::{
        Ambient,
        store::{
            self, Change, Commit, Committed, Draft, History, HistoryQuery, MessageChange, Reader,
            ReplayPage, ReplayQuery, Write,
        },
    },
    rate_limit::WriteLimit,
};

/// How many sends about to be refused ask the store at once.
const ASKED: usize = 16;

/// Messages, their changes and their history, for both the socket and REST.
pub struct Messages {
    store: Arc<dyn store::Messages>,
    sequencer: Sequencer,
    ambient: Arc<dyn Ambient>,
    limit: Arc<WriteLimit>,
    earlier: Earlier,
}

/// A send as it came. Access is checked first, then whether the id was used before, and only then text and thread.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// The client's own id for it.
    pub client_msg_id: &'a str,
    /// As typed.
    pub text: &'a str,
    /// The message it answers; there are no threads yet.
    pub thread_root_id: Option<MessageId>,
}

/// A send's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// As it is now.
    pub message: Message,
    /// Whether an earlier send had already made it.
    pub duplicate: bool,
}

/// Looks for an earlier send with the same id, for sends that are refused if there is none. Their concurrency is
/// limited, so that a flood of them does not starve others of the store.
#[derive(Clone)]
struct Earlier {
    store: Arc<dyn store::Messages>,
    access: Arc<dyn store::Conversations>,
    turns: Arc<Semaphore>,
}

/// A send that is refused, and the id under which it may have been made before.
struct Refusal {
    client_msg_id: Option<ClientMsgId>,
    error: Error,
}

impl Messages {
    pub(crate) fn new(
        store: Arc<dyn store::Messages>,
        access: Arc<dyn store::Conversations>,
        sequencer: Sequencer,
        ambient: Arc<dyn Ambient>,
        limit: Arc<WriteLimit>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(ASKED));
        let earlier = Earlier { store: store.clone(), access, turns };
        Self { store, sequencer, ambient, limit, earlier }
    }

    /// Sends a message. It takes its place in the conversation's queue at once, before the future is polled: successive
    /// sends commit in that order. `Ok` means committed and synced; everybody is told by an event. `RateLimited` beyond
    /// the caller's share of changes, to which a duplicate does not count.
    pub fn send(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        new: NewMessage<'_>,
    ) -> impl Future<Output = Result<Sent>> + Send + use<> {
        let actor = caller.id();
        let (client_msg_id, text) = match parsed(new) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                let refused = self.earlier.clone().or_refuse(actor, conversation, refusal);
                return Either::Left(Either::Left(refused));
            }
        };
        let taken = self.limit.take(actor, Instant::now());
        let limited = taken.err().map(|limited| (limited, client_msg_id.clone()));
        let draft = Draft { id: MessageId(self.ambient.uuid()), client_msg_id, text };
        let (by, at) = (caller.principal(), self.ambient.now());
        let write = Write { by, at, change: Change::Send(draft) };
        if let Some((limited, client_msg_id)) = limited {
            let (earlier, sequencer) = (self.earlier.clone(), self.sequencer.clone());
            return Either::Left(Either::Right(async move {
                // Only what has been sent before goes on: a duplicate does not count to the share.
                match earlier.send(actor, conversation, &client_msg_id).await? {
                    Some(_) => sent(sequencer.submit(conversation, write).await),
                    None => Err(limited),
                }
            }));
        }
        let limit = self.limit.clone();
        Either::Right(self.sequencer.submit(conversation, write).map(move |outcome| {
            let sent = sent(outcome)?;
            if sent.duplicate {
                limit.give_back(actor);
            }
            Ok(sent)
        }))
    }

    /// Changes the text of the caller's own message.
    pub async fn edit(
        &self,
        caller: &Caller,
        message_id: MessageId,
        text: MessageText,
    ) -> Result<Message> {
        self.change(caller, message_id, MessageChange::Edit(text)).await
    }

    /// Leaves a tombstone in a message's place.
    pub async fn delete(&self, caller: &Caller, message_id: MessageId) -> Result<Message> {
        self.change(caller, message_id, MessageChange::Delete).await
    }

    /// Adds a reaction of the caller's.
    pub async fn react(
        &self,
        caller: &Caller,
        message_id: MessageId,
        emoji: Emoji,
    ) -> Result<Message> {
        self.change(caller, message_id, MessageChange::React(emoji)).await
    }

    /// Removes a reaction of the caller's.
    pub async fn unreact(
        &self,
        caller: &Caller,
        message_id: MessageId,
        emoji: Emoji,
    ) -> Result<Message> {
        self.change(caller, message_id, MessageChange::Unreact(emoji)).await
    }

    /// One message.
    pub async fn get(&self, caller: &Caller, id: MessageId) -> Result<Message> {
        self.store.message(caller.id(), id).await
    }

    /// A page of a conversation.
    pub async fn history(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<History> {
        self.store.history(caller.id(), conversation, query).await
    }

    /// One page of what changed after a rev.
    pub async fn replay(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        from_rev: Rev,
    ) -> Result<ReplayPage> {
        let query = ReplayQuery::after(from_rev);
        let reader = Reader::Session(caller.principal());
        self.store.replay(reader, conversation, query).await
    }

    async fn change(
        &self,
        caller: &Caller,
        message_id: MessageId,
        change: MessageChange,
    ) -> Result<Message> {
        self.limit.take(caller.id(), Instant::now())?;
        // Finds the conversation, and hides what may not be read; the commit decides whether it may be changed.
        let conversation = self.store.message(caller.id(), message_id).await?.conversation_id;
        let (by, at) = (caller.principal(), self.ambient.now());
        let write = Write { by, at, change: Change::Message(message_id, change) };
        message_of(self.sequencer.submit(conversation, write).await?.subject)
    }
}

impl Earlier {
    async fn send(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>> {
        let _turn = self.turns.acquire().await.map_err(Error::internal)?;
        self.store.sent(author, conversation, client_msg_id).await
    }

    /// What is invalid is refused only after the checks that precede it: access, then the search for the same id.
    async fn or_refuse(
        self,
        author: UserId,
        conversation: ConversationId,
        Refusal { client_msg_id, error }: Refusal,
    ) -> Result<Sent> {
        let Some(client_msg_id) = client_msg_id else {
            let _turn = self.turns.acquire().await.map_err(Error::internal)?;
            self.access.permit(author, conversation, ConversationAction::Post).await?;
            return Err(error);
        };
        match self.send(author, conversation, &client_msg_id).await? {
            Some(id) => Err(Error::Conflict { message: store::SENT_BEFORE, message_id: Some(id) }),
            None => Err(error),
        }
    }
}

/// What a send says.
fn parsed(new: NewMessage<'_>) -> Result<(ClientMsgId, MessageText), Refusal> {
    let refusal = |client_msg_id, error| Refusal { client_msg_id, error };
    let client_msg_id = ClientMsgId::parse(new.client_msg_id)
        .map_err(|invalid| refusal(None, Error::invalid("client_msg_id", invalid)))?;
    let text = match MessageText::parse(new.text) {
        Ok(text) => text,
        Err(invalid) => return Err(refusal(Some(client_msg_id), Error::invalid("text", invalid))),
    };
    if new.thread_root_id.is_some() {
        let words = "threads are not known to this server";
        return Err(refusal(
            Some(client_msg_id),
            Error::refused("thread_root_id", "invalid", words),
        ));
    }
    Ok((client_msg_id, text))
}

fn sent(outcome: Result<Commit>) -> Result<Sent> {
    let commit = outcome?;
    let duplicate = commit.change.is_none();
    Ok(Sent { message: message_of(commit.subject)?, duplicate })
}

fn message_of(subject: Committed) -> Result<Message> {
    match subject {
        Committed::Message(message) => Ok(message),
        Committed::Conversation(_) => {
            Err(Error::internal("a message's write answered a conversation"))
        }
    }
}
