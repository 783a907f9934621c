//! People's relations to conversations, read inside the transaction whose permission depends on them.

use std::collections::{HashMap, HashSet};

use bson::doc;
use parlance_application::{Error, Result, ports::store::Principal};
use parlance_domain::{
    ConversationAction, ConversationId, ConversationKind, ReadState, Role, Seq, Standing, Summary,
    UserId, WorkspaceAction, WorkspaceId, membership::Facts,
};
use serde::Deserialize;

use crate::{
    accounts::must_live,
    documents::{ConversationDoc, MemberDoc, MessageDoc, RoleDoc, Stored as _, id, num},
    error::Outcome,
    members::stamped,
    tx::Tx,
    unread,
};

/// A conversation as one person sees it.
pub(crate) struct Seen {
    pub(crate) head: ConversationDoc,
    /// How far the person has read, if they are in it.
    pub(crate) read_seq: Option<Seq>,
    pub(crate) standing: Standing,
}

impl Seen {
    /// Asks the domain's matrix of permissions.
    pub(crate) fn permits(&self, action: ConversationAction, what: &'static str) -> Result<()> {
        self.standing.permits(action).map_err(|denied| Error::denied(denied, what))
    }

    /// The person's view of it, with the unread count.
    pub(crate) async fn summary(&self, tx: &mut Tx, viewer: UserId) -> Outcome<Summary> {
        let unread_count = self.unread(tx, viewer).await?;
        Ok(self.summed_up(unread_count))
    }

    /// The person's view of it, given the unread count.
    pub(crate) fn summed_up(&self, unread_count: u64) -> Summary {
        Summary {
            read: self.read_with(unread_count),
            can_post: self.standing.permits(ConversationAction::Post).is_ok(),
            joined: self.read_seq.is_some(),
            conversation: self.head.conversation(),
        }
    }

    /// How far the person has read.
    pub(crate) async fn read(&self, tx: &mut Tx, viewer: UserId) -> Outcome<ReadState> {
        let unread_count = self.unread(tx, viewer).await?;
        Ok(self.read_with(unread_count))
    }

    fn read_with(&self, unread_count: u64) -> ReadState {
        ReadState { read_seq: self.mark(), unread_count, mention_count: 0 }
    }

    /// The person's read mark. For somebody outside it is the newest message: nothing is unread.
    pub(crate) fn mark(&self) -> Seq {
        self.read_seq.unwrap_or(num(self.head.last_seq))
    }

    /// Counts what is unread.
    pub(crate) async fn unread(&self, tx: &mut Tx, viewer: UserId) -> Outcome<u64> {
        let last_seq = num(self.head.last_seq);
        if self.mark() >= last_seq {
            return Ok(0);
        }
        tx.count::<MessageDoc>(unread::of(self, viewer, last_seq), ReadState::COUNTED).await
    }
}

/// A conversation that is not deleted.
pub(crate) async fn head(tx: &mut Tx, id_: ConversationId) -> Outcome<Option<ConversationDoc>> {
    tx.one(doc! { "_id": id(id_.0), "deleted": false }).await
}

/// A conversation as one person sees it, if it exists.
pub(crate) async fn see(tx: &mut Tx, viewer: UserId, id: ConversationId) -> Outcome<Option<Seen>> {
    let Some(head) = head(tx, id).await? else { return Ok(None) };
    Ok(see_all(tx, viewer, vec![head]).await?.pop())
}

/// Several conversations as one person sees them, in the same order.
pub(crate) async fn see_all(
    tx: &mut Tx,
    viewer: UserId,
    heads: Vec<ConversationDoc>,
) -> Outcome<Vec<Seen>> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let conversations: Vec<_> = heads.iter().map(|head| head.id).collect();
    let mine = doc! { "user_id": id(viewer.0), "conversation_id": { "$in": conversations } };
    let joined: HashMap<_, _> = tx
        .find::<MemberDoc>(mine)
        .await?
        .into_iter()
        .map(|member| (member.conversation_id, num(member.read_seq)))
        .collect();
    let both = heads.into_iter().map(|head| {
        let read_seq = joined.get(&head.id).copied();
        (head, read_seq)
    });
    with_standings(tx, viewer, both.collect()).await
}

/// All conversations that somebody is in, of the workspaces that they are in. The server joins members and heads: there
/// may be thousands, and a query by as many ids is slow.
pub(crate) async fn see_mine(tx: &mut Tx, viewer: UserId) -> Outcome<Vec<Seen>> {
    #[derive(Deserialize)]
    struct Joined {
        read_seq: i64,
        head: ConversationDoc,
    }
    let stages = vec![
        doc! { "$match": { "user_id": id(viewer.0) } },
        doc! { "$lookup": {
            "from": ConversationDoc::COLLECTION,
            "localField": "conversation_id",
            "foreignField": "_id",
            "as": "head",
        } },
        doc! { "$unwind": "$head" },
        doc! { "$match": { "head.deleted": false } },
    ];
    let joined = tx.aggregate::<MemberDoc, Joined>(stages).await?;
    let both = joined.into_iter().map(|joined| (joined.head, Some(num(joined.read_seq))));
    let mut seen = with_standings(tx, viewer, both.collect()).await?;
    // Somebody who has left a workspace is still in its DMs.
    seen.retain(|seen| seen.standing != Standing::Outsider);
    Ok(seen)
}

/// A person's relations to conversations, given their read marks in those they are in.
async fn with_standings(
    tx: &mut Tx,
    viewer: UserId,
    heads: Vec<(ConversationDoc, Option<Seq>)>,
) -> Outcome<Vec<Seen>> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let viewer = id(viewer.0);
    let workspaces: HashSet<_> = heads.iter().map(|(head, _)| head.workspace_id).collect();
    let people: HashSet<_> =
        heads.iter().filter_map(|(head, _)| head.peer_of(viewer)).chain([viewer]).collect();
    let roles: HashMap<_, _> = tx
        .find::<RoleDoc>(doc! {
            "workspace_id": { "$in": Vec::from_iter(workspaces) },
            "user_id": { "$in": Vec::from_iter(people) },
        })
        .await?
        .into_iter()
        .map(|found| ((found.workspace_id, found.user_id), found.role))
        .collect();
    let see = |(head, read_seq): (ConversationDoc, Option<Seq>)| {
        let standing = standing(&head, viewer, read_seq.is_some(), |user| {
            roles.get(&(head.workspace_id, user)).copied()
        });
        Seen { head, read_seq, standing }
    };
    Ok(heads.into_iter().map(see).collect())
}

/// Several people's relations to one conversation. Whoever has none is an outsider.
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

/// The conversation, if the person may do the action.
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

/// The same, to change it: writes the head first, so that nothing can come in between, and then checks the session.
pub(crate) async fn lock(
    tx: &mut Tx,
    by: Principal,
    conversation: ConversationId,
    action: ConversationAction,
) -> Outcome<Seen> {
    let what = "conversation";
    let key = doc! { "_id": id(conversation.0), "deleted": false };
    let head = tx.change::<ConversationDoc>(key, stamped()).await?.ok_or(Error::NotFound(what))?;
    let seen = see_all(tx, by.user, vec![head]).await?.pop().ok_or(Error::NotFound(what))?;
    seen.permits(action, what)?;
    must_live(tx, by.session).await?;
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
    Standing::of(Facts {
        role: role(viewer),
        kind: head.kind,
        private: head.private,
        joined,
        creator: head.created_by == viewer,
        peer_present: head.kind == ConversationKind::Dm
            && head.peer_of(viewer).is_some_and(|peer| role(peer).is_some()),
    })
}
