//! Cases of what no count shows: traces, the states of their subjects, and read marks.

use parlance_application::ports::store::{Look, Mark, NewMember, State, Subject};
use parlance_domain::{ConversationId, DisplayName, Role, Seq, UserId, WorkspaceId, WorkspaceName};
use uuid::Uuid;

use super::SharedStage;

/// A workspace's name, who is in it, their roles, and who is in a conversation; each with its state after the change.
pub async fn what_no_count_tells_leaves_a_trace(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let [eve, dan] = stage.people(["eve", "dan"]).await;
    let news = stage.channel(ada, &team, "news").await;
    let name = WorkspaceName::parse("Crew").expect("valid");
    let workspace = Subject::Workspace(team.id);
    let [of_eve, of_dan] = [eve, dan].map(|user| Subject::Member(team.id, user));
    let role = Subject::Role(team.id, bob);
    let [in_general, in_news] =
        [team.general, news].map(|conversation| Subject::Participant(conversation, eve));

    let (look, _) = shared.after(store.rename_workspace(stage.by(ada), team.id, &name)).await;
    shows(&look, &[workspace]);
    assert_eq!(shared.names(workspace).await, ["Crew", "role: member", "no join code"]);
    let (look, _) = shared.after(stage.enter(&team, eve)).await;
    shows(&look, &[of_eve, in_general]);
    assert_eq!(shared.names(of_eve).await, ["eve", "member", "Crew", "no join code"]);
    assert_eq!(shared.state(in_general).await, Some(State::Inside));
    let new = NewMember { user_id: dan, role: Role::Admin, at: stage.at(), job: stage.job() };
    let (look, _) = shared.after(store.add_member(stage.by(ada), team.id, new)).await;
    shows(&look, &[of_dan]);
    let (look, _) = shared.after(store.set_role(stage.by(ada), team.id, bob, Role::Admin)).await;
    shows(&look, &[role]);
    assert_eq!(shared.names(role).await, ["bob", "admin", "Crew", "no join code"]);
    let name = DisplayName::parse("Robert").expect("valid");
    let (look, _) = shared.after(store.rename(stage.by(bob), &name)).await;
    shows(&look, &[role]);
    assert_eq!(shared.names(role).await, ["Robert", "admin", "Crew", "no join code"]);
    let (look, _) = shared.after(stage.join(eve, news)).await;
    shows(&look, &[in_news]);
    let (look, _) = shared.after(store.remove_channel_member(stage.by(ada), news, eve)).await;
    shows(&look, &[in_news]);
    assert_eq!(shared.state(in_news).await, Some(State::Gone));
    let (look, _) =
        shared.after(store.add_channel_member(stage.by(ada), news, eve, stage.at())).await;
    shows(&look, &[in_news]);
    assert_eq!(shared.state(in_news).await, Some(State::Inside));
    let (look, _) = shared.after(store.remove_member(stage.by(ada), team.id, eve)).await;
    shows(&look, &[of_eve, in_general, in_news]);
    for gone in [of_eve, Subject::Role(team.id, eve), in_general, in_news] {
        assert_eq!(shared.state(gone).await, Some(State::Gone), "{gone:?}");
    }
    let (look, _) = shared.after(store.delete_workspace(stage.by(ada), team.id, stage.at())).await;
    shows(&look, &[workspace]);
    assert_eq!(shared.state(workspace).await, Some(State::Gone));
}

/// The same change has the same stamp in all looks, and the next one a later stamp.
pub async fn a_trace_has_the_stamp_of_its_change(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let role = Subject::Role(team.id, bob);
    let stamps = |look: &Look| {
        let of = look.traces.iter().filter(|(subject, _)| *subject == role);
        of.map(|(_, stamp)| *stamp).collect::<Vec<_>>()
    };
    let since = shared.now().await;
    store.set_role(stage.by(ada), team.id, bob, Role::Admin).await.expect("promotes");
    let first = stamps(&shared.look(since).await);
    assert_eq!((first.len(), stamps(&shared.look(since).await)), (1, first.clone()));
    store.set_role(stage.by(ada), team.id, bob, Role::Member).await.expect("demotes");
    let second = stamps(&shared.look(since).await);
    assert!(second.len() == 1 && second > first, "{second:?} after {first:?}");
}

/// A DM stays theirs, but they are not in it while they are out of the workspace.
pub async fn who_left_the_workspace_is_in_none_of_its_dms(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let dm = stage.dm(ada, &team, bob).await.expect("opens").mine.conversation.id;
    let in_dm = Subject::Participant(dm, bob);
    assert_eq!(shared.state(in_dm).await, Some(State::Inside));
    let (look, _) = shared.after(store.remove_member(stage.by(ada), team.id, bob)).await;
    shows(&look, &[in_dm]);
    assert_eq!(shared.state(in_dm).await, Some(State::Gone));
}

