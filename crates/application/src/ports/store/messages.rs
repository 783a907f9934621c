use async_trait::async_trait;
use futures::future::join_all;
use parlance_domain::{
    AccessRev, ChangeKind, ChannelName, ClientMsgId, Conversation, ConversationAction,
    ConversationId, Emoji, Message, MessageId, MessageText, Rev, Seq, SessionRev, Standing,
    Timestamp, Topic, UserId,
};

use super::{Principal, Reader, ReplayPage, ReplayQuery};
use crate::{Error, Result, tasks::answer};

/// Messages and all other durable changes of a conversation.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Messages: Send + Sync {
    /// Commits a batch of one conversation's changes, in order, durably, in one transaction; assigns `seq` and `rev`. A
    /// send moves its author's read mark to itself. `Conflict` for editing or reacting to a tombstone.
    ///
    /// Each write has its own answer, and a refused one does not affect the others. Access is checked inside the
    /// transaction, before looking for a duplicate. An outer error means that the outcome of all is unknown.
    async fn append(&self, conversation: ConversationId, writes: Vec<Write>) -> Answers;

    /// As [`Messages::append`] for each of several conversations. One that fails does not affect the others; a
    /// single-writer store commits them together.
    async fn append_each(&self, batches: Vec<(ConversationId, Vec<Write>)>) -> Vec<Answers> {
        let append = |(conversation, writes)| answer(self.append(conversation, writes));
        join_all(batches.into_iter().map(append)).await
    }

    /// What the author has already sent under this id, after a check that they may still send here.
    async fn sent(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>>;

    /// One message that the actor may read, in its current state.
    async fn message(&self, actor: UserId, id: MessageId) -> Result<Message>;

    /// A page of a conversation by `seq`, tombstones included.
    async fn history(
        &self,
        actor: UserId,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<History>;

    /// One page of what changed after a rev, as current state, in rev order.
    async fn replay(
        &self,
        reader: Reader,
        conversation: ConversationId,
        query: ReplayQuery,
    ) -> Result<ReplayPage>;

    /// An upper bound of the bytes that the messages changed after each of these revs take in replay frames, in the
    /// order asked. Beyond `most`, it need not be exact. It reveals no content, so access is not checked.
    async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, most: usize) -> Result<Vec<usize>>;
}

/// The outcome of a batch: see [`Messages::append`].
pub type Answers = Result<Vec<Result<Commit>>>;

/// Message of the conflict over a `client_msg_id`.
pub const SENT_BEFORE: &str = "this client_msg_id has been used for another message";

/// The refusal of one emoji too many under a message.
pub fn too_many_emoji() -> Error {
    let limit = Message::MAX_EMOJI;
    let message = format!("would be more than {limit} different ones under this message");
    Error::refused("emoji", "too_many", message)
}

/// One change that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Who, in which session.
    pub by: Principal,
    /// When it was accepted for writing.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// What somebody wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new message.
    Send(Draft),
    /// A new state of an existing message.
    Message(MessageId, MessageChange),
    /// A channel's name and topic. `Conflict` if the name is taken.
    UpdateChannel(ChannelUpdate),
}

/// What to change of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelUpdate {
    /// The new name, if it is to change.
    pub name: Option<ChannelName>,
    /// The new topic, if it is to change.
    pub topic: Option<Topic>,
}

impl Change {
    /// What somebody must be allowed to do in the conversation. [`MessageChange::takes_effect`] decides what a change
    /// of a message needs besides.
    pub const fn action(&self) -> ConversationAction {
        match self {
            Self::Send(_) => ConversationAction::Post,
            Self::UpdateChannel(_) => ConversationAction::Update,
            Self::Message(..) => ConversationAction::Read,
        }
    }

    /// What a refusal says was not found.
    pub const fn subject(&self) -> &'static str {
        match self {
            Self::Send(_) | Self::UpdateChannel(_) => "conversation",
            Self::Message(..) => "message",
        }
    }
}

