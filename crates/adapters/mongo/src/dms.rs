//! The one DM of each pair and workspace.

use bson::doc;
use parlance_application::{
    Error,
    ports::store::{NewDm, OpenedDm, dm_with_oneself},
};
use parlance_domain::{ConversationId, ConversationKind, UserId, WorkspaceAction};

use crate::{
    access::{authorize_workspace, role_in, see},
    documents::{ConversationDoc, id, num, time, uuid},
    error::Outcome,
    members::{CHANGED, insert_member},
    tx::Tx,
};

/// Finds the pair's one DM, or creates it. If two nodes create it at once, the unique index refuses the second, whose
/// next try finds it.
pub(crate) async fn open(tx: &mut Tx, actor: UserId, new: &NewDm) -> Outcome<OpenedDm> {
    authorize_workspace(tx, actor, new.workspace_id, WorkspaceAction::OpenDm).await?;
    if new.peer == actor {
        return Err(dm_with_oneself().into());
    }
    let (low, high) = (id(actor.min(new.peer).0), id(actor.max(new.peer).0));
    let pair = doc! {
        "workspace_id": id(new.workspace_id.0),
        "peer_low": low,
        "peer_high": high,
        "deleted": false,
        "kind": "dm",
    };
    let found = tx.one::<ConversationDoc>(pair).await?;
    let created = found.is_none();
    let dm = found.map_or(new.id, |found| ConversationId(uuid(found.id)));
    if created {
        role_in(tx, new.peer, new.workspace_id).await?.ok_or(Error::NotFound("user"))?;
        let head = ConversationDoc {
            id: id(new.id.0),
            workspace_id: id(new.workspace_id.0),
            kind: ConversationKind::Dm,
            name: None,
            topic: None,
            private: true,
            general: false,
            created_by: id(actor.0),
            peer_low: Some(low),
            peer_high: Some(high),
            created_at: time(new.at),
            archived_at: None,
            deleted: false,
            last_seq: 0,
            rev: 0,
            access_rev: 1,
            last_message_at: None,
        };
        tx.insert_stamped(doc! { "_id": head.id }, &head, CHANGED).await?;
        insert_member(tx, &head, actor, new.at).await?;
        insert_member(tx, &head, new.peer, new.at).await?;
    }
    let mine = see(tx, actor, dm).await?.ok_or(Error::NotFound("conversation"))?;
    let theirs = if created {
        let theirs = see(tx, new.peer, dm).await?.ok_or(Error::NotFound("conversation"))?;
        Some(theirs.summary(tx, new.peer).await?)
    } else {
        None
    };
    let access_rev = num(mine.head.access_rev);
    Ok(OpenedDm { mine: mine.summary(tx, actor).await?, theirs, access_rev })
}
