//! REST for channels, DMs and read marks: the routes to `application::Channels`. Handlers only parse and choose the
//! status.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use parlance_application::{App, Error, Made};
use parlance_domain::{
    ChannelMember, ChannelName, ConversationId, ReadState, Seq, Summary, Topic, UserId, WorkspaceId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::List;
use crate::{
    error::ApiError,
    extract::{Authenticated, Body, Fields, PageParams, Params, Path, not_null},
    number::Number,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewChannel {
    #[schema(min_length = 1, max_length = 80, pattern = "^[a-z0-9_-]+$")]
    name: String,
    #[schema(max_length = 250)]
    topic: Option<String>,
    private: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelUpdate {
    #[schema(value_type = String, required = false, min_length = 1, max_length = 80, pattern = "^[a-z0-9_-]+$")]
    #[serde(default, deserialize_with = "not_null")]
    name: Option<String>,
    #[schema(value_type = String, required = false, max_length = 250)]
    #[serde(default, deserialize_with = "not_null")]
    topic: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    user_id: UserId,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadUpTo {
    #[schema(value_type = Seq)]
    seq: Number,
}

/// Create a channel
#[utoipa::path(
    post, path = "/api/v1/workspaces/{id}/channels", tag = "channels",
    params(("id" = WorkspaceId, Path)), request_body = NewChannel,
    responses((status = 201, body = Summary)),
)]
pub(crate) async fn create(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Body(body): Body<NewChannel>,
) -> Result<HttpResponse, ApiError> {
    let mut fields = Fields::default();
    let name = fields.take("name", ChannelName::parse(&body.name));
    let topic = fields.take("topic", Topic::parse(body.topic.as_deref().unwrap_or_default()));
    let (Some(name), Some(topic)) = (name, topic) else { return Err(fields.finish().into()) };
    let summary =
        app.channels.create(&caller, id, name, topic, body.private.unwrap_or(false)).await?;
    Ok(HttpResponse::Created().json(summary))
}

/// List the workspace's channels that you may read
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}/channels", tag = "channels",
    params(("id" = WorkspaceId, Path), PageParams), responses((status = 200, body = List<Summary>)),
)]
pub(crate) async fn list(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Params(page): Params<PageParams>,
) -> Result<Json<List<Summary>>, ApiError> {
    Ok(Json(app.channels.list(&caller, id, page.into()).await?.into()))
}

/// Get a channel
#[utoipa::path(
    get, path = "/api/v1/channels/{id}", tag = "channels",
    params(("id" = ConversationId, Path)), responses((status = 200, body = Summary)),
)]
pub(crate) async fn get(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
) -> Result<Json<Summary>, ApiError> {
    let summary = app.channels.get(&caller, id).await?;
    if summary.conversation.kind != parlance_domain::ConversationKind::Channel {
        return Err(Error::NotFound("channel").into());
    }
    Ok(Json(summary))
}

/// Change a channel's name or topic
#[utoipa::path(
    patch, path = "/api/v1/channels/{id}", tag = "channels",
    params(("id" = ConversationId, Path)), request_body = ChannelUpdate,
    responses((status = 200, body = Summary)),
)]
pub(crate) async fn update(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Body(body): Body<ChannelUpdate>,
) -> Result<Json<Summary>, ApiError> {
    let mut fields = Fields::default();
    let name = body.name.map(|name| fields.take("name", ChannelName::parse(&name)));
    let topic = body.topic.map(|topic| fields.take("topic", Topic::parse(&topic)));
    if name == Some(None) || topic == Some(None) {
        return Err(fields.finish().into());
    }
    Ok(Json(app.channels.update(&caller, id, name.flatten(), topic.flatten()).await?))
}

/// Delete a channel and its messages
#[utoipa::path(
    delete, path = "/api/v1/channels/{id}", tag = "channels",
    params(("id" = ConversationId, Path)), responses((status = 204)),
)]
pub(crate) async fn delete(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
) -> Result<HttpResponse, ApiError> {
    app.channels.delete(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Join a public channel
#[utoipa::path(
    post, path = "/api/v1/channels/{id}/join", tag = "channels",
    params(("id" = ConversationId, Path)), responses((status = 200, body = Summary)),
)]
pub(crate) async fn join(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
) -> Result<Json<Summary>, ApiError> {
    Ok(Json(app.channels.join(&caller, id).await?))
}

