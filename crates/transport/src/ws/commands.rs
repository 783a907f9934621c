//! The commands of an opened connection. Each is its own future, so that the connection goes on meanwhile.

use futures::future::LocalBoxFuture;
use parlance_application::{
    App, Caller, Error, NewMessage, Result, Sent, Unauthenticated, live::Frame, ports::ConnectionId,
};
use parlance_domain::{ConversationAction, Emoji, Message, MessageId, MessageText};
use tokio::time::Instant;

use super::{
    connection::{Connection, lasts, millis},
    protocol::{
        self, Changed, Command, CommandId, Done, Edit, Kind, Nothing, Place, Reaction, ReadMark,
        Renewed, Send, Sync, Target, Token,
    },
};
use crate::{figures, http::messages::Sent as SentReply, sync::SyncPage};

/// How a command ended.
pub(super) struct Reply {
    pub(super) id: CommandId,
    pub(super) answer: Result<Frame>,
    /// The connection's caller from here on, if the command has changed it.
    pub(super) renewed: Option<Caller>,
    /// The command's weight.
    pub(super) weight: usize,
}

impl Connection {
    /// Starts a send. It has its place in the conversation's queue when this returns.
    pub(super) fn send(&self, command: Command) -> LocalBoxFuture<'static, Reply> {
        let begun = match &self.caller {
            Some(caller) => begin_send(&self.app, caller, &command),
            None => Err(Unauthenticated::Missing.into()),
        };
        let begun_at = Instant::now();
        Box::pin(async move {
            let outcome = match begun {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            figures::send_answered(begun_at.elapsed());
            let answer = outcome.map(|outcome| sent(&command.id, outcome));
            Reply { weight: command.weight(), id: command.id, answer, renewed: None }
        })
    }

    /// Executes any command, once polled.
    pub(super) fn carry_out(&self, command: Command) -> LocalBoxFuture<'static, Reply> {
        let (app, caller, connection) = (self.app.clone(), self.caller.clone(), self.socket.id);
        Box::pin(async move {
            let Some(mut caller) = caller else {
                let answer = Err(Unauthenticated::Missing.into());
                return Reply { weight: command.weight(), id: command.id, answer, renewed: None };
            };
            let answer = perform(&app, &mut caller, connection, &command).await;
            let renewed = (command.kind == Kind::Renew && answer.is_ok()).then_some(caller);
            Reply { weight: command.weight(), id: command.id, answer, renewed }
        })
    }
}

fn begin_send(
    app: &App,
    caller: &Caller,
    command: &Command,
) -> Result<impl Future<Output = Result<Sent>> + use<>> {
    let data: Send = command.data()?;
    let new = NewMessage {
        client_msg_id: &data.client_msg_id,
        text: &data.text,
        thread_root_id: data.thread_root_id,
    };
    Ok(app.messages.send(caller, data.conversation_id, new))
}

async fn perform(
    app: &App,
    caller: &mut Caller,
    connection: ConnectionId,
    command: &Command,
) -> Result<Frame> {
    let id = &command.id;
    let (messages, channels, live) = (&app.messages, &app.channels, &app.live);
    match command.kind {
        Kind::Hello => Err(Error::BadRequest("hello has been said".into())),
        Kind::Ping => command.data::<Nothing>().map(|Nothing {}| protocol::ok(id, &Done {})),
        Kind::Renew => {
            let renewed = app.accounts.authenticate(&command.data::<Token>()?.token).await?;
            if (renewed.id(), renewed.session_id) != (caller.id(), caller.session_id) {
                return Err(Error::Forbidden("the token is of another session"));
            }
            *caller = renewed;
            Ok(protocol::ok(id, &Renewed { token_expires_in_ms: millis(lasts(app, caller)) }))
        }
        Kind::Send => Ok(sent(id, begin_send(app, caller, command)?.await?)),
        Kind::Edit => {
            let data: Edit = command.data()?;
            let text = MessageText::parse(&data.text).map_err(|e| Error::invalid("text", e))?;
            Ok(done(id, &messages.edit(caller, data.message_id, text).await?))
        }
        Kind::Delete => {
            let data: Target = command.data()?;
            Ok(done(id, &messages.delete(caller, data.message_id).await?))
        }
        Kind::React => {
            let (message, emoji) = reaction(command)?;
            Ok(done(id, &messages.react(caller, message, emoji).await?))
        }
        Kind::Unreact => {
            let (message, emoji) = reaction(command)?;
            Ok(done(id, &messages.unreact(caller, message, emoji).await?))
        }
        Kind::StartTyping => {
            let Place { conversation_id } = command.data()?;
            channels.permit(caller, conversation_id, ConversationAction::Post).await?;
            if !command.is_over() {
                live.start_typing(connection, conversation_id).await;
            }
            Ok(protocol::ok(id, &Done {}))
        }
        Kind::StopTyping => {
            let Place { conversation_id } = command.data()?;
            channels.permit(caller, conversation_id, ConversationAction::Post).await?;
            live.stop_typing(connection, conversation_id).await;
            Ok(protocol::ok(id, &Done {}))
        }
        Kind::MarkRead => {
            let data: ReadMark = command.data()?;
            let seq = data.seq.within("seq")?;
            Ok(protocol::ok(id, &channels.mark_read(caller, data.conversation_id, seq).await?))
        }
        Kind::Sync => {
            let data: Sync = command.data()?;
            let from_rev = data.from_rev.within("from_rev")?;
            let page = messages.replay(caller, data.conversation_id, from_rev).await?;
            Ok(protocol::ok(id, &SyncPage::from(page)))
        }
    }
}

fn reaction(command: &Command) -> Result<(MessageId, Emoji)> {
    let data: Reaction = command.data()?;
    let emoji = Emoji::parse(&data.emoji).map_err(|e| Error::invalid("emoji", e))?;
    Ok((data.message_id, emoji))
}

fn sent(id: &CommandId, sent: Sent) -> Frame {
    figures::sent(&sent);
    protocol::ok(id, &SentReply::from(sent))
}

fn done(id: &CommandId, message: &Message) -> Frame {
    protocol::ok(id, &Changed { message })
}