impl ChannelUpdate {
    /// What of it would change a channel of this name and topic, and the kind of that change; none if nothing would.
    pub fn news(self, name: Option<&str>, topic: Option<&str>) -> Option<(Self, ChangeKind)> {
        let name = self.name.filter(|new| name != Some(new.as_str()));
        let topic = self.topic.filter(|new| topic != Some(new.as_str()));
        let kind = match (&name, &topic) {
            (Some(_), _) => ChangeKind::Renamed,
            (None, Some(_)) => ChangeKind::TopicChanged,
            (None, None) => return None,
        };
        Some((Self { name, topic }, kind))
    }

    /// Applies it.
    pub fn apply(self, name: &mut Option<String>, topic: &mut Option<String>) {
        if let Some(new) = self.name {
            *name = Some(new.into());
        }
        if let Some(new) = self.topic {
            *topic = Some(new.into());
        }
    }
}

/// What somebody wants done to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageChange {
    /// A new text for one's own message. The same text changes nothing.
    Edit(MessageText),
    /// A tombstone in its place. A second one changes nothing.
    Delete,
    /// A reaction. The same again changes nothing; `Validation` beyond 20 different ones.
    React(Emoji),
    /// One's own reaction removed. A missing one changes nothing.
    Unreact(Emoji),
}

/// The parts of a message that decide whether it may be changed.
#[derive(Debug, Clone, Copy)]
pub struct Changeable<'a> {
    /// Whether the person asking wrote it.
    pub own: bool,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// What it says.
    pub text: &'a str,
}

impl<'a> Changeable<'a> {
    /// A message, as seen by somebody who wants to change it.
    pub fn of(message: &'a Message, actor: UserId) -> Self {
        Self {
            own: message.author_id == Some(actor),
            deleted: message.deleted_at.is_some(),
            text: &message.text,
        }
    }
}

impl MessageChange {
    /// Whether it changes anything about this message, if somebody of this standing may do it; whether a reaction
    /// exists already is for the store to see. Whoever may delete others' messages may also delete their own in a
    /// channel they have left. Errors: `NotFound` and `Forbidden` by the permission matrix, `Forbidden` if somebody
    /// other than the author edits it, `Conflict` for editing or reacting to a tombstone.
    pub fn takes_effect(&self, standing: Standing, message: Changeable<'_>) -> Result<bool> {
        let Changeable { own, deleted, text } = message;
        let post = standing.permits(ConversationAction::Post);
        let permitted = match self {
            Self::Delete if own && post.is_ok() => post,
            Self::Delete => standing.permits(ConversationAction::DeleteOthersMessage),
            _ => post,
        };
        permitted.map_err(|denied| Error::denied(denied, "message"))?;
        match self {
            Self::Edit(_) if !own => Err(Error::Forbidden("only its author may edit a message")),
            Self::Edit(_) | Self::React(_) if deleted => {
                Err(Error::conflict("the message has been deleted"))
            }
            Self::Edit(new) => Ok(new.as_str() != text),
            Self::Delete | Self::Unreact(_) => Ok(!deleted),
            Self::React(_) => Ok(true),
        }
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its id, unless it turns out to be a duplicate.
    pub id: MessageId,
    /// The author's own id of the send, unique per author and conversation forever. Reused with the same text, it is a
    /// duplicate; with another text, a `Conflict` that names the message.
    pub client_msg_id: ClientMsgId,
    /// What it says.
    pub text: MessageText,
}

/// A successful write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The object as it is now.
    pub subject: Committed,
    /// What happened, with the conversation's new rev; none if nothing changed.
    pub change: Option<(ChangeKind, Rev)>,
    /// The conversation's `access_rev` at the commit.
    pub access_rev: AccessRev,
    /// The store's count of ended sessions, including at least all whose end was acknowledged before the commit began.
    pub session_rev: SessionRev,
}

/// What a write was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// A message.
    Message(Message),
    /// The conversation itself.
    Conversation(Conversation),
}

