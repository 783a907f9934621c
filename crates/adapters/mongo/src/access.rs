//! What people are to conversations, read inside the transaction that decides by it.

use std::collections::{HashMap, HashSet};

use bson::doc;
use parlance_application::{Error, Result};
use parlance_domain::{
    ConversationAction, ConversationId, ConversationKind, ReadState, Role, Standing, Summary,
    UserId, WorkspaceAction, WorkspaceId, membership::Facts,
};

use crate::{
    documents::{ConversationDoc, MemberDoc, MessageDoc, RoleDoc, id, int, num},
    error::Outcome,
    members::stamped,
    tx::Tx,
};

/// A conversation in somebody's eyes.
pub(crate) struct Seen {
    pub(crate) head: ConversationDoc,
    /// Of the person, if they are in it.
    pub(crate) read_seq: Option<u64>,
    pub(crate) standing: Standing,
}

impl Seen {
    /// Asks the matrix.
    pub(crate) fn permits(&self, action: ConversationAction, what: &'static str) -> Result<()> {
        self.standing.permits(action).map_err(|denied| Error::denied(denied, what))
    }

    /// The person's view of it. Counts what is unread.
    pub(crate) async fn summary(&self, tx: &mut Tx, viewer: UserId) -> Outcome<Summary> {
        Ok(Summary {
            read: self.read(tx, viewer).await?,
            can_post: self.standing.permits(ConversationAction::Post).is_ok(),
            joined: self.read_seq.is_some(),
            conversation: self.head.conversation(),
        })
    }

    /// How far the person has read. Who is not in it has nothing unread.
    pub(crate) async fn read(&self, tx: &mut Tx, viewer: UserId) -> Outcome<ReadState> {
        let last_seq = num(self.head.last_seq);
        let read_seq = self.read_seq.unwrap_or(last_seq);
        let unread_count = if read_seq >= last_seq {
            0
        } else {
            let unread = doc! {
                "conversation_id": self.head.id,
                "seq": { "$gt": int(read_seq), "$lte": int(last_seq) },
                "author_id": { "$ne": id(viewer.0) },
                "deleted_at": null,
            };
            tx.count::<MessageDoc>(unread, ReadState::COUNTED).await?
        };
        Ok(ReadState { read_seq, unread_count, mention_count: 0 })
    }
}

/// A conversation that is not deleted.
pub(crate) async fn head(tx: &mut Tx, id_: ConversationId) -> Outcome<Option<ConversationDoc>> {
    tx.one(doc! { "_id": id(id_.0), "deleted": false }).await
}

/// A conversation in somebody's eyes, if it exists.
pub(crate) async fn see(tx: &mut Tx, viewer: UserId, id: ConversationId) -> Outcome<Option<Seen>> {
    let Some(head) = head(tx, id).await? else { return Ok(None) };
    Ok(see_all(tx, viewer, vec![head]).await?.pop())
}

/// Several conversations in one person's eyes, in their order.
pub(crate) async fn see_all(
    tx: &mut Tx,
    viewer: UserId,
    heads: Vec<ConversationDoc>,
) -> Outcome<Vec<Seen>> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let viewer = id(viewer.0);
    let conversations: Vec<_> = heads.iter().map(|head| head.id).collect();
    let workspaces: HashSet<_> = heads.iter().map(|head| head.workspace_id).collect();
    let joined: HashMap<_, _> = tx
        .find::<MemberDoc>(doc! { "user_id": viewer, "conversation_id": { "$in": conversations } })
        .await?
        .into_iter()
        .map(|member| (member.conversation_id, num(member.read_seq)))
        .collect();
    let people: HashSet<_> =
        heads.iter().filter_map(|head| head.peer_of(viewer)).chain([viewer]).collect();
    let roles: HashMap<_, _> = tx
        .find::<RoleDoc>(doc! {
            "workspace_id": { "$in": Vec::from_iter(workspaces) },
            "user_id": { "$in": Vec::from_iter(people) },
        })
        .await?
        .into_iter()
        .map(|found| ((found.workspace_id, found.user_id), found.role))
        .collect();
    let see = |head: ConversationDoc| {
        let read_seq = joined.get(&head.id).copied();
        let standing = standing(&head, viewer, read_seq.is_some(), |user| {
            roles.get(&(head.workspace_id, user)).copied()
        });
        Seen { head, read_seq, standing }
    };
    Ok(heads.into_iter().map(see).collect())
}

