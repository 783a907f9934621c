//! Cases of [`parlance_application::ports::store::Messages`]: marks under messages.

use parlance_application::{
    Error,
    ports::store::{Reader, ReplayQuery},
};
use parlance_domain::{ChangeKind, Message, Rev, UserId};

use super::{messages::scene, not_found, refused};
use crate::Stage;

fn emoji(message: &Message) -> Vec<(&str, u64)> {
    message.reactions.iter().map(|r| (r.emoji.as_str(), r.count)).collect()
}

/// Each once.
pub async fn reactions_come_and_go(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    let commit = stage.react(bob, &message, "+1").await.expect("reacts");
    assert_eq!(commit.change, Some((ChangeKind::ReactionAdded, Rev(2))));
    let marked = Stage::message(&commit);
    assert_eq!((emoji(&marked), marked.rev, marked.edited_at), (vec![("+1", 1)], Rev(2), None));
    assert_eq!(marked.reactions[0].user_ids, [bob]);
    let again = stage.react(bob, &message, "+1").await.expect("changes nothing");
    assert_eq!((again.change, Stage::message(&again)), (None, marked));
    let second = stage.react(ada, &message, "+1").await.expect("reacts");
    assert_eq!(Stage::message(&second).reactions[0].user_ids, [bob, ada]);
    not_found(stage.react(eve, &message, "+1").await);

    let missing = stage.unreact(bob, &message, "-1").await.expect("changes nothing");
    assert_eq!(missing.change, None);
    let back = stage.unreact(bob, &message, "+1").await.expect("takes back");
    assert_eq!(back.change, Some((ChangeKind::ReactionRemoved, Rev(4))));
    assert_eq!(Stage::message(&back).reactions[0].user_ids, [ada]);
    let none = stage.unreact(ada, &message, "+1").await.expect("takes back");
    assert_eq!(Stage::message(&none).reactions, []);
    assert_eq!(stage.store.message(bob, message.id).await.map(|m| m.reactions).ok(), Some(vec![]));
}

/// Not of the alphabet, nor of the count.
pub async fn reactions_are_in_order_of_first_use(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    for (user, mark) in [(ada, "z"), (bob, "a"), (ada, "m"), (bob, "m"), (ada, "a")] {
        stage.react(user, &message, mark).await.expect("reacts");
    }
    let seen = stage.store.message(bob, message.id).await.expect("reads");
    assert_eq!(emoji(&seen), [("z", 1), ("a", 2), ("m", 2)]);
    let replayed = stage
        .store
        .replay(
            Reader::Node,
            team.general,
            ReplayQuery { from_rev: Rev(0), limit: 10, budget: 10_000 },
        )
        .await
        .expect("reads")
        .messages;
    assert_eq!(replayed, [seen]);
}

/// Different ones; more people may use them.
pub async fn twenty_reactions_at_most(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    for n in 0..Message::MAX_EMOJI {
        stage.react(ada, &message, &format!(":{n}:")).await.expect("reacts");
    }
    let error = refused(stage.react(bob, &message, ":one-more:").await);
    assert!(matches!(error, Error::Validation(_)), "not `Validation`: {error:?}");
    stage.react(bob, &message, ":7:").await.expect("reacts");
    stage.unreact(ada, &message, ":3:").await.expect("takes back");
    let full = Stage::message(&stage.react(bob, &message, ":one-more:").await.expect("reacts"));
    assert_eq!(full.reactions.len(), Message::MAX_EMOJI);
}

/// A message with a `+1` from `marks` people, and those people in the order of their marks.
async fn marked(stage: &Stage, marks: usize) -> (Message, Vec<UserId>) {
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let message = stage.send(ada, team.general, "hello").await;
    let mut people = Vec::new();
    for n in 0..marks {
        let user = stage.person(&format!("user{n}")).await;
        stage.enter(&team, user).await;
        stage.react(user, &message, "+1").await.expect("reacts");
        people.push(user);
    }
    (message, people)
}

async fn shown(stage: &Stage, message: &Message, to: UserId) -> (u64, Vec<UserId>) {
    let seen = stage.store.message(to, message.id).await.expect("reads").reactions.remove(0);
    (seen.count, seen.user_ids)
}

/// And counts all.
pub async fn a_reaction_names_fifty(stage: &Stage) {
    let (message, people) = marked(stage, 51).await;
    assert_eq!(Message::REACTION_USERS, 50);
    assert_eq!(shown(stage, &message, people[0]).await, (51, people[..50].to_vec()));
}

/// Named or not; for one who was, the next moves up.
pub async fn a_mark_among_many_is_taken_back(stage: &Stage) {
    let (message, mut people) = marked(stage, 54).await;
    let all = people.clone();
    let again = stage.react(all[51], &message, "+1").await.expect("changes nothing");
    assert_eq!(again.change, None, "who is not named has left it all the same");
    for gone in [52, 7, 50, 51] {
        let back = stage.unreact(all[gone], &message, "+1").await.expect("takes back");
        let removed = back.change.map(|(kind, _)| kind);
        assert_eq!(removed, Some(ChangeKind::ReactionRemoved), "of the person {gone}");
        people.retain(|user| *user != all[gone]);
        let named = people[..people.len().min(50)].to_vec();
        let told = Stage::message(&back).reactions.remove(0);
        assert_eq!((told.count, &told.user_ids), (people.len() as u64, &named));
        assert_eq!(shown(stage, &message, all[0]).await, (told.count, named));
        let twice = stage.unreact(all[gone], &message, "+1").await.expect("changes nothing");
        assert_eq!(twice.change, None);
    }
}