/// Nor is anything said of what never was; the query's other subjects are answered.
pub async fn what_belongs_to_something_deleted_is_left_out(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let news = stage.channel(ada, &team, "news").await;
    store.delete_channel(stage.by(ada), news, stage.at()).await.expect("deletes");
    let general = Subject::Participant(team.general, ada);
    let nowhere = Subject::Participant(ConversationId(Uuid::nil()), ada);
    let asked = vec![Subject::Participant(news, ada), general, nowhere];
    let found = shared.changes.states(asked).await.expect("answers");
    assert_eq!(found, [(general, State::Inside)]);
    store.delete_workspace(stage.by(ada), team.id, stage.at()).await.expect("deletes");
    let workspace = Subject::Workspace(team.id);
    let mut asked = vec![general, workspace, Subject::Member(team.id, bob)];
    asked.push(Subject::Role(WorkspaceId(Uuid::nil()), bob));
    let found = shared.changes.states(asked).await.expect("answers");
    assert_eq!(found, [(workspace, State::Gone)]);
    assert_eq!(shared.changes.states(vec![]).await.ok(), Some(vec![]));
}

/// Only what they say: the mark that a message of one's own moves is told by that message.
pub async fn how_far_somebody_says_to_have_read_is_found_by_the_next_look(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let stage = &shared.stage;
    for text in ["one", "two", "three"] {
        stage.send(ada, team.general, text).await;
    }
    let mark =
        |user_id: UserId, read_seq| Mark { conversation_id: team.general, user_id, read_seq };
    let (look, read) = shared.after(stage.store.mark_read(bob, team.general, Seq(2))).await;
    assert!(read.is_ok() && look.marks.contains(&mark(bob, Seq(2))), "{:?}", look.marks);
    let (look, read) = shared.after(stage.store.mark_read(bob, team.general, Seq(3))).await;
    assert!(read.is_ok() && look.marks.contains(&mark(bob, Seq(3))), "{:?}", look.marks);
    assert!(look.marks.iter().all(|mark| mark.user_id == bob), "{:?}", look.marks);
}

fn shows(look: &Look, subjects: &[Subject]) {
    for subject in subjects {
        let shown = look.traces.iter().any(|(shown, _)| shown == subject);
        assert!(shown, "no trace of {subject:?}, but of {:?}", look.traces);
    }
}

impl SharedStage {
    async fn state(&self, of: Subject) -> Option<State> {
        let mut found = self.changes.states(vec![of]).await.expect("answers");
        assert!(found.len() <= 1 && found.iter().all(|(subject, _)| *subject == of), "{found:?}");
        found.pop().map(|(_, state)| state)
    }

    /// What is shown of a workspace or of somebody in it.
    async fn names(&self, of: Subject) -> Vec<String> {
        let (mut names, workspace) = match self.state(of).await {
            Some(State::Workspace(workspace)) => {
                let role = format!("role: {}", role(workspace.role));
                return vec![workspace.name, role, code(workspace.join_code)];
            }
            Some(State::Member(found)) => {
                let (member, workspace) = *found;
                assert_eq!(member.workspace_id, workspace.id);
                (vec![member.user.display_name, role(member.role).to_owned()], workspace)
            }
            other => panic!("{other:?}"),
        };
        names.extend([workspace.name, code(workspace.join_code)]);
        names
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Member => "member",
    }
}

fn code(code: Option<String>) -> String {
    code.unwrap_or_else(|| "no join code".to_owned())
}

/// Turns each of these cases into a test, with the same expression as [`changes_contract!`](crate::changes_contract).
/// Separate because the simulation's store has counts and no traces.
#[macro_export]
macro_rules! state_events_contract {
    ($make:expr) => {
        $crate::state_events_contract! { @cases $make;
            what_no_count_tells_leaves_a_trace
            a_trace_has_the_stamp_of_its_change
            who_left_the_workspace_is_in_none_of_its_dms
            what_belongs_to_something_deleted_is_left_out
            how_far_somebody_says_to_have_read_is_found_by_the_next_look
        }
    };
    (@cases $make:expr; $($case:ident)*) => {
        mod state_events {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let (store, place) = $make;
                    let shared = $crate::contract::changes::SharedStage::new(store, place);
                    $crate::contract::changes::state_events::$case(&shared).await;
                }
            )*
        }
    };
}