/// Which part of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Messages before this one, newest first, unless `after_seq` is given.
    pub before_seq: Option<Seq>,
    /// Messages after this one, oldest first.
    pub after_seq: Option<Seq>,
    /// 1 to [`MAX_PAGE`](super::MAX_PAGE).
    pub limit: usize,
}

/// A part of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// In the query's order.
    pub items: Vec<Message>,
    /// The `seq` that the next page comes before (or after); none on the last one.
    pub next: Option<Seq>,
    /// The conversation's rev, read at the same point in time.
    pub rev: Rev,
}

impl History {
    /// A page of at most `limit` of what was found, which is one more if more follow.
    pub fn page(mut found: Vec<Message>, limit: usize, rev: Rev) -> Self {
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.seq);
        Self { items: found, next, rev }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_changes_a_channel() {
        let update = |name: Option<&str>, topic: Option<&str>| ChannelUpdate {
            name: name.map(|name| ChannelName::parse(name).expect("a name")),
            topic: topic.map(|topic| Topic::parse(topic).expect("a topic")),
        };
        let news = |name, topic| update(name, topic).news(Some("news"), Some("all of it"));
        let (same, other) = ((Some("news"), Some("all of it")), (Some("olds"), Some("some of it")));
        assert_eq!(news(None, None), None);
        assert_eq!(news(same.0, same.1), None);
        let renamed = Some((update(other.0, None), ChangeKind::Renamed));
        assert_eq!(news(other.0, same.1), renamed);
        assert_eq!(news(other.0, other.1), Some((update(other.0, other.1), ChangeKind::Renamed)));
        let (told, kind) = news(same.0, other.1).expect("news");
        assert_eq!(kind, ChangeKind::TopicChanged);
        let (mut name, mut topic) = (Some("news".to_owned()), None);
        told.apply(&mut name, &mut topic);
        assert_eq!((name.as_deref(), topic.as_deref()), (Some("news"), other.1));
    }

    #[test]
    fn a_change_is_refused_takes_effect_or_changes_nothing() {
        use Standing::{DmAlone, DmNonMember, PublicAdmin, PublicMember, PublicNonMemberAdmin};
        let text = |text| MessageChange::Edit(MessageText::parse(text).expect("a text"));
        let emoji = || Emoji::parse("🎉").expect("an emoji");
        let (edit, again, delete) = (text("new"), text("old"), MessageChange::Delete);
        let (react, unreact) = (MessageChange::React(emoji()), MessageChange::Unreact(emoji()));
        let all = [&edit, &again, &delete, &react, &unreact];
        let decided = |standing, own, deleted| {
            all.map(|change| {
                match change.takes_effect(standing, Changeable { own, deleted, text: "old" }) {
                    Ok(true) => "yes",
                    Ok(false) => "no",
                    Err(Error::Forbidden(_)) => "forbidden",
                    Err(Error::NotFound(_)) => "hidden",
                    Err(Error::Conflict { .. }) => "conflict",
                    Err(error) => panic!("{error}"),
                }
            })
        };
        for (standing, own, deleted, decisions) in [
            (PublicMember, true, false, ["yes", "no", "yes", "yes", "yes"]),
            (PublicMember, true, true, ["conflict", "conflict", "no", "conflict", "no"]),
            (PublicMember, false, false, ["forbidden", "forbidden", "forbidden", "yes", "yes"]),
            (PublicAdmin, false, false, ["forbidden", "forbidden", "yes", "yes", "yes"]),
            (PublicAdmin, false, true, ["forbidden", "forbidden", "no", "conflict", "no"]),
            (
                PublicNonMemberAdmin,
                true,
                false,
                ["forbidden", "forbidden", "yes", "forbidden", "forbidden"],
            ),
            (DmAlone, true, false, ["forbidden"; 5]),
            (DmNonMember, true, false, ["hidden"; 5]),
        ] {
            assert_eq!(
                decided(standing, own, deleted),
                decisions,
                "{standing:?}, {own}, {deleted}"
            );
        }
    }
}
