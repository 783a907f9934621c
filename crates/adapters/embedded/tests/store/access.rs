//! Who may see what, as the embedded store decides it, and the order in which it takes writes.

use futures::{FutureExt as _, TryFutureExt as _, future::join_all};
use parlance_application::{
    Error,
    ports::store::{
        Accounts, Conversations, Messages, NewChannel, NewDm, PageQuery, Reader, ReplayQuery,
        Workspaces,
    },
};
use parlance_domain::{
    AccessRev, ChannelName, ConversationAction, ConversationId, Rev, Role, Seq, Timestamp, Topic,
    UserId,
};
use parlance_embedded::EmbeddedStore;
use tokio::task::unconstrained;
use uuid::Uuid;

use crate::world::*;

const EVE: UserId = UserId(Uuid::from_u128(3));
const SECRET: ConversationId = ConversationId(Uuid::from_u128(0x2001));
const DM: ConversationId = ConversationId(Uuid::from_u128(0x2002));

fn channel(id: ConversationId, name: &str, private: bool) -> NewChannel {
    NewChannel {
        id,
        workspace_id: WORKSPACE,
        name: ChannelName::parse(name).expect("a channel's name"),
        topic: Topic::parse("").expect("a topic"),
        private,
        at: Timestamp::from_millis(2_000_000),
    }
}

/// What notifies sockets of changes relies on this, and on this alone.
#[tokio::test]
async fn writes_are_taken_in_the_order_in_which_they_are_first_polled() {
    let world = world().await;
    let (store, news) = (&world.store, ConversationId(Uuid::from_u128(0x2003)));
    store.create_channel(by(ADA), channel(news, "news", false)).await.expect("creates");
    let at = Timestamp::from_millis(2_000_001);
    // More than the queue holds.
    let in_and_out = (0..1_000).map(|_| {
        let joining = store.join_channel(by(BOB), news, at).map_ok(|entry| entry.entered);
        [joining.boxed(), store.remove_channel_member(by(ADA), news, BOB).map_ok(|_| true).boxed()]
    });
    let done = unconstrained(join_all(in_and_out.flatten())).await;
    assert_eq!(done.iter().filter(|entered| matches!(entered, Ok(true))).count(), 2_000);
}

#[tokio::test]
async fn the_last_admin_stays() {
    let world = world().await;
    let store = &world.store;
    assert!(conflict(store.remove_member(by(ADA), WORKSPACE, ADA).await));
    assert!(conflict(store.set_role(by(ADA), WORKSPACE, ADA, Role::Member).await));
    assert!(matches!(
        store.set_role(by(BOB), WORKSPACE, BOB, Role::Admin).await,
        Err(Error::Forbidden(_))
    ));
    assert_eq!(
        store.set_role(by(ADA), WORKSPACE, BOB, Role::Admin).await.expect("changes").role,
        Role::Admin
    );
    assert_eq!(
        store.set_role(by(ADA), WORKSPACE, ADA, Role::Member).await.expect("changes").role,
        Role::Member
    );
    assert!(conflict(store.remove_member(by(BOB), WORKSPACE, BOB).await));
    let gone = store.remove_member(by(ADA), WORKSPACE, ADA).await.expect("leaves").conversations;
    assert_eq!(gone.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [GENERAL]);
    assert!(not_found(store.workspace(ADA, WORKSPACE).await));
}

