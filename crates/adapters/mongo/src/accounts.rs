//! People, their passwords and their sessions.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bson::doc;
use mongodb::Database;
use parlance_application::{
    Error, Result, Unauthenticated,
    jobs::Job,
    ports::{
        PasswordHash,
        store::{
            Accounts, Credentials, EMAIL_TAKEN, EndedSessions, NewPassword, NewSession, Page,
            PageQuery, Presented, Principal, Renamed, RotateRefresh, Rotation, Start, Subject,
            forgotten_before,
        },
    },
};
use parlance_domain::{
    Account, DisplayName, Email, Session, SessionId, SessionRev, Timestamp, User, UserId,
};
use serde::Deserialize;

use crate::{
    MongoStore,
    documents::{
        ConversationDoc, CountDoc, MemberDoc, MessageDoc, RoleDoc, SessionDoc, Stored, TokenDoc,
        UserDoc, at, binary, id, int, num, time, uuid,
    },
    error::{Fail, Outcome},
    outbox,
    paging::narrow_back,
    traces::leave_traces,
    tx::{Tx, atomic},
    views::roles,
};

/// The key of the count of ended sessions.
pub(crate) const SESSION_REV: &str = "session_rev";
/// How long a session that is over is kept.
const KEPT: Duration = Duration::from_hours(1);

#[async_trait]
impl Accounts for MongoStore {
    async fn create_account(
        &self,
        account: Account,
        password: PasswordHash,
        session: NewSession,
        job: Job,
    ) -> Result<()> {
        let user = UserDoc {
            id: id(account.id.0),
            email: account.email,
            display_name: account.display_name,
            password: password.0,
            created_at: time(account.created_at),
        };
        atomic!(self, |tx| {
            let taken = |fail: Fail| fail.or_taken(EMAIL_TAKEN);
            tx.insert(&user).await.map_err(taken)?;
            open(tx, &session).await?;
            outbox::put(tx, &job).await
        })
    }

    async fn credentials(&self, email: &Email) -> Result<Option<Credentials>> {
        Ok(self.reads().await?.one(doc! { "email": email.as_str() }).await?.map(credentials))
    }

    async fn credentials_of(&self, user: UserId) -> Result<Credentials> {
        let found = self.reads().await?.one(doc! { "_id": id(user.0) }).await?;
        found.map(credentials).ok_or(Error::NotFound("user"))
    }

    async fn user_id(&self, email: &Email) -> Result<Option<UserId>> {
        let found = self.reads().await?.one::<UserDoc>(doc! { "email": email.as_str() }).await?;
        Ok(found.map(|user| UserId(uuid(user.id))))
    }

    async fn account(&self, user: UserId) -> Result<Account> {
        let found = self.reads().await?.one::<UserDoc>(doc! { "_id": id(user.0) }).await?;
        Ok(found.ok_or(Error::NotFound("user"))?.account())
    }

    async fn open_session(&self, session: NewSession, verified: &PasswordHash) -> Result<()> {
        atomic!(self, |tx| {
            // A write, so that it conflicts with a concurrent change of the password.
            update_if_password(
                tx,
                session.user_id,
                verified,
                doc! { "$inc": { "entries": 1_i64 } },
            )
            .await?;
            open(tx, &session).await
        })
    }

    async fn rotate_refresh(&self, rotation: RotateRefresh) -> Result<Rotation> {
        // Anybody may present a made-up token; that must not begin a transaction.
        let presented = doc! { "_id": binary(&rotation.presented.0) };
        if self.reads().await?.one::<TokenDoc>(presented).await?.is_none() {
            return Ok(Rotation::Unknown);
        }
        atomic!(self, |tx| rotate(tx, &rotation).await)
    }

    async fn session_owner(&self, session: SessionId, at: Timestamp) -> Result<Option<Account>> {
        #[derive(Deserialize)]
        struct Owned {
            owner: UserDoc,
        }
        // Nearly every request asks, so it is a single query.
        let stages = vec![
            doc! { "$match": live(doc! { "_id": id(session.0) }, at) },
            doc! { "$lookup": {
                "from": UserDoc::COLLECTION,
                "localField": "user_id",
                "foreignField": "_id",
                "as": "owner",
            } },
            doc! { "$unwind": "$owner" },
        ];
        let found = self.reads().await?.aggregate::<SessionDoc, Owned>(stages).await?.pop();
        Ok(found.map(|found| found.owner.account()))
    }