/// What several people are to one conversation. Those who are nothing to it are outsiders.
pub(crate) async fn standings(
    tx: &mut Tx,
    head: &ConversationDoc,
    users: &[UserId],
) -> Outcome<HashMap<UserId, Standing>> {
    let users: HashSet<UserId> = users.iter().copied().collect();
    let ids: Vec<_> = users.iter().map(|user| id(user.0)).collect();
    let pair = [head.peer_low, head.peer_high].into_iter().flatten();
    let people: Vec<_> = ids.iter().copied().chain(pair).collect();
    let roles: HashMap<_, _> = tx
        .find::<RoleDoc>(doc! { "workspace_id": head.workspace_id, "user_id": { "$in": people } })
        .await?
        .into_iter()
        .map(|found| (found.user_id, found.role))
        .collect();
    let joined: HashSet<_> = tx
        .find::<MemberDoc>(doc! { "conversation_id": head.id, "user_id": { "$in": ids } })
        .await?
        .into_iter()
        .map(|member| member.user_id)
        .collect();
    let stand = |user: UserId| {
        let key = id(user.0);
        let role = |of| roles.get(&of).copied();
        (user, standing(head, key, joined.contains(&key), role))
    };
    Ok(users.into_iter().map(stand).collect())
}

/// The conversation, if the person may do that to it.
pub(crate) async fn authorize(
    tx: &mut Tx,
    actor: UserId,
    id: ConversationId,
    action: ConversationAction,
    what: &'static str,
) -> Outcome<Seen> {
    let seen = see(tx, actor, id).await?.ok_or(Error::NotFound(what))?;
    seen.permits(action, what)?;
    Ok(seen)
}

/// The same for whoever is about to change it: writes the head first, so that others cannot come in between.
pub(crate) async fn lock(
    tx: &mut Tx,
    actor: UserId,
    conversation: ConversationId,
    action: ConversationAction,
) -> Outcome<Seen> {
    let what = "conversation";
    let key = doc! { "_id": id(conversation.0), "deleted": false };
    let head = tx.change::<ConversationDoc>(key, stamped()).await?.ok_or(Error::NotFound(what))?;
    let seen = see_all(tx, actor, vec![head]).await?.pop().ok_or(Error::NotFound(what))?;
    seen.permits(action, what)?;
    Ok(seen)
}

/// A person's membership of a workspace that is not deleted.
pub(crate) async fn role_in(
    tx: &mut Tx,
    user: UserId,
    workspace: WorkspaceId,
) -> Outcome<Option<RoleDoc>> {
    tx.one(doc! { "workspace_id": id(workspace.0), "user_id": id(user.0) }).await
}

/// Refuses what the person may not do with the workspace.
pub(crate) async fn authorize_workspace(
    tx: &mut Tx,
    actor: UserId,
    workspace: WorkspaceId,
    action: WorkspaceAction,
) -> Outcome<()> {
    let role = role_in(tx, actor, workspace).await?.map(|found| found.role);
    Ok(Role::permits(role, action).map_err(|denied| Error::denied(denied, "workspace"))?)
}

fn standing(
    head: &ConversationDoc,
    viewer: bson::Uuid,
    joined: bool,
    role: impl Fn(bson::Uuid) -> Option<Role>,
) -> Standing {
    let kind = head.kind();
    Standing::of(Facts {
        role: role(viewer),
        kind,
        private: head.private,
        joined,
        creator: head.created_by == viewer,
        peer_present: kind == ConversationKind::Dm
            && head.peer_of(viewer).is_some_and(|peer| role(peer).is_some()),
    })
}
