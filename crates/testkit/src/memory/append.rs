//! One of a conversation's changes. It checks everything before it changes anything, so that a refused one leaves no
//! trace.

use parlance_application::{
    Error, Result,
    ports::store::{
        Change, Changeable, ChannelUpdate, Commit, Committed, Draft, MessageChange, NAME_TAKEN,
        Principal, SENT_BEFORE, Write,
    },
};
use parlance_domain::{
    ChangeKind, ConversationId, Message, MessageId, MessageText, Timestamp, UserId,
};

use super::state::{MessageRow, State, id_taken};

/// A write's subject, and what happened to it.
type Outcome = (Committed, Option<ChangeKind>);

/// Runs one write of a batch.
pub(super) fn one(state: &mut State, id: ConversationId, write: Write) -> Result<Commit> {
    let Write { by: Principal { user: actor, session }, at, change } = write;
    state.must_live(session)?;
    let what = change.subject();
    let standing = state.see(Some(actor), id).ok_or(Error::NotFound(what))?.standing;
    standing.permits(change.action()).map_err(|denied| Error::denied(denied, what))?;
    let mut scene = Scene { state, id, actor, at };
    let (subject, kind) = match change {
        Change::Send(draft) => scene.send(draft)?,
        Change::UpdateChannel(update) => scene.update_channel(update)?,
        Change::Message(message_id, change) => {
            let message = &scene.message(message_id)?.message;
            if change.takes_effect(standing, Changeable::of(message, actor))? {
                scene.change(message_id, change)?
            } else {
                (Committed::Message(message.clone()), None)
            }
        }
    };
    let session_rev = state.session_rev;
    let row = state.conversation_mut(id)?;
    let change = kind.map(|kind| (kind, row.conversation.rev));
    Ok(Commit { subject, change, access_rev: row.access_rev, session_rev })
}

/// Who changes something where, and when.
struct Scene<'a> {
    state: &'a mut State,
    id: ConversationId,
    actor: UserId,
    at: Timestamp,
}

impl Scene<'_> {
    /// A message of this conversation.
    fn message(&mut self, id: MessageId) -> Result<&mut MessageRow> {
        let place = self.state.places.get(&id).filter(|(conversation, _)| *conversation == self.id);
        let &(conversation, seq) = place.ok_or(Error::NotFound("message"))?;
        let row = self.state.conversation_mut(conversation)?.message_mut(seq);
        row.ok_or(Error::NotFound("message"))
    }

    /// Changes a message, and gives it its new rev if that says what has changed.
    fn revise(
        &mut self,
        id: MessageId,
        change: impl FnOnce(&mut MessageRow) -> Result<Option<ChangeKind>>,
    ) -> Result<Outcome> {
        let row = self.message(id)?;
        let kind = change(row)?;
        if kind.is_none() {
            return Ok((Committed::Message(row.message.clone()), None));
        }
        let (before, seq) = (row.message.rev, row.message.seq);
        let now = self.state.now();
        let head = self.state.conversation_mut(self.id)?;
        let rev = head.advance(now);
        head.revs.remove(&before);
        head.revs.insert(rev, seq);
        let row = self.message(id)?;
        row.message.rev = rev;
        Ok((Committed::Message(row.message.clone()), kind))
    }

    fn send(&mut self, draft: Draft) -> Result<Outcome> {
        let Draft { id, client_msg_id, text } = draft;
        let (now, taken) = (self.state.now(), self.state.places.contains_key(&id));
        let head = self.state.conversation_mut(self.id)?;
        let own = (self.actor, client_msg_id.as_str().to_owned());
        if let Some((seq, first)) = head.sends.get(&own) {
            let before = &head.message(*seq).ok_or(Error::NotFound("message"))?.message;
            if first != text.as_str() {
                return Err(Error::Conflict { message: SENT_BEFORE, message_id: Some(before.id) });
            }
            return Ok((Committed::Message(before.clone()), None));
        }
        if taken {
            return Err(id_taken());
        }
        let rev = head.advance(now);
        head.conversation.last_seq = head.conversation.last_seq.next();
        head.conversation.last_message_at = Some(self.at);
        let seq = head.conversation.last_seq;
        if let Some(member) = head.members.get_mut(&self.actor) {
            member.read_seq = seq;
        }
        let message = Message {
            seq,
            rev,
            author_id: Some(self.actor),
            text: text.as_str().to_owned(),
            client_msg_id: client_msg_id.into(),
            created_at: self.at,
            ..Message::blank(id, self.id, head.conversation.workspace_id)
        };
        head.sends.insert(own, (seq, text.into()));
        head.revs.insert(rev, seq);
        head.messages.push(MessageRow { message: message.clone(), reactions: Vec::new() });
        self.state.places.insert(id, (self.id, seq));
        Ok((Committed::Message(message), Some(ChangeKind::Created)))
    }

    fn change(&mut self, id: MessageId, change: MessageChange) -> Result<Outcome> {
        let actor = self.actor;
        match change {
            MessageChange::Edit(text) => self.edit(id, text),
            MessageChange::Delete => self.delete(id),
            MessageChange::React(emoji) => self.revise(id, |row| {
                Ok(row.react(actor, emoji.as_str())?.then_some(ChangeKind::ReactionAdded))
            }),
            MessageChange::Unreact(emoji) => self.revise(id, |row| {
                Ok(row.unreact(actor, emoji.as_str()).then_some(ChangeKind::ReactionRemoved))
            }),
        }
    }

    fn edit(&mut self, id: MessageId, text: MessageText) -> Result<Outcome> {
        let at = self.at;
        self.revise(id, |MessageRow { message, .. }| {
            message.text = text.into();
            message.edited_at = Some(at);
            Ok(Some(ChangeKind::Edited))
        })
    }

    fn delete(&mut self, id: MessageId) -> Result<Outcome> {
        let (actor, at) = (self.actor, self.at);
        self.revise(id, |row| {
            row.clear_reactions();
            row.message.text.clear();
            row.message.deleted_at = Some(at);
            row.message.deleted_by = Some(actor);
            Ok(Some(ChangeKind::Deleted))
        })
    }

    fn update_channel(&mut self, update: ChannelUpdate) -> Result<Outcome> {
        let now = self.state.now();
        let conversation = self.state.conversation_mut(self.id)?.conversation.clone();
        let news = update.news(conversation.name.as_deref(), conversation.topic.as_deref());
        let Some((news, kind)) = news else {
            return Ok((Committed::Conversation(conversation), None));
        };
        if let Some(name) = &news.name
            && self.state.name_taken(conversation.workspace_id, name.as_str())
        {
            return Err(Error::conflict(NAME_TAKEN));
        }
        let head = self.state.conversation_mut(self.id)?;
        head.advance(now);
        let conversation = &mut head.conversation;
        news.apply(&mut conversation.name, &mut conversation.topic);
        Ok((Committed::Conversation(conversation.clone()), Some(kind)))
    }
}
