//! What has changed since another look, by stamps of the server's clock.
//!
//! A stamp is made when a document is written and seen when its transaction is committed, which a later stamp's may be
//! before. So a look begins [`OVERLAP`] before the end of the one before: longer than a transaction may take.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bson::{DateTime, doc};
use parlance_application::{
    Result,
    ports::store::{Changes, Head, Look, Mark, Readers, State, Subject},
};
use parlance_domain::{
    ConversationAction, ConversationId, SessionId, Timestamp, UserId, WorkspaceId,
};
use serde::Deserialize;

use crate::{
    MongoStore,
    access::{head, standings},
    accounts::SESSION_REV,
    connect::majority_time,
    documents::{
        ConversationDoc, CountDoc, MemberDoc, RoleDoc, SessionDoc, Stored, TraceDoc, WorkspaceDoc,
        at, id, num, uuid,
    },
    members::{CHANGED, JOINED, READ},
    tx::atomic,
};

/// How far a look goes back before the end of the one before.
pub(crate) const OVERLAP: Duration = Duration::from_secs(10);
/// The most of each kind in one look, but for those of one and the same stamp.
const BOUND: usize = 5_000;

#[async_trait]
impl Changes for MongoStore {
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look> {
        self.look(since).await
    }

    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>> {
        if conversations.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = conversations.iter().map(|conversation| id(conversation.0)).collect();
        let found = self.all(doc! { "_id": { "$in": ids }, "deleted": false }).await?;
        Ok(found.iter().map(stand).collect())
    }

    async fn readers(
        &self,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Option<Readers>> {
        atomic!(self, |tx| {
            let Some(head) = head(tx, conversation).await? else { return Ok(None) };
            // Whoever has left a public channel may still read it, but listens no more.
            let asked: Vec<_> = users.iter().map(|user| id(user.0)).collect();
            let inside = doc! { "conversation_id": head.id, "user_id": { "$in": asked } };
            let inside = tx.find::<MemberDoc>(inside).await?;
            let inside: HashSet<_> = inside.iter().map(|member| member.user_id).collect();
            let standings = standings(tx, &head, &users).await?;
            let may = |user: &UserId| {
                let standing = standings.get(user);
                inside.contains(&id(user.0))
                    && standing.is_some_and(|found| found.permits(ConversationAction::Read).is_ok())
            };
            let users = users.iter().copied().filter(may).collect();
            Ok(Some(Readers { access_rev: num(head.access_rev), users }))
        })
    }

    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>> {
        let ids: Vec<_> = of.iter().map(|session| id(session.0)).collect();
        let live = doc! { "_id": { "$in": ids }, "revoked_at": bson::Bson::Null };
        let live = self.all::<SessionDoc>(live).await?;
        let live: HashSet<_> =
            live.into_iter().map(|session| SessionId(uuid(session.id))).collect();
        Ok(of.into_iter().filter(|session| !live.contains(session)).collect())
    }

    async fn session_rev(&self) -> Result<u64> {
        let count = self.one::<CountDoc>(doc! { "_id": SESSION_REV }).await?;
        Ok(count.map_or(0, |count| num(count.value)))
    }

    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>> {
        let ids: Vec<_> = users.iter().map(|user| id(user.0)).collect();
        let filter = doc! { "workspace_id": id(workspace.0), "user_id": { "$in": ids } };
        let found = self.all::<RoleDoc>(filter).await?;
        Ok(found.into_iter().map(|role| UserId(uuid(role.user_id))).collect())
    }

    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>> {
        self.present(of).await
    }
}

impl MongoStore {
    async fn look(&self, since: Option<Timestamp>) -> Result<Look> {
        // Before the queries: what is written while they run belongs to the next look too. What no majority has yet cannot
        // be read, so the next look begins before it.
        let now = at(majority_time(&self.db).await?);
        let session_rev = self.session_rev().await?;
        let Some(since) = since else {
            return Ok(Look {
                heads: Vec::new(),
                admitted: Vec::new(),
                workspaces: Vec::new(),
                traces: Vec::new(),
                marks: Vec::new(),
                session_rev,
                until: now,
                more: false,
            });
        };
        let overlap = i64::try_from(OVERLAP.as_millis()).unwrap_or_default();
        let from = DateTime::from_millis(since.as_millis().saturating_sub(overlap));
        let mut stop = None;
        let heads = self.stamped::<ConversationDoc>(CHANGED, from, &mut stop).await?;
        let admitted = self.stamped::<MemberDoc>(JOINED, from, &mut stop).await?;
        let workspaces = self.stamped::<WorkspaceDoc>(CHANGED, from, &mut stop).await?;
        let traces = self.stamped::<TraceDoc>(CHANGED, from, &mut stop).await?;
        let marks = self.stamped::<MemberDoc>(READ, from, &mut stop).await?;
        let admission = |member: &MemberDoc| {
            (ConversationId(uuid(member.conversation_id)), UserId(uuid(member.user_id)))
        };
        // The next look begins right after the stamp that this one has stopped at, unless that is younger than the overlap.
        let until = stop
            .map_or(now, |stop: DateTime| now.min(at(stop) + OVERLAP + Duration::from_millis(1)));
        Ok(Look {
            heads: heads.iter().map(|(head, _)| stand(head)).collect(),
            admitted: admitted.iter().map(|(member, _)| admission(member)).collect(),
            workspaces: workspaces.iter().map(|(it, _)| WorkspaceId(uuid(it.id))).collect(),
            traces: traces
                .iter()
                .filter_map(|(trace, stamp)| Some((trace.subject()?, at(*stamp))))
                .collect(),
            marks: marks.iter().map(|(member, _)| mark(member)).collect(),
            session_rev,
            until,
            more: stop.is_some(),
        })
    }

    /// Documents by their stamp. At the bound it reads on to the end of the last stamp, and notes the earliest such stop.
    async fn stamped<D: Stored>(
        &self,
        field: &str,
        from: DateTime,
        stop: &mut Option<DateTime>,
    ) -> Result<Vec<(D, DateTime)>> {
        let limit = i64::try_from(BOUND).unwrap_or(i64::MAX);
        let stages = vec![
            doc! { "$match": { field: { "$gte": from } } },
            doc! { "$sort": { field: 1 } },
            doc! { "$limit": limit },
            doc! { "$project": { "stamp": format!("${field}"), "document": "$$ROOT" } },
        ];
        let mut found = self.aggregate::<D, Stamped<D>>(stages).await?;
        let Some(last) = found.last().map(|last| last.stamp).filter(|_| found.len() >= BOUND)
        else {
            return Ok(found.into_iter().map(Stamped::both).collect());
        };
        found.retain(|seen| seen.stamp != last);
        let same = self.all::<D>(doc! { field: last }).await?;
        let same = same.into_iter().map(|document| (document, last));
        *stop = Some(stop.map_or(last, |earlier| earlier.min(last)));
        Ok(found.into_iter().map(Stamped::both).chain(same).collect())
    }
}

#[derive(Deserialize)]
struct Stamped<D> {
    stamp: DateTime,
    document: D,
}

impl<D> Stamped<D> {
    fn both(self) -> (D, DateTime) {
        (self.document, self.stamp)
    }
}

fn mark(member: &MemberDoc) -> Mark {
    Mark {
        conversation_id: ConversationId(uuid(member.conversation_id)),
        user_id: UserId(uuid(member.user_id)),
        read_seq: num(member.read_seq),
    }
}

fn stand(head: &ConversationDoc) -> Head {
    Head {
        conversation_id: ConversationId(uuid(head.id)),
        rev: num(head.rev),
        access_rev: num(head.access_rev),
    }
}
