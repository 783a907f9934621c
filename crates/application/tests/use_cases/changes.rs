//! What a use case tells the store of who asks, and how much one may ask for.

use parlance_application::{
    App, Error, Result,
    ports::store::{Commit, Committed, Reader, Write},
};
use parlance_domain::{
    AccessRev, ChangeKind, ChannelName, ConversationId, DisplayName, Emoji, JoinCode, MessageId,
    Rev, Role, SessionRev, Topic, UserId, Workspace, WorkspaceId, WorkspaceName,
};
use parlance_testkit::{
    TestNode, account, caller, channel, email, message,
    mocks::{MockMessages, MockStore},
    summary, text,
};
use tokio::sync::mpsc;

/// A store in which all changes of a message succeed, and what it was asked to write.
fn accepting(here: ConversationId) -> (MockStore, mpsc::UnboundedReceiver<Write>) {
    let (tell, writes) = mpsc::unbounded_channel();
    let mut store = MockStore::new();
    store.expect_message().returning(move |actor, id| Ok(message(id, here, actor, 1, "hello")));
    store.expect_summary().returning(|_, id| Ok(summary(channel(id, 1))));
    store.expect_append().returning(move |here, asked| {
        let commit = |write: Write| {
            let subject = message(MessageId(here.0), here, write.by.user, 1, "hello");
            tell.send(write).expect("the test listens");
            Ok(Commit {
                subject: Committed::Message(subject),
                change: Some((ChangeKind::Edited, Rev(2))),
                access_rev: AccessRev(1),
                session_rev: SessionRev::ZERO,
            })
        };
        Ok(asked.into_iter().map(commit).collect())
    });
    (store, writes)
}

/// So that the commit can refuse what an ended session asks for, whatever its node has heard.
#[tokio::test]
async fn every_change_names_the_session_that_makes_it() {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
    let (store, mut writes) = accepting(here);
    let app = node.app(store);
    let (messages, id) = (&app.messages, MessageId(node.ambient.next_uuid()));
    let emoji = || Emoji::parse("👍").expect("valid");
    messages.edit(&ada, id, text("another")).await.expect("edits");
    messages.delete(&ada, id).await.expect("deletes");
    messages.react(&ada, id, emoji()).await.expect("reacts");
    messages.unreact(&ada, id, emoji()).await.expect("takes it back");
    let topic = Topic::parse("news").ok();
    app.channels.update(&ada, here, None, topic).await.expect("updates");
    for change in ["edit", "delete", "react", "unreact", "update"] {
        let write = writes.recv().await.expect("a write");
        assert_eq!(write.by, ada.principal(), "{change}");
    }
}

#[tokio::test]
async fn a_sync_names_its_session() {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
    let mut store = MockStore::new();
    let reader = Reader::Session(ada.principal());
    store
        .expect_replay()
        .withf(move |asks, of, query| (*asks, *of, query.from_rev) == (reader, here, Rev(4)))
        .once()
        .return_once(|_, _, _| Err(Error::NotFound("conversation")));
    let page = node.app(store).messages.replay(&ada, here, Rev(4)).await;
    assert!(matches!(page, Err(Error::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn changes_and_sends_are_of_one_share() {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
    let (store, _writes) = accepting(here);
    let mut ports = node.ports(store);
    ports.rate_limits = true;
    let app = App::new(ports);
    let id = MessageId(node.ambient.next_uuid());
    let emoji = || Emoji::parse("👍").expect("valid");
    for n in 0..250 {
        let all: [Result<_>; 4] = [
            app.messages.edit(&ada, id, text("another")).await,
            app.messages.react(&ada, id, emoji()).await,
            app.messages.unreact(&ada, id, emoji()).await,
            app.messages.delete(&ada, id).await,
        ];
        assert!(all.iter().all(Result::is_ok), "round {n}: {all:?}");
    }
    // None of them comes to the store, which expects none.
    let (bob, team) = (UserId(here.0), WorkspaceId(here.0));
    let name = || WorkspaceName::parse("Acme").expect("valid");
    let (channels, workspaces) = (&app.channels, &app.workspaces);
    let refused = [
        app.messages.edit(&ada, id, text("one more")).await.err(),
        channels.create(&ada, team, channel_name("news"), topic("all of it"), false).await.err(),
        channels.open_dm(&ada, team, bob).await.err(),
        channels.join(&ada, here).await.err(),
        channels.add_member(&ada, here, bob).await.err(),
        channels.remove_member(&ada, here, bob).await.err(),
        channels.update(&ada, here, None, Some(topic("news"))).await.err(),
        channels.delete(&ada, here).await.err(),
        workspaces.create(&ada, name()).await.err(),
        workspaces.join(&ada, JoinCode::from_random([0; 32])).await.err(),
        workspaces.rename(&ada, team, name()).await.err(),
        workspaces.rotate_join_code(&ada, team).await.err(),
        workspaces.add_member(&ada, team, bob, Role::Member).await.err(),
        workspaces.set_role(&ada, team, bob, Role::Admin).await.err(),
        workspaces.remove_member(&ada, team, bob).await.err(),
        workspaces.delete(&ada, team).await.err(),
        app.accounts.rename(&ada, DisplayName::parse("Ada").expect("valid")).await.err(),
    ];
    for (n, error) in refused.iter().enumerate() {
        assert!(matches!(error, Some(Error::RateLimited { .. })), "{n}: {error:?}");
    }
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).expect("valid")
}

fn channel_name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("valid")
}

/// Bob is the only one with an address, and the store refuses to add him.
fn store_of_bob(node: &TestNode, role: Role) -> (MockStore, WorkspaceId) {
    let bob = account(&node.ambient, "bob");
    let id = WorkspaceId(node.ambient.next_uuid());
    let (name, created_at) = ("Acme".to_owned(), bob.created_at);
    let team = Workspace { id, name, role, join_code: None, created_at };
    let mut store = MockStore::new();
    store.expect_workspace().returning(move |_, _| Ok(team.clone()));
    store
        .expect_user_id()
        .returning(move |address| Ok((*address == email("bob")).then_some(bob.id)));
    store
        .expect_add_member()
        .withf(move |_, _, new| new.user_id == bob.id)
        .returning(|_, _, _| Err(Error::conflict("is a member already")));
    (store, id)
}

/// Neither that somebody has it, nor that nobody has.
#[tokio::test]
async fn who_may_not_add_people_learns_nothing_of_an_address() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let (store, id) = store_of_bob(&node, Role::Member);
    let app = node.app(store);
    for address in ["bob", "nobody"] {
        let added =
            app.workspaces.add_member_by_email(&ada, id, &email(address), Role::Member).await;
        assert!(matches!(added, Err(Error::Forbidden(_))), "{address}: {added:?}");
    }
}

#[tokio::test]
async fn who_may_add_people_adds_whose_address_it_is() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let (store, id) = store_of_bob(&node, Role::Admin);
    let app = node.app(store);
    let add =
        async |name| app.workspaces.add_member_by_email(&ada, id, &email(name), Role::Member).await;
    let (bob, nobody) = (add("bob").await, add("nobody").await);
    assert!(matches!(bob, Err(Error::Conflict { .. })), "{bob:?}");
    assert!(matches!(nobody, Err(Error::NotFound("user"))), "{nobody:?}");
}
