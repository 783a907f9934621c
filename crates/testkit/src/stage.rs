//! Steps with which the store's contract cases (`contract/`) set their scene. Each step is later than the one before,
//! so that no order depends on ties.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use parlance_application::{
    Result,
    jobs::{Job, Task},
    ports::{
        Ambient, PasswordHash, RefreshDigest,
        store::{
            Admission, Change, Commit, Committed, Draft, Entry, Joining, MessageChange, NewChannel,
            NewDm, NewSession, NewWorkspace, OpenedDm, Principal, Store, Write,
        },
    },
};
use parlance_domain::{
    AccessRev, Account, ChannelName, ConversationId, Emoji, JobId, JoinCode, Message, MessageId,
    SessionId, Timestamp, Topic, UserId, WorkspaceId, WorkspaceName,
};

use crate::{TestAmbient, account, client_msg_id, text};

/// A store with nobody in it, and the steps by which a contract case sets its scene. Each step happens later than the
/// one before.
pub struct Stage {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Clock, ids, randomness.
    pub ambient: TestAmbient,
    /// The sessions that people signed up with.
    sessions: Mutex<HashMap<UserId, SessionId>>,
}

/// A workspace to play in.
#[derive(Debug, Clone)]
pub struct Team {
    /// The workspace's id.
    pub id: WorkspaceId,
    /// Its channel `general`.
    pub general: ConversationId,
    /// Its join code.
    pub code: JoinCode,
}

impl Stage {
    /// Sets up around a fresh store.
    pub fn new(store: impl Store + 'static) -> Self {
        Self {
            store: Arc::new(store),
            ambient: TestAmbient::seeded(11),
            sessions: Mutex::default(),
        }
    }

    /// A time later than all previous ones.
    pub fn at(&self) -> Timestamp {
        self.ambient.tick()
    }

    /// A job of no importance.
    pub fn job(&self) -> Job {
        Job {
            id: JobId(self.ambient.uuid()),
            task: Task::WelcomeMail { user_id: UserId(self.ambient.uuid()) },
        }
    }

    /// A session that lasts an hour.
    pub fn session(&self, user_id: UserId) -> NewSession {
        let at = self.at();
        NewSession {
            id: SessionId(self.ambient.uuid()),
            user_id,
            refresh: RefreshDigest(self.ambient.random()),
            at,
            expires_at: at + Duration::from_hours(1),
        }
    }

    /// The password hash of everybody who signs up here.
    pub fn hash() -> PasswordHash {
        PasswordHash("hash".to_owned())
    }

    /// Signs somebody up, with [`Stage::hash`].
    pub async fn sign_up(&self, name: &str) -> (Account, NewSession) {
        self.at();
        let account = account(&self.ambient, name);
        let session = self.session(account.id);
        let created =
            self.store.create_account(account.clone(), Self::hash(), session.clone(), self.job());
        let created = created.await;
        created.expect("signs up");
        self.goes_on_in(account.id, session.id);
        (account, session)
    }

    /// From now on somebody makes their changes in this session.
    pub fn goes_on_in(&self, user: UserId, session: SessionId) {
        self.sessions.lock().expect("no panic").insert(user, session);
    }

    /// The session that somebody signed up with, or goes on in.
    pub fn session_of(&self, user: UserId) -> SessionId {
        *self.sessions.lock().expect("no panic").get(&user).expect("signed up")
    }

    /// Somebody in their session.
    pub fn by(&self, user: UserId) -> Principal {
        Principal { user, session: self.session_of(user) }
    }

    /// Signs somebody up; returns their id.
    pub async fn person(&self, name: &str) -> UserId {
        self.sign_up(name).await.0.id
    }

    /// Several at once.
    pub async fn people<const N: usize>(&self, names: [&str; N]) -> [UserId; N] {
        let mut ids = [UserId(uuid::Uuid::nil()); N];
        for (id, name) in ids.iter_mut().zip(names) {
            *id = self.person(name).await;
        }
        ids
    }

    /// A new workspace of `admin`'s.
    pub async fn team(&self, admin: UserId) -> Team {
        self.admission(admin).await.1
    }

    /// The same, with the store's answer.
    pub async fn admission(&self, admin: UserId) -> (Admission, Team) {
        let team = Team {
            id: WorkspaceId(self.ambient.uuid()),
            general: ConversationId(self.ambient.uuid()),
            code: JoinCode::from_random(self.ambient.random()),
        };
        let new = NewWorkspace {
            id: team.id,
            name: WorkspaceName::parse("Team").expect("valid"),
            join_code: team.code.clone(),
            general: team.general,
            at: self.at(),
        };
        (self.store.create_workspace(self.by(admin), new).await.expect("creates a workspace"), team)
    }

    /// A workspace of `admin`'s with the others in it as members.
    pub async fn team_of<const N: usize>(&self, admin: UserId, others: [UserId; N]) -> Team {
        let team = self.team(admin).await;
        for other in others {
            self.enter(&team, other).await;
        }
        team
    }

    /// Somebody joins by code.
    pub async fn enter(&self, team: &Team, user: UserId) -> Admission {
        match self.store.join_workspace(self.by(user), &team.code, self.at()).await.expect("joins")
        {
            Joining::Entered(admission) => *admission,
            Joining::AlreadyIn(workspace) => panic!("already in {workspace:?}"),
        }
    }

