//! The commands of an opened connection.

use futures::future::LocalBoxFuture;
use parlance_application::{Error, NewMessage, Result, Unauthenticated, live::Frame};
use parlance_domain::{ConversationAction, Emoji, Message, MessageText};
use serde::Serialize;
use serde_json::json;

use super::{
    connection::{Connection, Reply, millis},
    protocol::{
        self, Command, CommandId, Edit, Nothing, Place, Reaction, ReadMark, Send, Sync, Target,
        Token,
    },
};
use crate::{http::messages::Sent as SentReply, sync::SyncPage};

impl Connection {
    /// Begins a send. It has its place in the conversation's queue when this returns.
    pub(super) fn send(&self, command: Command) -> LocalBoxFuture<'static, Reply> {
        let begun = self.begin_send(&command);
        Box::pin(async move {
            let outcome = match begun {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            let reply = outcome.map(|sent| protocol::ok(&command.id, &SentReply::from(sent)));
            (command.id, reply)
        })
    }

    fn begin_send(
        &self,
        command: &Command,
    ) -> Result<impl Future<Output = Result<parlance_application::Sent>> + use<>> {
        let data: Send = command.data()?;
        let new = NewMessage {
            client_msg_id: &data.client_msg_id,
            text: &data.text,
            thread_root_id: data.thread_root_id,
        };
        let caller = self.caller.as_ref().ok_or(Unauthenticated::Missing)?;
        Ok(self.app.messages.send(caller, data.conversation_id, new))
    }

    pub(super) async fn command(&mut self, command: &Command) -> Result<Frame> {
        let id = &command.id;
        let caller = self.caller.as_ref().ok_or(Unauthenticated::Missing)?;
        let (messages, channels) = (&self.app.messages, &self.app.channels);
        match command.kind.as_str() {
            "hello" => Err(Error::BadRequest("hello has been said".into())),
            "ping" => command.data::<Nothing>().map(|Nothing {}| protocol::ok(id, &json!({}))),
            "auth.refresh" => {
                let renewed =
                    self.app.accounts.authenticate(&command.data::<Token>()?.token).await?;
                if (renewed.id(), renewed.session_id) != (caller.id(), caller.session_id) {
                    return Err(Error::Forbidden("the token is of another session"));
                }
                let expires_in = millis(self.expires_in(&renewed));
                self.caller = Some(renewed);
                Ok(protocol::ok(id, &json!({ "token_expires_in_ms": expires_in })))
            }
            "message.edit" => {
                let data: Edit = command.data()?;
                let text = MessageText::parse(&data.text).map_err(|e| Error::invalid("text", e))?;
                Ok(done(id, &messages.edit(caller, data.message_id, text).await?))
            }
            "message.delete" => {
                let data: Target = command.data()?;
                Ok(done(id, &messages.delete(caller, data.message_id).await?))
            }
            "reaction.add" | "reaction.remove" => {
                let data: Reaction = command.data()?;
                let emoji = Emoji::parse(&data.emoji).map_err(|e| Error::invalid("emoji", e))?;
                let message = if command.kind == "reaction.add" {
                    messages.react(caller, data.message_id, emoji).await?
                } else {
                    messages.unreact(caller, data.message_id, emoji).await?
                };
                Ok(done(id, &message))
            }
            "typing.start" | "typing.stop" => {
                let Place { conversation_id } = command.data()?;
                channels.permit(caller, conversation_id, ConversationAction::Post).await?;
                if command.kind == "typing.start" {
                    self.app.live.start_typing(self.socket.id, conversation_id).await;
                } else {
                    self.app.live.stop_typing(self.socket.id, conversation_id).await;
                }
                Ok(protocol::ok(id, &json!({})))
            }
            "read.mark" => {
                let data: ReadMark = command.data()?;
                Ok(protocol::ok(
                    id,
                    &channels.mark_read(caller, data.conversation_id, data.seq).await?,
                ))
            }
            "sync" => {
                let data: Sync = command.data()?;
                let page = messages.replay(caller, data.conversation_id, data.from_rev).await?;
                Ok(protocol::ok(id, &SyncPage::from(page)))
            }
            other => Err(protocol::unknown_type(other)),
        }
    }
}

fn done(id: &CommandId, message: &Message) -> Frame {
    #[derive(Serialize)]
    struct Done<'a> {
        message: &'a Message,
    }
    protocol::ok(id, &Done { message })
}
