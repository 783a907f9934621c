//! What has changed since an earlier look, by stamps of the server's clock.
//!
//! A stamp is set when a document is written, but becomes visible only when the transaction commits, and one with a
//! later stamp may have committed before. So a look begins [`OVERLAP`], which is longer than a transaction may take,
//! before the end of the last one.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bson::{DateTime, Document, RawDocumentBuf, doc};
use parlance_application::{
    Result,
    ports::store::{Changes, Head, Look, Mark, Readers, State, Subject},
};
use parlance_domain::{
    ConversationAction, ConversationId, SessionId, SessionRev, Timestamp, UserId, WorkspaceId,
};
use serde::Deserialize;

use crate::{
    MongoStore,
    access::{head, standings},
    accounts::latest_session_rev,
    connect::majority_time,
    documents::{
        ConversationDoc, MemberDoc, RoleDoc, SessionDoc, Stored, TraceDoc, WorkspaceDoc, at, id,
        num, time, uuid,
    },
    error::in_time,
    lanes::Asker,
    members::{CHANGED, JOINED, READ},
    reads::Reads,
    tx::{BODY, atomic},
};

/// How far a look reaches back before the end of the previous one.
pub(crate) const OVERLAP: Duration = Duration::from_secs(10);
/// The most of each kind in one look. Exceeded for documents with the same stamp, and for those younger than the
/// overlap: the next look would begin before them again.
const BOUND: usize = 5_000;

/// The state of one look.
struct Pass {
    from: DateTime,
    /// Documents stamped from here on are read again by the next look.
    young: DateTime,
    /// The earliest stamp at which the bound was reached.
    stop: Option<DateTime>,
}

#[derive(Deserialize)]
struct Stamped {
    stamp: DateTime,
    document: RawDocumentBuf,
}

#[async_trait]
impl Changes for MongoStore {
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look> {
        let reads = self.own_reads().await?;
        // Asked before the queries, so that what is written meanwhile is in the next look too. What has not reached a
        // majority cannot be read yet: the next look has to begin before that, too.
        let now = at(majority_time(&self.db).await?);
        let session_rev = in_time(BODY, latest_session_rev(self.db.clone())).await?;
        let Some(since) = since else {
            return Ok(Look::empty(session_rev, now));
        };
        let mut pass = Pass { from: before(since), young: before(now), stop: None };
        let heads = stamped::<ConversationDoc>(&reads, CHANGED, &mut pass).await?;
        let admitted = stamped::<MemberDoc>(&reads, JOINED, &mut pass).await?;
        let workspaces = stamped::<WorkspaceDoc>(&reads, CHANGED, &mut pass).await?;
        let traces = stamped::<TraceDoc>(&reads, CHANGED, &mut pass).await?;
        let marks = stamped::<MemberDoc>(&reads, READ, &mut pass).await?;
        let admission = |member: &MemberDoc| {
            (ConversationId(uuid(member.conversation_id)), UserId(uuid(member.user_id)))
        };
        // The next look begins right after the stamp that this one has stopped at.
        let after = |stop: DateTime| at(stop) + OVERLAP + Duration::from_millis(1);
        Ok(Look {
            heads: heads.iter().map(|(head, _)| head_of(head)).collect(),
            admitted: admitted.iter().map(|(member, _)| admission(member)).collect(),
            workspaces: workspaces.iter().map(|(it, _)| WorkspaceId(uuid(it.id))).collect(),
            traces: traces
                .iter()
                .filter_map(|(trace, stamp)| Some((trace.subject()?, at(*stamp))))
                .collect(),
            marks: marks.iter().map(|(member, _)| mark(member)).collect(),
            session_rev,
            until: pass.stop.map_or(now, after),
            more: pass.stop.is_some(),
        })
    }

    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>> {
        if conversations.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = conversations.iter().map(|conversation| id(conversation.0)).collect();
        let live = doc! { "_id": { "$in": ids }, "deleted": false };
        let stages = vec![doc! { "$match": live }, with_stamp(CHANGED)];
        let found = self.own_reads().await?.aggregate::<ConversationDoc, _>(stages).await?;
        Ok(readable(found).iter().map(|(head, _)| head_of(head)).collect())
    }

