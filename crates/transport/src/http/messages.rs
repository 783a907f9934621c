//! REST for messages, reactions and `sync`: the routes to `application::Messages`. A repeated send answers 200 instead
//! of 201.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use parlance_application::{App, Error, ports::store::HistoryQuery};
use parlance_domain::{ConversationId, Emoji, Message, MessageId, MessageText, Rev, Seq};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::ApiError,
    extract::{Authenticated, Body, Params, Path, page_size},
    figures,
    number::{Number, count_in_query, in_query, maybe_in_query},
    sync::SyncPage,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMessage {
    #[schema(min_length = 1, max_length = 64)]
    client_msg_id: String,
    /// 1–4,000 Unicode scalar values after trimming.
    text: String,
    /// Threads are not built yet.
    thread_root_id: Option<MessageId>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewText {
    /// 1–4,000 Unicode scalar values after trimming.
    text: String,
}

#[derive(Deserialize, garde::Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParams {
    /// Messages before this one, newest first.
    #[garde(skip)]
    #[param(value_type = Option<Seq>)]
    #[serde(default, deserialize_with = "maybe_in_query")]
    before_seq: Option<Number>,
    /// Messages after this one, oldest first.
    #[garde(skip)]
    #[param(value_type = Option<Seq>)]
    #[serde(default, deserialize_with = "maybe_in_query")]
    after_seq: Option<Number>,
    /// Maximum number of messages; 50 by default.
    #[garde(range(min = 1, max = 200))]
    #[param(minimum = 1, maximum = 200)]
    #[serde(default, deserialize_with = "count_in_query")]
    limit: Option<i64>,
    /// Which messages; both values mean the same until there are threads.
    #[garde(inner(custom(is_view)))]
    #[param(value_type = Option<View>)]
    view: Option<String>,
}

/// Which messages of a conversation; both values mean the same until there are threads.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(crate) enum View {
    Timeline,
    All,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as garde calls it")]
fn is_view(name: &str, (): &()) -> garde::Result {
    let known = ["timeline", "all"].contains(&name);
    if known { Ok(()) } else { Err(garde::Error::new("must be timeline or all")) }
}

#[derive(Deserialize, garde::Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SyncParams {
    /// The rev up to which the client has everything.
    #[garde(skip)]
    #[param(value_type = Rev)]
    #[serde(deserialize_with = "in_query")]
    from_rev: Number,
}

/// The reply to a send.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sent {
    message: Message,
    /// Whether an earlier send had already created the message.
    duplicate: bool,
}

/// A page of a conversation's history.
#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryPage {
    items: Vec<Message>,
    /// The `before_seq` (or `after_seq`) of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<Seq>,
    /// The conversation's rev when the page was read.
    rev: Rev,
}

impl From<parlance_application::Sent> for Sent {
    fn from(sent: parlance_application::Sent) -> Self {
        Self { message: sent.message, duplicate: sent.duplicate }
    }
}

/// Send a message; idempotent by `client_msg_id`
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/messages", tag = "messages",
    params(("id" = ConversationId, Path)), request_body = NewMessage,
    responses(
        (status = 201, body = Sent),
        (status = 200, body = Sent, description = "already sent"),
    ),
)]
pub(crate) async fn send(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Body(body): Body<NewMessage>,
) -> Result<HttpResponse, ApiError> {
    let new = parlance_application::NewMessage {
        client_msg_id: &body.client_msg_id,
        text: &body.text,
        thread_root_id: body.thread_root_id,
    };
    let sent = app.messages.send(&caller, id, new).await?;
    figures::sent(&sent);
    let mut response = if sent.duplicate { HttpResponse::Ok() } else { HttpResponse::Created() };
    Ok(response.json(Sent::from(sent)))
}

/// Get a page of a conversation's history
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages", tag = "messages",
    params(("id" = ConversationId, Path), HistoryParams),
    responses((status = 200, body = HistoryPage)),
)]
pub(crate) async fn history(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<HistoryPage>, ApiError> {
    let query = HistoryQuery {
        before_seq: params.before_seq.map(|seq| seq.within("before_seq")).transpose()?,
        after_seq: params.after_seq.map(|seq| seq.within("after_seq")).transpose()?,
        limit: page_size(params.limit),
    };
    let page = app.messages.history(&caller, id, query).await?;
    Ok(Json(HistoryPage { items: page.items, next_cursor: page.next, rev: page.rev }))
}

/// Get what changed after a rev, as current state
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/sync", tag = "conversations",
    params(("id" = ConversationId, Path), SyncParams), responses((status = 200, body = SyncPage)),
)]
pub(crate) async fn sync(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Params(params): Params<SyncParams>,
) -> Result<Json<SyncPage>, ApiError> {
    let from_rev = params.from_rev.within("from_rev")?;
    Ok(Json(app.messages.replay(&caller, id, from_rev).await?.into()))
}

/// Get a message
#[utoipa::path(
    get, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = MessageId, Path)), responses((status = 200, body = Message)),
)]
pub(crate) async fn get(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<MessageId>,
) -> Result<Json<Message>, ApiError> {
    Ok(Json(app.messages.get(&caller, id).await?))
}

/// Edit the text of your own message
#[utoipa::path(
    patch, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = MessageId, Path)), request_body = NewText,
    responses((status = 200, body = Message)),
)]
pub(crate) async fn edit(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<MessageId>,
    Body(body): Body<NewText>,
) -> Result<Json<Message>, ApiError> {
    let text = MessageText::parse(&body.text).map_err(|e| Error::invalid("text", e))?;
    Ok(Json(app.messages.edit(&caller, id, text).await?))
}

/// Delete a message, leaving a tombstone
#[utoipa::path(
    delete, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = MessageId, Path)), responses((status = 204)),
)]
pub(crate) async fn delete(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<MessageId>,
) -> Result<HttpResponse, ApiError> {
    app.messages.delete(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Add a reaction to a message
#[utoipa::path(
    put, path = "/api/v1/messages/{id}/reactions/{emoji}", tag = "messages",
    params(("id" = MessageId, Path), ("emoji" = String, Path)),
    responses((status = 200, body = Message)),
)]
pub(crate) async fn react(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path((id, emoji)): Path<(MessageId, String)>,
) -> Result<Json<Message>, ApiError> {
    let emoji = Emoji::parse(&emoji).map_err(|e| Error::invalid("emoji", e))?;
    Ok(Json(app.messages.react(&caller, id, emoji).await?))
}

/// Remove your reaction from a message
#[utoipa::path(
    delete, path = "/api/v1/messages/{id}/reactions/{emoji}", tag = "messages",
    params(("id" = MessageId, Path), ("emoji" = String, Path)), responses((status = 204)),
)]
pub(crate) async fn unreact(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path((id, emoji)): Path<(MessageId, String)>,
) -> Result<HttpResponse, ApiError> {
    let emoji = Emoji::parse(&emoji).map_err(|e| Error::invalid("emoji", e))?;
    app.messages.unreact(&caller, id, emoji).await?;
    Ok(HttpResponse::NoContent().finish())
}
