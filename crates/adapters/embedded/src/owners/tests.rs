use std::{
    pin::{Pin, pin},
    sync::mpsc,
    time::Duration,
};

use futures::poll;
use parlance_application::ports::{
    PasswordHash, RefreshDigest,
    store::{Accounts as _, NewPassword, NewSession, RotateRefresh, Rotation},
};
use parlance_domain::DisplayName;
use parlance_testkit::Stage;
use tokio::sync::oneshot;

use super::*;
use crate::{EmbeddedStore, Engine};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LATER: Timestamp = Timestamp::from_millis(2_000);
const ADA: UserId = UserId(Uuid::from_u128(1));
const BOB: UserId = UserId(Uuid::from_u128(2));
/// Ada's first, her second, and Bob's.
const SESSIONS: [(SessionId, UserId); 3] = [
    (SessionId(Uuid::from_u128(11)), ADA),
    (SessionId(Uuid::from_u128(12)), ADA),
    (SessionId(Uuid::from_u128(21)), BOB),
];

fn account(id: UserId) -> Account {
    let (email, display_name) = (format!("{id}@example.org"), "Somebody".to_owned());
    Account { id, email, display_name, created_at: NOW }
}

/// Asks for all three.
fn asked(owners: &Owners) -> [Asked; 3] {
    SESSIONS.map(|(session, _)| owners.get(session, NOW).expect_err("nobody is known"))
}

/// Answers them.
fn put(owners: &Owners, asked: [Asked; 3]) {
    for (asked, (session, owner)) in asked.into_iter().zip(SESSIONS) {
        owners.put(asked, session, &account(owner), LATER);
    }
}

fn known(owners: &Owners) -> [bool; 3] {
    SESSIONS.map(|(session, _)| owners.get(session, NOW).is_ok())
}

#[test]
fn an_owner_is_known_until_the_session_expires() {
    let owners = Owners::default();
    put(&owners, asked(&owners));
    assert_eq!(owners.get(SESSIONS[2].0, NOW).ok(), Some(account(BOB)));
    assert!(owners.get(SESSIONS[2].0, LATER).is_err());
}

/// What was read before a change, or alongside it, is not kept; what the change does not concern is.
#[test]
fn a_write_forgets_whom_it_concerns_and_nobody_else() {
    let one = (Concerns::Session(SESSIONS[0].0), [false, true, true]);
    let all = (Concerns::User(ADA), [false, false, true]);
    for (concerns, others) in [one, all] {
        let written = |at: &str, step: &dyn Fn(&Owners)| {
            let owners = Owners::default();
            step(&owners);
            assert_eq!(known(&owners), others, "{concerns:?}, read {at}");
            let listed = owners.lock().of_users.len();
            assert_eq!(listed, owners.lock().owners.len());
            drop(owners.write(Concerns::User(ADA)));
            drop(owners.write(Concerns::User(BOB)));
            put(&owners, asked(&owners));
            assert_eq!(known(&owners), [true; 3], "and is known again");
        };
        written("before it", &|owners| {
            put(owners, asked(owners));
            drop(owners.write(concerns));
        });
        written("before it, until it is on its way", &|owners| {
            let before = asked(owners);
            let writing = owners.write(concerns);
            put(owners, before);
            drop(writing);
        });
        written("before it, until after it", &|owners| {
            let before = asked(owners);
            drop(owners.write(concerns));
            put(owners, before);
        });
        written("beside it", &|owners| {
            let writing = owners.write(concerns);
            put(owners, asked(owners));
            drop(writing);
        });
        written("beside it, until after it", &|owners| {
            let writing = owners.write(concerns);
            let beside = asked(owners);
            drop(writing);
            put(owners, beside);
        });
        written("after the first of two", &|owners| {
            let (first, second) = (owners.write(concerns), owners.write(concerns));
            drop(first);
            put(owners, asked(owners));
            drop(second);
        });
    }
}

#[test]
fn what_was_read_beside_more_writes_than_are_known_is_not_kept() {
    let owners = Owners::default();
    let others = |many| {
        for n in 0..many as u128 {
            drop(owners.write(Concerns::User(UserId(Uuid::from_u128(100 + n)))));
        }
    };
    let before = asked(&owners);
    others(ENDED);
    put(&owners, before);
    assert_eq!(known(&owners), [true; 3], "none of them concerned it");
    for concerns in [Concerns::User(ADA), Concerns::User(BOB)] {
        drop(owners.write(concerns));
    }
    let before = asked(&owners);
    drop(owners.write(Concerns::User(ADA)));
    others(ENDED);
    put(&owners, before);
    assert_eq!(known(&owners), [false; 3], "whether one did is not known any more");
    assert_eq!(owners.lock().ended.len(), ENDED);
    assert_eq!(owners.lock().writing.len(), 0);
}

#[test]
fn no_more_are_known_than_have_a_place() {
    let owners = Owners::default();
    for n in 0..KNOWN as u128 + 10 {
        let session = SessionId(Uuid::from_u128(n));
        let asked = owners.get(session, NOW).expect_err("is not known");
        owners.put(asked, session, &account(ADA), LATER);
        assert!(owners.get(session, NOW).is_ok());
    }
    let known = owners.lock();
    assert_eq!((known.owners.len(), known.of_users.len()), (10, 10));
}