    async fn readers(
        &self,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Option<Readers>> {
        atomic!(self, Asker::Node, |tx| {
            let Some(head) = head(tx, conversation).await? else { return Ok(None) };
            // Somebody who has left a public channel may still read it, but no longer listens.
            let standings = standings(tx, &head, &users).await?;
            let may = |user: &UserId| {
                standings.get(user).is_some_and(|standing| {
                    standing.is_inside() && standing.permits(ConversationAction::Read).is_ok()
                })
            };
            let users = users.iter().copied().filter(may).collect();
            Ok(Some(Readers { access_rev: num(head.access_rev), users }))
        })
    }

    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>> {
        let ids: Vec<_> = of.iter().map(|session| id(session.0)).collect();
        let live = doc! { "_id": { "$in": ids }, "revoked_at": bson::Bson::Null };
        let live = self.own_reads().await?.all::<SessionDoc>(live).await?;
        let live: HashSet<_> =
            live.into_iter().map(|session| SessionId(uuid(session.id))).collect();
        Ok(of.into_iter().filter(|session| !live.contains(session)).collect())
    }

    async fn session_rev(&self) -> Result<SessionRev> {
        let _share = self.lanes.share(Asker::Node).await?;
        Ok(in_time(BODY, latest_session_rev(self.db.clone())).await?)
    }

    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>> {
        let ids: Vec<_> = users.iter().map(|user| id(user.0)).collect();
        let filter = doc! { "workspace_id": id(workspace.0), "user_id": { "$in": ids } };
        let found = self.own_reads().await?.all::<RoleDoc>(filter).await?;
        Ok(found.into_iter().map(|role| UserId(uuid(role.user_id))).collect())
    }

    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>> {
        self.present(of).await
    }
}

/// Reads documents in the order of their stamps. At the bound it goes on to the last one with the same stamp or, if
/// that is young, to the very last.
async fn stamped<D: Stored>(
    reads: &Reads<'_>,
    field: &str,
    pass: &mut Pass,
) -> Result<Vec<(D, DateTime)>> {
    let limit = i64::try_from(BOUND).unwrap_or(i64::MAX);
    let first = doc! { "$limit": limit };
    let mut found: Vec<Stamped> =
        reads.aggregate::<D, _>(stages(field, doc! { "$gte": pass.from }, Some(first))).await?;
    if let Some(last) = found.last().map(|last| last.stamp).filter(|_| found.len() >= BOUND) {
        let rest = if last < pass.young {
            pass.stop = Some(pass.stop.map_or(last, |earlier| earlier.min(last)));
            doc! { "$eq": last }
        } else {
            doc! { "$gte": last }
        };
        found.retain(|seen| seen.stamp != last);
        found.extend(reads.aggregate::<D, Stamped>(stages(field, rest, None)).await?);
    }
    Ok(readable(found))
}

/// Omits what only another version of the program can read: a question that failed because of it would keep failing,
/// for all others, too.
fn readable<D: Stored>(found: Vec<Stamped>) -> Vec<(D, DateTime)> {
    let all = found.len();
    let (mut readable, mut why) = (Vec::with_capacity(all), None);
    for Stamped { stamp, document } in found {
        match bson::deserialize_from_slice(document.as_bytes()) {
            Ok(document) => readable.push((document, stamp)),
            Err(error) => why = why.or(Some(error)),
        }
    }
    if let Some(error) = why {
        let (collection, omitted) = (D::COLLECTION, all - readable.len());
        tracing::warn!(%error, collection, omitted, "documents that cannot be read are passed over");
    }
    readable
}

/// Where a look begins if the previous one ended here.
fn before(end: Timestamp) -> DateTime {
    time(end - OVERLAP)
}

/// Stages for documents whose stamp is in a range: each with its stamp, in that order.
fn stages(field: &str, range: Document, limit: Option<Document>) -> Vec<Document> {
    let matching = [doc! { "$match": { field: range } }, doc! { "$sort": { field: 1 } }];
    matching.into_iter().chain(limit).chain([with_stamp(field)]).collect()
}

/// The stage that makes a [`Stamped`] of a document.
fn with_stamp(field: &str) -> Document {
    doc! { "$project": { "stamp": format!("${field}"), "document": "$$ROOT" } }
}

fn mark(member: &MemberDoc) -> Mark {
    Mark {
        conversation_id: ConversationId(uuid(member.conversation_id)),
        user_id: UserId(uuid(member.user_id)),
        read_seq: num(member.read_seq),
    }
}

fn head_of(head: &ConversationDoc) -> Head {
    Head {
        conversation_id: ConversationId(uuid(head.id)),
        rev: num(head.rev),
        access_rev: num(head.access_rev),
    }
}