#[tokio::test]
async fn who_is_removed_sees_nothing_until_they_are_back() {
    let world = world().await;
    let store = &world.store;
    message(world.one(send(BOB, 11, "a", "words")).await);
    let dm =
        NewDm { id: DM, workspace_id: WORKSPACE, peer: BOB, at: Timestamp::from_millis(3_000_000) };
    let opened = store.open_dm(by(ADA), dm.clone()).await.expect("opens");
    assert!(opened.theirs.is_some() && opened.mine.can_post);
    assert_eq!(opened.mine.conversation.member_ids.as_deref(), Some(&[ADA, BOB][..]));
    let found =
        store.open_dm(by(BOB), NewDm { peer: ADA, id: SECRET, ..dm.clone() }).await.expect("finds");
    assert!(found.theirs.is_none() && found.mine.conversation.id == DM);
    assert!(matches!(
        store.open_dm(by(ADA), NewDm { peer: ADA, ..dm }).await,
        Err(Error::Validation(_))
    ));
    let before = access_rev(store, ADA, GENERAL).await;

    let gone = store.remove_member(by(ADA), WORKSPACE, BOB).await.expect("removes");
    let gone: Vec<_> = gone.conversations.into_iter().map(|(id, _)| id).collect();
    assert_eq!(gone, [GENERAL, DM]);
    assert_eq!(access_rev(store, ADA, GENERAL).await, before.next());
    for id in gone {
        assert!(not_found(store.summary(BOB, id).await));
        assert!(not_found(store.permit(BOB, id, ConversationAction::Read).await));
    }
    assert!(not_found(world.one(send(BOB, 12, "a", "words")).await));
    assert!(not_found(store.message(BOB, id(11)).await));
    let query = ReplayQuery { from_rev: Rev(0), limit: 1, budget: 1 };
    assert!(not_found(store.replay(Reader::Session(by(BOB)), GENERAL, query).await));
    let snapshot = store.snapshot(BOB).await.expect("reads");
    assert!(snapshot.workspaces.is_empty() && snapshot.conversations.is_empty());
    assert!(store.conversations(BOB, ALL).await.expect("reads").items.is_empty());
    assert!(not_found(store.remove_member(by(ADA), WORKSPACE, BOB).await));
    let alone = store.summary(ADA, DM).await.expect("reads");
    assert!(alone.joined && !alone.can_post);
    // Ada can still read what Bob wrote, so she may know who he is; he may not know her.
    assert_eq!(store.people(ADA, vec![BOB]).await.expect("reads").len(), 1);
    assert!(store.people(BOB, vec![ADA]).await.expect("reads").is_empty());

    world.add(BOB, Role::Admin).await;
    assert!(store.summary(BOB, DM).await.expect("reads").can_post);
    assert_eq!(store.snapshot(BOB).await.expect("reads").conversations.len(), 2);
    assert_eq!(store.summary(BOB, GENERAL).await.expect("reads").read.read_seq, Seq(1));
}

async fn access_rev(store: &EmbeddedStore, user: UserId, id: ConversationId) -> AccessRev {
    let snapshot = store.snapshot(user).await.expect("reads");
    let mut entries = snapshot.conversations.into_iter();
    entries
        .find(|entry| entry.summary.conversation.id == id)
        .expect("the conversation is listed")
        .access_rev
}