    async fn sessions(
        &self,
        user: UserId,
        now: Timestamp,
        page: PageQuery,
    ) -> Result<Page<Session>> {
        let start = Start::of(&page)?;
        let live = live(doc! { "user_id": id(user.0) }, now);
        let live = narrow_back(&start, live, "created_at", "_id");
        let newest = doc! { "created_at": -1, "_id": -1 };
        let found = self.reads().await?.first(live, newest, start.rows()).await?;
        let row = |doc: SessionDoc| {
            let session = Session {
                id: SessionId(uuid(doc.id)),
                created_at: at(doc.created_at),
                last_used_at: at(doc.last_used_at),
                current: false,
            };
            (session.created_at.as_millis(), session.id.0, session)
        };
        Ok(start.page_back(found.into_iter().map(row).collect()))
    }

    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        at: Timestamp,
    ) -> Result<SessionRev> {
        let live = live(doc! { "_id": id(session.0), "user_id": id(user.0) }, at);
        atomic!(self, |tx| {
            if tx.one::<SessionDoc>(live.clone()).await?.is_none() {
                return Err(Error::NotFound("session").into());
            }
            revoke(tx, vec![id(session.0)], at).await?;
            session_rev(tx).await
        })
    }

    async fn rename(&self, by: Principal, name: &DisplayName) -> Result<Renamed> {
        let Principal { user, session } = by;
        atomic!(self, |tx| {
            must_live(tx, session).await?;
            let set = doc! { "$set": { "display_name": name.as_str() } };
            let renamed = tx.change::<UserDoc>(doc! { "_id": id(user.0) }, set).await?;
            let renamed = renamed.ok_or(Error::NotFound("user"))?;
            let roles = roles(tx, user).await?;
            let memberships: Vec<_> =
                roles.iter().map(|role| role.member(renamed.clone())).collect();
            let traces = memberships.iter().map(|it| Subject::Role(it.workspace_id, user));
            leave_traces(tx, traces).await?;
            Ok(Renamed { account: renamed.account(), memberships })
        })
    }

    async fn change_password(&self, change: NewPassword) -> Result<EndedSessions> {
        let NewPassword { user, verified, password, keep, at } = change;
        atomic!(self, |tx| {
            let set = doc! { "$set": { "password": password.0.as_str() } };
            let kept = live(doc! { "_id": id(keep.0), "user_id": id(user.0) }, at);
            if tx.one::<SessionDoc>(kept).await?.is_none() {
                return Err(Error::from(Unauthenticated::Revoked).into());
            }
            update_if_password(tx, user, &verified, set).await?;
            let user = id(user.0);
            let others = live(doc! { "user_id": user, "_id": { "$ne": id(keep.0) } }, at);
            let others: Vec<_> =
                tx.find::<SessionDoc>(others).await?.into_iter().map(|other| other.id).collect();
            revoke(tx, others.clone(), at).await?;
            let sessions = others.into_iter().map(|other| SessionId(uuid(other))).collect();
            Ok(EndedSessions { sessions, session_rev: session_rev(tx).await? })
        })
    }

    async fn people(&self, viewer: UserId, ids: Vec<UserId>) -> Result<Vec<User>> {
        let mut wanted: Vec<bson::Uuid> = Vec::with_capacity(ids.len());
        for user in ids {
            if !wanted.contains(&id(user.0)) {
                wanted.push(id(user.0));
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        atomic!(self, |tx| people(tx, id(viewer.0), &wanted).await)
    }
}

fn credentials(user: UserDoc) -> Credentials {
    let password = PasswordHash(user.password.clone());
    Credentials { account: user.account(), password }
}

/// Narrows a filter to live sessions.
fn live(mut filter: bson::Document, at: Timestamp) -> bson::Document {
    filter.insert("revoked_at", bson::Bson::Null);
    filter.insert("expires_at", doc! { "$gt": time(at) });
    filter
}

/// Updates a person; refuses if their password no longer has this hash.
async fn update_if_password(
    tx: &mut Tx,
    user: UserId,
    verified: &PasswordHash,
    update: bson::Document,
) -> Outcome<()> {
    let same = doc! { "_id": id(user.0), "password": verified.0.as_str() };
    if tx.update::<UserDoc>(same, update).await? {
        return Ok(());
    }
    Err(Error::from(Unauthenticated::Credentials).into())
}

/// Begins a session, and deletes those of the person that ended long ago.
async fn open(tx: &mut Tx, session: &NewSession) -> Outcome<()> {
    let user_id = id(session.user_id.0);
    let over = doc! { "$lte": time(session.at - KEPT) };
    let over = doc! {
        "user_id": user_id,
        "$or": [{ "expires_at": over.clone() }, { "revoked_at": over }],
    };
    let over: Vec<_> =
        tx.find::<SessionDoc>(over).await?.into_iter().map(|session| session.id).collect();
    if !over.is_empty() {
        tx.delete::<TokenDoc>(doc! { "session_id": { "$in": over.clone() } }).await?;
        tx.delete::<SessionDoc>(doc! { "_id": { "$in": over } }).await?;
    }
    let new = SessionDoc {
        id: id(session.id.0),
        user_id,
        created_at: time(session.at),
        last_used_at: time(session.at),
        expires_at: time(session.expires_at),
        revoked_at: None,
        generation: 0,
        rotated_at: time(session.at),
    };
    tx.insert(&new).await?;
    tx.insert(&TokenDoc { digest: binary(&session.refresh.0), session_id: new.id, generation: 0 })
        .await
}

/// Ends sessions. Their tokens are unknown from then on.
async fn revoke(tx: &mut Tx, sessions: Vec<bson::Uuid>, at: Timestamp) -> Outcome<()> {
    if sessions.is_empty() {
        return Ok(());
    }
    let end = doc! { "$set": { "revoked_at": time(at) } };
    let count = doc! { "$inc": { "value": i64::try_from(sessions.len()).unwrap_or(i64::MAX) } };
    tx.upsert::<CountDoc>(doc! { "_id": SESSION_REV }, count).await?;
    tx.update_all::<SessionDoc>(doc! { "_id": { "$in": sessions.clone() } }, end).await?;
    tx.delete::<TokenDoc>(doc! { "session_id": { "$in": sessions } }).await?;
    Ok(())
}

/// How many sessions have ended so far.
pub(crate) async fn session_rev(tx: &mut Tx) -> Outcome<SessionRev> {
    let count = tx.one::<CountDoc>(doc! { "_id": SESSION_REV }).await?;
    Ok(count.map_or(SessionRev::ZERO, |count| num(count.value)))
}

/// The same outside a transaction. Counts at least every end that was acknowledged before the call.
pub(crate) async fn latest_session_rev(db: Database) -> Outcome<SessionRev> {
    let counts = db.collection::<CountDoc>(CountDoc::COLLECTION);
    let count = counts.find_one(doc! { "_id": SESSION_REV }).await?;
    Ok(count.map_or(SessionRev::ZERO, |count| num(count.value)))
}

/// Those of these sessions that have not ended.
pub(crate) async fn live_of(
    tx: &mut Tx,
    sessions: impl Iterator<Item = SessionId>,
) -> Outcome<HashSet<SessionId>> {
    let mut ids: Vec<_> = sessions.map(|session| id(session.0)).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let live = doc! { "_id": { "$in": ids }, "revoked_at": bson::Bson::Null };
    let found = tx.find::<SessionDoc>(live).await?;
    Ok(found.into_iter().map(|session| SessionId(uuid(session.id))).collect())
}

/// Refuses an ended session: the request may have been let in before.
pub(crate) async fn must_live(tx: &mut Tx, session: SessionId) -> Outcome<()> {
    let live = doc! { "_id": id(session.0), "revoked_at": bson::Bson::Null };
    tx.one::<SessionDoc>(live).await?.ok_or(Error::from(Unauthenticated::Revoked))?;
    Ok(())
}

async fn rotate(tx: &mut Tx, rotation: &RotateRefresh) -> Outcome<Rotation> {
    let presented = doc! { "_id": binary(&rotation.presented.0) };
    let Some(token) = tx.one::<TokenDoc>(presented).await? else { return Ok(Rotation::Unknown) };
    let session = live(doc! { "_id": token.session_id }, rotation.at);
    let Some(session) = tx.one::<SessionDoc>(session).await? else { return Ok(Rotation::Unknown) };
    let Some(user) = tx.one::<UserDoc>(doc! { "_id": session.user_id }).await? else {
        return Ok(Rotation::Unknown);
    };
    let session_id = SessionId(uuid(session.id));
    let (presented, latest) = (num(token.generation), num(session.generation));
    match rotation.judge(presented, latest, at(session.rotated_at)) {
        Presented::Latest => {
            next_generation(tx, rotation, session.id, session.generation + 1).await?;
        }
        Presented::Preceding => {
            let successor = doc! { "_id": binary(&rotation.successor.0) };
            let new = doc! { "session_id": session.id, "generation": session.generation };
            tx.upsert::<TokenDoc>(successor, doc! { "$setOnInsert": new }).await?;
        }
        Presented::Reused => {
            revoke(tx, vec![session.id], rotation.at).await?;
            return Ok(Rotation::Reused { session_id, session_rev: session_rev(tx).await? });
        }
    }
    Ok(Rotation::Rotated { account: user.account(), session_id })
}

async fn next_generation(
    tx: &mut Tx,
    rotation: &RotateRefresh,
    session_id: bson::Uuid,
    generation: i64,
) -> Outcome<()> {
    let now = time(rotation.at);
    let next = doc! { "$set": {
        "generation": generation,
        "rotated_at": now,
        "last_used_at": now,
        "expires_at": time(rotation.expires_at),
    } };
    tx.update::<SessionDoc>(doc! { "_id": session_id }, next).await?;
    let digest = binary(&rotation.successor.0);
    tx.insert(&TokenDoc { digest, session_id, generation }).await?;
    if let Some(oldest) = forgotten_before(num(generation)) {
        let older = doc! { "session_id": session_id, "generation": { "$lt": int(oldest) } };
        tx.delete::<TokenDoc>(older).await?;
    }
    Ok(())
}

async fn people(tx: &mut Tx, viewer: bson::Uuid, wanted: &[bson::Uuid]) -> Outcome<Vec<User>> {
    let mine = tx.find::<RoleDoc>(doc! { "user_id": viewer }).await?;
    let mine: Vec<_> = mine.into_iter().map(|role| role.workspace_id).collect();
    let colleagues = doc! { "workspace_id": { "$in": &mine }, "user_id": { "$in": wanted } };
    let mut visible: HashSet<bson::Uuid> =
        tx.find::<RoleDoc>(colleagues).await?.into_iter().map(|role| role.user_id).collect();
    visible.insert(viewer);
    if wanted.iter().any(|user| !visible.contains(user)) && !mine.is_empty() {
        let joined = tx.find::<MemberDoc>(doc! { "user_id": viewer }).await?;
        let joined: Vec<_> = joined.into_iter().map(|member| member.conversation_id).collect();
        let readable = doc! {
            "workspace_id": { "$in": mine },
            "deleted": false,
            "$or": [{ "kind": "channel", "private": false }, { "_id": { "$in": joined } }],
        };
        let readable = tx.find::<ConversationDoc>(readable).await?;
        let readable: Vec<_> = readable.into_iter().map(|head| head.id).collect();
        for author in wanted {
            if visible.contains(author) {
                continue;
            }
            let sent = doc! { "conversation_id": { "$in": &readable }, "author_id": author };
            if tx.one::<MessageDoc>(sent).await?.is_some() {
                visible.insert(*author);
            }
        }
    }
    let shown: Vec<_> = wanted.iter().filter(|user| visible.contains(user)).collect();
    let mut found = tx.find::<UserDoc>(doc! { "_id": { "$in": shown } }).await?;
    found.sort_by_key(|user| wanted.iter().position(|id| *id == user.id));
    Ok(found.into_iter().map(UserDoc::user).collect())
}