/// Leave a channel
#[utoipa::path(
    post, path = "/api/v1/channels/{id}/leave", tag = "channels",
    params(("id" = ConversationId, Path)), responses((status = 204)),
)]
pub(crate) async fn leave(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
) -> Result<HttpResponse, ApiError> {
    app.channels.remove_member(&caller, id, caller.id()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// List a channel's members
#[utoipa::path(
    get, path = "/api/v1/channels/{id}/members", tag = "channels",
    params(("id" = ConversationId, Path), PageParams),
    responses((status = 200, body = List<ChannelMember>)),
)]
pub(crate) async fn members(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Params(page): Params<PageParams>,
) -> Result<Json<List<ChannelMember>>, ApiError> {
    Ok(Json(app.channels.members(&caller, id, page.into()).await?.into()))
}

/// Add a workspace member to a channel
#[utoipa::path(
    post, path = "/api/v1/channels/{id}/members", tag = "channels",
    params(("id" = ConversationId, Path)), request_body = Person,
    responses(
        (status = 201, body = ChannelMember),
        (status = 200, body = ChannelMember, description = "already a member"),
    ),
)]
pub(crate) async fn add_member(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Body(body): Body<Person>,
) -> Result<HttpResponse, ApiError> {
    Ok(made(app.channels.add_member(&caller, id, body.user_id).await?))
}

/// Remove a member from a channel
#[utoipa::path(
    delete, path = "/api/v1/channels/{id}/members/{user_id}", tag = "channels",
    params(("id" = ConversationId, Path), ("user_id" = UserId, Path)), responses((status = 204)),
)]
pub(crate) async fn remove_member(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path((id, user)): Path<(ConversationId, UserId)>,
) -> Result<HttpResponse, ApiError> {
    app.channels.remove_member(&caller, id, user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Get or create the DM with a person
#[utoipa::path(
    post, path = "/api/v1/workspaces/{id}/dms", tag = "dms",
    params(("id" = WorkspaceId, Path)), request_body = Person,
    responses(
        (status = 201, body = Summary),
        (status = 200, body = Summary, description = "already existed"),
    ),
)]
pub(crate) async fn open_dm(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Body(body): Body<Person>,
) -> Result<HttpResponse, ApiError> {
    Ok(made(app.channels.open_dm(&caller, id, body.user_id).await?))
}

/// List your DMs in a workspace
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}/dms", tag = "dms",
    params(("id" = WorkspaceId, Path), PageParams), responses((status = 200, body = List<Summary>)),
)]
pub(crate) async fn dms(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Params(page): Params<PageParams>,
) -> Result<Json<List<Summary>>, ApiError> {
    Ok(Json(app.channels.dms(&caller, id, page.into()).await?.into()))
}

/// List the conversations you are in
#[utoipa::path(
    get, path = "/api/v1/conversations", tag = "conversations",
    params(PageParams), responses((status = 200, body = List<Summary>)),
)]
pub(crate) async fn conversations(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<List<Summary>>, ApiError> {
    Ok(Json(app.channels.conversations(&caller, page.into()).await?.into()))
}

/// Get a conversation
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = ConversationId, Path)), responses((status = 200, body = Summary)),
)]
pub(crate) async fn conversation(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
) -> Result<Json<Summary>, ApiError> {
    Ok(Json(app.channels.get(&caller, id).await?))
}

/// Move your read mark forward
#[utoipa::path(
    put, path = "/api/v1/conversations/{id}/read", tag = "conversations",
    params(("id" = ConversationId, Path)), request_body = ReadUpTo,
    responses((status = 200, body = ReadState)),
)]
pub(crate) async fn mark_read(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ConversationId>,
    Body(body): Body<ReadUpTo>,
) -> Result<Json<ReadState>, ApiError> {
    let seq = body.seq.within("seq")?;
    Ok(Json(app.channels.mark_read(&caller, id, seq).await?))
}

fn made(made: Made<impl Serialize>) -> HttpResponse {
    match made {
        Made::New(it) => HttpResponse::Created().json(it),
        Made::Found(it) => HttpResponse::Ok().json(it),
    }
}
