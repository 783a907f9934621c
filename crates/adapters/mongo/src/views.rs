//! Workspaces and people, as somebody sees them.

use std::collections::HashMap;

use bson::doc;
use parlance_application::Error;
use parlance_domain::{Member, Role, UserId, Workspace, WorkspaceAction, WorkspaceId};

use crate::{
    access::role_in,
    documents::{RoleDoc, UserDoc, WorkspaceDoc, at, id, uuid},
    error::Outcome,
    tx::Tx,
};

/// Somebody's memberships, oldest first.
pub(crate) async fn roles(tx: &mut Tx, actor: UserId) -> Outcome<Vec<RoleDoc>> {
    let mut roles = tx.find::<RoleDoc>(doc! { "user_id": id(actor.0) }).await?;
    roles.sort_by_key(|role| (role.joined_at, role.workspace_id.bytes()));
    Ok(roles)
}

/// All of a person's workspaces, oldest membership first.
pub(crate) async fn all(tx: &mut Tx, actor: UserId) -> Outcome<Vec<Workspace>> {
    let roles = roles(tx, actor).await?;
    Ok(with_workspaces(tx, roles).await?.into_iter().map(|(_, workspace)| workspace).collect())
}

/// The workspaces of memberships.
pub(crate) async fn with_workspaces(
    tx: &mut Tx,
    roles: Vec<RoleDoc>,
) -> Outcome<Vec<(RoleDoc, Workspace)>> {
    let ids: Vec<_> = roles.iter().map(|role| role.workspace_id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = tx.find::<WorkspaceDoc>(doc! { "_id": { "$in": ids } }).await?;
    let both = |role: RoleDoc| {
        let workspace = found.iter().find(|workspace| workspace.id == role.workspace_id)?;
        let read = read(workspace, role.role);
        Some((role, read))
    };
    Ok(roles.into_iter().filter_map(both).collect())
}

/// A workspace, for somebody with that role.
pub(crate) fn read(workspace: &WorkspaceDoc, role: Role) -> Workspace {
    let shown = Role::permits(Some(role), WorkspaceAction::ReadJoinCode).is_ok();
    Workspace {
        id: WorkspaceId(uuid(workspace.id)),
        name: workspace.name.clone(),
        role,
        join_code: shown.then(|| workspace.join_code.clone()),
        created_at: at(workspace.created_at),
    }
}

/// A workspace as one of its members sees it.
pub(crate) async fn one(tx: &mut Tx, actor: UserId, workspace: WorkspaceId) -> Outcome<Workspace> {
    let role = role_in(tx, actor, workspace).await?.ok_or(Error::NotFound("workspace"))?;
    let found = tx.one::<WorkspaceDoc>(doc! { "_id": role.workspace_id }).await?;
    Ok(read(&found.ok_or(Error::NotFound("workspace"))?, role.role))
}

/// A membership, with the person.
pub(crate) async fn membership(tx: &mut Tx, role: &RoleDoc) -> Outcome<Member> {
    let user = tx.one::<UserDoc>(doc! { "_id": role.user_id }).await?;
    Ok(role.member(user.ok_or_else(|| Error::internal("a member without an account"))?))
}

/// People by id.
pub(crate) async fn users(
    tx: &mut Tx,
    ids: impl Iterator<Item = bson::Uuid> + Send,
) -> Outcome<HashMap<bson::Uuid, UserDoc>> {
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = tx.find::<UserDoc>(doc! { "_id": { "$in": ids } }).await?;
    Ok(found.into_iter().map(|user| (user.id, user)).collect())
}
