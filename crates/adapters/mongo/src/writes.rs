//! What each write of a group does to its [`Batch`].
//!
//! Each write checks everything before it changes anything, so that a refused one leaves no trace; an error of the
//! server ends the whole group.

use std::collections::HashSet;

use parlance_application::{
    Error, Result, Unauthenticated,
    ports::store::{
        Change, Changeable, ChannelUpdate, Commit, Committed, Draft, MessageChange, NAME_TAKEN,
        Principal, SENT_BEFORE, Write,
    },
};
use parlance_domain::{ChangeKind, MessageId, MessageText, SessionId, Standing, Timestamp, UserId};
use sha2::{Digest, Sha256};

use crate::{
    batch::{Batch, Done, Fate, Held},
    conversations::name_taken,
    documents::{MessageDoc, binary, id, num, time, uuid},
    error::{Fail, Outcome},
    group::{Append, Group},
    reactions,
    tx::Tx,
};

/// The outcomes of one conversation's writes.
pub(crate) type Commits = Vec<Result<Commit>>;

/// Runs all writes of a group, and answers for each append.
pub(crate) async fn run(tx: &mut Tx, appends: &[Append]) -> Outcome<Vec<Commits>> {
    let mut group = Group::begin(tx, appends).await?;
    let Group { batches, session_rev, live } = &mut group;
    let mut all = Vec::with_capacity(appends.len());
    for (batch, (_, writes)) in batches.iter_mut().zip(appends) {
        let Some(batch) = batch else {
            let missing = |write: &Write| {
                must_live(live, write)?;
                Err(Error::NotFound(write.change.subject()))
            };
            all.push(writes.iter().map(missing).collect());
            continue;
        };
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            answers.push(match batch.one(tx, live, write).await {
                Ok((subject, kind)) => Ok(Commit {
                    subject,
                    change: kind.map(|kind| (kind, num(batch.head.rev))),
                    access_rev: num(batch.head.access_rev),
                    session_rev: *session_rev,
                }),
                Err(fail @ Fail::Refused(Error::Internal { .. } | Error::Unavailable { .. })) => {
                    return Err(fail);
                }
                Err(Fail::Refused(error)) => Err(error),
                Err(fail) => return Err(fail),
            });
        }
        all.push(answers);
    }
    group.finish(tx).await?;
    Ok(all)
}

impl Batch {
    async fn one(
        &mut self,
        tx: &mut Tx,
        live: &HashSet<SessionId>,
        write: &Write,
    ) -> Outcome<Done> {
        must_live(live, write)?;
        let Write { by: Principal { user: actor, .. }, at, change } = write;
        let what = change.subject();
        let standing = self.standings.get(actor).copied().unwrap_or(Standing::Outsider);
        standing.permits(change.action()).map_err(|denied| Error::denied(denied, what))?;
        match change {
            Change::Send(draft) => self.send(tx, *actor, *at, draft),
            Change::UpdateChannel(update) => self.update_channel(tx, update).await,
            Change::Message(message_id, change) => {
                let message = self.message(*message_id)?;
                let own = message.author_id == id(actor.0);
                let deleted = message.deleted_at.is_some();
                let changeable = Changeable { own, deleted, text: &message.text };
                if !change.takes_effect(standing, changeable)? {
                    return Ok(self.keep(message, None));
                }
                self.change(tx, message, *actor, *at, change).await
            }
        }
    }

    fn send(&mut self, tx: &Tx, author: UserId, at: Timestamp, draft: &Draft) -> Outcome<Done> {
        let author = id(author.0);
        let digest = binary(&Sha256::digest(draft.text.as_str().as_bytes()));
        let own = (author, draft.client_msg_id.as_str().to_owned());
        if let Some(before) = self.known.get(&own).and_then(|before| self.messages.get(before)) {
            if before.doc.digest != digest {
                let message_id = Some(MessageId(uuid(before.doc.id)));
                return Err(Error::Conflict { message: SENT_BEFORE, message_id }.into());
            }
            tx.facts.note_repeat();
            let before = before.doc.clone().message(self.workspace());
            return Ok((Committed::Message(before), None));
        }
        self.head.last_seq += 1;
        self.head.last_message_at = Some(time(at));
        let doc = MessageDoc {
            id: id(draft.id.0),
            conversation_id: self.head.id,
            seq: self.head.last_seq,
            rev: self.head.rev + 1,
            author_id: author,
            client_msg_id: own.1.clone(),
            digest,
            text: draft.text.as_str().to_owned(),
            reactions: Vec::new(),
            created_at: time(at),
            edited_at: None,
            deleted_at: None,
            deleted_by: None,
        };
        self.sent.insert(author, doc.seq);
        self.known.insert(own, doc.id);
        self.messages.insert(doc.id, Held { doc: doc.clone(), fate: Fate::New });
        Ok(self.keep(doc, Some(ChangeKind::Created)))
    }

    async fn change(
        &mut self,
        tx: &mut Tx,
        mut message: MessageDoc,
        actor: UserId,
        at: Timestamp,
        change: &MessageChange,
    ) -> Outcome<Done> {
        match change {
            MessageChange::Edit(text) => Ok(self.edit(message, at, text)),
            MessageChange::Delete => self.delete(tx, message, actor, at).await,
            MessageChange::React(emoji) => {
                let (user, rev) = (id(actor.0), self.head.rev + 1);
                let new = reactions::add(tx, &mut message, user, emoji.as_str(), rev).await?;
                Ok(self.keep(message, new.then_some(ChangeKind::ReactionAdded)))
            }
            MessageChange::Unreact(emoji) => {
                let user = id(actor.0);
                let gone = reactions::remove(tx, &mut message, user, emoji.as_str()).await?;
                Ok(self.keep(message, gone.then_some(ChangeKind::ReactionRemoved)))
            }
        }
    }

    fn edit(&mut self, mut message: MessageDoc, at: Timestamp, text: &MessageText) -> Done {
        text.as_str().clone_into(&mut message.text);
        message.edited_at = Some(time(at));
        self.keep(message, Some(ChangeKind::Edited))
    }

    async fn delete(
        &mut self,
        tx: &mut Tx,
        mut message: MessageDoc,
        actor: UserId,
        at: Timestamp,
    ) -> Outcome<Done> {
        reactions::clear(tx, &mut message).await?;
        message.text.clear();
        message.deleted_at = Some(time(at));
        message.deleted_by = Some(id(actor.0));
        Ok(self.keep(message, Some(ChangeKind::Deleted)))
    }

    async fn update_channel(&mut self, tx: &mut Tx, update: &ChannelUpdate) -> Outcome<Done> {
        let head = &mut self.head;
        let news = update.clone().news(head.name.as_deref(), head.topic.as_deref());
        let Some((news, kind)) = news else {
            return Ok((Committed::Conversation(head.conversation()), None));
        };
        if let Some(name) = &news.name
            && name_taken(tx, head.workspace_id, name.as_str(), head.id).await?
        {
            return Err(Error::conflict(NAME_TAKEN).into());
        }
        news.apply(&mut head.name, &mut head.topic);
        self.head.rev += 1;
        Ok((Committed::Conversation(self.head.conversation()), Some(kind)))
    }
}

/// Refuses an ended session: the request may have been let in before.
fn must_live(live: &HashSet<SessionId>, write: &Write) -> Result<()> {
    if live.contains(&write.by.session) { Ok(()) } else { Err(Unauthenticated::Revoked.into()) }
}
