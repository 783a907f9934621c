//! How people come into a workspace, and what that changes.

use bson::doc;
use parlance_application::{
    Error, Result,
    ports::store::{Admission, SnapshotEntry, Subject},
};
use parlance_domain::{ConversationId, Role, Timestamp, UserId, WorkspaceAction, WorkspaceId};
use uuid::Uuid;

use crate::{
    MongoStore,
    access::see,
    documents::{ConversationDoc, MemberDoc, RoleDoc, UserDoc, WorkspaceDoc, id, num, time, uuid},
    error::Outcome,
    lanes::{Lane, Turns},
    members::{JOINED, bump, enter, mine},
    traces::leave_trace,
    tx::Tx,
    views::{membership, read},
};

impl MongoStore {
    /// Refuses what the person may not do with the workspace before any lock is taken. The change checks again: the
    /// answer may differ by then.
    pub(crate) async fn foresee(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        action: WorkspaceAction,
    ) -> Result<()> {
        let role = doc! { "workspace_id": id(workspace.0), "user_id": id(actor.0) };
        let role = self.reads().await?.one::<RoleDoc>(role).await?.map(|found| found.role);
        Role::permits(role, action).map_err(|denied| Error::denied(denied, "workspace"))
    }

    /// The heads that change when somebody enters or leaves a workspace: `general` and those they are in. Read before
    /// the transaction, so that it can begin by locking them; one added in between is written when it is found.
    pub(crate) async fn heads_in(
        &self,
        user: UserId,
        workspace: WorkspaceId,
    ) -> Result<Vec<bson::Uuid>> {
        let reads = self.reads().await?;
        let joined = reads.all::<MemberDoc>(doc! { "user_id": id(user.0) }).await?;
        let joined: Vec<_> = joined.into_iter().map(|member| member.conversation_id).collect();
        let heads = reads.all::<ConversationDoc>(doc! {
            "workspace_id": id(workspace.0),
            "deleted": false,
            "$or": [{ "general": true }, { "_id": { "$in": joined } }],
        });
        Ok(heads.await?.into_iter().map(|head| head.id).collect())
    }

    /// Waits for the turn to write a workspace and heads in it.
    pub(crate) async fn turns(&self, workspace: Uuid, heads: &[bson::Uuid]) -> Result<Turns<'_>> {
        let heads = heads.iter().map(|head| uuid(*head));
        self.lanes.turns(heads.chain([workspace]).map(Lane::Head).collect()).await
    }
}

/// Adds a person who is not in yet: to the workspace, to `general`, and back to the DMs of an earlier membership.
pub(crate) async fn admit(
    tx: &mut Tx,
    workspace: &WorkspaceDoc,
    user: UserId,
    role: Role,
    at: Timestamp,
) -> Outcome<Admission> {
    let role =
        RoleDoc { workspace_id: workspace.id, user_id: id(user.0), role, joined_at: time(at) };
    let dms = mine(tx, user, WorkspaceId(uuid(workspace.id))).await?;
    bump(tx, &dms).await?;
    tx.insert(&role).await?;
    // Conflicts with a concurrent change of their name, whose retry then finds the new membership, too.
    tx.update::<UserDoc>(doc! { "_id": role.user_id }, doc! { "$inc": { "entries": 1_i64 } })
        .await?;
    leave_trace(tx, Subject::Member(WorkspaceId(uuid(workspace.id)), user)).await?;
    let mut back = Vec::with_capacity(dms.len());
    for dm in dms {
        let member = doc! { "conversation_id": dm.id, "user_id": id(user.0) };
        let dm = ConversationId(uuid(dm.id));
        let seen = see(tx, user, dm).await?.ok_or(Error::NotFound("conversation"))?;
        leave_trace(tx, Subject::Participant(dm, user)).await?;
        tx.update::<MemberDoc>(member, doc! { "$currentDate": { JOINED: true } }).await?;
        let summary = seen.summary(tx, user).await?;
        back.push(SnapshotEntry { summary, access_rev: num(seen.head.access_rev) });
    }
    let general = enter(tx, ConversationId(uuid(workspace.general)), user, at).await?;
    Ok(Admission {
        workspace: read(workspace, role.role),
        member: membership(tx, &role).await?,
        general,
        dms: back,
    })
}