    /// A channel to create.
    pub fn new_channel(&self, team: &Team, name: &str, private: bool) -> NewChannel {
        NewChannel {
            id: ConversationId(self.ambient.uuid()),
            workspace_id: team.id,
            name: ChannelName::parse(name).expect("valid"),
            topic: Topic::parse("").expect("valid"),
            private,
            at: self.at(),
        }
    }

    /// A new public channel with `actor` in it.
    pub async fn channel(&self, actor: UserId, team: &Team, name: &str) -> ConversationId {
        self.entry(actor, team, name, false).await.summary.conversation.id
    }

    /// Several new public channels with `actor` in them.
    pub async fn channels(&self, actor: UserId, team: &Team, many: usize) -> Vec<ConversationId> {
        let mut channels = Vec::with_capacity(many);
        for n in 0..many {
            channels.push(self.channel(actor, team, &format!("news-{n}")).await);
        }
        channels
    }

    /// A new private channel with `actor` in it.
    pub async fn private(&self, actor: UserId, team: &Team, name: &str) -> ConversationId {
        self.entry(actor, team, name, true).await.summary.conversation.id
    }

    /// A new channel, with the store's answer.
    pub async fn entry(&self, actor: UserId, team: &Team, name: &str, private: bool) -> Entry {
        self.store
            .create_channel(self.by(actor), self.new_channel(team, name, private))
            .await
            .expect("creates a channel")
    }

    /// Asks for the DM of `actor` and `peer`.
    pub async fn dm(&self, actor: UserId, team: &Team, peer: UserId) -> Result<OpenedDm> {
        let new = NewDm {
            id: ConversationId(self.ambient.uuid()),
            workspace_id: team.id,
            peer,
            at: self.at(),
        };
        self.store.open_dm(self.by(actor), new).await
    }

    /// Somebody joins a public channel.
    pub async fn join(&self, user: UserId, channel: ConversationId) -> Entry {
        self.store.join_channel(self.by(user), channel, self.at()).await.expect("joins")
    }

    /// A change to ask for.
    pub fn write(&self, actor: UserId, change: Change) -> Write {
        Write { by: self.by(actor), at: self.at(), change }
    }

    /// A send to ask for, under a given id.
    pub fn draft(&self, actor: UserId, id: &str, says: &str) -> Write {
        let draft = Draft {
            id: MessageId(self.ambient.uuid()),
            client_msg_id: client_msg_id(id),
            text: text(says),
        };
        self.write(actor, Change::Send(draft))
    }

    /// Asks for several changes at once.
    pub async fn append(
        &self,
        conversation: ConversationId,
        writes: Vec<Write>,
    ) -> Vec<Result<Commit>> {
        let count = writes.len();
        let outcomes = self.store.append(conversation, writes).await.expect("appends");
        assert_eq!(outcomes.len(), count, "one answer for each write");
        outcomes
    }

    /// Asks for one change.
    pub async fn change(
        &self,
        actor: UserId,
        conversation: ConversationId,
        change: Change,
    ) -> Result<Commit> {
        self.append(conversation, vec![self.write(actor, change)]).await.remove(0)
    }

    /// Asks to send under a given id.
    pub async fn try_send(
        &self,
        actor: UserId,
        conversation: ConversationId,
        id: &str,
        says: &str,
    ) -> Result<Commit> {
        self.append(conversation, vec![self.draft(actor, id, says)]).await.remove(0)
    }

    /// Sends.
    pub async fn send(&self, actor: UserId, conversation: ConversationId, says: &str) -> Message {
        let id = self.ambient.uuid().to_string();
        Self::message(&self.try_send(actor, conversation, &id, says).await.expect("sends"))
    }

    /// Reacts.
    pub async fn react(&self, actor: UserId, message: &Message, emoji: &str) -> Result<Commit> {
        let emoji = Emoji::parse(emoji).expect("valid");
        self.change(
            actor,
            message.conversation_id,
            Change::Message(message.id, MessageChange::React(emoji)),
        )
        .await
    }

    /// Takes a reaction back.
    pub async fn unreact(&self, actor: UserId, message: &Message, emoji: &str) -> Result<Commit> {
        let emoji = Emoji::parse(emoji).expect("valid");
        self.change(
            actor,
            message.conversation_id,
            Change::Message(message.id, MessageChange::Unreact(emoji)),
        )
        .await
    }

    /// Asks for another text.
    pub async fn edit(&self, actor: UserId, message: &Message, says: &str) -> Result<Commit> {
        let change = Change::Message(message.id, MessageChange::Edit(text(says)));
        self.change(actor, message.conversation_id, change).await
    }

    /// Asks for a tombstone.
    pub async fn delete(&self, actor: UserId, message: &Message) -> Result<Commit> {
        self.change(
            actor,
            message.conversation_id,
            Change::Message(message.id, MessageChange::Delete),
        )
        .await
    }

    /// The message that a commit was about.
    pub fn message(commit: &Commit) -> Message {
        match &commit.subject {
            Committed::Message(message) => message.clone(),
            Committed::Conversation(other) => panic!("about a conversation: {other:?}"),
        }
    }

    /// The conversation's `access_rev`, as in `user`'s snapshot.
    pub async fn access_rev(&self, user: UserId, conversation: ConversationId) -> AccessRev {
        let snapshot = self.store.snapshot(user).await.expect("a snapshot");
        let entry =
            snapshot.conversations.iter().find(|e| e.summary.conversation.id == conversation);
        entry.expect("is in it").access_rev
    }
}
