//! Signing in and out.

use std::{net::IpAddr, sync::Arc, time::Duration};

use parlance_application::{
    App, Error, Ports, SignedIn, Unauthenticated,
    live::Attachment,
    ports::{
        Claims, Close, PasswordHash, RefreshToken,
        store::{Credentials, EndedSessions, Page, PageQuery, Rotation},
    },
};
use parlance_domain::{ConversationId, Session, SessionId, SessionRev};
use parlance_testkit::{
    TestNode, account, caller, email, head,
    mocks::{MockMessages, MockPasswordHasher, MockStore},
    password, socket,
};

fn wrong(outcome: Result<SignedIn, Error>) -> String {
    let error = outcome.expect_err("is refused");
    assert!(matches!(error, Error::Unauthenticated(Unauthenticated::Credentials)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn an_unknown_address_fails_like_a_wrong_password_after_the_same_work() {
    let node = TestNode::start(MockMessages::new());
    let ada = account(&node.ambient, "ada");
    let mut store = MockStore::new();
    store.expect_credentials().times(2).returning(move |address| {
        let known = Credentials { account: ada.clone(), password: PasswordHash("hash".to_owned()) };
        Ok((*address == email("ada")).then_some(known))
    });
    let mut hasher = MockPasswordHasher::new();
    hasher
        .expect_verify()
        .withf(|_, hash| hash.as_ref() == Some(&PasswordHash("hash".to_owned())))
        .once()
        .returning(|_, _| Ok(false));
    hasher.expect_verify().withf(|_, hash| hash.is_none()).times(2).returning(|_, _| Ok(false));
    let mut ports = node.ports(store);
    ports.hasher = Arc::new(hasher);
    let accounts = App::new(ports).accounts;
    let sign_in = async |typed| wrong(accounts.sign_in(None, typed, password("a guess")).await);
    let wrong_password = sign_in("ada@example.org").await;
    let unknown = sign_in("eve@example.org").await;
    let no_address = sign_in("no address").await;
    assert!(wrong_password == unknown && unknown == no_address);
}

/// Nobody has to think of it who calls the use case.
#[tokio::test]
async fn guesses_at_sign_in_are_counted_by_network_and_address() {
    let node = TestNode::start(MockMessages::new());
    let mut store = MockStore::new();
    store.expect_credentials().times(22).returning(|_| Ok(None));
    let accounts = App::new(Ports { rate_limits: true, ..node.ports(store) }).accounts;
    let from = |last| Some(IpAddr::from([192, 0, 2, last]));
    let guess = async |last, typed| accounts.sign_in(from(last), typed, password("a guess")).await;
    for _ in 0..20 {
        wrong(guess(1, "ada@example.org").await);
    }
    let refused = guess(1, " Ada@example.org").await;
    assert!(matches!(refused, Err(Error::RateLimited { .. })), "{refused:?}");
    wrong(guess(1, "bob@example.org").await);
    wrong(guess(2, "ada@example.org").await);
}

#[tokio::test]
async fn a_reused_refresh_token_closes_the_sessions_sockets() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let other = SessionId(node.ambient.next_uuid());
    for (number, session) in [(1, ada.session_id), (2, other)] {
        node.register(socket(number), ada.id(), session, 0).await;
        node.live.attach(socket(number), Attachment::default()).await;
    }
    let mut store = MockStore::new();
    let session_id = ada.session_id;
    store
        .expect_rotate_refresh()
        .once()
        .returning(move |_| Ok(Rotation::Reused { session_id, session_rev: SessionRev(1) }));
    let outcome = node.app(store).accounts.refresh(RefreshToken([1; 32])).await;
    assert!(matches!(outcome, Err(Error::Unauthenticated(Unauthenticated::Revoked))));
    // Without a wait: it was so when the answer came.
    assert_eq!(node.fanout.closed(socket(1)), Some(Close::SessionRevoked));
    assert_eq!(node.fanout.types(socket(1)), ["session.revoked"]);
    assert_eq!((node.fanout.closed(socket(2)), node.fanout.frames(socket(2))), (None, vec![]));
}

#[tokio::test]
async fn a_refresh_hands_out_the_successor_that_it_stored() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let (account, session_id) = (ada.account.clone(), ada.session_id);
    let mut store = MockStore::new();
    store
        .expect_rotate_refresh()
        .withf(|rotation| {
            let pair = rotation.presented.0 == [1; 32] && rotation.successor.0[0] == 2;
            // The contract's.
            pair && rotation.grace == Duration::from_mins(1)
        })
        .once()
        .return_once(move |_| Ok(Rotation::Rotated { account, session_id }));
    let owner = ada.account.clone();
    store.expect_session_owner().once().return_once(move |_, _| Ok(Some(owner)));
    let app = node.app(store);
    let signed_in = app.accounts.refresh(RefreshToken([1; 32])).await.expect("refreshes");
    assert_eq!(signed_in.refresh.0[0], 2);
    let back = app.accounts.authenticate(&signed_in.access.0).await.expect("is let in");
    assert_eq!((back.id(), back.session_id), (ada.id(), ada.session_id));
    node.ambient.advance(signed_in.expires_in);
    let late = app.accounts.authenticate(&signed_in.access.0).await;
    assert!(matches!(late, Err(Error::Unauthenticated(Unauthenticated::Expired))));
}

#[tokio::test]
async fn a_new_password_closes_the_other_sessions_sockets_only() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let other = SessionId(node.ambient.next_uuid());
    node.register(socket(1), ada.id(), ada.session_id, 0).await;
    node.register(socket(2), ada.id(), other, 0).await;
    let known = Credentials {
        account: ada.account.clone(),
        password: PasswordHash("plain:old password".to_owned()),
    };
    let mut store = MockStore::new();
    store.expect_credentials_of().times(2).returning(move |_| Ok(known.clone()));
    let keep = ada.session_id;
    store
        .expect_change_password()
        .withf(move |change| {
            change.verified.0 == "plain:old password"
                && change.password.0 == "plain:new password"
                && change.keep == keep
        })
        .once()
        .returning(move |_| {
            Ok(EndedSessions { sessions: vec![other], session_rev: SessionRev(1) })
        });
    let accounts = node.app(store).accounts;
    let refused =
        accounts.change_password(&ada, password("a guess"), password("new password")).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))));
    accounts
        .change_password(&ada, password("old password"), password("new password"))
        .await
        .expect("changes");
    assert_eq!(node.fanout.closed(socket(2)), Some(Close::SessionRevoked));
    assert_eq!(node.fanout.closed(socket(1)), None);
}