struct Scene {
    stage: Stage,
    store: EmbeddedStore,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(dir.path(), "epoch".to_owned(), NOW).expect("opens");
        Self { stage: Stage::new(store.clone()), store, _dir: dir }
    }

    /// As a request would ask.
    async fn lives(&self, session: &NewSession) -> bool {
        self.store.session_owner(session.id, session.at).await.expect("answers").is_some()
    }

    fn remembers(&self, session: &NewSession) -> bool {
        self.store.owners.get(session.id, session.at).is_ok()
    }

    fn writes_that_wait(&self) -> usize {
        match &self.store.engine {
            Engine::Threads(db) => db.writer().waiting(),
            #[cfg(feature = "simulation")]
            Engine::Inline(_) => 0,
        }
    }

    async fn refresh(&self, presented: RefreshDigest, successor: u8) -> Rotation {
        let at = self.stage.at();
        let (successor, expires_at) =
            (RefreshDigest([successor; 32]), at + Duration::from_hours(1));
        let grace = Duration::from_mins(1);
        let rotation = RotateRefresh { presented, successor, at, expires_at, grace };
        self.store.rotate_refresh(rotation).await.expect("answers")
    }

    /// Somebody with a second session; it has been refreshed twice, so that its first token is an old one.
    async fn second_session(&self, account: &Account) -> NewSession {
        let second = self.stage.session(account.id);
        self.store.open_session(second.clone(), &Stage::hash()).await.expect("opens");
        self.refresh(second.refresh, 1).await;
        self.refresh(RefreshDigest([1; 32]), 2).await;
        second
    }
}

/// At ten thousand people somebody refreshes eleven times a second.
#[tokio::test]
async fn what_others_do_makes_nobody_forgotten() {
    let scene = Scene::new();
    let (ada, first) = scene.stage.sign_up("ada").await;
    let second = scene.second_session(&ada).await;
    let (bob, bobs) = scene.stage.sign_up("bob").await;
    for session in [&first, &second, &bobs] {
        assert!(scene.lives(session).await && scene.remembers(session));
    }
    let refreshed = scene.refresh(RefreshDigest([2; 32]), 3).await;
    assert!(matches!(refreshed, Rotation::Rotated { .. }), "{refreshed:?}");
    let all = [&first, &second, &bobs].map(|session| scene.remembers(session));
    assert_eq!(all, [true; 3], "it changes no owner");
    scene.store.revoke_session(ada.id, first.id, scene.stage.at()).await.expect("revokes");
    let all = [&first, &second, &bobs].map(|session| scene.remembers(session));
    assert_eq!(all, [false, true, true]);
    let name = DisplayName::parse("Robert").expect("valid");
    scene.store.rename(scene.stage.by(bob.id), &name).await.expect("renames");
    let all = [&first, &second, &bobs].map(|session| scene.remembers(session));
    assert_eq!(all, [false, true, false]);
}

/// How a session may end: by its owner, or by reuse of an old token.
#[derive(Debug, Clone, Copy)]
enum End {
    Revoked,
    NewPassword,
    Reused,
}

/// Neither by a read that began before its end, nor by one alongside it.
#[tokio::test]
async fn a_session_that_has_ended_is_remembered_by_no_read() {
    for end in [End::Revoked, End::NewPassword, End::Reused] {
        let scene = Scene::new();
        let (ada, first) = scene.stage.sign_up("ada").await;
        let second = scene.second_session(&ada).await;
        let slow = scene.store.owners.get(second.id, second.at).expect_err("not asked for yet");
        assert!(scene.lives(&second).await && scene.remembers(&second));

        // The end is written, but not committed yet: another write of its group is slow.
        let (mut held, go) = hold(&scene.store);
        held.begun().await;
        let mut ending = pin!(ends(&scene, end, &ada, &first, &second));
        while scene.writes_that_wait() == 0 {
            assert!(poll!(&mut ending).is_pending());
            tokio::task::yield_now().await;
        }
        let (mut next, go_next) = hold(&scene.store);
        assert!(poll!(&mut next.write).is_pending());
        go.send(()).expect("held");
        held.write.await;
        next.begun().await;
        assert!(scene.lives(&second).await, "{end:?}: nothing is committed yet");
        assert!(!scene.remembers(&second), "{end:?}");
        go_next.send(()).expect("held");
        ending.await;

        assert!(!scene.lives(&second).await, "{end:?}");
        scene.store.owners.put(slow, second.id, &ada, second.expires_at);
        assert!(!scene.lives(&second).await, "{end:?}");
        next.write.await;
    }
}

async fn ends(scene: &Scene, end: End, ada: &Account, first: &NewSession, second: &NewSession) {
    let at = scene.stage.at();
    match end {
        End::Revoked => {
            scene.store.revoke_session(ada.id, second.id, at).await.expect("revokes");
        }
        End::NewPassword => {
            let (verified, password) = (Stage::hash(), PasswordHash("new".to_owned()));
            let change = NewPassword { user: ada.id, verified, password, keep: first.id, at };
            let ended = scene.store.change_password(change).await.expect("changes");
            assert_eq!(ended.sessions, [second.id]);
        }
        End::Reused => {
            let reused = scene.refresh(second.refresh, 3).await;
            assert!(matches!(reused, Rotation::Reused { .. }), "{reused:?}");
        }
    }
}

/// A write that holds up the writer.
struct Held<'a> {
    write: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    runs: oneshot::Receiver<()>,
}

impl Held<'_> {
    async fn begun(&mut self) {
        assert!(poll!(&mut self.write).is_pending());
        (&mut self.runs).await.expect("runs");
    }
}

/// It goes on when told to.
fn hold(store: &EmbeddedStore) -> (Held<'_>, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let (begun, runs) = oneshot::channel();
    let write = store.write(move |_| {
        let _ = begun.send(());
        let _ = wait.recv();
        Ok(())
    });
    (Held { write: Box::pin(async { write.await.expect("writes") }), runs }, go)
}
