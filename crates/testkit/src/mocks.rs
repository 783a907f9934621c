//! Mocks of every port. A store's narrow ports have one each; [`MockStore`] is all five in one.

pub use parlance_application::ports::{
    MockAmbient, MockBus, MockFanout, MockJobBoard, MockJobQueue, MockMailer, MockPasswordHasher,
    MockTokenIssuer,
    store::{
        MockAccounts, MockChanges, MockConversations, MockMessages, MockOutbox, MockWorkspaces,
    },
};

use async_trait::async_trait;
use parlance_application::{
    Result,
    jobs::Job,
    ports::{
        PasswordHash,
        store::{
            self, Admission, Commit, Credentials, Departure, EndedSessions, Entry, History,
            HistoryQuery, Joining, NewChannel, NewDm, NewMember, NewPassword, NewSession,
            NewWorkspace, OpenedDm, Page, PageQuery, Principal, ReadMark, Reader, Renamed,
            ReplayPage, ReplayQuery, RotateRefresh, Rotation, Snapshot, Write,
        },
    },
};
use parlance_domain::{
    AccessRev, Account, ChannelMember, ClientMsgId, ConversationAction, ConversationId,
    DisplayName, Email, JobId, JoinCode, Member, Message, MessageId, Rev, Role, Seq, Session,
    SessionId, SessionRev, Summary, Timestamp, User, UserId, Workspace, WorkspaceId, WorkspaceName,
};

mockall::mock! {
    /// The whole store, for tests of use cases that need several of its ports.
    pub Store {}

    #[async_trait]
    impl store::Accounts for Store {
        async fn create_account(&self, account: Account, password: PasswordHash, session: NewSession, job: Job) -> Result<()>;
        async fn credentials(&self, email: &Email) -> Result<Option<Credentials>>;
        async fn credentials_of(&self, user: UserId) -> Result<Credentials>;
        async fn user_id(&self, email: &Email) -> Result<Option<UserId>>;
        async fn account(&self, user: UserId) -> Result<Account>;
        async fn open_session(&self, session: NewSession, verified: &PasswordHash) -> Result<()>;
        async fn rotate_refresh(&self, rotation: RotateRefresh) -> Result<Rotation>;
        async fn session_owner(&self, session: SessionId, at: Timestamp) -> Result<Option<Account>>;
        async fn sessions(&self, user: UserId, at: Timestamp, page: PageQuery) -> Result<Page<Session>>;
        async fn revoke_session(&self, user: UserId, session: SessionId, at: Timestamp) -> Result<SessionRev>;
        async fn rename(&self, by: Principal, name: &DisplayName) -> Result<Renamed>;
        async fn change_password(&self, change: NewPassword) -> Result<EndedSessions>;
        async fn people(&self, viewer: UserId, ids: Vec<UserId>) -> Result<Vec<User>>;
    }

    #[async_trait]
    impl store::Workspaces for Store {
        async fn create_workspace(&self, by: Principal, new: NewWorkspace) -> Result<Admission>;
        async fn workspaces(&self, actor: UserId, page: PageQuery) -> Result<Page<Workspace>>;
        async fn workspace(&self, actor: UserId, id: WorkspaceId) -> Result<Workspace>;
        async fn join_workspace(&self, by: Principal, code: &JoinCode, at: Timestamp) -> Result<Joining>;
        async fn rotate_join_code(&self, by: Principal, id: WorkspaceId, code: JoinCode) -> Result<Workspace>;
        async fn rename_workspace(&self, by: Principal, id: WorkspaceId, name: &WorkspaceName) -> Result<Workspace>;
        async fn delete_workspace(&self, by: Principal, id: WorkspaceId, at: Timestamp) -> Result<Vec<ConversationId>>;
        async fn members(&self, actor: UserId, id: WorkspaceId, page: PageQuery) -> Result<Page<Member>>;
        async fn add_member(&self, by: Principal, id: WorkspaceId, new: NewMember) -> Result<Admission>;
        async fn set_role(&self, by: Principal, id: WorkspaceId, user: UserId, role: Role) -> Result<Member>;
        async fn remove_member(&self, by: Principal, id: WorkspaceId, user: UserId) -> Result<Departure>;
    }

    #[async_trait]
    impl store::Conversations for Store {
        async fn create_channel(&self, by: Principal, new: NewChannel) -> Result<Entry>;
        async fn open_dm(&self, by: Principal, new: NewDm) -> Result<OpenedDm>;
        async fn channels(&self, actor: UserId, workspace: WorkspaceId, page: PageQuery) -> Result<Page<Summary>>;
        async fn dms(&self, actor: UserId, workspace: WorkspaceId, page: PageQuery) -> Result<Page<Summary>>;
        async fn conversations(&self, actor: UserId, page: PageQuery) -> Result<Page<Summary>>;
        async fn summary(&self, actor: UserId, id: ConversationId) -> Result<Summary>;
        async fn snapshot(&self, actor: UserId) -> Result<Snapshot>;
        async fn join_channel(&self, by: Principal, id: ConversationId, at: Timestamp) -> Result<Entry>;
        async fn add_channel_member(&self, by: Principal, id: ConversationId, user: UserId, at: Timestamp) -> Result<Entry>;
        async fn remove_channel_member(&self, by: Principal, id: ConversationId, user: UserId) -> Result<AccessRev>;
        async fn channel_members(&self, actor: UserId, id: ConversationId, page: PageQuery) -> Result<Page<ChannelMember>>;
        async fn delete_channel(&self, by: Principal, id: ConversationId, at: Timestamp) -> Result<()>;
        async fn mark_read(&self, actor: UserId, id: ConversationId, seq: Seq) -> Result<ReadMark>;
        async fn permit(&self, actor: UserId, id: ConversationId, action: ConversationAction) -> Result<()>;
    }

    #[async_trait]
    impl store::Messages for Store {
        async fn append(&self, conversation: ConversationId, writes: Vec<Write>) -> Result<Vec<Result<Commit>>>;
        async fn sent(&self, author: UserId, conversation: ConversationId, client_msg_id: &ClientMsgId) -> Result<Option<MessageId>>;
        async fn message(&self, actor: UserId, id: MessageId) -> Result<Message>;
        async fn history(&self, actor: UserId, conversation: ConversationId, query: HistoryQuery) -> Result<History>;
        async fn replay(&self, reader: Reader, conversation: ConversationId, query: ReplayQuery) -> Result<ReplayPage>;
        async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, most: usize) -> Result<Vec<usize>>;
    }

    #[async_trait]
    impl store::Outbox for Store {
        async fn take_unfinished(&self, limit: usize, relayed_before: Timestamp, at: Timestamp) -> Result<Vec<Job>>;
        async fn take_buried(&self, limit: usize, relayed_before: Timestamp, at: Timestamp) -> Result<Vec<Job>>;
        async fn is_unfinished(&self, job: JobId) -> Result<bool>;
        async fn finish(&self, job: JobId) -> Result<()>;
        async fn bury(&self, job: JobId) -> Result<()>;
        async fn revive(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>>;
    }
}