#[tokio::test]
async fn channels_are_joined_left_and_deleted() {
    let world = world().await;
    let store = &world.store;
    world.person(EVE).await;
    let created =
        store.create_channel(by(BOB), channel(SECRET, "secret", true)).await.expect("creates");
    assert!(
        created.entered
            && created.access_rev == AccessRev(1)
            && created.summary.conversation.rev == Rev(0)
    );
    assert!(conflict(store.create_channel(by(ADA), channel(DM, "secret", false)).await));
    assert!(not_found(store.summary(ADA, SECRET).await));
    assert!(not_found(store.join_channel(by(ADA), SECRET, NOW).await));
    assert!(not_found(store.add_channel_member(by(BOB), SECRET, EVE, NOW).await));
    assert!(store.add_channel_member(by(BOB), SECRET, ADA, NOW).await.expect("adds").entered);
    assert!(!store.add_channel_member(by(BOB), SECRET, ADA, NOW).await.expect("adds").entered);
    assert_eq!(store.channel_members(BOB, SECRET, ALL).await.expect("lists").items.len(), 2);
    assert!(matches!(store.delete_channel(by(BOB), SECRET, NOW).await, Err(Error::Forbidden(_))));
    store.remove_channel_member(by(ADA), SECRET, BOB).await.expect("removes");
    assert!(not_found(store.remove_channel_member(by(ADA), SECRET, EVE).await));
    assert!(not_found(store.summary(BOB, SECRET).await));

    assert!(conflict(store.remove_channel_member(by(BOB), GENERAL, BOB).await));
    assert!(conflict(store.delete_channel(by(ADA), GENERAL, NOW).await));
    store.delete_channel(by(ADA), SECRET, NOW).await.expect("deletes");
    assert!(not_found(store.summary(ADA, SECRET).await));
    assert!(store.create_channel(by(ADA), channel(DM, "secret", false)).await.is_ok());
    assert!(!store.join_channel(by(ADA), DM, NOW).await.expect("is in").entered);

    let first =
        store.channels(BOB, WORKSPACE, PageQuery { after: None, limit: 1 }).await.expect("lists");
    let second = store
        .channels(BOB, WORKSPACE, PageQuery { after: first.next, limit: 1 })
        .await
        .expect("lists");
    let shape = |items: &[parlance_domain::Summary]| {
        items.iter().map(|s| (s.conversation.id, s.joined)).collect::<Vec<_>>()
    };
    assert_eq!(
        (shape(&first.items), shape(&second.items)),
        (vec![(GENERAL, true)], vec![(DM, false)])
    );
    assert_eq!(second.next, None);
    let bad = PageQuery { after: Some("zzz".to_owned()), limit: 1 };
    assert!(matches!(store.channels(BOB, WORKSPACE, bad).await, Err(Error::BadRequest(_))));

    let gone = store.delete_workspace(by(ADA), WORKSPACE, NOW).await.expect("deletes");
    assert_eq!(gone, [GENERAL, DM]);
    assert!(not_found(store.summary(ADA, GENERAL).await));
    assert!(store.workspaces(ADA, ALL).await.expect("lists").items.is_empty());
}

#[tokio::test]
async fn a_join_code_lets_in_once() {
    use parlance_application::ports::store::Joining;
    use parlance_domain::JoinCode;

    let world = world().await;
    world.person(EVE).await;
    let code = JoinCode::from_random([7; 32]);
    let Joining::Entered(admission) =
        world.store.join_workspace(by(EVE), &code, NOW).await.expect("joins")
    else {
        panic!("was in");
    };
    assert!(admission.workspace.join_code.is_none() && admission.general.entered);
    let again = world.store.join_workspace(by(EVE), &code, NOW).await.expect("joins");
    assert!(matches!(again, Joining::AlreadyIn(_)));
    let fresh = JoinCode::from_random([8; 32]);
    let rotated =
        world.store.rotate_join_code(by(ADA), WORKSPACE, fresh.clone()).await.expect("rotates");
    assert_eq!(rotated.join_code.as_deref(), Some(fresh.as_str()));
    assert!(not_found(world.store.join_workspace(by(EVE), &code, NOW).await));
}

#[tokio::test]
async fn reopening_keeps_data_and_epoch() {
    let world = world().await;
    message(world.one(send(ADA, 11, "a", "kept")).await);
    world.store.ping().await.expect("writes");
    let World { store, dir } = world;
    drop(store);
    let mut store = EmbeddedStore::open(dir.path(), "second".to_owned(), NOW).expect("opens again");
    assert_eq!(store.snapshot(ADA).await.expect("reads").epoch, "first");
    assert_eq!(store.message(BOB, id(11)).await.expect("reads").text, "kept");
    store.renew_epoch("renewed".to_owned()).await.expect("writes");
    assert_eq!(store.snapshot(ADA).await.expect("reads").epoch, "renewed");
    drop(store);
    let store = EmbeddedStore::open(dir.path(), "third".to_owned(), NOW).expect("opens again");
    assert_eq!(store.snapshot(ADA).await.expect("reads").epoch, "renewed");
}
