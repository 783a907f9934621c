//! REST for workspaces and their members: the routes to `application::Workspaces`. Handlers only parse and choose the
//! status.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use parlance_application::{App, Error};
use parlance_domain::{
    Email, JoinCode, Member, Role, UserId, Workspace, WorkspaceId, WorkspaceName,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::list::List;
use crate::{
    error::ApiError,
    extract::{Authenticated, Body, PageParams, Params, Path},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWorkspace {
    #[schema(min_length = 1, max_length = 80)]
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    join_code: String,
}

/// Exactly one of `user_id` and `email`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMember {
    user_id: Option<UserId>,
    email: Option<String>,
    #[schema(value_type = Option<Role>)]
    role: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRole {
    #[schema(value_type = Role)]
    role: String,
}

fn role(name: &str) -> Result<Role, Error> {
    Role::parse(name).map_err(|e| Error::invalid("role", e))
}

impl NewWorkspace {
    fn name(&self) -> Result<WorkspaceName, Error> {
        WorkspaceName::parse(&self.name).map_err(|e| Error::invalid("name", e))
    }
}

/// Create a workspace with you as its admin and a `general` channel
#[utoipa::path(
    post, path = "/api/v1/workspaces", tag = "workspaces",
    request_body = NewWorkspace, responses((status = 201, body = Workspace)),
)]
pub(crate) async fn create(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Body(body): Body<NewWorkspace>,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Created().json(app.workspaces.create(&caller, body.name()?).await?))
}

/// List your workspaces
#[utoipa::path(
    get, path = "/api/v1/workspaces", tag = "workspaces",
    params(PageParams), responses((status = 200, body = List<Workspace>)),
)]
pub(crate) async fn list(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<List<Workspace>>, ApiError> {
    Ok(Json(app.workspaces.list(&caller, page.into()).await?.into()))
}

/// Get a workspace
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), responses((status = 200, body = Workspace)),
)]
pub(crate) async fn get(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<Workspace>, ApiError> {
    Ok(Json(app.workspaces.get(&caller, id).await?))
}

/// Rename a workspace
#[utoipa::path(
    patch, path = "/api/v1/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), request_body = NewWorkspace,
    responses((status = 200, body = Workspace)),
)]
pub(crate) async fn update(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Body(body): Body<NewWorkspace>,
) -> Result<Json<Workspace>, ApiError> {
    Ok(Json(app.workspaces.rename(&caller, id, body.name()?).await?))
}

/// Delete a workspace and everything in it
#[utoipa::path(
    delete, path = "/api/v1/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), responses((status = 204)),
)]
pub(crate) async fn delete(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<HttpResponse, ApiError> {
    app.workspaces.delete(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Join a workspace by its join code
#[utoipa::path(
    post, path = "/api/v1/workspaces/join", tag = "workspaces",
    request_body = Join, responses((status = 200, body = Workspace)),
)]
pub(crate) async fn join(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Body(body): Body<Join>,
) -> Result<Json<Workspace>, ApiError> {
    let code = JoinCode::parse(&body.join_code).map_err(|e| Error::invalid("join_code", e))?;
    Ok(Json(app.workspaces.join(&caller, code).await?))
}

/// Replace the join code
#[utoipa::path(
    post, path = "/api/v1/workspaces/{id}/join-code", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), responses((status = 200, body = Workspace)),
)]
pub(crate) async fn rotate_join_code(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<Workspace>, ApiError> {
    Ok(Json(app.workspaces.rotate_join_code(&caller, id).await?))
}

/// Leave a workspace
#[utoipa::path(
    post, path = "/api/v1/workspaces/{id}/leave", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), responses((status = 204)),
)]
pub(crate) async fn leave(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<HttpResponse, ApiError> {
    app.workspaces.remove_member(&caller, id, caller.id()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// List a workspace's members
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}/members", tag = "workspaces",
    params(("id" = WorkspaceId, Path), PageParams), responses((status = 200, body = List<Member>)),
)]
pub(crate) async fn members(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Params(page): Params<PageParams>,
) -> Result<Json<List<Member>>, ApiError> {
    Ok(Json(app.workspaces.members(&caller, id, page.into()).await?.into()))
}

/// Add a person with a role and notify them by email
#[utoipa::path(
    post, path = "/api/v1/workspaces/{id}/members", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), request_body = NewMember,
    responses((status = 201, body = Member)),
)]
pub(crate) async fn add_member(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<WorkspaceId>,
    Body(body): Body<NewMember>,
) -> Result<HttpResponse, ApiError> {
    let role = body.role.as_deref().map_or(Ok(Role::Member), role)?;
    let member = match (body.user_id, body.email) {
        (Some(user), None) => app.workspaces.add_member(&caller, id, user, role).await?,
        (None, Some(email)) => {
            let email = Email::parse(&email).map_err(|e| Error::invalid("email", e))?;
            app.workspaces.add_member_by_email(&caller, id, &email, role).await?
        }
        _ => {
            return Err(
                Error::BadRequest("exactly one of user_id and email is needed".into()).into()
            );
        }
    };
    Ok(HttpResponse::Created().json(member))
}

/// Change a member's role
#[utoipa::path(
    patch, path = "/api/v1/workspaces/{id}/members/{user_id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path), ("user_id" = UserId, Path)), request_body = NewRole,
    responses((status = 200, body = Member)),
)]
pub(crate) async fn set_role(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path((id, user)): Path<(WorkspaceId, UserId)>,
    Body(body): Body<NewRole>,
) -> Result<Json<Member>, ApiError> {
    Ok(Json(app.workspaces.set_role(&caller, id, user, role(&body.role)?).await?))
}

/// Remove a member from the workspace and all its channels
#[utoipa::path(
    delete, path = "/api/v1/workspaces/{id}/members/{user_id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path), ("user_id" = UserId, Path)), responses((status = 204)),
)]
pub(crate) async fn remove_member(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path((id, user)): Path<(WorkspaceId, UserId)>,
) -> Result<HttpResponse, ApiError> {
    app.workspaces.remove_member(&caller, id, user).await?;
    Ok(HttpResponse::NoContent().finish())
}