/// Whoever has found a token has not found the password.
#[tokio::test]
async fn a_new_password_is_no_way_to_guess_the_old_one() {
    let node = TestNode::start(MockMessages::new());
    let (ada, bob) = (caller(&node.ambient, "ada"), caller(&node.ambient, "bob"));
    let account = ada.account.clone();
    let mut store = MockStore::new();
    store.expect_credentials_of().returning(move |_| {
        let password = PasswordHash("plain:old password".to_owned());
        Ok(Credentials { account: account.clone(), password })
    });
    let accounts = App::new(Ports { rate_limits: true, ..node.ports(store) }).accounts;
    let change = |who, current| accounts.change_password(who, password(current), password("mine"));
    for _ in 0..20 {
        let refused = change(&ada, "a guess").await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
    }
    let refused = change(&ada, "old password").await;
    let minute = Duration::from_mins(1);
    assert!(
        matches!(refused, Err(Error::RateLimited { retry_after }) if retry_after <= minute),
        "{refused:?}"
    );
    let another = change(&bob, "a guess").await;
    assert!(matches!(another, Err(Error::Forbidden(_))), "{another:?}");
}

#[tokio::test]
async fn a_socket_of_an_ended_session_hears_nothing_more() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    node.register(socket(1), ada.id(), ada.session_id, 0).await;
    let mut store = MockStore::new();
    store.expect_revoke_session().once().returning(|_, _, _| Ok(SessionRev(1)));
    node.app(store).accounts.revoke_session(&ada, ada.session_id).await.expect("revokes");
    let conversations = vec![head(ConversationId(node.ambient.next_uuid()), 0)];
    let attachment = Attachment { conversations, ..Attachment::default() };
    node.live.attach(socket(1), attachment).await;
    node.live.drain().await;
    assert_eq!(node.fanout.closed(socket(1)), Some(Close::SessionRevoked));
    assert_eq!(node.fanout.types(socket(1)), Vec::<String>::new(), "before the reply to `hello`");
}

#[tokio::test]
async fn the_session_that_asks_is_the_current_one() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let (own, other) = (ada.session_id, SessionId(node.ambient.next_uuid()));
    let at = ada.account.created_at;
    let listed = move |id| Session { id, created_at: at, last_used_at: at, current: false };
    let mut store = MockStore::new();
    store
        .expect_sessions()
        .once()
        .returning(move |_, _, _| Ok(Page { items: vec![listed(other), listed(own)], next: None }));
    let page = PageQuery { after: None, limit: 2 };
    let sessions = node.app(store).accounts.sessions(&ada, page).await.expect("lists").items;
    let current: Vec<_> = sessions.iter().map(|session| (session.id, session.current)).collect();
    assert_eq!(current, [(other, false), (own, true)]);
}

/// Of two that sign out at once, the second has lost its session, and finds nothing missing.
#[tokio::test]
async fn who_has_been_signed_out_meanwhile_is_told_so() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let mut store = MockStore::new();
    store.expect_revoke_session().once().returning(|_, _, _| Err(Error::NotFound("session")));
    let outcome = node.app(store).accounts.sign_out(&ada).await;
    let revoked = Error::Unauthenticated(Unauthenticated::Revoked);
    assert_eq!(outcome.map_err(|error| error.to_string()), Err(revoked.to_string()));
}

/// Whatever was signed: a session is its owner's.
#[tokio::test]
async fn a_token_that_names_anothers_session_lets_nobody_in() {
    let node = TestNode::start(MockMessages::new());
    let (ada, bob) = (caller(&node.ambient, "ada"), caller(&node.ambient, "bob"));
    let mut store = MockStore::new();
    let owner = bob.account.clone();
    store.expect_session_owner().returning(move |_, _| Ok(Some(owner.clone())));
    let ports = node.ports(store);
    let claims = Claims { session_id: bob.session_id, ..ada.claims() };
    let token = ports.tokens.issue(claims).expect("issues").0;
    let outcome = App::new(ports).accounts.authenticate(&token).await;
    assert!(
        matches!(outcome, Err(Error::Unauthenticated(Unauthenticated::Revoked))),
        "{outcome:?}"
    );
}
