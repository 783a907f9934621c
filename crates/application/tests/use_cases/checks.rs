//! What is asked of a store that takes its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parlance_application::{
    Result,
    ports::store::{Changes, Head, Look, Readers, State, Subject},
};
use parlance_domain::{
    AccessRev, ConversationId, SessionId, SessionRev, Timestamp, UserId, WorkspaceId,
};
use parlance_testkit::{
    mocks::{MockChanges, MockConversations},
    socket,
};
use tokio::{sync::Notify, time::sleep};

use crate::{
    scene::{HERE, changed, changes, nothing_new, quiet_scene, replays},
    ways_back::{heard_joined, knowing},
};

/// Who may read is found out when it is asked, and the first answer comes when the test says so.
pub(super) struct Late {
    rest: MockChanges,
    first_waits: AtomicBool,
    asked: Arc<Notify>,
    answered: Arc<Notify>,
    /// How long it takes to say where conversations stand, and which sessions have ended.
    takes: Duration,
}

impl Late {
    pub(super) fn taking(takes: Duration, rest: MockChanges) -> Self {
        let (asked, answered) = Default::default();
        Self { rest, first_waits: AtomicBool::new(false), asked, answered, takes }
    }

    /// Whose first answer about readers waits; with what tells that it was asked for, and what lets it go.
    fn first(rest: MockChanges) -> (Self, Arc<Notify>, Arc<Notify>) {
        let late =
            Self { first_waits: AtomicBool::new(true), ..Self::taking(Duration::ZERO, rest) };
        let (asked, answered) = (late.asked.clone(), late.answered.clone());
        (late, asked, answered)
    }
}

#[async_trait]
impl Changes for Late {
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look> {
        self.rest.changes(since).await
    }

    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>> {
        sleep(self.takes).await;
        self.rest.heads(conversations).await
    }

    async fn readers(&self, of: ConversationId, users: Vec<UserId>) -> Result<Option<Readers>> {
        let answer = self.rest.readers(of, users).await;
        if self.first_waits.swap(false, Ordering::Relaxed) {
            self.asked.notify_one();
            self.answered.notified().await;
        }
        answer
    }

    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>> {
        sleep(self.takes).await;
        self.rest.ended_sessions(of).await
    }

    async fn session_rev(&self) -> Result<SessionRev> {
        self.rest.session_rev().await
    }

    async fn workspace_members(&self, of: WorkspaceId, users: Vec<UserId>) -> Result<Vec<UserId>> {
        self.rest.workspace_members(of, users).await
    }

    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>> {
        self.rest.states(of).await
    }
}

/// Ada has gone by the time of the answer about her; Bob has come since, with a snapshot from before his removal.
#[tokio::test(start_paused = true)]
async fn an_answer_about_those_who_listened_before_says_nothing_of_others() {
    let mut rest = changes();
    rest.expect_changes().returning(|_| Ok(nothing_new()));
    rest.expect_readers()
        .once()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(2), users })));
    rest.expect_readers()
        .once()
        .returning(|_, _| Ok(Some(Readers { access_rev: AccessRev(2), users: vec![] })));
    let (late, asked, answered) = Late::first(rest);
    let scene = quiet_scene(late, MockConversations::new(), replays(6, 2)).await;
    scene.node.live.unregister(socket(2)).await;
    scene.says(changed(5, 2));
    asked.notified().await;
    scene.node.live.unregister(socket(1)).await;
    scene.node.connect(socket(3), scene.bob, &[(HERE, 4)]).await;
    scene.node.live.settle().await;
    answered.notify_one();
    scene.says(changed(6, 2));
    scene.until(3, &["conversation.left"]).await;
}

/// Bob was out when it was asked who may read, and is back by the time of the answer.
#[tokio::test(start_paused = true)]
async fn who_is_back_when_a_check_finds_them_out_is_let_in_again() {
    let mut rest = changes();
    rest.expect_readers().once().returning(|_, users| {
        Ok(Some(Readers {
            access_rev: AccessRev(2),
            users: users.into_iter().min().into_iter().collect(),
        }))
    });
    let (rest, conversations) = knowing(rest, 3);
    let (late, asked, answered) = Late::first(rest);
    let scene = quiet_scene(late, conversations, replays(5, 3)).await;
    scene.says(changed(5, 2));
    asked.notified().await;
    scene.says(heard_joined(scene.bob, 3));
    sleep(Duration::from_millis(100)).await;
    answered.notify_one();
    scene.until(1, &["replay"]).await;
    scene.until(2, &["conversation.left", "conversation.joined"]).await;
    scene.says(changed(6, 3));
    scene.until(2, &["conversation.left", "conversation.joined", "changed"]).await;
}
